"""Buttons, boxes and labels as all panels make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSizePolicy


def button(text: str, tip: str, wanted: Any) -> QPushButton:
    """Button that emits a signal, or calls something, without arguments."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setMinimumWidth(20)
    made.clicked.connect(lambda: wanted.emit() if hasattr(wanted, "emit") else wanted())
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


def wrapped(label: QLabel) -> QLabel:
    """Let a label be as high as its text needs and no wider than its panel."""
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)
    return label


def list_in(box: QComboBox, names: Sequence[str], current: int) -> None:
    """Fill a box where its names are others, and mark one."""
    if [box.itemText(i) for i in range(box.count())] != list(names):
        box.clear()
        box.addItems(names)
    box.setCurrentIndex(current)
    box.setEnabled(bool(names))
