"""Nothing that the main thread does for a click grows with the scan; nothing is kept for ever."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import numpy as np
import psutil
import pytest
from viewer_fakes import Balls, Watched
from viewer_making import User, ball_scan

from napari_sightline.prompts import Point
from napari_sightline.viewer import controller
from napari_sightline.volume import Volume


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a model that answers at once."""
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): Balls()})


def test_a_click_touches_a_slice_and_its_mask_only(user: User) -> None:
    shape = (60, 96, 80)
    ball = user.show(Volume.from_array(ball_scan(shape), name="ball"))
    user.click(ball, (30, 48, 40))
    labels = user.case.labels
    watched = Watched.of(labels.data)
    labels.data = watched
    assert labels.data is watched
    user.viewer.dims.set_current_step(0, 30)
    most = 2 * shape[1] * shape[2] + 24**3  # slices, and the part of the volume that changed
    assert most < watched.size / 5
    watched.touched.clear()
    user.click(ball, (30, 48, 46))
    user.click(ball, (30, 48, 52), "Control")
    user.key("Z", "Control")
    user.key("Z", "Control", "Shift")
    user.key("Return")
    assert watched.touched and max(watched.touched) <= most
    assert (np.asarray(labels.data) == 1).any()


def test_memory_is_flat_over_two_hundred_clicks(user: User) -> None:
    user.show(Volume.from_array(ball_scan((32, 32, 32)), name="ball"))
    control, process = user.panel.controller, psutil.Process(os.getpid())
    rng = np.random.default_rng(1)

    def clicks(count: int) -> int:
        for k in range(count):
            a, b, c = (float(v) for v in rng.integers(4, 28, 3))
            control.prompt(Point((a, b, c), k % 3 > 0))
            if k % 10 == 9:
                control.undo()
                control.redo()
                control.reset()
                user.wait()
        user.wait()
        gc.collect()
        return int(process.memory_info().rss)

    before = clicks(60)
    assert clicks(200) < 1.05 * before


@pytest.mark.usefixtures("loaded_model")
def test_fifty_openings_leak_no_panel(make_napari_viewer: Any, qtbot: Any, scan: Volume) -> None:
    viewer = make_napari_viewer()
    panels: list[weakref.ref[Any]] = []
    viewer.add_image(scan.data)
    callbacks = [
        len(known)
        for known in (
            viewer.mouse_drag_callbacks,
            viewer.mouse_move_callbacks,
            viewer.mouse_wheel_callbacks,
        )
    ]
    for _ in range(50):
        dock, panel = viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Segment with prompts"
        )
        qtbot.wait(2)
        panels += [weakref.ref(part) for part in (panel, panel.view, panel.ahead, panel.comfort)]
        viewer.window.remove_dock_widget(dock)
        del dock, panel
        qtbot.wait(2)
    qtbot.wait(100)
    gc.collect()
    assert [ref for ref in panels if ref() is not None] == []
    assert not viewer.keymap
    assert callbacks == [
        len(known)
        for known in (
            viewer.mouse_drag_callbacks,
            viewer.mouse_move_callbacks,
            viewer.mouse_wheel_callbacks,
        )
    ]
    assert len(viewer.layers) == 1
