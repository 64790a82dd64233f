"""Parts of the window are painted seldom or a turn later, and in the end rightly."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QMainWindow, QStatusBar

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


def test_a_slice_is_painted_in_another_turn_than_it_is_made_in(user: Any, scan: Volume) -> None:
    user.show(scan)
    user.qtbot.wait(300)
    paints, beats = Paints(user.canvas), list[int]()
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(paints.count))
    timer.start(0)
    user.viewer.dims.set_current_step(0, 20)
    user.qtbot.waitUntil(lambda: paints.count > 0)
    assert beats[0] == 0  # the window listened in between
    # Slices that come faster than they are painted do not keep the window from being painted.
    seen = paints.count
    for step in range(300):
        user.viewer.dims.set_current_step(0, 5 + step % 30)
        QApplication.processEvents()
        if paints.count > seen + 2:
            break
    assert paints.count > seen + 2


def test_a_press_is_painted_in_another_turn(user: Any, scan: Volume) -> None:
    layer = user.show(scan)
    place = user.pixel(layer, tuple(n // 2 for n in scan.shape))
    user.qtbot.wait(300)
    paints = Paints(user.canvas)
    QTest.mousePress(user.canvas, Qt.MouseButton.LeftButton, pos=place)
    user.canvas.update()
    QApplication.sendPostedEvents()
    assert paints.count == 0
    QTest.mouseRelease(user.canvas, Qt.MouseButton.LeftButton, pos=place)
    user.qtbot.waitUntil(lambda: paints.count > 0)
    user.wait()


def test_a_picture_of_the_window_is_whole_at_once(user: Any, scan: Volume) -> None:
    user.show(scan)
    user.viewer.dims.set_current_step(0, 10)
    user.qtbot.wait(300)
    user.viewer.dims.set_current_step(0, 24)
    at_once = user.viewer.screenshot(canvas_only=False, flash=False)
    user.qtbot.wait(300)
    later = user.viewer.screenshot(canvas_only=False, flash=False)
    assert at_once.shape == later.shape
    assert (np.abs(at_once.astype(int) - later).max(-1) > 30).mean() < 0.02


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
    bar = bar_of(user)
    paints = Paints(user.canvas)
    user.viewer.status = "one"
    user.viewer.dims.set_current_step(0, 20)
    QApplication.sendPostedEvents()
    assert not bar.updatesEnabled() and paints.count == 0
    user.panel.hide()
    assert bar.updatesEnabled()
    QApplication.sendPostedEvents()
    assert paints.count > 0  # what was put off
    user.viewer.status = "two"
    assert bar.updatesEnabled()
    user.qtbot.wait(300)
    before = paints.count
    user.viewer.dims.set_current_step(0, 25)
    QApplication.sendPostedEvents()
    assert paints.count > before


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
