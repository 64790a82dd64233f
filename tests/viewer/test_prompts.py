"""The panel as a reader meets it: real clicks and keys, the real model."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from viewer_making import SIDE, User

from napari_sightline.anatomy import by_name
from napari_sightline.prompts import Point
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3
Told = Callable[[], list[str]]


def test_clicks_undo_redo_accept_on_all_planes(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    (first,) = user.prompts
    assert first.positive
    np.testing.assert_allclose(first.position, MIDDLE, atol=0.3)  # a pixel is not a voxel
    assert user.mask[tuple(np.rint(first.position).astype(int))]
    assert user.case.labels.scale.tolist() == ball.scale.tolist()
    assert user.case.labels.translate.tolist() == ball.translate.tolist()
    assert "Last click" in user.panel.view.timing.text()
    after_one = user.mask

    for plane, place in ((1, (30, 24, 22)), (2, (24, 12, 24))):
        user.panel.view.planes.button(plane).click()
        user.click(ball, place, "Control")
        assert not user.prompts[-1].positive
        np.testing.assert_allclose(user.prompts[-1].position, place, atol=0.3)
        assert not user.mask[tuple(np.rint(user.prompts[-1].position).astype(int))]
    user.panel.view.planes.button(0).click()

    user.key("Z", "Control")
    user.key("Z", "Control")
    assert len(user.prompts) == 1
    assert np.array_equal(user.mask, after_one)
    user.key("Z", "Control", "Shift")
    assert len(user.prompts) == 2
    user.key("T")
    assert user.panel.view.negative.isChecked()
    user.key("R")
    assert not user.prompts and not user.mask.any()
    user.key("Z", "Control")
    assert len(user.prompts) == 2

    user.panel.view.name.setText("Left Parotid")
    user.key("Return")
    assert user.panel.view.positive.isChecked()  # the next object begins with a positive click
    assert [(row.name, row.accepted) for row in user.case.state.rows[:1]] == [
        ("Left Parotid", True)
    ]
    labels = user.case.labels
    assert "Left Parotid" in list(labels.features["name"])
    parotid = by_name("left parotid gland")
    assert parotid is not None
    np.testing.assert_allclose(255 * labels.colormap.color_dict[1][:3], parotid.colour, atol=1)
    assert user.panel.view.objects.topLevelItem(0).text(0) == "Left Parotid"
    assert told() == []


def test_clicks_are_queued_and_none_is_lost(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    places = [MIDDLE, (24, 20, 24), (24, 24, 29), (24, 26, 20)]
    with user.slow_model():
        for place in places:
            user.click(ball, place, wait=False)
        assert len(user.panel.controller.waiting) == len(places)
        assert len(user.case.points.data) == len(places)  # seen at once
        user.qtbot.waitUntil(lambda: "3 more wait" in user.panel.view.advice.text())
    user.wait()
    found = [p.position for p in user.prompts]
    np.testing.assert_allclose(found, places, atol=0.3)


def test_undo_takes_back_a_click_that_is_computed_and_not_drawn_yet(
    user: User, scan: Volume
) -> None:
    """However long the window was blocked: undo means the click before it, not the one after."""
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    first, second, third = ((24, 20, 24), (24, 28, 26), (24, 24, 29))
    user.click(ball, first, wait=False)
    (job,) = user.panel.controller.waiting
    ends = time.monotonic() + 60
    while not job.computed and time.monotonic() < ends:
        time.sleep(0.01)  # the window is blocked
    assert job.computed and len(user.case.state.prompts) == 1
    user.panel.controller.undo()
    user.panel.controller.prompt(Point(second))
    user.panel.controller.prompt(Point(third))
    user.wait()
    np.testing.assert_allclose(
        [p.position for p in user.prompts], [MIDDLE, second, third], atol=0.3
    )
    assert len(user.case.points.data) == 3


def test_the_panel_waits_a_moment_before_it_says_that_the_model_works(
    user: User, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most clicks are done then, and painting it would take the processor from them."""
    ball = user.show(scan)
    user.wait()
    monkeypatch.setattr("napari_sightline.viewer.prompts._PATIENCE", 600_000)  # whatever else runs
    with user.slow_model():
        user.panel.controller.changed.emit()  # what is about to be shown when the click comes
        assert user.panel._due.interval() == 0
        user.click(ball, MIDDLE, wait=False)
        assert len(user.case.points.data) == 1  # the click itself is seen at once
        user.viewer.layers.selection.active = user.case.points  # the panel looks again
        assert "Working" not in user.panel.view.advice.text()
        assert user.panel._due.remainingTime() > 300_000
        user.panel._due.start(1)  # the moment is over
        user.qtbot.waitUntil(lambda: "Working" in user.panel.view.advice.text())
    user.wait()
    assert "Working" not in user.panel.view.advice.text()


def test_undo_takes_back_a_click_that_is_still_computed(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    mask = user.mask
    with user.slow_model():
        user.click(ball, (24, 20, 24), wait=False)
        user.click(ball, (24, 30, 24), wait=False)
        user.panel.view.undo.click()
        user.panel.view.undo.click()
        assert len(user.case.points.data) == 1
    user.wait()
    assert len(user.prompts) == 1
    assert np.array_equal(user.mask, mask)


def test_cancel_drops_what_waits(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    with user.slow_model():
        for place in (MIDDLE, (24, 20, 24), (24, 24, 29)):
            user.click(ball, place, wait=False)
        user.qtbot.waitUntil(user.panel.view.cancel.isVisible)
        user.panel.view.cancel.click()
    user.wait()
    assert not user.prompts and not user.case.labels.data.any()
    assert not user.panel.view.cancel.isVisible()
    assert told() == []  # the user knows


def test_a_drag_pans_and_does_not_click(user: User, scan: Volume) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    ball = user.show(scan)
    start = user.pixel(ball, MIDDLE)
    left = Qt.MouseButton.LeftButton
    QTest.mousePress(user.canvas, left, Qt.KeyboardModifier.NoModifier, start)
    QTest.mouseMove(user.canvas, start + QPoint(30, 10))
    QTest.mouseRelease(user.canvas, left, Qt.KeyboardModifier.NoModifier, start + QPoint(30, 10))
    user.wait()
    assert not user.prompts
    user.panel.view.clicking.setChecked(False)
    user.click(ball, MIDDLE)
    assert not user.prompts
    assert "Clicking is off" in user.panel.view.advice.text()
