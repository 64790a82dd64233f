"""Small pictures on buttons and in lists, drawn in the theme's own colours."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPalette, QPen, QPixmap
from qtpy.QtWidgets import QApplication

from napari_sightline.anatomy import Colour

_SIDE = 24
TOOLS = ("point", "box", "scribble", "lasso")


def ink() -> QColor:
    """Colour of text in the present theme."""
    return QApplication.palette().color(QPalette.ColorRole.WindowText)


class _Drawing:
    """A transparent pixmap to draw on with smooth lines."""

    def __init__(self, side: int = _SIDE) -> None:
        self.pixmap = QPixmap(side, side)
        self.pixmap.fill(Qt.GlobalColor.transparent)
        self.painter = QPainter(self.pixmap)
        self.painter.setRenderHint(QPainter.RenderHint.Antialiasing)

    def pen(self, colour: QColor, width: float) -> None:
        pen = QPen(colour)
        pen.setWidthF(width)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        self.painter.setPen(pen)

    def icon(self) -> QIcon:
        self.painter.end()
        return QIcon(self.pixmap)


def sign(colour: Colour, cross: bool) -> QIcon:
    """Icon of a click as it is drawn on the scan, with an edge for pale themes."""
    draw, edge = _Drawing(), QColor(0, 0, 0, 150)
    if cross:
        for pen in ((edge, 7), (QColor(*colour), 5)):
            draw.pen(*pen)
            draw.painter.drawLine(6, 6, 18, 18)
            draw.painter.drawLine(18, 6, 6, 18)
    else:
        draw.painter.setBrush(QColor(*colour))
        draw.pen(edge, 1.5)
        draw.painter.drawEllipse(4, 4, 16, 16)
    return draw.icon()


def swatch(colour: Colour) -> QIcon:
    """Square of a colour, with an edge: pale colours on a pale theme."""
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(128, 128, 128))
    painter = QPainter(pixmap)
    painter.fillRect(1, 1, 10, 10, QColor(*colour))
    painter.end()
    return QIcon(pixmap)


def tool(name: str, colour: QColor | None = None) -> QIcon:
    """Icon of a prompt tool, one of `TOOLS`."""
    draw = _Drawing()
    draw.pen(colour or ink(), 2)
    painter = draw.painter
    if name == "point":
        painter.drawEllipse(QRectF(8, 8, 8, 8))
        for start, end in (((12, 2), (12, 6)), ((12, 18), (12, 22)), ((2, 12), (6, 12))):
            painter.drawLine(QPointF(*start), QPointF(*end))
        painter.drawLine(QPointF(18, 12), QPointF(22, 12))
    elif name == "box":
        painter.drawRect(QRectF(4, 6, 16, 12))
    else:
        path = QPainterPath(QPointF(3, 17))
        if name == "scribble":
            path.cubicTo(QPointF(8, 0), QPointF(14, 26), QPointF(21, 6))
        else:
            path = QPainterPath(QPointF(5, 20))
            path.cubicTo(QPointF(-6, 2), QPointF(26, -4), QPointF(20, 13))
            path.cubicTo(QPointF(18, 19), QPointF(10, 19), QPointF(5, 20))
        painter.drawPath(path)
    return draw.icon()


def eye(open_: bool, colour: QColor | None = None) -> QIcon:
    """Icon of what is shown, or hidden."""
    draw, ink_ = _Drawing(), QColor(colour or ink())
    if not open_:
        ink_.setAlpha(110)
    draw.pen(ink_, 2)
    path = QPainterPath(QPointF(2, 12))
    path.quadTo(QPointF(12, 1), QPointF(22, 12))
    path.quadTo(QPointF(12, 23), QPointF(2, 12))
    draw.painter.drawPath(path)
    if open_:
        draw.painter.setBrush(ink_)
        draw.painter.drawEllipse(QRectF(9, 9, 6, 6))
    else:
        draw.painter.drawLine(4, 20, 20, 4)
    return draw.icon()


def lock(shut: bool, colour: QColor | None = None) -> QIcon:
    """Icon of what no other object may take, or may."""
    draw, ink_ = _Drawing(), QColor(colour or ink())
    if not shut:
        ink_.setAlpha(110)
    draw.pen(ink_, 2)
    path = QPainterPath(QPointF(8, 11))
    path.lineTo(QPointF(8, 7))
    path.arcTo(QRectF(8, 3, 8, 8), 180, -180)
    path.lineTo(QPointF(16, 11 if shut else 6))
    draw.painter.drawPath(path)
    draw.painter.setBrush(ink_)
    draw.painter.drawRect(QRectF(5, 11, 14, 10))
    return draw.icon()
