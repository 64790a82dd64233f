"""What is computed before a click, and the preview under the pointer."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from qtpy.QtTest import QTest
from viewer_fakes import Balls
from viewer_making import SIDE, User, ball_scan

from napari_sightline.segment import scale
from napari_sightline.viewer import controller
from napari_sightline.viewer.case import devices
from napari_sightline.viewer.worker import Job
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3


class Counting(Balls):
    """Counts the regions whose image was read."""

    def __init__(self) -> None:
        self.read = 0

    def encode(self, *args: Any) -> np.ndarray:
        self.read += 1
        return super().encode(*args)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Panels find a model that answers at once."""
    made = Counting()
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): made})
    return made


@pytest.fixture
def loaded_model(model: Counting) -> None:
    """Panels find it."""


def move(user: User, layer: Any, voxel: tuple[float, ...]) -> None:
    """Rest the pointer on a voxel, until what is computed ahead is done."""
    QTest.mouseMove(user.canvas, user.pixel(layer, voxel))
    user.qtbot.wait(200)
    user.wait()


def test_the_preview_follows_the_pointer_and_changes_nothing(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    control, tick = user.panel.controller, user.panel.view.look.hover
    assert not tick.isChecked()  # off by default
    move(user, ball, (24, 24, 22))
    assert control.ghost == ()
    tick.setChecked(True)
    move(user, ball, MIDDLE)
    user.qtbot.waitUntil(lambda: bool(control.ghost), timeout=10_000)
    ends = np.array([line.start for line in control.ghost])
    assert set(ends[:, 0]) == {24}  # on the shown slice, round the pointer
    assert np.allclose(ends.mean(0), MIDDLE, atol=1)
    assert len(user.case.lines.data) == len(control.ghost)
    assert not user.prompts and not user.case.session.can_undo and not user.mask.any()
    user.viewer.dims.set_current_step(0, 30)
    user.qtbot.wait(20)
    assert control.ghost == ()  # of another slice nothing is known yet
    move(user, ball, (30, 24, 24))
    user.qtbot.waitUntil(lambda: bool(control.ghost), timeout=10_000)
    going = threading.Event()
    control.worker.submit(Job(lambda _: going.wait(30)))
    QTest.mouseMove(user.canvas, user.pixel(ball, (30, 20, 20)))
    user.qtbot.wait(300)
    going.set()  # it looks again once other work is done
    user.qtbot.waitUntil(
        lambda: (
            bool(control.ghost)
            and np.allclose(
                np.mean([line.start for line in control.ghost], 0), (30, 20, 20), atol=1
            )
        ),
        timeout=10_000,
    )
    before = [tuple(line.start) for line in control.ghost]
    user.click(ball, (30, 24, 24))
    # What was before the click is gone; of a further click there something may be shown again.
    assert [tuple(line.start) for line in control.ghost] != before
    assert len(user.prompts) == 1 and user.mask[30, 24, 24]
    move(user, ball, (30, 10, 10))
    tick.setChecked(False)
    assert control.ghost == () and len(user.case.lines.data) == 0


def test_a_first_click_finds_its_region_read(user: User, model: Counting) -> None:
    shape = (40, 260, 260)
    image = user.show(Volume.from_array(np.zeros(shape, np.uint8), name="scan"))
    user.qtbot.wait(500)
    user.wait()
    assert model.read >= 1  # what is in view, without a click
    place = (20, 30, 30)
    move(user, image, place)
    region = scale.start(user.case.volume, np.array(place))
    assert user.case.session._predictor.knows(region)
    before = model.read
    move(user, image, (20, 32, 32))  # its neighbours share it
    assert model.read == before
    user.click(image, place)
    assert user.mask[place]
    before = model.read
    move(user, image, (20, 230, 230))  # an object is being segmented: its own region counts
    assert model.read == before


def test_a_slice_that_is_looked_at_is_read_once(user: User, model: Counting) -> None:
    user.show(Volume.from_array(ball_scan((40, 40, 40)), name="ball"))
    user.qtbot.wait(500)
    user.wait()
    read = model.read
    assert read == 1  # the whole of a small scan is one region
    for number in (10, 30, 20):
        user.viewer.dims.set_current_step(0, number)
        user.qtbot.wait(450)
        user.wait()
    assert model.read == read


def test_devices_can_be_listed_while_torch_is_being_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = ModuleType("torch")
    half.__spec__ = ModuleSpec("torch", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]  # as importlib marks it
    monkeypatch.setitem(sys.modules, "torch", half)
    assert devices() == ("auto", "cpu")
