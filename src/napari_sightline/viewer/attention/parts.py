"""Widgets that the attention panel is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QImage, QLinearGradient, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import (
    QAbstractButton,
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_sightline.viewer.attention.thumbnails import SIDE, Pictures

_ACROSS = 3


def form() -> QFormLayout:
    """Rows of a word and a widget."""
    made = QFormLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setVerticalSpacing(4)
    made.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return made


def sentence(lines: int) -> QLabel:
    """Text over the panel's whole width, so many lines high at least: nothing jumps."""
    made = QLabel()
    made.setWordWrap(True)
    made.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    made.setMinimumHeight(lines * made.fontMetrics().lineSpacing() + 4)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    made.setSizePolicy(policy)
    return made


def fill(box: QComboBox, names: Sequence[str], current: str) -> None:
    """List names in a drop-down and choose one, without telling anybody."""
    box.blockSignals(True)
    if [box.itemText(i) for i in range(box.count())] != list(names):
        box.clear()
        box.addItems(list(names))
    box.setCurrentText(current)
    box.setEnabled(bool(names))
    box.blockSignals(False)


class Heads(QWidget):
    """Pictures of all heads: click or press Space to choose one, Ctrl+click for several.

    Signals
    -------
    chosen(tuple of int)
        Heads, from 0; empty for all.
    """

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(3)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        self._group.buttonClicked.connect(self._clicked)

    @property
    def buttons(self) -> list[QAbstractButton]:
        """One a head."""
        return list(self._group.buttons())

    def show_count(self, count: int, chosen: Sequence[int]) -> None:
        """Show so many heads, and mark those that are chosen."""
        buttons = self.buttons
        for head in range(len(buttons), count):
            made = QToolButton()
            made.setCheckable(True)
            made.setIconSize(QSize(SIDE, SIDE))
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setText(f"head {head + 1}")
            made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            made.setToolTip("Show this head; Ctrl+click adds it to those shown")
            self._group.addButton(made, head)
            self._grid.addWidget(made, head // _ACROSS, head % _ACROSS)
        for unused in buttons[count:]:
            self._group.removeButton(unused)
            self._grid.removeWidget(unused)
            unused.deleteLater()
        for head, kept in enumerate(self.buttons):
            kept.setChecked(head in chosen)

    def show_pictures(self, pictures: Pictures | None) -> None:
        """Show a picture of each head; None: none."""
        if pictures is None:
            for made in self.buttons:
                made.setIcon(QIcon())
        else:
            for made, picture in zip(self.buttons, pictures, strict=False):
                made.setIcon(QIcon(pixmap(picture)))

    def mousePressEvent(self, event: Any) -> None:
        """Clicks beside the pictures choose nothing."""
        event.accept()

    def _clicked(self, clicked: QAbstractButton) -> None:
        from qtpy.QtWidgets import QApplication

        head = self._group.id(clicked)
        several = bool(QApplication.keyboardModifiers() & Qt.KeyboardModifier.ControlModifier)
        now = {self._group.id(b) for b in self.buttons if b.isChecked()}
        heads = now if several else ({head} if clicked.isChecked() or len(now) > 0 else set())
        for made in self.buttons:
            made.setChecked(self._group.id(made) in heads)
        self.chosen.emit(tuple(sorted(heads)))


def pixmap(picture: Any) -> QPixmap:
    """Turn ``(h, w, 3)`` uint8 into a pixmap."""
    data = np.ascontiguousarray(picture)
    height, width, _ = data.shape
    shown = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(shown.copy())


class ColourBar(QWidget):
    """The colour scale, with what its ends mean."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(30)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._stops: list[QColor] = []
        self.texts = ("", "", "")
        self.ink = QColor(200, 200, 200)

    def show_scale(self, colours: Any, texts: tuple[str, str, str]) -> None:
        """Show colours ``(n, 3)`` 0 .. 1, and words at the low end, in the middle, at the top."""
        stops = [QColor.fromRgbF(*(float(c) for c in colour)) for colour in colours[::16]]
        if texts != self.texts or stops != self._stops:
            self._stops, self.texts = stops, texts
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw."""
        if not self._stops:
            return
        painter = QPainter(self)
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for number, stop in enumerate(self._stops):
            gradient.setColorAt(number / max(1, len(self._stops) - 1), stop)
        painter.fillRect(0, 0, self.width(), 11, gradient)
        painter.setPen(self.ink)
        sides = (
            Qt.AlignmentFlag.AlignLeft,
            Qt.AlignmentFlag.AlignHCenter,
            Qt.AlignmentFlag.AlignRight,
        )
        for text, side in zip(self.texts, sides, strict=True):
            painter.drawText(0, 13, self.width(), 17, side, text)
        painter.end()
