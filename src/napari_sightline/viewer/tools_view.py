"""The part of the panel in which a reader chooses what the mouse does, and which mask is meant."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from napari_sightline.viewer import icons
from napari_sightline.viewer.buttons import button, toggle
from napari_sightline.viewer.colours import NEGATIVE, POSITIVE
from napari_sightline.viewer.state import Picture

_TIPS = {
    "point": "Click on a place (P)",
    "box": "Draw a box round the object on a slice (B)",
    "scribble": "Draw a stroke through the object (S)",
    "lasso": "Draw round the object on a slice (L)",
}
_SHORT = {"surroundings": "around"}
_PICTURE = 56  # pixels of a candidate's picture


class ToolsView(QWidget):
    """Tools, signs, steps and candidates.

    Signals
    -------
    tool_chosen(str)
        One of `icons.TOOLS`.
    undo_asked, redo_asked, reset_asked
        A step was taken back, brought back, or all prompts dropped.
    candidate_chosen(int)
        Which of the candidates is meant; -1 for the model's own answer.
    """

    tool_chosen = Signal(str)
    undo_asked = Signal()
    redo_asked = Signal()
    reset_asked = Signal()
    candidate_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        tools = QHBoxLayout()
        tools.setSpacing(2)
        self.tools = QButtonGroup(self)
        self.buttons = {
            name: toggle(name.capitalize(), _TIPS[name], icon=True) for name in icons.TOOLS
        }
        for index, made in enumerate(self.buttons.values()):
            self.tools.addButton(made, index)
            tools.addWidget(made, 1)
        self.buttons["point"].setChecked(True)
        self.tools.idToggled.connect(self._chosen)
        signs = QHBoxLayout()
        signs.setSpacing(2)
        self.signs = QButtonGroup(self)
        self.positive = toggle("Positive", "What you draw belongs to the object (T switches)")
        self.negative = toggle(
            "Negative", "What you draw does not belong to it (T switches; or hold Ctrl)"
        )
        self.positive.setIcon(icons.sign(POSITIVE, cross=False))
        self.negative.setIcon(icons.sign(NEGATIVE, cross=True))
        self.positive.setChecked(True)
        for made in (self.positive, self.negative):
            made.setMinimumHeight(28)
            self.signs.addButton(made)
            signs.addWidget(made, 1)
        self.undo = button("Undo", "Take back the last step (Ctrl+Z)", self.undo_asked)
        self.redo = button("Redo", "Bring it back (Ctrl+Shift+Z)", self.redo_asked)
        self.reset = button("Reset", "Drop all prompts of this object (R)", self.reset_asked)
        steps = QHBoxLayout()
        steps.setSpacing(2)
        for made in (self.undo, self.redo, self.reset):
            steps.addWidget(made, 1)
        for row in (tools, signs, steps):
            column.addLayout(row)
        column.addWidget(self._candidates())

    def _candidates(self) -> QWidget:
        self.offer = QWidget()
        row = QHBoxLayout(self.offer)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.candidates = QButtonGroup(self)
        self.candidates.setExclusive(False)
        for index in range(3):
            made = QToolButton()
            made.setCheckable(True)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setIconSize(QSize(_PICTURE, _PICTURE))
            made.setMinimumWidth(20)
            policy = made.sizePolicy()
            policy.setHorizontalPolicy(policy.Policy.Expanding)
            made.setSizePolicy(policy)
            self.candidates.addButton(made, index)
            row.addWidget(made, 1)
        self.candidates.idClicked.connect(self._candidate)
        self.offer.hide()
        return self.offer

    # ---- what the user does

    def _chosen(self, index: int, on: bool) -> None:
        if on:
            self.tool_chosen.emit(icons.TOOLS[index])

    def _candidate(self, index: int) -> None:
        made = self.candidates.button(index)
        self.candidate_chosen.emit(index if made is not None and made.isChecked() else -1)

    @property
    def tool(self) -> str:
        """Which tool is chosen."""
        return icons.TOOLS[self.tools.checkedId()]

    def choose_tool(self, name: str) -> None:
        """Choose a tool as its button does."""
        self.buttons[name].setChecked(True)

    # ---- what to show

    def show_candidates(self, pictures: Sequence[Picture], chosen: int | None) -> None:
        """Show what else may be meant by a first prompt; nothing hides the row."""
        for index, made in enumerate(self.candidates.buttons()):
            made.setVisible(index < len(pictures))
            if index >= len(pictures):
                continue
            picture = pictures[index]
            if made.property("picture") != id(picture):
                made.setProperty("picture", id(picture))
                made.setIcon(_icon(picture))
                made.setText(f"{_SHORT.get(picture.kind, picture.kind)} {picture.quality:.0%}")
                made.setToolTip(
                    f"{picture.kind.capitalize()}: {picture.ml:.1f} mL, expected overlap "
                    f"{100 * picture.quality:.0f} % (C goes through them)"
                )
            made.setChecked(index == chosen)
        self.offer.setVisible(bool(pictures))

    def dress(self) -> None:
        """Draw the tools' icons in the colours of the present theme."""
        for name, made in self.buttons.items():
            made.setIcon(icons.tool(name, self.palette().windowText().color()))


def _icon(picture: Picture) -> QIcon:
    height, width, _ = picture.rgb.shape
    image = QImage(picture.rgb.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QIcon(QPixmap.fromImage(image))
