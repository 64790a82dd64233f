"""Where panels stand: side by side, or with a tab each, in a window as high as it was."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QWidget

from napari_sightline.viewer.docking import CANVAS, TALL, make_room

RIGHT = Qt.DockWidgetArea.RightDockWidgetArea


def docked(window: QMainWindow, least: int) -> QWidget:
    dock, panel = QDockWidget(window), QWidget()
    panel.setMinimumSize(300, least)
    dock.setWidget(panel)
    window.addDockWidget(RIGHT, dock)
    return panel


def dock_of(panel: QWidget) -> QDockWidget:
    dock = panel.parentWidget()
    assert isinstance(dock, QDockWidget)
    return dock


def seen(panel: QWidget) -> bool:
    return not panel.visibleRegion().isEmpty()


@pytest.fixture
def window(qtbot: Any) -> QMainWindow:
    made = QMainWindow()
    made.setCentralWidget(QWidget())
    qtbot.addWidget(made)
    made.resize(1000, 700)
    made.show()
    return made


def test_in_a_low_window_both_panels_have_a_tab_and_stay_awake(
    window: QMainWindow, qtbot: Any
) -> None:
    other, mine = docked(window, 584), docked(window, 240)
    qtbot.waitUntil(lambda: window.height() > 800)  # one above the other they make it higher
    hidden: list[bool] = []
    dock_of(other).visibilityChanged.connect(hidden.append)
    make_room(mine, height=700)
    qtbot.waitUntil(lambda: seen(mine) and not seen(other) and window.height() == 700)
    assert window.tabifiedDockWidgets(dock_of(mine)) == [dock_of(other)]
    assert hidden == [False] and other.isVisible()  # behind its tab, but not hidden
    assert mine.height() >= 584
    # One that gives way once more leaves the tabs as somebody put them.
    make_room(other, in_front=False)
    make_room(mine, in_front=False)
    assert seen(mine) and not seen(other)


def test_a_panel_that_opens_later_is_in_front(window: QMainWindow, qtbot: Any) -> None:
    mine, other = docked(window, 240), docked(window, 584)
    qtbot.waitUntil(lambda: window.height() > 800)
    make_room(mine, in_front=False)
    qtbot.waitUntil(lambda: seen(other) and not seen(mine))


def test_nothing_is_moved_where_there_is_room_or_nobody_else(
    window: QMainWindow, qtbot: Any
) -> None:
    window.resize(800, TALL + 200)
    mine, other = docked(window, 240), docked(window, 100)
    qtbot.waitUntil(lambda: seen(mine) and seen(other))
    make_room(mine)
    assert window.tabifiedDockWidgets(dock_of(mine)) == []
    dock_of(other).setFloating(True)
    other.setMinimumHeight(600)
    make_room(mine)
    dock_of(other).setFloating(False)
    assert window.tabifiedDockWidgets(dock_of(mine)) == []
    make_room(QWidget())  # in no dock at all


PANELS = {
    "prompts": "Segment with prompts",
    "attention": "Attention layers",
    "automatic": "Organs, automatic (Swin-UNETR)",
    "measures": "Measures of labels",
}


@pytest.fixture
def viewer(make_napari_viewer: Any, loaded_model: None) -> Any:
    made = make_napari_viewer(show=True)
    made.window.resize(1000, 700)
    return made


def opened(viewer: Any, panel: str) -> tuple[QDockWidget, Any]:
    dock, inner = viewer.window.add_plugin_dock_widget("napari-sightline", PANELS[panel])
    return dock, inner


@pytest.mark.parametrize(
    "order",
    [
        "automatic prompts",
        "prompts automatic",
        "attention prompts automatic",
        "measures attention automatic prompts",
    ],
)
def test_the_panel_opened_last_is_in_front_and_the_window_as_high_as_before(
    viewer: Any, qtbot: Any, order: str
) -> None:
    window, before = viewer.window._qt_window, []
    for name in order.split():
        dock, panel = opened(viewer, name)
        qtbot.waitUntil(lambda: seen(panel) and window.height() == 700)  # noqa: B023
        qtbot.waitUntil(lambda: not any(map(seen, before)))
        assert len(window.tabifiedDockWidgets(dock)) == len(before)
        before.append(panel)
    assert [one.parentWidget().windowTitle() for one in before] == [
        name.capitalize() for name in order.split()
    ]
    # Closed and opened again by the menu, the first comes to the front, and the rest stay behind.
    first = before[0].parentWidget()
    for visible in (False, True):
        first.setVisible(visible)
    qtbot.waitUntil(lambda: seen(before[0]) and window.height() == 700)
    assert not any(map(seen, before[1:])) and all(one.isVisible() for one in before)
    for panel in before:
        panel.shut()


def test_in_a_wide_window_panels_stand_beside_the_scan_and_one_another(
    viewer: Any, qtbot: Any
) -> None:
    window = viewer.window._qt_window
    viewer.window.resize(1900, 700)
    panels = [opened(viewer, name)[1] for name in ("prompts", "automatic", "attention")]

    def apart() -> bool:
        places = [panel.parentWidget().geometry() for panel in panels]
        return all(one.right() < other.left() for one, other in pairwise(places))

    qtbot.waitUntil(lambda: apart() and window.height() == 700)
    assert all(map(seen, panels)) and window.centralWidget().width() >= CANVAS
    for panel in panels:
        panel.shut()


def test_a_panel_gives_way_to_one_of_another_plugin(viewer: Any, qtbot: Any) -> None:
    window = viewer.window._qt_window
    _, panel = opened(viewer, "automatic")
    qtbot.waitUntil(lambda: seen(panel) and not panel.opening)
    height = window.screen().availableSize().height()
    other = QLabel("of another plugin")
    other.setMinimumHeight(height - 300)
    viewer.window.add_dock_widget(other, name="other")
    qtbot.waitUntil(lambda: seen(other) and not seen(panel))
    qtbot.waitUntil(lambda: window.height() <= height)
    panel.shut()
