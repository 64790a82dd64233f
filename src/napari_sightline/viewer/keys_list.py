"""The list of keys, as a small window beside the work."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_sightline.viewer.keys import KEYS, LIST, SHARED

#: What the mouse does, in the list behind the keys.
GESTURES = {
    "click": "a place that belongs to the object; with Ctrl, one that does not",
    "drag (box, stroke, lasso)": "draws; with Ctrl, what does not belong",
    "Shift and drag a box": "makes the last box reach to this slice",
    "drag a prompt": "moves it (point tool)",
    "Shift and wheel": "opacity of the masks",
    "Ctrl and wheel": "goes through the slices",
}


def as_html() -> str:
    """Table of keys and gestures."""
    rows = [(_shown(key), what) for key, what in KEYS.items()]
    rows += [(LIST, "this list"), *GESTURES.items()]
    cells = "".join(
        f"<tr><td style='padding-right:14px'><b>{escape(key)}</b></td><td>{escape(what)}</td></tr>"
        for key, what in rows
    )
    theirs = "; ".join(f"{key} {what}" for key, what in SHARED.items())
    return f"<table cellspacing=2>{cells}</table><p>While the panel is closed {escape(theirs)}.</p>"


def _shown(key: str) -> str:
    return key.replace("Control", "Ctrl").replace("-", "+")


class KeysList(QDialog):
    """Window with the list of keys; it does not take the work away."""

    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of the prompt panel")
        self.setModal(False)
        label = QLabel(as_html())
        label.setTextFormat(Qt.TextFormat.RichText)
        label.setMinimumWidth(620)
        QVBoxLayout(self).addWidget(label)
