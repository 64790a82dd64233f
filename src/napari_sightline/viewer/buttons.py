"""Buttons and boxes as all parts of the panel make them."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QPushButton


def button(text: str, tip: str, signal: Any) -> QPushButton:
    """Button that emits a signal without arguments."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setMinimumWidth(20)
    made.clicked.connect(lambda: signal.emit())
    return made


def toggle(text: str, tip: str) -> QPushButton:
    """Button that stays down."""
    made = QPushButton(text)
    made.setCheckable(True)
    made.setToolTip(tip)
    made.setMinimumWidth(20)
    return made


def narrow(box: QComboBox) -> QComboBox:
    """Let a long name not widen the panel."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    return box


def list_in(box: QComboBox, names: list[str], current: int) -> None:
    """Fill a box where its names are others, and mark one."""
    if [box.itemText(i) for i in range(box.count())] != names:
        box.clear()
        box.addItems(names)
    box.setCurrentIndex(current)
    box.setEnabled(bool(names))
