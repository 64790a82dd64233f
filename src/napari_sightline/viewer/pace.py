"""When parts of napari's window are painted while a panel is open. Main thread only.

Before Qt listens to the mouse again it paints what changed and composes the whole window, which
takes 10 ms and more without a GPU.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QAbstractItemView, QMainWindow, QWidget

from napari_sightline.viewer.bridge import bare

#: Milliseconds between two paintings of what nobody looks at while slices or the mouse move.
_PAUSE = 120


class Rest(QObject):
    """Holds back the painting of a widget for a moment after something changed.

    Parameters
    ----------
    widget : QWidget
        With all that is in it.
    pause : int
        Milliseconds; 0 is until the window has listened to what happened meanwhile.
    parent : QObject
        Owner.
    """

    def __init__(self, widget: QWidget, pause: int, parent: QObject) -> None:
        super().__init__(parent)
        self._widget = ref(widget)
        self._owed = False  # the painting that follows a pause: it must come before the next one
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(pause)
        self._timer.timeout.connect(self.end)
        for painted in (widget, *_canvases(widget)):
            painted.installEventFilter(self)

    def begin(self, _: Any = None) -> None:
        """Paint no more until the pause is over; a pause that runs is not made longer."""
        widget = self._widget()
        if widget is not None and widget.updatesEnabled() and not self._owed:
            widget.setUpdatesEnabled(False)
            self._timer.start()

    def end(self) -> None:
        """Paint what there is now."""
        self._timer.stop()
        widget = self._widget()
        if widget is not None and not widget.updatesEnabled():
            self._owed = widget.isVisible()  # one that cannot be seen is not painted
            widget.setUpdatesEnabled(True)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See that it was painted."""
        if event is not None and event.type() == QEvent.Type.Paint:
            self._owed = False
        return False


class Pace(QObject):
    """Keeps a window awake while slices and the mouse move, until `end`.

    The status bar, into which napari writes at every move of the mouse, and the list of layers,
    whose thumbnails change with every slice, are painted some eight times a second. The canvas is
    painted in another turn of Qt's loop than that in which slices were made or a button of the
    mouse went down: each takes as long as the painting.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose slices and status are followed.
    main : QMainWindow
        Its window.
    parent : QObject
        Owner.
    """

    def __init__(self, viewer: Any, main: QMainWindow, parent: QObject) -> None:
        super().__init__(parent)
        viewer = bare(viewer)
        slices, status = viewer.dims.events.point, viewer.events.status
        self._rests = [(slices, Rest(one, _PAUSE, self)) for one in _lists(main)]
        bar, middle = main.statusBar(), main.centralWidget()
        if bar is not None:
            self._rests.append((status, Rest(bar, _PAUSE, self)))
        self._middle = None if middle is None else Rest(middle, 0, self)
        if middle is not None and self._middle is not None:
            self._rests.append((slices, self._middle))
            for canvas in _canvases(middle):
                canvas.installEventFilter(self)
        for event, rest in self._rests:
            # First: what was asked to be painted before is painted all the same.
            event.connect(rest.begin, position="first")

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See a button go down before vispy does, which then looks for what lies below it."""
        pressed = event is not None and event.type() == QEvent.Type.MouseButtonPress
        if pressed and self._middle is not None:
            self._middle.begin()
        return False

    def end(self) -> None:
        """Paint at once again."""
        for event, rest in self._rests:
            event.disconnect(rest.begin)
            rest.end()
        self._middle = None
        self.deleteLater()


def _canvases(widget: QWidget) -> list[QWidget]:
    """Find what Qt paints of a widget that covers itself with others."""
    inner: list[QWidget] = list(widget.findChildren(QOpenGLWidget))
    if isinstance(widget, QAbstractItemView) and (viewport := widget.viewport()) is not None:
        inner.append(viewport)
    return inner


def _lists(main: QMainWindow) -> list[QAbstractItemView]:
    """Find napari's list of layers, which has no public name."""
    views = main.findChildren(QAbstractItemView)
    return [view for view in views if type(view).__name__ == "QtLayerList"]
