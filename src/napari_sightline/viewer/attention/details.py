"""Below the map: attention by structure, how far to trust it, uncertainty, Swin's bias."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QTabWidget, QVBoxLayout, QWidget

from napari_sightline.viewer.attention.head_table import HeadTable
from napari_sightline.viewer.attention.parts import sentence
from napari_sightline.viewer.attention.plots import Array, Bar, Bars, Curves, Kernels, Line
from napari_sightline.viewer.attention.state import HeadRow
from napari_sightline.viewer.attention.words import CAVEAT
from napari_sightline.viewer.buttons import button, plain

STRUCTURES, HEADS, TRUST, UNCERTAINTY, BIAS = range(5)


class Details(QTabWidget):
    """Five small pages; only the one that is open is computed."""

    opened = Signal(int)
    measure_asked = Signal()
    uncertainty_chosen = Signal(bool)
    jump_asked = Signal()
    head_chosen = Signal(str, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setUsesScrollButtons(True)
        plain(self)
        self.bars, self.curves, self.kernels = Bars(), Curves(), Kernels()
        self.structure_words = sentence(1)
        self.heads = HeadTable()
        self.heads.chosen.connect(self.head_chosen)
        self.head_words = sentence(2)
        self.copy = button(
            "Copy table", "Copy the table, to paste it into a spreadsheet", self.heads.copy_asked
        )
        self.trust_words = sentence(3)
        self.uncertainty_words = sentence(2)
        self.bias_words = sentence(2)
        self.measure = button(
            "Measure faithfulness",
            "Blur what the map points at, and what it does not, and see what the mask does",
            self.measure_asked,
        )
        self.uncertainty = QCheckBox("show where the mask is unsure")
        self.uncertainty.setToolTip("A layer of its own: entropy of the mask's probabilities")
        self.uncertainty.toggled.connect(self.uncertainty_chosen)
        self.jump = button(
            "Go to the most uncertain place (U)", "The next best click", self.jump_asked
        )
        self.trust_words.setText(f"{CAVEAT} Deletion and insertion were not measured yet.")
        self.addTab(_page(self.structure_words, self.bars), "Structures")
        self.addTab(_page(self.head_words, self.heads, self.copy), "Heads")
        self.addTab(_page(self.trust_words, self.measure, self.curves), "Trust")
        self.addTab(_page(self.uncertainty, self.jump, self.uncertainty_words), "Unsure")
        self.addTab(_page(self.bias_words, self.kernels), "Bias")
        self.setTabToolTip(STRUCTURES, "In which structures the attention lies")
        self.setTabToolTip(HEADS, "Which head of which block looks at which structure")
        self.setTabToolTip(TRUST, "How faithful the map is")
        self.setTabToolTip(UNCERTAINTY, "Where the mask is uncertain")
        self.setTabToolTip(BIAS, "Relative position bias of Swin's heads")
        self.curves.hide()
        self.currentChanged.connect(self.opened)

    def show_bars(self, bars: Sequence[Bar], words: str) -> None:
        """Show attention by structure; words instead where there is none."""
        self.bars.show_bars(bars)
        self.bars.setVisible(bool(bars))
        self.structure_words.setText(words)

    def show_heads(self, rows: Sequence[HeadRow], words: str) -> None:
        """Show attention by structure of all heads; words instead where there are none."""
        self.heads.show_rows(rows)
        for part in (self.heads, self.copy):
            part.setVisible(bool(rows))
        self.head_words.setText(words)

    def show_trust(self, words: str, curves: Sequence[Line] = ()) -> None:
        """Show deletion and insertion, or only say something."""
        self.trust_words.setText(words)
        self.curves.show_curves(curves)
        self.curves.setVisible(bool(curves))

    def show_kernel(self, kernel: Array | None, words: str) -> None:
        """Show a head's bias."""
        self.bias_words.setText(words)
        self.kernels.show_kernel(kernel)
        self.kernels.setVisible(kernel is not None)

    def show_uncertain(self, on: bool, words: str) -> None:
        """Show whether the layer is there, and what it says."""
        self.uncertainty.blockSignals(True)
        self.uncertainty.setChecked(on)
        self.uncertainty.blockSignals(False)
        self.uncertainty_words.setText(words)

    def show_ink(self, ink: QColor) -> None:
        """Draw plots in the theme's ink."""
        for plot in (self.bars, self.curves, self.kernels):
            plot.set_ink(ink)


def _page(*widgets: QWidget) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(4, 6, 4, 4)
    column.setSpacing(4)
    for widget in widgets:
        column.addWidget(widget)
    column.addStretch(1)
    return page


__all__ = ["BIAS", "HEADS", "STRUCTURES", "TRUST", "UNCERTAINTY", "Details"]
