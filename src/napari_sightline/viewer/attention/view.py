"""The attention panel's widgets, and what they look like. Knows neither napari nor sessions."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.viewer.attention.details import Details
from napari_sightline.viewer.attention.parts import ColourBar, Heads, fill, form, sentence
from napari_sightline.viewer.attention.state import COLORMAPS, MODES, REDUCTIONS, SOURCES, Settings
from napari_sightline.viewer.buttons import Chooser, button, toggle
from napari_sightline.viewer.status import Status

_MOMENT = 400
_LEAST = 5  # letters of a list that have room
OPEN_MODEL = "open a model file …"


class AttentionView(QScrollArea):
    """All widgets of the attention panel.

    Signals carry what the user wants; the `show_...` methods say what to show.
    """

    image_chosen = Signal(int)
    model_chosen = Signal(str)
    changed = Signal(dict)
    scale_changed = Signal(dict)
    all_heads_asked = Signal()
    run_asked = Signal()
    pin_asked = Signal()
    keep_asked = Signal()
    export_asked = Signal()
    strip_asked = Signal()
    visible_asked = Signal()
    cancel_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._modules: list[str] = []
        self.status = Status("Stop what is computed", self.cancel_asked, after=_MOMENT)
        self.advice, self.progress = self.status.advice, self.status.progress
        self.cancel = self.status.cancel
        self.show_advice, self.show_progress = self.status.show_advice, self.status.show_progress
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(6)
        self.details = Details()
        layout.addWidget(self.status)
        for part in (self._query(), self._heads(), self._look(), self._end()):
            layout.addLayout(part)
        layout.addWidget(self.details)
        layout.addStretch(1)
        self.setWidget(inner)
        self.setMinimumWidth(318)
        self.setMinimumHeight(240)

    # ---- parts, from top to bottom

    def _query(self) -> QFormLayout:
        rows = form()
        self.image = Chooser("The scan on which attention is shown", least=_LEAST)
        self.image.activated.connect(self.image_chosen)
        self.source = Chooser(
            "Which pass of which model is looked into", list(SOURCES.values()), _LEAST
        )
        self.source.activated.connect(
            lambda index: self.changed.emit({"source": list(SOURCES)[index]})
        )
        self.run = button(
            "Run", "Run the model at the cursor, apart from your objects (G)", self.run_asked
        )
        self.model = Chooser("The model that 'Run' runs", least=_LEAST)
        self.model.textActivated.connect(self.model_chosen)
        models = QHBoxLayout()
        models.setSpacing(4)
        models.addWidget(self.model, 1)
        models.addWidget(self.run)
        self.mode = Chooser("What is asked", list(MODES.values()), _LEAST)
        self.mode.activated.connect(lambda index: self.changed.emit({"mode": list(MODES)[index]}))
        self.pin = button(
            "Pin voxel", "Ask for the voxel under the cursor from now on (Shift+A)", self.pin_asked
        )
        modes = QHBoxLayout()
        modes.setSpacing(4)
        modes.addWidget(self.mode, 1)
        modes.addWidget(self.pin)
        self.prompt = Chooser("Which prompt's token is asked", least=_LEAST)
        self.prompt.textActivated.connect(lambda text: self.changed.emit({"prompt": text}))
        sides = QHBoxLayout()
        sides.setSpacing(2)
        self.to = toggle("looks at", "What the query attends to: a row of the attention map")
        self.origin = toggle("is seen by", "What attends to the query: a column of the map")
        self.sides = QButtonGroup(self)
        for number, side in enumerate((self.to, self.origin)):
            self.sides.addButton(side, number)
            sides.addWidget(side, 1)
        self.to.setChecked(True)
        self.sides.idClicked.connect(
            lambda number: self.changed.emit({"direction": ("to", "from")[number]})
        )
        self.block = QSlider(Qt.Orientation.Horizontal)
        self.block.setToolTip("Block of the network, from its input on; arrow keys step")
        self.block.setPageStep(1)
        self.block.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.block.valueChanged.connect(self._block_moved)
        self.block_name = sentence(2)
        blocks = QVBoxLayout()
        blocks.setSpacing(1)
        blocks.addWidget(self.block)
        blocks.addWidget(self.block_name)
        rows.addRow("image", self.image)
        rows.addRow("source", self.source)
        rows.addRow("model", models)
        rows.addRow("ask", modes)
        self.prompt_word = QLabel("prompt")
        rows.addRow(self.prompt_word, self.prompt)
        rows.addRow("query", sides)
        rows.addRow("block", blocks)
        return rows

    def _heads(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        row = QHBoxLayout()
        row.setSpacing(2)
        self.all_heads = button("all heads", "Show all heads together", self.all_heads_asked)
        row.addWidget(self.all_heads, 1)
        self.reductions = QButtonGroup(self)
        for number, word in enumerate(REDUCTIONS):
            tip = {
                "mean": "Mean of the shown heads",
                "max": "Largest of the shown heads, for each token",
                "entropy": "How evenly the heads share each token: 1 where all look alike",
            }[word]
            made = toggle(word, tip)
            self.reductions.addButton(made, number)
            row.addWidget(made, 1)
        self.reductions.idClicked.connect(
            lambda number: self.changed.emit({"reduction": REDUCTIONS[number]})
        )
        self.heads = Heads()
        self.heads.chosen.connect(lambda heads: self.changed.emit({"heads": heads}))
        column.addLayout(row)
        column.addWidget(self.heads)
        return column

    def _look(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        self.caption = sentence(3)
        self.bar = ColourBar()
        rows = form()
        self.colormap = Chooser("Colours", COLORMAPS, _LEAST)
        self.colormap.textActivated.connect(lambda text: self.changed.emit({"colormap": text}))
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(5, 100)
        self.opacity.setToolTip("Opacity")
        self.opacity.valueChanged.connect(lambda value: self.changed.emit({"opacity": value / 100}))
        colours = QHBoxLayout()
        colours.addWidget(self.colormap, 2)
        colours.addWidget(self.opacity, 3)
        self.fixed = Chooser(
            "Own: each map's colours end at a percentile of its values. Fixed: one scale for all "
            "heads and voxels, so that they compare",
            ("own, percentile", "fixed, up to"),
            _LEAST,
        )
        self.fixed.activated.connect(lambda index: self.scale_changed.emit({"fixed": index == 1}))
        self.percentile = QDoubleSpinBox()
        self.percentile.setRange(50, 100)
        self.percentile.setToolTip("Percentile of the map's values at which its colours end")
        self.percentile.setDecimals(1)
        self.percentile.setSingleStep(0.5)
        self.percentile.valueChanged.connect(
            lambda value: self.scale_changed.emit({"percentile": value})
        )
        self.top = QDoubleSpinBox()
        self.top.setRange(0.001, 100)
        self.top.setDecimals(3)
        self.top.setSuffix(" %")
        self.top.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.top.valueChanged.connect(lambda value: self.scale_changed.emit({"top": value / 100}))
        for spin in (self.percentile, self.top):
            spin.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # arrow keys step
            spin.setFixedWidth(64)
        scales = QHBoxLayout()
        scales.setSpacing(4)
        scales.addWidget(self.fixed, 1)
        scales.addWidget(self.percentile)
        scales.addWidget(self.top)
        self.smooth = QCheckBox("smooth")
        self.smooth.setToolTip("Draw values between tokens; off, each token is a block")
        self.smooth.toggled.connect(lambda on: self.changed.emit({"smooth": on}))
        self.normalise = QCheckBox("normalise")
        self.normalise.setToolTip("Divide each map by its largest value; maps no longer compare")
        self.normalise.toggled.connect(lambda on: self.scale_changed.emit({"normalise": on}))
        self.lines = QSpinBox()
        self.lines.setRange(0, 20)
        self.lines.setSpecialValueText("no lines")
        self.lines.setSuffix(" lines")
        self.lines.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.lines.setToolTip("Join the voxel to so many of its strongest tokens")
        self.lines.valueChanged.connect(lambda value: self.changed.emit({"lines": value}))
        ways = QHBoxLayout()
        ways.setSpacing(4)
        for widget in (self.smooth, self.normalise):
            ways.addWidget(widget)
        ways.addWidget(self.lines, 1)
        rows.addRow("colours", colours)
        rows.addRow("scale", scales)
        column.addWidget(self.caption)
        column.addWidget(self.bar)
        column.addLayout(rows)
        column.addLayout(ways)
        return column

    def _end(self) -> QVBoxLayout:
        self.keep = button("Keep map", "Keep this map as a layer of its own (K)", self.keep_asked)
        self.visible = button(
            "Hide / show", "Hide or show all attention layers (A)", self.visible_asked
        )
        self.export = button(
            "Export …", "Write the map to NIfTI on the scan's grid", self.export_asked
        )
        self.strip = button("Heads …", "Write the heads, side by side, to PNG", self.strip_asked)
        column = QVBoxLayout()
        column.setSpacing(2)
        for pair in ((self.keep, self.visible), (self.export, self.strip)):
            row = QHBoxLayout()
            row.setSpacing(2)
            for made in pair:
                row.addWidget(made, 1)
            column.addLayout(row)
        return column

    # ---- what to show

    def _block_moved(self, value: int) -> None:
        if 0 <= value < len(self._modules):
            self.changed.emit({"block": self._modules[value]})

    def show_images(self, names: Sequence[str], current: int) -> None:
        """List the images; `current` is -1 for none."""
        fill(self.image, names, names[current] if current >= 0 else "")
        self.image.setCurrentIndex(current)

    def show_models(self, names: Sequence[str], current: str) -> None:
        """List the models that can be run here."""
        fill(self.model, [*names, OPEN_MODEL], current)

    def show_blocks(self, blocks: Sequence[tuple[str, str]], current: int) -> None:
        """Let the slider run over blocks: module and name for people."""
        self.block.blockSignals(True)
        self._modules = [module for module, _ in blocks]
        self.block.setRange(0, max(0, len(blocks) - 1))
        self.block.setEnabled(len(blocks) > 1)
        self.block.setValue(max(0, current))
        self.block.blockSignals(False)
        if current < 0:
            self.block_name.setText("")
        else:
            self.block_name.setText(f"{current + 1} of {len(blocks)}: {blocks[current][1]}")

    def show_prompts(self, names: Sequence[str], current: str, shown: bool) -> None:
        """List the prompt tokens, where they are asked for."""
        fill(self.prompt, names, current)
        self.prompt.setVisible(shown)
        self.prompt_word.setVisible(shown)

    def show_settings(self, now: Settings) -> None:
        """Show what is set."""
        parts = (
            self.source,
            self.mode,
            self.colormap,
            self.opacity,
            self.fixed,
            self.percentile,
            self.top,
            self.smooth,
            self.normalise,
            self.lines,
        )
        for part in parts:
            part.blockSignals(True)
        self.source.setCurrentText(SOURCES[now.source])
        self.mode.setCurrentText(MODES[now.mode])
        (self.to if now.direction == "to" else self.origin).setChecked(True)
        for made in self.reductions.buttons():
            made.setChecked(REDUCTIONS[self.reductions.id(made)] == now.reduction)
        self.colormap.setCurrentText(now.colormap)
        self.opacity.setValue(round(100 * now.opacity))
        self.fixed.setCurrentIndex(int(now.scale.fixed))
        self.percentile.setValue(now.scale.percentile)
        self.top.setValue(100 * now.scale.top)
        self.smooth.setChecked(now.smooth)
        self.normalise.setChecked(now.scale.normalise)
        self.lines.setValue(now.lines)
        for part in parts:
            part.blockSignals(False)
        self.percentile.setVisible(not now.scale.fixed)
        self.top.setVisible(now.scale.fixed)
        asks = now.mode in ("cursor", "pinned", "prompt")
        self.to.setEnabled(asks)
        self.origin.setEnabled(asks)
        self.pin.setEnabled(now.mode != "prompt")

    def show_ink(self, ink: QColor) -> None:
        """Draw plots in the theme's ink."""
        self.bar.ink = ink
        self.bar.update()
        self.details.show_ink(ink)


__all__ = ["OPEN_MODEL", "AttentionView"]
