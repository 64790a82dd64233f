"""The panel's widgets, and what they look like. Knows neither napari nor sessions."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.viewer.buttons import Chooser, button, list_in, plain, toggle, wrapped
from napari_sightline.viewer.naming import NameEdit
from napari_sightline.viewer.objects_view import ObjectsView
from napari_sightline.viewer.options_view import LookTab, ShapeTab, StartTab
from napari_sightline.viewer.state import Row
from napari_sightline.viewer.status import Status
from napari_sightline.viewer.tools_view import ToolsView

PLANES = ("Axial", "Coronal", "Sagittal")
_MOMENT = 400  # ms of work before progress is shown: most clicks are faster


class PromptView(QWidget):
    """All widgets of the prompt panel: the main controls, and tabs for the rest.

    Signals carry what the user wants; the `show_...` methods say what to show. Those of a part
    (`tools`, `list`, `shape`, `look`, `start`) are the part's own.
    """

    image_chosen = Signal(int)
    plane_chosen = Signal(int)
    name_typed = Signal(str)
    accept_asked = Signal()
    next_asked = Signal()
    save_asked = Signal()
    cancel_asked = Signal()
    keys_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Three lines of advice: nothing jumps when the text changes.
        tip = "Stop; clicks that wait are dropped"
        self.status = Status(tip, self.cancel_asked, height=66, after=_MOMENT)
        self.advice, self.progress = self.status.advice, self.status.progress
        self.cancel = self.status.cancel
        self.show_advice, self.show_progress = self.status.show_advice, self.status.show_progress
        self.tools, self.list = ToolsView(), ObjectsView()
        self.shape, self.look, self.start = ShapeTab(), LookTab(), StartTab()
        # The main controls by their short names.
        self.positive, self.negative = self.tools.positive, self.tools.negative
        self.undo, self.redo, self.reset = self.tools.undo, self.tools.redo, self.tools.reset
        self.objects, self.device = self.list.table, self.start.device
        self.clicking, self.outline = self.look.clicking, self.look.outline
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(6)
        layout.addWidget(self.status)
        layout.addLayout(self._image())
        layout.addWidget(self.tools)
        layout.addLayout(self._object())
        self.tabs = plain(QTabWidget())
        for part, title, tip in (
            (self.list, "Objects", "The objects of this scan"),
            (self.shape, "Shape", "Smooth, grow, fill the current object"),
            (self.look, "Look", "Window, opacity, outlines"),
            (self.start, "Start", "Start from labels of another layer; model and device"),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(part, title), tip)
        layout.addWidget(self.tabs, 1)
        layout.addLayout(self._end())
        self.setMinimumWidth(300)
        self.tools.dress()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        kinds = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)
        if event is not None and event.type() in kinds and hasattr(self, "tabs"):
            self.tools.dress()
            self.list.dress()

    # ---- parts, from top to bottom

    def _image(self) -> QFormLayout:
        form = _form()
        self.image = Chooser("The scan to segment")
        self.image.activated.connect(self.image_chosen)
        planes = QHBoxLayout()
        planes.setSpacing(2)
        self.planes = QButtonGroup(self)
        for index, plane in enumerate(PLANES):
            made = toggle(plane, f"Show {plane.lower()} slices")
            self.planes.addButton(made, index)
            planes.addWidget(made, 1)
        self.planes.idClicked.connect(self.plane_chosen)
        form.addRow("image", self.image)
        form.addRow("plane", planes)
        return form

    def _object(self) -> QVBoxLayout:
        self.name = NameEdit()
        self.name.setPlaceholderText("name, e.g. left parotid")
        self.name.setToolTip("Name of the object: type a few letters, or any name of your own")
        self.name.textChanged.connect(self.name_typed)
        self.name.entered.connect(self.accept_asked)
        self.accept = button(
            "Accept", "Lock the object and begin the next one (Enter)", self.accept_asked
        )
        self.next = button(
            "Next", "Begin another object and leave this one open (N)", self.next_asked
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.name, 1)
        row.addWidget(self.accept)
        row.addWidget(self.next)
        column = QVBoxLayout()
        column.addLayout(row)
        return column

    def _end(self) -> QVBoxLayout:
        self.save = button("Save …", "Write all objects as one NIfTI file", self.save_asked)
        self.unsaved = QLabel()
        saving = QHBoxLayout()
        saving.addWidget(self.save)
        saving.addWidget(self.unsaved, 1)
        self.keys = button("?", "The list of keys (?)", self.keys_asked)
        self.keys.setFixedWidth(26)
        saving.addWidget(self.keys)
        self.timing = wrapped(QLabel())
        self.timing.setMinimumHeight(36)  # two lines
        column = QVBoxLayout()
        column.setSpacing(5)
        column.addLayout(saving)
        column.addWidget(self.timing)
        return column

    # ---- what to show

    def show_images(self, names: Sequence[str], current: int) -> None:
        """List the images; `current` is -1 for none."""
        list_in(self.image, list(names), current)

    def show_plane(self, plane: int) -> None:
        """Mark a plane; -1 for none of the three."""
        self.planes.setExclusive(False)
        for made in self.planes.buttons():
            made.setChecked(self.planes.id(made) == plane)
        self.planes.setExclusive(plane >= 0)

    def show_rows(self, rows: Sequence[Row], current: int, draft: str) -> None:
        """List the objects that have a mask."""
        self.list.show_rows(rows, current, draft)

    def show_unsaved(self, unsaved: bool) -> None:
        """Remind of what is not in a file yet."""
        self.unsaved.setText("● not saved" if unsaved else "")


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form
