"""Widgets of the panel for automatic segmentation. Knows neither napari nor models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_sightline.anatomy import Colour
from napari_sightline.viewer.buttons import Chooser, button, list_in, wrapped
from napari_sightline.viewer.icons import swatch
from napari_sightline.viewer.status import Status
from napari_sightline.viewer.wording import millilitres

_VALUE = Qt.ItemDataRole.UserRole


@dataclass(frozen=True)
class Organ:
    """A row of the list of organs."""

    value: int
    name: str
    ml: float
    colour: Colour


class AutomaticView(QWidget):
    """All widgets of the panel; signals carry what the user wants."""

    image_chosen = Signal(int)
    model_chosen = Signal(str)
    models_asked = Signal()
    run_asked = Signal()
    cancel_asked = Signal()
    shape_asked = Signal(str)
    undo_asked = Signal()
    redo_asked = Signal()
    edit_asked = Signal()
    measure_asked = Signal()
    place_asked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._organs: tuple[Organ, ...] = ()
        self.channels: list[Chooser] = []
        self._channels: list[str] = []
        self._picked: dict[str, str] = {}  # layers that the user chose, by channel
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(6)
        self.status = Status("Stop; nothing of this run is kept", self.cancel_asked, height=58)
        self.advice, self.progress = self.status.advice, self.status.progress
        self.cancel = self.status.cancel
        self.show_advice, self.show_progress = self.status.show_advice, self.status.show_progress
        column.addWidget(self.status)
        self._what(column)
        self._start(column)
        self._list(column)
        self._after(column)
        self.setMinimumWidth(288)

    # ---- parts, from top to bottom

    def _what(self, column: QVBoxLayout) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setVerticalSpacing(4)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.image = Chooser("The scan to segment")
        self.image.activated.connect(self.image_chosen)
        self.model = Chooser("The automatic model")
        self.model.activated.connect(
            lambda index: self.model_chosen.emit(str(self.model.itemData(index)))
        )
        models = QHBoxLayout()
        models.setSpacing(3)
        models.addWidget(self.model, 1)
        self.manage = button(
            "Models …", "Download, add, verify and remove models", self.models_asked
        )
        models.addWidget(self.manage)
        self.device = Chooser("Where the model runs; auto takes a GPU where there is one")
        self.form.addRow("image", self.image)
        self.form.addRow("model", models)
        self.form.addRow("device", self.device)
        self.facts = wrapped(QLabel())
        column.addLayout(self.form)
        column.addWidget(self.facts)

    def _start(self, column: QVBoxLayout) -> None:
        self.uncertainty = QCheckBox("uncertainty")
        self.uncertainty.setToolTip("A layer too: 0 where the model is sure, 1 where it guesses")
        self.probabilities = QCheckBox("probabilities")
        self.probabilities.setToolTip("A layer for each structure; takes much memory")
        self.into_session = QCheckBox("add to prompt panel")
        self.into_session.setToolTip(
            "Organs become objects there too, where no object is yet; can be undone there"
        )
        self.table = QCheckBox("measures")
        self.table.setToolTip("When done, a table of volumes and intensities opens below the scan")
        self.table.setChecked(True)
        self.run = button("Segment", "Find the organs of the whole scan", self.run_asked)
        self.run.setMinimumHeight(30)
        for pair in ((self.uncertainty, self.probabilities), (self.table, self.into_session)):
            row = QHBoxLayout()
            row.setSpacing(4)
            for box in pair:
                row.addWidget(box)
            row.addStretch(1)
            column.addLayout(row)
        column.addWidget(self.run)

    def _list(self, column: QVBoxLayout) -> None:
        self.result = QElidingLabel()
        self.result.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.result.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.organs = QTreeWidget()
        self.organs.setColumnCount(2)
        self.organs.setHeaderHidden(True)
        self.organs.setRootIsDecorated(False)
        self.organs.setUniformRowHeights(True)
        self.organs.setIconSize(QSize(12, 12))
        self.organs.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.organs.setToolTip("Organs found; click one to go there")
        header = self.organs.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.organs.setMinimumHeight(64)
        self.organs.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.organs.itemClicked.connect(
            lambda item, _: self.place_asked.emit(int(item.data(0, _VALUE)))
        )
        self.organs.itemSelectionChanged.connect(self._name_shaping)
        column.addWidget(self.result)
        column.addWidget(self.organs, 1)

    def _after(self, column: QVBoxLayout) -> None:
        self.largest = button(
            "Largest part",
            "Keep only the largest part",
            lambda: self.shape_asked.emit("largest part"),
        )
        self.fill = button(
            "Fill holes",
            "Fill what an organ shuts in on all sides",
            lambda: self.shape_asked.emit("fill holes"),
        )
        self.smooth = button(
            "Smooth", "Even out the surface", lambda: self.shape_asked.emit("smooth")
        )
        self.mm = QDoubleSpinBox()
        self.mm.setRange(0.1, 20)
        self.mm.setSingleStep(0.5)
        self.mm.setValue(2.0)
        self.mm.setDecimals(1)
        self.mm.setSuffix(" mm")
        self.mm.setToolTip("How far smoothing reaches (standard deviation)")
        self.scope = QLabel()
        self.undo = button("Undo", "Take back the last change of this layer", self.undo_asked)
        self.redo = button("Redo", "Bring it back", self.redo_asked)
        self.edit = button(
            "Edit with prompts",
            "Make every organ an object of the prompt panel, to correct with clicks",
            self.edit_asked,
        )
        self.measures = button("Measures", "Table of volumes and intensities", self.measure_asked)
        column.addWidget(self.scope)
        for widgets in (
            (self.largest, self.fill),
            (self.smooth, self.mm),
            (self.undo, self.redo),
            (self.edit, self.measures),
        ):
            row = QHBoxLayout()
            row.setSpacing(3)
            for widget in widgets:
                row.addWidget(widget, 1)
            column.addLayout(row)
        self._name_shaping()

    # ---- what to show

    def show_images(self, names: Sequence[str], current: int) -> None:
        """List the images; -1 for none."""
        list_in(self.image, names, current)

    def show_models(self, models: Sequence[tuple[str, str]], current: str) -> None:
        """List models as (name, text)."""
        now = [(self.model.itemData(i), self.model.itemText(i)) for i in range(self.model.count())]
        if now != list(models):
            self.model.clear()
            for name, text in models:
                self.model.addItem(text, name)
                self.model.setItemData(self.model.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        self.model.setCurrentIndex(self.model.findData(current))

    def show_channels(self, channels: Sequence[str], names: Sequence[str]) -> None:
        """Ask for a layer for each channel but where there is only one."""
        wanted = list(channels) if len(channels) > 1 else []
        self._channels = wanted
        if len(wanted) != len(self.channels):
            for box in self.channels:
                self.form.removeRow(box)
            self.channels = [Chooser() for _ in wanted]
            for index, (channel, box) in enumerate(zip(wanted, self.channels, strict=True)):
                box.textActivated.connect(partial(self._pick, index))
                self.form.insertRow(1 + index, channel, box)
        for index, (channel, box) in enumerate(zip(wanted, self.channels, strict=True)):
            box.setToolTip(f"Layer that holds {channel}")
            label = self.form.labelForField(box)
            if isinstance(label, QLabel):
                label.setText(channel)
            picked = self._picked.get(channel, "")
            known = list(names).index(picked) if picked in names else None
            list_in(box, names, guess(channel, index, names) if known is None else known)

    def _pick(self, index: int, name: str) -> None:
        if index < len(self._channels):
            self._picked[self._channels[index]] = name

    def show_organs(self, organs: Sequence[Organ]) -> None:
        """List the organs that were found."""
        if tuple(organs) == self._organs:
            return
        self._organs = tuple(organs)
        chosen = set(self.chosen)
        self.organs.blockSignals(True)
        self.organs.clear()
        for organ in organs:
            item = QTreeWidgetItem([organ.name, millilitres(organ.ml)])
            item.setIcon(0, swatch(organ.colour))
            item.setData(0, _VALUE, organ.value)
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.organs.addTopLevelItem(item)
            item.setSelected(organ.value in chosen)
        self.organs.blockSignals(False)
        self._name_shaping()

    @property
    def chosen(self) -> list[int]:
        """Values of the organs that are selected in the list."""
        return [int(item.data(0, _VALUE)) for item in self.organs.selectedItems()]

    def _name_shaping(self) -> None:
        items = self.organs.selectedItems()
        what = "all organs" if not items else f"{len(items)} organs"
        self.scope.setText(f"Shape {items[0].text(0) if len(items) == 1 else what}:")


def guess(channel: str, index: int, names: Sequence[str]) -> int:
    """Layer that is most likely a channel: one that has its name, else the next."""
    plain = channel.lower()
    aliases = {"t1c": ("t1c", "t1ce", "t1gd", "t1-gd"), "flair": ("flair",)}.get(plain, (plain,))
    for alias in aliases:
        for number, name in enumerate(names):
            words = name.lower().replace("-", "_").replace(".", "_").replace(" ", "_").split("_")
            if alias in words:
                return number
    return min(index, len(names) - 1)
