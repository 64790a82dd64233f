"""Parts of napari's window that need not be painted at every step. Main thread only.

Qt paints what changed, and composes the whole window, before it listens to the mouse again. While
slices run by, the list of layers gets new thumbnails at each, and the status bar new words at each
move of the mouse: a third of the time that a window without a GPU takes for them.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QAbstractItemView, QMainWindow, QWidget

from napari_sightline.viewer.bridge import bare

#: Milliseconds between two paintings.
_PAUSE = 120


class _Rest(QObject):
    """Holds back the painting of a widget for a moment after something changed in it."""

    def __init__(self, widget: QWidget, parent: QObject) -> None:
        super().__init__(parent)
        self._widget = ref(widget)
        self._owed = False  # the painting that follows a pause: it must come before the next one
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.end)
        canvas = widget.viewport() if isinstance(widget, QAbstractItemView) else widget
        if canvas is not None:
            canvas.installEventFilter(self)

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
            # One that cannot be seen is not painted.
            self._owed = widget.isVisible()
            widget.setUpdatesEnabled(True)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See that it was painted."""
        if event is not None and event.type() == QEvent.Type.Paint:
            self._owed = False
        return False


class Pace(QObject):
    """Lets napari's list of layers and status bar be painted a few times a second only.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose slices and status are followed until `end`.
    main : QMainWindow
        Its window.
    parent : QObject
        Owner.
    """

    def __init__(self, viewer: Any, main: QMainWindow, parent: QObject) -> None:
        super().__init__(parent)
        viewer = bare(viewer)
        self._rests: list[tuple[Any, _Rest]] = []
        lists = [w for w in main.findChildren(QAbstractItemView) if _lists_layers(w)]
        # The dims' event also stands for jumps that are no steps of a slider.
        for event, widgets in (
            (viewer.dims.events.point, lists),
            (viewer.events.status, [main.statusBar()]),
        ):
            for widget in widgets:
                if widget is not None:
                    rest = _Rest(widget, self)
                    event.connect(rest.begin)
                    self._rests.append((event, rest))

    def end(self) -> None:
        """Follow no more; everything is painted at once again."""
        for event, rest in self._rests:
            event.disconnect(rest.begin)
            rest.end()
        self._rests = []
        self.deleteLater()


def _lists_layers(widget: QWidget) -> bool:
    """Whether a widget is napari's list of layers, which has no public name."""
    return type(widget).__name__ == "QtLayerList"
