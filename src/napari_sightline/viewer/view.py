"""The panel's widgets, and what they look like. Knows neither napari nor sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QSize, Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.anatomy import Colour
from napari_sightline.viewer.colours import NEGATIVE, POSITIVE, colour_of
from napari_sightline.viewer.naming import NameEdit
from napari_sightline.viewer.state import Row
from napari_sightline.viewer.wording import millilitres

PLANES = ("Axial", "Coronal", "Sagittal")
_ID = Qt.ItemDataRole.UserRole
_MOMENT = 400  # ms of work before progress is shown: most clicks are faster


class PromptView(QWidget):
    """All widgets of the prompt panel.

    Signals carry what the user wants; the `show_...` methods say what to show.
    """

    image_chosen = Signal(int)
    plane_chosen = Signal(int)
    device_chosen = Signal(str)
    sign_chosen = Signal(bool)
    clicking_chosen = Signal(bool)
    outline_chosen = Signal(bool)
    name_typed = Signal(str)
    renamed = Signal(int, str)
    accept_asked = Signal()
    undo_asked = Signal()
    redo_asked = Signal()
    reset_asked = Signal()
    save_asked = Signal()
    cancel_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[Any, ...] = ()
        self._alarm: bool | None = None
        self._share = (0, "")
        self._moment = QTimer(self)
        self._moment.setSingleShot(True)
        self._moment.setInterval(_MOMENT)
        self._moment.timeout.connect(self._draw_progress)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(7)
        for part in (
            self._state(),
            self._image(),
            self._clicks(),
            self._object(),
            self._objects(),
            self._end(),
        ):
            layout.addLayout(part)
        self.setMinimumWidth(270)

    # ---- parts, from top to bottom

    def _state(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        self.advice = QLabel()
        self.advice.setObjectName("sightline-advice")
        self.advice.setWordWrap(True)
        self.advice.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.advice.setMinimumHeight(66)  # three lines: nothing jumps when the text changes
        _as_high_as_its_text(self.advice)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setFixedHeight(16)
        self.cancel = _button("Cancel", "Stop; clicks that wait are dropped", self.cancel_asked)
        self.cancel.setFixedHeight(20)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        for widget in (self.progress, self.cancel):
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)
            widget.hide()
        column.addWidget(self.advice)
        column.addLayout(row)
        return column

    def _image(self) -> QFormLayout:
        form = _form()
        self.image = QComboBox()
        self.image.setToolTip("The scan to segment")
        _may_shrink(self.image)
        self.image.activated.connect(self.image_chosen)
        planes = QHBoxLayout()
        planes.setSpacing(2)
        self.planes = QButtonGroup(self)
        for index, plane in enumerate(PLANES):
            button = _toggle(plane, f"Show {plane.lower()} slices")
            self.planes.addButton(button, index)
            planes.addWidget(button, 1)
        self.planes.idClicked.connect(self.plane_chosen)
        form.addRow("image", self.image)
        form.addRow("plane", planes)
        return form

    def _clicks(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        signs = QHBoxLayout()
        signs.setSpacing(2)
        self.signs = QButtonGroup(self)
        self.positive = _toggle("Positive", "Click what belongs to the object (T switches)")
        self.negative = _toggle(
            "Negative", "Click what does not belong to it (T switches; or Ctrl+click)"
        )
        self.positive.setIcon(_mark(POSITIVE, cross=False))
        self.negative.setIcon(_mark(NEGATIVE, cross=True))
        self.positive.setChecked(True)
        for button in (self.positive, self.negative):
            button.setMinimumHeight(30)
            self.signs.addButton(button)
            signs.addWidget(button, 1)
        self.positive.toggled.connect(self.sign_chosen)
        self.undo = _button("Undo", "Take back the last click (Ctrl+Z)", self.undo_asked)
        self.redo = _button("Redo", "Bring it back (Ctrl+Shift+Z)", self.redo_asked)
        self.reset = _button("Reset", "Drop all clicks of this object (R)", self.reset_asked)
        steps = QHBoxLayout()
        steps.setSpacing(2)
        for step in (self.undo, self.redo, self.reset):
            steps.addWidget(step, 1)
        self.clicking = QCheckBox("clicking")
        self.clicking.setChecked(True)
        self.clicking.setToolTip("Off: the mouse belongs to napari alone")
        self.clicking.toggled.connect(self.clicking_chosen)
        self.outline = QCheckBox("outline only")
        self.outline.setToolTip("Draw the objects' outlines instead of filling them")
        self.outline.toggled.connect(self.outline_chosen)
        ways = QHBoxLayout()
        ways.addWidget(self.clicking, 1)
        ways.addWidget(self.outline, 1)
        column.addLayout(signs)
        column.addLayout(steps)
        column.addLayout(ways)
        return column

    def _object(self) -> QVBoxLayout:
        self.name = NameEdit()
        self.name.setPlaceholderText("name, e.g. left parotid")
        self.name.setToolTip("Name of the object: type a few letters, or any name of your own")
        self.name.textChanged.connect(self.name_typed)
        self.name.entered.connect(self.accept_asked)
        self.accept = _button(
            "Accept", "Lock the object and begin the next one (Enter)", self.accept_asked
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.name, 1)
        row.addWidget(self.accept)
        column = QVBoxLayout()
        column.addLayout(row)
        return column

    def _objects(self) -> QVBoxLayout:
        self.objects = QTreeWidget()
        self.objects.setColumnCount(2)
        self.objects.setHeaderHidden(True)
        self.objects.setRootIsDecorated(False)
        self.objects.setUniformRowHeights(True)
        self.objects.setIconSize(QSize(12, 12))
        self.objects.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.objects.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.objects.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.objects.setToolTip("Objects and their volume; double-click a name to change it")
        header = self.objects.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.objects.setMinimumHeight(72)
        self.objects.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.objects.itemChanged.connect(self._edited)
        column = QVBoxLayout()
        column.addWidget(self.objects)
        return column

    def _end(self) -> QVBoxLayout:
        self.save = _button("Save …", "Write all objects as one NIfTI file", self.save_asked)
        self.unsaved = QLabel()
        saving = QHBoxLayout()
        saving.addWidget(self.save)
        saving.addWidget(self.unsaved, 1)
        self.timing = QLabel()
        self.timing.setWordWrap(True)
        self.timing.setMinimumHeight(36)  # two lines
        _as_high_as_its_text(self.timing)
        self.model = QComboBox()
        self.model.addItem("sightline-3d")
        self.model.setToolTip("The promptable model")
        self.device = QComboBox()
        self.device.setToolTip("Where the model runs; auto takes a GPU where there is one")
        self.device.textActivated.connect(self.device_chosen)
        models = QHBoxLayout()
        models.setSpacing(2)
        for box, share in ((self.model, 3), (self.device, 2)):
            _may_shrink(box)
            models.addWidget(box, share)
        column = QVBoxLayout()
        column.setSpacing(5)
        column.addLayout(saving)
        column.addWidget(self.timing)
        column.addLayout(models)
        return column

    # ---- what to show

    def show_images(self, names: Sequence[str], current: int) -> None:
        """List the images; `current` is -1 for none."""
        if [self.image.itemText(i) for i in range(self.image.count())] != list(names):
            self.image.clear()
            self.image.addItems(list(names))
        self.image.setCurrentIndex(current)
        self.image.setEnabled(bool(names))

    def show_plane(self, plane: int) -> None:
        """Mark a plane; -1 for none of the three."""
        self.planes.setExclusive(False)
        for button in self.planes.buttons():
            button.setChecked(self.planes.id(button) == plane)
        self.planes.setExclusive(plane >= 0)

    def show_device(self, device: str, choices: Sequence[str]) -> None:
        """List the devices and mark one."""
        wanted = list(choices) if device in choices else [*choices, device]
        if [self.device.itemText(i) for i in range(self.device.count())] != wanted:
            self.device.clear()
            self.device.addItems(wanted)
        self.device.setCurrentText(device)

    def show_advice(self, text: str, alarm: bool = False) -> None:
        """Say what to do next, or what went wrong."""
        self.advice.setText(text)
        if alarm != self._alarm:  # a style sheet costs milliseconds
            self._alarm = alarm
            edge = "#e0533d" if alarm else "#4aa3df"
            self.advice.setStyleSheet(
                f"QLabel {{ border: 0; border-left: 4px solid {edge}; padding: 2px 2px 2px 8px;"
                " font-size: 11pt; }"
            )

    def show_progress(self, share: float | None, word: str = "") -> None:
        """Show how far the work is, once it has taken a moment; None hides it."""
        if share is None:
            self._moment.stop()
            if not self.progress.isHidden():
                self.progress.hide()
                self.cancel.hide()
            return
        self._share = round(100 * share), word
        if self.progress.isHidden():
            if not self._moment.isActive():
                self._moment.start()
        else:
            self._draw_progress()

    def _draw_progress(self) -> None:
        # Each of these makes Qt draw the whole window at once, the scan too.
        value, word = self._share
        self.progress.setFormat(word)
        self.progress.setValue(value)
        self.progress.show()
        self.cancel.show()

    def show_rows(self, rows: Sequence[Row], current: int, draft: str) -> None:
        """List the objects that have a mask; the current one in italics."""
        shown = (tuple(rows), current, draft)
        if shown == self._rows:
            return
        self._rows = shown
        self.objects.blockSignals(True)
        self.objects.clear()
        for row in rows:
            name = row.name or (draft if row.id == current else "") or f"object {row.id}"
            item = QTreeWidgetItem([name, millilitres(row.ml)])
            item.setIcon(0, _swatch(colour_of(row.id, name)))
            item.setData(0, _ID, row.id)
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if row.accepted:
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            else:
                font = item.font(0)
                font.setItalic(True)
                item.setFont(0, font)
                item.setText(0, f"{name} (not accepted)")
            self.objects.addTopLevelItem(item)
        self.objects.scrollToBottom()
        self.objects.blockSignals(False)

    def show_unsaved(self, unsaved: bool) -> None:
        """Remind of what is not in a file yet."""
        self.unsaved.setText("● not saved" if unsaved else "")

    def _edited(self, item: QTreeWidgetItem, column: int) -> None:
        number = item.data(0, _ID)
        self._rows = ()  # what is shown is the user's now: draw it anew
        if column == 0 and number is not None:
            self.renamed.emit(int(number), item.text(0))


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _as_high_as_its_text(label: QLabel) -> None:
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)


def _may_shrink(box: QComboBox) -> None:
    """Let a long name not widen the panel."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(10)


def _button(text: str, tip: str, signal: Any) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda: signal.emit())
    return button


def _toggle(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tip)
    return button


def _mark(colour: Colour, cross: bool) -> QIcon:
    """Icon of a click as it is drawn on the scan."""
    pixmap = QPixmap(24, 24)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if cross:
        pen = painter.pen()
        pen.setColor(QColor(*colour))
        pen.setWidth(5)
        painter.setPen(pen)
        painter.drawLine(6, 6, 18, 18)
        painter.drawLine(18, 6, 6, 18)
    else:
        painter.setBrush(QColor(*colour))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(4, 4, 16, 16)
    painter.end()
    return QIcon(pixmap)


def _swatch(colour: Colour) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(128, 128, 128))  # an edge: pale colours on a pale theme
    painter = QPainter(pixmap)
    painter.fillRect(1, 1, 10, 10, QColor(*colour))
    painter.end()
    return QIcon(pixmap)
