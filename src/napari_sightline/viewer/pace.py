"""When napari's window is painted while a panel is open. Main thread only.

Before Qt listens to the mouse again it paints what changed and composes the whole window, which
takes 10 ms and more without a GPU.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QStatusBar

from napari_sightline.viewer.bridge import bare

#: Milliseconds between two paintings of the status bar.
_PAUSE = 120


class Rest(QObject):
    """Lets a status bar be painted a few times a second only.

    napari writes into it at every move of the mouse. A picture of the window that is taken within a
    pause lacks it.

    Parameters
    ----------
    bar : QStatusBar
        The status bar.
    parent : QObject
        Owner.
    """

    def __init__(self, bar: QStatusBar, parent: QObject) -> None:
        super().__init__(parent)
        self._bar = ref(bar)
        self._owed = False  # the painting that follows a pause: it must come before the next one
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.end)
        bar.installEventFilter(self)

    def begin(self, _: Any = None) -> None:
        """Paint no more until the pause is over; a pause that runs is not made longer."""
        bar = self._bar()
        if bar is not None and bar.updatesEnabled() and not self._owed:
            bar.setUpdatesEnabled(False)
            self._timer.start()

    def end(self) -> None:
        """Paint what there is now."""
        self._timer.stop()
        bar = self._bar()
        if bar is not None and not bar.updatesEnabled():
            self._owed = bar.isVisible()  # one that cannot be seen is not painted
            bar.setUpdatesEnabled(True)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See that it was painted."""
        if event is not None and event.type() == QEvent.Type.Paint:
            self._owed = False
        return False


class Turn(QObject):
    """Lets a window be painted in another turn of Qt's loop than one that had enough to do.

    Between the two the window listens to mouse and keys.

    Parameters
    ----------
    main : QMainWindow
        The window.
    parent : QObject
        Owner.
    """

    def __init__(self, main: QMainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._main = ref(main)
        self._owed = False  # a painting was put off: the next one is not
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._paint)
        main.installEventFilter(self)
        for canvas in main.findChildren(QOpenGLWidget):
            canvas.installEventFilter(self)

    def begin(self, _: Any = None) -> None:
        """Put off what would be painted in this turn."""
        if not self._owed:
            self._timer.start()

    def end(self) -> None:
        """Put off nothing more."""
        if self._timer.isActive():
            self._timer.stop()
            self._paint()

    def _paint(self) -> None:
        main = self._main()
        if self._owed and main is not None:
            QCoreApplication.postEvent(main, QEvent(QEvent.Type.UpdateRequest))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See a button go down before vispy does, which then looks for what lies below it."""
        if event is None:
            return False
        if event.type() == QEvent.Type.MouseButtonPress:
            self.begin()
        elif event.type() == QEvent.Type.UpdateRequest and watched is self._main():
            self._owed = self._timer.isActive() and not self._owed
            return self._owed
        return False


class Pace(QObject):
    """Keeps a window awake while slices and the mouse move, until `end`.

    A slice is painted in another turn of Qt's loop than that in which it was made, and what a
    button did in another one than that in which it went down: each takes as long as the painting.
    The status bar is painted some eight times a second.

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
        bar = main.statusBar()
        assert bar is not None  # Qt makes one where there is none
        self._kept: list[tuple[Any, Rest | Turn]] = [
            (viewer.events.status, Rest(bar, self)),
            (viewer.dims.events.point, Turn(main, self)),
        ]
        for event, one in self._kept:
            event.connect(one.begin)

    def end(self) -> None:
        """Paint at once again."""
        for event, one in self._kept:
            event.disconnect(one.begin)
            one.end()
        self._kept = []
        self.deleteLater()
