"""Boxes, strokes, lassos and clicks in 3D, drawn with the mouse; prompts moved and deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from viewer_fakes import Balls
from viewer_making import SIDE, User

from napari_sightline.prompts import Box, Lasso, Point, Scribble
from napari_sightline.viewer import controller, hits, marks, robot
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a model that answers at once."""
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): Balls()})


def drag(user: User, layer: Any, places: list[tuple[float, ...]], *held: str) -> None:
    """Press at the first place, move through the others, release at the last."""
    robot.drag(user.canvas, [user.pixel(layer, place) for place in places], *held)
    user.wait()


def test_box_scribble_lasso_in_three_planes(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    centre = user.viewer.scene.camera.center
    user.key("B")
    assert user.panel.view.tools.tool == "box"
    drag(user, ball, [(24, 13, 13), (24, 35, 35)])
    (box,) = user.prompts
    assert isinstance(box, Box) and box.flat_axis == 0
    np.testing.assert_allclose(box.low, (24, 13, 13), atol=0.4)
    np.testing.assert_allclose(box.high, (24, 35, 35), atol=0.4)
    assert user.mask[24].any()
    assert len(user.case.lines.data) == 4  # its four sides, on its slice
    drag(user, ball, [(30, 14, 14), (30, 34, 34)], "Shift")  # on another slice: a box in 3D
    (box,) = user.prompts
    assert box.flat_axis is None and round(box.high[0]) == 30 and round(box.low[0]) == 24

    user.panel.view.planes.button(1).click()
    user.key("S")
    drag(user, ball, [(20, 24, 20), (24, 24, 28)])
    scribble = user.prompts[-1]
    assert isinstance(scribble, Scribble) and scribble.positive
    np.testing.assert_allclose(scribble.path[-1], (24, 24, 28), atol=0.4)

    user.panel.view.planes.button(2).click()
    user.key("L")
    corner = [(4, 4, 24), (4, 10, 24), (10, 10, 24), (10, 4, 24)]
    drag(user, ball, corner, "Control")
    lasso = user.prompts[-1]
    assert isinstance(lasso, Lasso) and not lasso.positive and lasso.axis == 2
    assert not user.mask[5:9, 5:9, 24].any()
    user.panel.view.planes.button(0).click()
    assert user.viewer.scene.camera.center == centre  # nothing of this moved the picture
    for count in (2, 1):
        user.key("Z", "Control")
        assert len(user.prompts) == count


def test_prompts_are_marked_moved_and_deleted(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.click(ball, (24, 24, 40), "Control")
    user.key("P")
    drag(user, ball, [(24, 24, 40), (24, 40, 40)])
    assert len(user.prompts) == 2
    np.testing.assert_allclose(user.prompts[1].position, (24, 40, 40), atol=0.6)
    user.click(ball, (24, 40, 40))
    assert user.panel.controller.marked == 1 and len(user.prompts) == 2
    assert "marked" in user.panel.view.advice.text()
    user.key("Delete")
    assert len(user.prompts) == 1
    user.key("Z", "Control")
    assert len(user.prompts) == 2 and user.panel.controller.marked is None


def test_candidates_are_offered_and_cycled(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    count = user.case.state.offered
    assert len(user.panel.offer.pictures) == count == 3
    tools = user.panel.view.tools
    assert tools.offer.isVisible() and "%" in tools.candidates.button(0).text()
    own = user.mask
    masks = []
    for k in range(count):
        user.key("C")
        assert user.case.state.chosen == k and tools.candidates.button(k).isChecked()
        masks.append(user.mask)
    assert masks[0].sum() <= masks[1].sum() <= masks[2].sum()
    user.key("C")
    assert user.case.state.chosen is None and (user.mask == own).mean() > 0.99
    tools.candidates.button(2).click()
    user.wait()
    assert np.array_equal(user.mask, masks[2])
    user.click(ball, (24, 24, 40), "Control")
    assert not tools.offer.isVisible()  # a second prompt says enough


def test_clicks_in_3d_meet_what_is_bright(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    ball.contrast_limits = (-80, 80)
    user.viewer.dims.ndisplay = 3
    user.qtbot.wait(100)
    centre = QPoint(user.canvas.width() // 2, user.canvas.height() // 2)
    QTest.mouseMove(user.canvas, centre)
    QTest.mouseClick(user.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, centre)
    user.wait()
    (click,) = user.prompts
    place = tuple(np.rint(click.position).astype(int))
    assert scan.data[place] > 0 and user.case.session.current.mask is not None


def test_prompts_fade_with_distance_and_vanish() -> None:
    box = Box((10, 4, 4), (10, 8, 8))
    for slices, strength in ((0, 1.0), (1, 0.5), (2, 0.25)):
        lines = marks.lines_on(box, 0, 10 + slices)
        assert {line.strength for line in lines} == {strength} and len(lines) == 4
        assert {line.start[0] for line in lines} == {10 + slices}
    assert marks.lines_on(box, 0, 13) == []
    solid = Box((0, 4, 4), (20, 8, 8))
    assert {line.strength for line in marks.lines_on(solid, 0, 13)} == {1.0}
    across = Scribble(((0, 5, 5), (9, 5, 5)))
    assert [line.strength for line in marks.lines_on(across, 1, 6)] == [0.5]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_latest_prompt_under_the_pointer_is_found(axis: int) -> None:
    prompts = [Point((5, 5, 5)), Box((5, 2, 2), (5, 9, 9)), Point((5, 5, 6))]
    assert hits.prompt_at(prompts, (5, 5, 5.4), axis, (2, 2, 2), 4.0) == (2 if axis != 2 else 1)
    assert hits.prompt_at(prompts, (5, 5, 30), axis, (2, 2, 2), 4.0) is None
    assert hits.prompt_at(prompts[:2], (5, 2, 6), 0, (2, 2, 2), 3.0) == 1


def test_moved_prompts_stay_inside_the_volume() -> None:
    lasso = Lasso(((3, 1, 1), (3, 1, 4), (3, 4, 4)))
    moved = hits.moved(lasso, (0, -5, 100), (8, 8, 8))
    assert isinstance(moved, Lasso)
    assert moved.path == ((3, 0, 4), (3, 0, 7), (3, 3, 7))
    assert hits.moved(Point((1, 1, 1)), (9, 0, 0), (8, 8, 8)) == Point((7, 1, 1))


def test_a_ray_meets_the_mask_before_the_volume() -> None:
    voxels = np.zeros((10, 10, 10))
    voxels[2, 5, 5] = 9
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[6, 5, 5] = 2
    ray = ((-0.5, 5, 5), (9.5, 5, 5))
    assert hits.on_ray(*ray, voxels, 1.0) == (2, 5, 5)
    assert hits.on_ray(*ray, voxels, 1.0, labels, 2) == (6, 5, 5)
    assert hits.on_ray(*ray, voxels, 1.0, labels, 3) == (2, 5, 5)
    assert hits.on_ray((-0.5, 0, 0), (9.5, 0, 0), voxels, 1.0) is None
