"""Where the panel stands beside others."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

#: Pixels of a window that has room for two panels side by side.
WIDE = 1500


def make_room(panel: QWidget) -> None:
    """Stand beside another panel where the window is wide, so that both can be read.

    They are not put behind one another: a panel that is not seen takes no clicks.
    """
    dock = panel.parentWidget()
    main = None if dock is None else dock.parentWidget()
    if not isinstance(dock, QDockWidget) or not isinstance(main, QMainWindow):
        return
    area = main.dockWidgetArea(dock)
    others = [
        other
        for other in main.findChildren(QDockWidget)
        if other is not dock and other.isVisible() and not other.isFloating()
    ]
    others = [other for other in others if main.dockWidgetArea(other) == area]
    if others and main.width() >= WIDE:
        main.splitDockWidget(others[0], dock, Qt.Orientation.Horizontal)
