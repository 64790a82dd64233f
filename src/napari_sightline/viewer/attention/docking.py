"""Where the panel stands among others."""

from __future__ import annotations

from functools import partial
from weakref import ref

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

#: Pixels of a window that has room for two panels side by side, and of a panel that can be used.
WIDE, TALL = 1500, 520


def make_room(panel: QWidget, in_front: bool = True) -> None:
    """Stand beside another panel where the window is wide, before or behind it where it is low.

    A panel whose tab is not in front goes on: clicks still segment, and are still recorded.

    Parameters
    ----------
    panel : QWidget
        In a dock of a main window; elsewhere nothing is done.
    in_front : bool
        Whether it, or the other panel, is seen first.
    """
    dock = panel.parentWidget()
    main = None if dock is None else dock.parentWidget()
    if not isinstance(dock, QDockWidget) or not isinstance(main, QMainWindow):
        return
    area = main.dockWidgetArea(dock)
    tabbed = main.tabifiedDockWidgets(dock)
    others = [
        other
        for other in main.findChildren(QDockWidget)
        if other is not dock and other.isVisible() and not other.isFloating()
    ]
    others = [other for other in others if main.dockWidgetArea(other) == area]
    if not others or tabbed:
        return
    if main.width() >= WIDE:
        main.splitDockWidget(others[0], dock, Qt.Orientation.Horizontal)
        return
    needed = sum(other.minimumSizeHint().height() for other in others)
    if _height(main) - needed >= TALL:
        return
    main.tabifyDockWidget(others[0], dock)
    (dock if in_front else others[0]).raise_()
    QTimer.singleShot(0, partial(_fit, ref(main)))  # once its least size is the new one


def _fit(main: ref[QMainWindow]) -> None:
    """Make a window no higher than its screen, which two panels, one above the other, made it."""
    window = main()
    if window is not None and window.height() > _height(window):
        window.resize(window.width(), _height(window))


def _height(main: QMainWindow) -> int:
    """Pixels that the window has, at most those of its screen."""
    screen = main.screen()
    return main.height() if screen is None else min(main.height(), screen.availableSize().height())
