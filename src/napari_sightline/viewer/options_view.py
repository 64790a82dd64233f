"""Tabs of the panel for what is needed now and then: shape, look, start."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.viewer.buttons import Chooser, list_in
from napari_sightline.viewer.windows import PRESETS


class ShapeTab(QWidget):
    """Operations on the current object's mask.

    Signals
    -------
    asked(str, float)
        Name of an operation, and mm where it takes some.
    """

    asked = Signal(str, float)
    #: Name, button, tooltip; in the order of the grid.
    OPERATIONS = (
        ("largest part", "Largest part", "Keep the largest connected part of the mask"),
        ("fill holes", "Fill holes", "Fill what the mask shuts in on all sides"),
        ("smooth", "Smooth", "Even out the surface, by so many mm; the volume stays"),
        ("interpolate", "Interpolate", "Fill empty slices between drawn ones"),
        ("grow", "Grow", "Grow by so many mm on every side"),
        ("shrink", "Shrink", "Shrink by so many mm on every side"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.mm = QDoubleSpinBox()
        self.mm.setRange(0.1, 50.0)
        self.mm.setSingleStep(0.5)
        self.mm.setValue(2.0)
        self.mm.setSuffix(" mm")
        self.mm.setToolTip("How far to smooth, grow or shrink")
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 4, 4, 4)
        grid.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for index, (name, text, tip) in enumerate(self.OPERATIONS):
            made = QPushButton(text)
            made.setToolTip(f"{tip}; can be undone")
            made.clicked.connect(lambda _=False, name=name: self.asked.emit(name, self.mm.value()))
            self.buttons[name] = made
            grid.addWidget(made, index // 2, index % 2)
        grid.addWidget(self.mm, 3, 0, 1, 2)
        grid.setRowStretch(4, 1)


class LookTab(QWidget):
    """How scan and masks are shown.

    Signals
    -------
    window_chosen(str)
        Name of a CT window.
    outline_chosen(bool), shown_chosen(bool), clicking_chosen(bool), hover_chosen(bool)
        A box was ticked.
    opacity_chosen(float)
        0 .. 1.
    """

    window_chosen = Signal(str)
    outline_chosen = Signal(bool)
    shown_chosen = Signal(bool)
    clicking_chosen = Signal(bool)
    hover_chosen = Signal(bool)
    opacity_chosen = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        form = QFormLayout(self)
        form.setContentsMargins(4, 4, 4, 4)
        form.setVerticalSpacing(4)
        self.window_ = Chooser("Grey levels of a CT, in HU")
        self.window_.addItem("as it is")
        for name, preset in PRESETS.items():
            self.window_.addItem(f"{name} ({preset.key})", name)
        self.window_.activated.connect(self._window)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(50)
        self.opacity.setToolTip("How strongly masks are drawn (Shift and the wheel on the picture)")
        self.opacity.valueChanged.connect(lambda value: self.opacity_chosen.emit(value / 100))
        form.addRow("window", self.window_)
        form.addRow("opacity", self.opacity)
        grid = QGridLayout()
        grid.setSpacing(4)
        self.outline = _tick("outline only (W)", "Draw outlines instead of filling the objects")
        self.shown = _tick("masks shown (V)", "Show or hide all masks", on=True)
        self.clicking = _tick("clicking", "Off: the mouse belongs to napari alone", on=True)
        self.hover = _tick("preview", "Show what a click under the pointer would give")
        ticks = (
            (self.shown, self.shown_chosen),
            (self.outline, self.outline_chosen),
            (self.clicking, self.clicking_chosen),
            (self.hover, self.hover_chosen),
        )
        for index, (tick, signal) in enumerate(ticks):
            tick.toggled.connect(signal)
            grid.addWidget(tick, index // 2, index % 2)
        form.addRow(grid)

    def _window(self, index: int) -> None:
        name = self.window_.itemData(index)
        if name:
            self.window_chosen.emit(name)

    def show_window(self, name: str) -> None:
        """Mark a window; empty where the levels are none of them."""
        index = self.window_.findData(name) if name else 0
        self.window_.setCurrentIndex(max(0, index))

    def show_opacity(self, value: float) -> None:
        """Show how strongly masks are drawn."""
        self.opacity.blockSignals(True)
        self.opacity.setValue(round(100 * value))
        self.opacity.blockSignals(False)


class StartTab(QWidget):
    """What to start from: the labels of another layer; which model, and where it runs.

    Signals
    -------
    start_asked(int, int)
        Index of a labels layer and the label that the current object starts from.
    import_asked(int)
        Index of a labels layer whose labels all become objects.
    layer_chosen(int)
        A labels layer was chosen: its labels are wanted.
    device_chosen(str)
    """

    start_asked = Signal(int, int)
    import_asked = Signal(int)
    layer_chosen = Signal(int)
    device_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(4)
        self.layer = Chooser("A labels layer on the scan's grid, from whatever tool")
        self.layer.activated.connect(self.layer_chosen)
        self.label = Chooser("Which of its labels")
        sources = QHBoxLayout()
        sources.setSpacing(2)
        sources.addWidget(self.layer, 3)
        sources.addWidget(self.label, 2)
        self.start = QPushButton("Start from it")
        self.start.setToolTip("Join this label to the current object, and go on with prompts")
        self.start.clicked.connect(self._start)
        self.take = QPushButton("Take all")
        self.take.setToolTip("Make an accepted object of each of its labels")
        self.take.clicked.connect(lambda: self.import_asked.emit(self.layer.currentIndex()))
        ways = QHBoxLayout()
        ways.setSpacing(2)
        ways.addWidget(self.start, 1)
        ways.addWidget(self.take, 1)
        self.model = Chooser("The promptable model")
        self.model.addItem("sightline-3d")
        self.device = Chooser("Where the model runs; auto takes a GPU where there is one")
        self.device.textActivated.connect(self.device_chosen)
        models = QHBoxLayout()
        models.setSpacing(2)
        models.addWidget(self.model, 3)
        models.addWidget(self.device, 2)
        for row in (sources, ways, models):
            column.addLayout(row)
        column.addStretch(1)

    def _start(self) -> None:
        value = self.label.currentData()
        if value is not None:
            self.start_asked.emit(self.layer.currentIndex(), int(value))

    def show_layers(self, names: Sequence[str]) -> None:
        """List labels layers."""
        current = max(0, self.layer.currentIndex()) if names else -1
        list_in(self.layer, list(names), min(current, len(names) - 1))
        self.take.setEnabled(bool(names))
        self.start.setEnabled(bool(names) and self.label.count() > 0)

    def show_labels(self, names: dict[int, str]) -> None:
        """List the labels of the chosen layer."""
        self.label.clear()
        for value, name in names.items():
            self.label.addItem(name or f"label {value}", value)
        self.start.setEnabled(bool(names))

    def show_device(self, device: str, choices: Sequence[str]) -> None:
        """List the devices and mark one."""
        wanted = list(choices) if device in choices else [*choices, device]
        list_in(self.device, wanted, wanted.index(device))


def _tick(text: str, tip: str, on: bool = False) -> QCheckBox:
    box = QCheckBox(text)
    box.setChecked(on)
    box.setToolTip(tip)
    return box
