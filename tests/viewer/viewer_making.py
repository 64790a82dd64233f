"""What the viewer's tests are made of: small scans, and a user with a mouse and a keyboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from napari_sightline.viewer import robot
from napari_sightline.viewer.bridge import image_layer
from napari_sightline.volume import Volume

SIDE = 48
#: Axes, flips, spacing and a turn: how files may lie on disk.
AFFINES = {
    "usual": np.diag([-1.0, -1.0, 1.0, 1.0]),
    "permuted": np.array([[0, 0, 2.0, 5], [1.0, 0, 0, -7], [0, 3.0, 0, 11], [0, 0, 0, 1]]),
    "flipped": np.array([[1.2, 0, 0, -30], [0, -1.0, 0, 40], [0, 0, -2.5, 9], [0, 0, 0, 1]]),
    "oblique": np.array(
        [[0.98, -0.17, 0.05, 3], [0.18, 0.96, -0.2, 4], [-0.02, 0.2, 1.4, 5], [0, 0, 0, 1]]
    ),
}


def ball_scan(shape: tuple[int, int, int] = (SIDE, SIDE, SIDE), radius: float = 10) -> np.ndarray:
    """A bright ball in noise, int16, canonical order."""
    rng = np.random.default_rng(0)
    places = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    ball = (places**2).sum(0) < radius**2
    return (rng.normal(-80, 15, shape) + 160 * ball).astype(np.int16)


class User:
    """Does what a reader does: looks at slices, clicks, presses keys, waits.

    Parameters
    ----------
    viewer : napari.Viewer
        Shown on a screen.
    panel : PromptPanel
        Docked in it.
    """

    def __init__(self, viewer: Any, panel: Any, qtbot: Any) -> None:
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.canvas = robot.canvas_of(viewer)

    @property
    def case(self) -> Any:
        return self.panel.controller.case

    @property
    def prompts(self) -> tuple[Any, ...]:
        return self.case.state.prompts

    @property
    def mask(self) -> np.ndarray:
        """Voxels of the current object as they are drawn."""
        return np.asarray(self.case.labels.data == self.case.state.current)

    def show(self, image: Any) -> Any:
        """Add an image or layer data tuple; wait until the panel is ready."""
        if isinstance(image, Volume):
            data, options, _ = image_layer(image)
            layer = self.viewer.add_image(data, **options)
        else:
            layer = self.viewer.add_image(image)
        self.wait()
        return layer

    def wait(self, timeout: int = 60_000) -> None:
        """Wait until nothing is computed."""
        self.qtbot.wait(20)
        self.qtbot.waitUntil(lambda: not self.panel.controller.busy, timeout=timeout)

    @contextmanager
    def slow_model(self) -> Iterator[None]:
        """Inside, prompts are worked on without an end; outside, work goes on."""
        session, going = self.case.session, threading.Event()
        add = session.add

        def slow(*args: Any) -> Any:
            going.wait(30)
            return add(*args)

        session.add = slow
        try:
            yield
        finally:
            going.set()
            session.add = add

    def pixel(self, layer: Any, voxel: tuple[float, ...]) -> Any:
        """Go to the slice of a voxel; where it lies on the canvas."""
        return robot.pixel(self.viewer, self.canvas, layer, voxel)

    def click(
        self, layer: Any, voxel: tuple[float, ...], modifier: str = "", wait: bool = True
    ) -> None:
        """Click on a voxel with the left button."""
        held = (modifier,) if modifier else ()
        robot.click(self.canvas, self.pixel(layer, voxel), *held)
        robot.live(0.02)  # what is shown follows in the next turn of the event loop
        if wait:
            self.wait()

    def key(self, key: str, *modifiers: str) -> None:
        """Press a key while the canvas has the focus."""
        robot.key(self.canvas, key, *modifiers)
        self.wait()
