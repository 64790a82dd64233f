"""The list of layers and the status bar are painted seldom, and in the end rightly."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QAbstractItemView, QMainWindow

from napari_sightline.viewer.docking import home
from napari_sightline.viewer.pace import Pace
from napari_sightline.volume import Volume


class Paints(QObject):
    """Counts how often a widget is painted."""

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.count = 0
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        self.count += event is not None and event.type() == QEvent.Type.Paint
        return False


def main_of(user: Any) -> QMainWindow:
    # Not a fixture: those outlive the viewer, which would count as leaked.
    _, found = home(user.panel)
    assert found is not None
    return found


def list_in(main: QMainWindow) -> QAbstractItemView:
    (found,) = (
        w for w in main.findChildren(QAbstractItemView) if type(w).__name__ == "QtLayerList"
    )
    return found


def test_the_list_of_layers_rests_while_slices_run(user: Any, scan: Volume) -> None:
    main = main_of(user)
    layer = user.show(scan)
    listed = list_in(main)
    user.qtbot.waitUntil(listed.updatesEnabled)
    paints = Paints(listed.viewport())
    before = layer.thumbnail.copy()
    for step in range(20, 28):
        user.viewer.dims.set_current_step(0, step)
        assert not listed.updatesEnabled()
    user.qtbot.wait(1)
    assert paints.count == 0
    user.qtbot.waitUntil(lambda: listed.updatesEnabled() and paints.count > 0)
    assert (layer.thumbnail != before).any()


def test_a_pause_ends_while_slices_still_run(user: Any, scan: Volume) -> None:
    main = main_of(user)
    user.show(scan)
    paints, seen = Paints(list_in(main).viewport()), 0
    for step in range(400):
        user.viewer.dims.set_current_step(0, step % 40)
        user.qtbot.wait(5)
        seen = paints.count
        if seen >= 2:
            break
    assert seen >= 2


def test_the_status_bar_shows_the_last_words(user: Any, scan: Volume) -> None:
    main = main_of(user)
    user.show(scan)
    bar = main.statusBar()
    assert bar is not None
    user.qtbot.waitUntil(bar.updatesEnabled)
    for word in ("one", "two", "three"):
        user.viewer.status = word
    assert not bar.updatesEnabled()
    user.qtbot.waitUntil(bar.updatesEnabled)
    assert user.viewer.status == "three"


def test_a_panel_that_is_closed_leaves_no_pause(user: Any, scan: Volume) -> None:
    main = main_of(user)
    user.show(scan)
    listed = list_in(main)
    user.qtbot.waitUntil(listed.updatesEnabled)
    user.viewer.dims.set_current_step(0, 20)
    assert not listed.updatesEnabled()
    user.panel.hide()
    assert listed.updatesEnabled()
    user.viewer.dims.set_current_step(0, 25)
    assert listed.updatesEnabled()


def test_a_window_without_these_parts_is_left_alone(user: Any, qtbot: Any) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    pace = Pace(user.viewer, window, window)
    user.viewer.status = "word"
    pace.end()
    bar = window.statusBar()
    assert bar is not None and bar.updatesEnabled()
