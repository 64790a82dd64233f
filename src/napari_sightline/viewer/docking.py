"""Where a panel stands among others: beside them, or in one place with a tab for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import QRect, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel, QMainWindow, QWidget

Group = list[QDockWidget]  # those that share a place
#: Pixels that a scan keeps of a window's width, and a panel that is used of its height.
CANVAS, TALL = 560, 520
_SIDES = (Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea)


def make_room(panel: QWidget, in_front: bool = True, height: int | None = None) -> None:
    """Stand beside other panels where the window is wide, share a place by tabs where it is low.

    A panel whose tab is not in front goes on: clicks still segment, and are still recorded.

    Parameters
    ----------
    panel : QWidget
        In a dock of a main window; elsewhere nothing is done.
    in_front : bool
        Whether it, or the other panel, is seen first.
    height : int, optional
        Pixels that the window had before the panel came: panels must fit, and it has them again.
    """
    dock, main = home(panel)
    if dock is None or main is None or not _docked(dock):
        return
    layout = main.layout()
    if layout is not None:
        layout.activate()  # docks are where another panel just put them
    own = [dock, *filter(_docked, main.tabifiedDockWidgets(dock))]
    others = _above_and_below(main, own)
    if others and _canvas(main) - dock.minimumSizeHint().width() >= CANVAS:
        left, right = (others[-1][0], dock) if in_front else (dock, others[-1][0])
        main.splitDockWidget(left, right, Qt.Orientation.Horizontal)
    elif too_many := _too_many(main, own, others, height):
        groups = [own, *too_many] if len(own) > 1 else [*too_many, own]
        first, *rest = [one for group in groups for one in group]
        for one in rest:
            main.tabifyDockWidget(first, one)
        if not in_front:
            too_many[0][0].raise_()
    elif len(own) == 1:
        height = None  # nothing made it higher
    if in_front:
        dock.raise_()
    # Once its least size is the new one.
    QTimer.singleShot(0, partial(_fit, ref(main), height))


def heights() -> WeakKeyDictionary[QMainWindow, int]:
    """Pixels that each main window is high."""
    windows = QApplication.topLevelWidgets()
    return WeakKeyDictionary({w: w.height() for w in windows if isinstance(w, QMainWindow)})


def home(panel: QWidget) -> tuple[QDockWidget | None, QMainWindow | None]:
    """Dock and main window of a panel."""
    dock = panel.parentWidget()
    main = None if dock is None else dock.parentWidget()
    if isinstance(dock, QDockWidget) and isinstance(main, QMainWindow):
        return dock, main
    return None, None


def name(dock: QDockWidget, short: str) -> None:
    """Name a dock in short on its tab, and without the plugin's name, which has no room, above."""
    dock.setWindowTitle(short)
    bar, whole = dock.titleBarWidget(), dock.objectName()
    for label in [] if bar is None else bar.findChildren(QLabel):
        if label.text() == whole:
            label.setText(whole.partition(" (")[0] if short else whole)


def too_high(main: QMainWindow) -> bool:
    """Whether a window is higher than its screen."""
    return main.height() > _height(main)


def _docked(dock: QDockWidget) -> bool:
    return dock.isVisible() and not dock.isFloating()


def _above_and_below(main: QMainWindow, own: Group) -> list[Group]:
    """Find the groups in the column of one, from top to bottom and from left to right."""
    area = main.dockWidgetArea(own[0])
    if area not in _SIDES:
        return []
    column, found, seen = _place(own), [], set(own)
    for dock in main.findChildren(QDockWidget):
        if dock in seen or not _docked(dock) or main.dockWidgetArea(dock) != area:
            continue
        group = [dock, *filter(_docked, main.tabifiedDockWidgets(dock))]
        seen.update(group)
        if all(getattr(one.widget(), "opening", False) for one in group):
            continue  # it will look for a place itself
        place = _place(group)
        if place.left() <= column.right() and column.left() <= place.right():
            found.append(group)
    return sorted(found, key=lambda group: (_place(group).top(), _place(group).left()))


def _place(group: Group) -> QRect:
    """Where a group is seen: Qt keeps docks that are not in front outside the window."""
    return max((dock.geometry() for dock in group), key=lambda place: place.bottom())


def _too_many(
    main: QMainWindow, own: Group, others: Sequence[Group], height: int | None
) -> list[Group]:
    """Find the groups, of the highest row first, that must share a place with one for all to fit.

    Of a row of groups side by side the first takes it in at the right end; rows after that join it.
    """
    places = [_place(group) for group in (own, *others)]
    column = max(p.bottom() for p in places) - min(p.top() for p in places) + 1
    room = _height(main, height) - (main.height() - column)
    rows: list[list[Group]] = []
    for group in others:
        if rows and _place(group).top() <= _place(rows[-1][0]).bottom():
            rows[-1].append(group)
        else:
            rows.append([group])
    rows.sort(key=_least, reverse=True)
    mine, shared = max(TALL, _least([own])), list[Group]()
    while rows and mine + sum(map(_least, rows)) > room:
        row = rows.pop(0)
        shared += row if shared else row[-1:]
        mine = max(mine, _least(row))
    return shared


def _least(row: Sequence[Group]) -> int:
    return max(dock.minimumSizeHint().height() for group in row for dock in group)


def _canvas(main: QMainWindow) -> int:
    canvas = main.centralWidget()
    return 0 if canvas is None else canvas.width()


def _fit(main: ref[QMainWindow], height: int | None) -> None:
    """Make a window as high as it was, which panels, one above the other, made higher."""
    window = main()
    if window is None or window.isMaximized() or window.isFullScreen():
        return
    wanted = _height(window, height)
    if window.height() > wanted:
        window.resize(window.width(), wanted)


def _height(main: QMainWindow, before: int | None = None) -> int:
    """Pixels that the window has, or had before, at most what its frame leaves of its screen."""
    screen, frame = main.screen(), main.frameGeometry().height() - main.height()
    own = main.height() if before is None else before
    return own if screen is None else min(own, screen.availableSize().height() - frame)
