"""Where the attention panel stands beside another, and its pictures of heads."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_sightline.viewer.attention.docking import TALL, WIDE, make_room

RIGHT = Qt.DockWidgetArea.RightDockWidgetArea


def docked(window: QMainWindow, least: int) -> QWidget:
    dock, panel = QDockWidget(window), QWidget()
    panel.setMinimumSize(300, least)
    dock.setWidget(panel)
    window.addDockWidget(RIGHT, dock)
    return panel


@pytest.fixture
def window(qtbot: Any) -> QMainWindow:
    made = QMainWindow()
    made.setCentralWidget(QWidget())
    qtbot.addWidget(made)
    made.show()
    return made


def test_in_a_low_window_both_panels_have_a_tab_and_stay_awake(
    window: QMainWindow, qtbot: Any
) -> None:
    window.resize(1000, 700)
    other = docked(window, 584)
    qtbot.wait(20)
    mine = docked(window, 240)
    qtbot.wait(20)
    assert window.height() > 800  # one above the other they make the window higher
    hidden: list[bool] = []
    other.parentWidget().visibilityChanged.connect(hidden.append)  # type: ignore[union-attr]
    make_room(mine)
    qtbot.wait(50)
    assert window.tabifiedDockWidgets(mine.parentWidget()) == [other.parentWidget()]  # type: ignore[arg-type]
    assert not mine.visibleRegion().isEmpty() and other.visibleRegion().isEmpty()
    assert hidden == [False] and other.isVisible()  # behind its tab, but not hidden
    screen = window.screen()
    assert screen is not None and window.height() <= screen.availableSize().height()
    assert mine.height() >= 584
    # Once is enough: who moved the tabs about finds them as they were.
    other.parentWidget().raise_()  # type: ignore[union-attr]
    make_room(mine)
    qtbot.wait(20)
    assert mine.visibleRegion().isEmpty()


def test_a_panel_that_opens_later_is_in_front(window: QMainWindow, qtbot: Any) -> None:
    window.resize(1000, 700)
    mine, other = docked(window, 240), docked(window, 584)
    qtbot.wait(20)
    make_room(mine, in_front=False)
    qtbot.wait(50)
    assert mine.visibleRegion().isEmpty() and not other.visibleRegion().isEmpty()


def test_a_wide_window_shows_them_side_by_side(window: QMainWindow, qtbot: Any) -> None:
    window.resize(WIDE, 700)
    other, mine = docked(window, 400), docked(window, 240)
    qtbot.wait(20)
    make_room(mine)
    qtbot.wait(50)
    assert not window.tabifiedDockWidgets(mine.parentWidget())  # type: ignore[arg-type]
    assert (
        mine.mapTo(window, mine.rect().topLeft()).x()
        > other.mapTo(window, other.rect().topRight()).x()
    )


def test_nothing_is_moved_where_there_is_room_or_nobody_else(
    window: QMainWindow, qtbot: Any
) -> None:
    window.resize(1000, TALL + 300)
    mine = docked(window, 240)
    make_room(mine)
    other = docked(window, 100)
    other.parentWidget().setFloating(True)  # type: ignore[union-attr]
    qtbot.wait(20)
    make_room(mine)
    other.parentWidget().setFloating(False)  # type: ignore[union-attr]
    qtbot.wait(20)
    make_room(mine)
    qtbot.wait(20)
    assert not window.tabifiedDockWidgets(mine.parentWidget())  # type: ignore[arg-type]
    make_room(QWidget())  # in no dock at all


def test_pictures_of_heads_are_few_a_second_and_the_newest_wins(qtbot: Any) -> None:
    import numpy as np

    from napari_sightline.viewer.attention.parts import Heads

    heads = Heads()
    qtbot.addWidget(heads)
    heads.show_count(2, ())

    def shown() -> int:
        icon = heads.buttons[0].icon()
        if icon.isNull():
            return -1
        return int(icon.pixmap(8, 8).toImage().pixelColor(4, 4).red())

    for grey in (10, 20, 30, 200):
        heads.show_pictures(np.full((2, 8, 8, 3), grey, np.uint8))
    assert shown() == 10  # at once; what comes meanwhile waits
    qtbot.waitUntil(lambda: shown() == 200, timeout=2_000)
    heads.show_pictures(np.full((2, 8, 8, 3), 90, np.uint8))
    heads.show_pictures(None)
    qtbot.wait(300)
    assert shown() == -1  # no picture that is out of date comes late
