"""Buttons, boxes and labels as all panels make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QHelpEvent, QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QTabWidget,
    QToolTip,
)


def button(text: str, tip: str, wanted: Any) -> QPushButton:
    """Button that emits a signal, or calls something, without arguments."""
    made = _button(text, tip)
    made.clicked.connect(lambda: wanted.emit() if hasattr(wanted, "emit") else wanted())
    return made


def toggle(text: str, tip: str, icon: bool = False) -> QPushButton:
    """Button that stays down; it may have room for an icon."""
    made = _button(text, tip, icon=icon)
    made.setCheckable(True)
    return made


def _button(text: str, tip: str, icon: bool = False) -> QPushButton:
    """Button as narrow as its text: styles ask for more."""
    made = QPushButton(text)
    made.setToolTip(tip)
    words = made.fontMetrics().horizontalAdvance(text) + 12
    made.setMinimumWidth(words + (made.iconSize().width() + 4 if icon else 0))
    return made


class Chooser(QComboBox):
    """Drop-down list that may be narrower than its texts, which are cut in the middle then.

    Parameters
    ----------
    tip : str
        What is chosen; a text that is cut stands above it as a whole.
    words : sequence of str
        The choices.
    least : int
        Letters that always have room.
    """

    def __init__(self, tip: str = "", words: Sequence[str] = (), least: int = 8) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.addItems(list(words))
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(least)

    def _option(self) -> QStyleOptionComboBox:
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        return option

    @property
    def shown(self) -> str:
        """Text that is chosen, as far as there is room for it."""
        option, style = self._option(), self.style()
        if style is None:
            return self.currentText()
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        return self.fontMetrics().elidedText(
            self.currentText(), Qt.TextElideMode.ElideMiddle, field.width() - 4
        )

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the box with the text that has room."""
        painter, option = QStylePainter(self), self._option()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        option.currentText = self.shown
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()

    def event(self, event: QEvent | None) -> bool:
        """Show the whole text of one that is cut above the tooltip."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            whole = self.currentText() if self.shown != self.currentText() else ""
            said = "\n".join(line for line in (whole, self.toolTip()) if line)
            QToolTip.showText(event.globalPos(), said, self)
            return True
        return bool(super().event(event))


def wrapped(label: QLabel) -> QLabel:
    """Let a label be as high as its text needs and no wider than its panel."""
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)
    return label


def plain(tabs: QTabWidget) -> QTabWidget:
    """Draw no lines about pages and tabs."""
    bar = tabs.tabBar()
    if bar is not None:
        bar.setDrawBase(False)
    tabs.setStyleSheet("QTabWidget::pane { border: 0; } QTabBar { border: 0; }")
    return tabs


def list_in(box: QComboBox, names: Sequence[str], current: int) -> None:
    """Fill a box where its names are others, and mark one."""
    if [box.itemText(i) for i in range(box.count())] != list(names):
        box.clear()
        box.addItems(names)
    box.setCurrentIndex(current)
    box.setEnabled(bool(names))
