"""Parts of the window are painted seldom or a turn later, and in the end rightly."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QLabel,
    QMainWindow,
    QStatusBar,
    QWidget,
)

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
    _, main = home(user.panel)
    assert main is not None
    return main


def bar_of(user: Any) -> QStatusBar:
    bar = main_of(user).statusBar()
    assert bar is not None
    user.qtbot.waitUntil(bar.updatesEnabled)
    user.qtbot.wait(50)
    return bar


def list_of(user: Any) -> QAbstractItemView:
    views = main_of(user).findChildren(QAbstractItemView)
    (found,) = (view for view in views if type(view).__name__ == "QtLayerList")
    user.qtbot.waitUntil(found.updatesEnabled)
    return found


def test_many_words_are_painted_a_few_times_and_the_last_ones_are_seen(user: Any) -> None:
    bar = bar_of(user)
    paints, words = Paints(bar), 0
    while paints.count < 3 and words < 500:
        words += 1
        user.viewer.status = f"word {words}"
        user.qtbot.wait(5)
    assert paints.count == 3 and words > 3  # at most one in 120 ms, the owed one included
    user.viewer.status = "the last one"
    user.qtbot.waitUntil(lambda: bar.updatesEnabled() and paints.count > 3)
    assert any("the last one" in label.text() for label in bar.findChildren(QLabel))


def test_the_list_of_layers_rests_while_slices_run(user: Any, scan: Volume) -> None:
    layer = user.show(scan)
    listed = list_of(user)
    viewport = listed.viewport()
    assert viewport is not None
    paints = Paints(viewport)
    before = layer.thumbnail.copy()
    for step in range(20, 28):
        user.viewer.dims.set_current_step(0, step)
        assert not listed.updatesEnabled()
    assert paints.count == 0
    user.qtbot.waitUntil(lambda: listed.updatesEnabled() and paints.count > 0)
    assert (layer.thumbnail != before).any()


def test_a_slice_is_painted_in_another_turn_than_it_is_made_in(user: Any, scan: Volume) -> None:
    user.show(scan)
    middle = main_of(user).centralWidget()
    assert middle is not None
    user.qtbot.wait(100)
    paints = Paints(user.canvas)
    user.viewer.dims.set_current_step(0, 20)
    assert not middle.updatesEnabled() and paints.count == 0
    user.qtbot.waitUntil(lambda: middle.updatesEnabled() and paints.count > 0)
    # Slices that come faster than they are painted do not keep the canvas from being painted.
    seen = paints.count
    for step in range(300):
        user.viewer.dims.set_current_step(0, 5 + step % 30)
        QApplication.processEvents()
        if paints.count > seen + 2:
            break
    assert paints.count > seen + 2


def test_what_is_seen_in_the_end_is_the_last_slice(user: Any, scan: Volume) -> None:
    user.show(scan)
    user.viewer.dims.set_current_step(0, 24)  # through the middle of the ball
    user.qtbot.wait(300)
    bright = user.viewer.screenshot(canvas_only=True, flash=False)[..., 0].mean()
    for step in (20, 10, 2):  # beside it
        user.viewer.dims.set_current_step(0, step)
    user.qtbot.wait(300)
    window = user.canvas.grabFramebuffer()
    shown = window.pixelColor(window.width() // 2, window.height() // 2).red()
    dark = user.viewer.screenshot(canvas_only=True, flash=False)
    assert dark[..., 0].mean() < bright
    assert abs(shown - int(dark[dark.shape[0] // 2, dark.shape[1] // 2, 0])) < 30


def test_a_panel_that_is_closed_leaves_no_pause(user: Any, scan: Volume) -> None:
    user.show(scan)
    bar, listed, middle = bar_of(user), list_of(user), main_of(user).centralWidget()
    assert middle is not None
    user.viewer.status = "one"
    user.viewer.dims.set_current_step(0, 20)
    resting: list[QWidget] = [bar, listed, middle]
    assert not any(widget.updatesEnabled() for widget in resting)
    user.panel.hide()
    assert all(widget.updatesEnabled() for widget in resting)
    user.viewer.status = "two"
    user.viewer.dims.set_current_step(0, 25)
    assert all(widget.updatesEnabled() for widget in resting)


def test_what_cannot_be_seen_does_not_stay_silent(user: Any, qtbot: Any) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    pace = Pace(user.viewer, window, window)
    bar = window.statusBar()
    assert bar is not None
    for word in ("one", "two"):
        user.viewer.status = word
        assert not bar.updatesEnabled()
        qtbot.waitUntil(bar.updatesEnabled)
    user.viewer.status = "three"
    pace.end()
    assert bar.updatesEnabled()
