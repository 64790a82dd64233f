"""Small plots of the panel: bars by structure, deletion and insertion, bias kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from napari_sightline.attention.faithful import Faithfulness, Test

Array = npt.NDArray[np.floating]
#: Name (none: not in the legend), x, y, colour and style of a curve.
Line = tuple[str, Array, Array, QColor, Qt.PenStyle]
ACCENT, OTHER, EVEN = QColor(74, 163, 223), QColor(224, 140, 60), QColor(150, 150, 150)
_ROW = 17


@dataclass(frozen=True)
class Bar:
    """A bar.

    Attributes
    ----------
    name : str
        What it stands for.
    share : float
        Its length, 0 .. 1.
    even : float
        What even attention would give; NaN where that means nothing.
    colour : tuple of 3 int, optional
        Of the structure.
    """

    name: str
    share: float
    even: float = float("nan")
    colour: tuple[int, int, int] | None = None


class Plot(QWidget):
    """Something drawn with the theme's ink."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ink = QColor(200, 200, 200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_ink(self, ink: QColor) -> None:
        """Draw text and axes in a colour."""
        self.ink = ink
        self.update()

    def _painter(self) -> QPainter:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(self.ink)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        return painter


class Bars(Plot):
    """Horizontal bars, the longest first; a grey tick where even attention would end."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bars: tuple[Bar, ...] = ()

    def show_bars(self, bars: Sequence[Bar]) -> None:
        """Show bars."""
        self.bars = tuple(bars)
        self.setFixedHeight(max(1, len(self.bars)) * _ROW + 4)
        self.setToolTip(
            "\n".join(f"{b.name}: {100 * b.share:.1f} % (even: {100 * b.even:.1f} %)" for b in bars)
        )
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw."""
        painter = self._painter()
        words = min(self.width() * 0.48, 150.0)
        room = self.width() - words - 46
        longest = max((max(b.share, np.nan_to_num(b.even)) for b in self.bars), default=1.0)
        for row, bar in enumerate(self.bars):
            top = row * _ROW + 2
            painter.setPen(self.ink)
            text = painter.fontMetrics().elidedText(
                bar.name, Qt.TextElideMode.ElideRight, int(words - 6)
            )
            painter.drawText(QRectF(0, top, words, _ROW), Qt.AlignmentFlag.AlignVCenter, text)
            length = room * bar.share / max(longest, 1e-9)
            colour = QColor(*bar.colour) if bar.colour else ACCENT
            painter.fillRect(QRectF(words, top + 3, max(length, 1), _ROW - 6), colour)
            end = words + length
            if np.isfinite(bar.even):
                painter.setPen(QPen(EVEN, 2))
                x = words + room * bar.even / max(longest, 1e-9)
                end = max(end, x)  # no number under the tick
                painter.drawLine(QPointF(x, top + 1), QPointF(x, top + _ROW - 2))
            painter.setPen(self.ink)
            painter.drawText(
                QRectF(end + 4, top, 46, _ROW),
                Qt.AlignmentFlag.AlignVCenter,
                f"{100 * bar.share:.0f} %" if bar.share >= 0.01 else f"{100 * bar.share:.1f} %",
            )
        painter.end()


class Curves(Plot):
    """Curves over the share of tokens; the vertical axis runs from the least to the largest."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves: tuple[Line, ...] = ()
        self.setFixedHeight(130)

    def show_curves(self, curves: Sequence[Line]) -> None:
        """Show curves."""
        self.curves = tuple(curves)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw."""
        painter = self._painter()
        left, top, right, bottom = 30.0, 6.0, self.width() - 6.0, self.height() - 30.0
        painter.setPen(QPen(EVEN, 1))
        painter.drawRect(QRectF(left, top, right - left, bottom - top))
        painter.setPen(self.ink)
        high = max((float(np.nanmax(y)) for _, _, y, _, _ in self.curves), default=1.0)
        low = min((float(np.nanmin(y)) for _, _, y, _, _ in self.curves), default=0.0)
        low, high = (low, high) if high > low else (low, low + 1e-6)
        flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, top - 6, left - 4, 14), flags, f"{high:.2g}")
        painter.drawText(QRectF(0, bottom - 8, left - 4, 14), flags, f"{low:.2g}")
        x0 = left
        for name, x, y, colour, style in self.curves:
            painter.setPen(QPen(colour, 2, style))
            points = [
                QPointF(
                    left + (right - left) * float(i),
                    bottom - (bottom - top) * (float(j) - low) / (high - low),
                )
                for i, j in zip(x, y, strict=True)
                if np.isfinite(j)
            ]
            painter.drawPolyline(QPolygonF(points))
            if not name:
                continue
            painter.drawLine(QPointF(x0, bottom + 22), QPointF(x0 + 12, bottom + 22))
            painter.setPen(self.ink)
            painter.drawText(QPointF(x0 + 14, bottom + 26), name)
            x0 += 20 + painter.fontMetrics().horizontalAdvance(name)
        painter.setPen(self.ink)
        painter.drawText(
            QRectF(left, bottom + 1, right - left, 14),
            Qt.AlignmentFlag.AlignHCenter,
            "share of places, the map's strongest first",
        )
        painter.end()


def trust_curves(found: Faithfulness) -> list[Line]:
    """Curves of a map beside the means of scattered orders and of the map moved, for `Curves`."""
    mine, share = found.maps["map"], found.maps["map"].share
    lines: list[Line] = []
    colours: tuple[tuple[Test, QColor], ...] = (("deletion", OTHER), ("insertion", ACCENT))
    for test, colour in colours:
        lines.append((test, share, mine.curve(test), colour, Qt.PenStyle.SolidLine))
    kinds = (
        ("scattered", found.scattered, Qt.PenStyle.DashLine),
        ("moved", found.moved["map"], Qt.PenStyle.DotLine),
    )
    for word, runs, style in kinds:
        for test, colour in colours:
            mean = np.mean([one.curve(test) for one in runs], 0)
            lines.append((word if test == "deletion" else "", share, mean, colour, style))
    return lines


class Kernels(Plot):
    """A head's relative position bias: its slices through the middle, one beside the other."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kernel: Array | None = None
        self.setFixedHeight(86)

    def sizeHint(self) -> QSize:
        """Three squares."""
        return QSize(3 * 76, 86)

    def show_kernel(self, kernel: Array | None) -> None:
        """Show one head's kernel, ``(D, H, W)``; offset 0 in the middle."""
        self.kernel = kernel
        if kernel is not None:
            self.setToolTip(
                f"Bias from {float(kernel.min()):.2f} (blue) to {float(kernel.max()):.2f} "
                "(orange); offset 0 in the middle"
            )
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw."""
        painter = self._painter()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        if self.kernel is None:
            painter.end()
            return
        kernel = self.kernel
        reach = max(float(np.abs(kernel).max()), 1e-9)
        side = min((self.width() - 8) / 3, 70)
        for axis, word in enumerate(("axial", "coronal", "sagittal")):
            plane = np.take(kernel, kernel.shape[axis] // 2, axis)
            cell = side / max(plane.shape)
            for (row, column), value in np.ndenumerate(plane):
                share = float(value) / reach
                colour = QColor(ACCENT if share < 0 else OTHER)
                colour.setAlphaF(min(1.0, abs(share)))
                painter.fillRect(
                    QRectF(axis * (side + 4) + column * cell, row * cell, cell + 0.5, cell + 0.5),
                    colour,
                )
            painter.setPen(self.ink)
            painter.drawText(
                QRectF(axis * (side + 4), side + 1, side, 14), Qt.AlignmentFlag.AlignHCenter, word
            )
        painter.end()


__all__ = ["Bar", "Bars", "Curves", "Kernels", "Line", "Plot"]
