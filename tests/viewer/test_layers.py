"""What the panel draws: only what changed, on every kind of layer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from viewer_fakes import Balls
from viewer_making import SIDE, User, ball_scan

from napari_sightline.prompts import Box, MaskPrompt, Point
from napari_sightline.viewer import controller, marks, robot
from napari_sightline.viewer.bridge import grid_like
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3
Told = Callable[[], list[str]]


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a model that answers at once."""
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): Balls()})


def picture(user: User) -> np.ndarray:
    robot.live(0.05)
    return np.asarray(user.viewer.screenshot(canvas_only=True, flash=False))


@pytest.mark.parametrize(
    ("plane", "outlined"), [(0, False), (1, False), (2, False), (3, False), (0, True), (2, True)]
)
def test_what_is_repainted_looks_as_if_all_were(
    user: User, scan: Volume, plane: int, outlined: bool
) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.view.outline.setChecked(outlined)
    if plane == 3:
        user.viewer.dims.ndisplay = 3
    else:
        user.panel.view.planes.button(plane).click()
        user.viewer.dims.set_point(plane, ball.data_to_world(MIDDLE)[plane])
    robot.live(0.3)
    labels, before = user.case.labels, picture(user)
    sent: list[int] = []
    labels.events.labels_update.connect(lambda event: sent.append(np.size(event.data)))
    extra = np.zeros(scan.shape, bool)
    extra[22:30, 20:40, 22:30] = True
    user.panel.controller.prompt(MaskPrompt(extra, (0, 0, 0)))
    user.wait()
    after = picture(user)
    assert not np.array_equal(after, before)
    labels.refresh()
    assert np.array_equal(picture(user), after)
    if not outlined:
        assert sent and max(sent) < labels.data.size / 4  # not all of it went to the screen


def test_a_layer_of_wide_numbers_has_its_colours(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    labels = user.case.labels
    labels.data = labels.data.astype(np.int32)
    before = picture(user)
    user.click(ball, (24, 24, 40))
    after = picture(user)
    assert not np.array_equal(after, before)
    labels.refresh()
    assert np.array_equal(picture(user), after)


def test_prompts_on_a_hidden_image_are_refused(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    before = user.mask
    ball.visible = False
    user.click(ball, (24, 24, 40))
    assert told() == ["ball is hidden; show it in the layer list to prompt on it."]
    assert user.panel.view.advice.text() == told()[0]
    assert len(user.prompts) == 1 and np.array_equal(user.mask, before)
    ball.visible = True
    user.click(ball, (24, 24, 40))
    assert len(user.prompts) == 2


def test_read_only_images_are_segmented(user: User, told: Told) -> None:
    voxels = ball_scan()
    voxels.flags.writeable = False
    image = user.show(voxels)
    user.click(image, MIDDLE)
    user.click(image, (24, 24, 40), "Control")
    assert user.mask[MIDDLE] and not user.mask[24, 24, 40]
    assert told() == []


def test_labels_that_became_read_only_are_drawn_anew(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("ball")
    user.wait()
    frozen, accepted = user.case.labels, user.case.labels.data.copy()
    frozen.data.flags.writeable = False
    user.click(ball, (10, 10, 10))
    assert user.case.labels is not frozen and user.mask[10, 10, 10]
    assert np.array_equal(user.case.labels.data == 1, accepted == 1)
    assert np.array_equal(frozen.data, accepted)


def test_the_256th_object_makes_the_labels_wider(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    theirs = np.zeros((SIDE,) * 3, np.uint16)
    theirs[2, 2:6, 2:6] = 255
    user.viewer.add_labels(theirs, name="other tool", **grid_like(ball))
    user.viewer.layers.selection.active = ball
    user.wait()
    user.panel.view.start.take.click()
    user.wait()
    user.click(ball, (10, 10, 10))
    assert user.case.labels.data.dtype == np.uint8
    user.key("Return")
    user.click(ball, MIDDLE)
    labels = user.case.labels
    assert user.case.state.current == 256 and labels.data.dtype == np.uint16
    assert user.mask[MIDDLE] and np.array_equal(labels.data == 255, theirs == 255)
    user.click(ball, (24, 24, 40))
    assert user.case.labels is labels and user.mask[24, 24, 40]
    user.key("Z", "Control")
    user.key("Z", "Control")
    assert not user.mask.any() and (labels.data == 255).any()
    assert told() == []


def test_labels_beyond_16_bits_are_one_sentence(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    theirs = np.zeros((SIDE,) * 3, np.int32)
    theirs[2:6, 2:6, 2:6] = 70_000
    user.viewer.add_labels(theirs, name="other tool", **grid_like(ball))
    user.viewer.layers.selection.active = ball
    user.wait()
    user.panel.view.start.take.click()
    user.wait()
    assert len(told()) == 1 and "Labels from 0 to 70000 do not fit" in told()[0]
    assert not user.case.session.can_undo
    user.click(ball, MIDDLE)
    assert user.mask[MIDDLE]


def test_many_clicks_come_back_one_by_one(user: User) -> None:
    user.show(Volume.from_array(ball_scan((24, 24, 24), 5), name="ball"))
    control, rng = user.panel.controller, np.random.default_rng(3)
    seen: list[Any] = [user.case.labels.data.copy()]
    for k in range(40):
        a, b, c = (float(v) for v in rng.integers(2, 22, 3))
        control.prompt(Point((a, b, c), k % 3 > 0))
        user.qtbot.waitUntil(lambda: not control.busy, timeout=10_000)
        seen.append(user.case.labels.data.copy())
    for labels in reversed(seen[:-1]):
        control.undo()
        user.qtbot.waitUntil(lambda: not control.busy, timeout=10_000)
        assert np.array_equal(user.case.labels.data, labels)
    assert not user.case.state.can_undo
    for labels in seen[1:]:
        control.redo()
        user.qtbot.waitUntil(lambda: not control.busy, timeout=10_000)
        assert np.array_equal(user.case.labels.data, labels)


def test_a_panels_first_layers_import_nothing_large_on_the_main_thread() -> None:
    code = (
        "import sys, threading; from napari_sightline.viewer import case;"
        "work = threading.Thread(target=case.warm_up); work.start(); work.join();"
        "assert {'pandas', 'skimage.color.colorconv'} <= set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_flat_picture_without_lines_is_drawn_in_3d(user: User) -> None:
    user.show(ball_scan()[24])
    case, viewer = user.case, user.viewer
    marks.begin(viewer, case, lines=True)
    for prompts in ((), (Box((0, 5, 5), (0, 20, 20)),), ()):
        marks.draw(viewer, case, prompts)
        viewer.dims.ndisplay = 3
        viewer.screenshot(canvas_only=True, flash=False)
        viewer.dims.ndisplay = 2
    viewer.layers.remove(case.lines)
    viewer.screenshot(canvas_only=True, flash=False)
