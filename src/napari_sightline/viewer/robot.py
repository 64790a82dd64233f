"""Somebody in front of the window: real mouse and key events for benchmarks and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_sightline.errors import BadInput
from napari_sightline.viewer.planes import step_to

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

#: Seconds to wait for one piece of work, on any machine.
PATIENCE = 300.0
#: Moves of the mouse between two places of a drag.
_MOVES = 5


def live(seconds: float) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


def wait_until(done: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Let the window live until something holds.

    Raises
    ------
    BadInput
        Where it does not hold after `patience` seconds.
    """
    if done():
        return
    loop, timer, begun = QEventLoop(), QTimer(), time.monotonic()
    held: list[bool] = []  # what held once counts, even if it no longer does when the loop ends

    def look() -> None:
        if done():
            held.append(True)
        if held or time.monotonic() - begun > patience:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(10)
    loop.exec()
    timer.stop()
    if not held:
        raise BadInput(f"The window did not answer in {patience:.0f} s; try it with less running.")


def canvas_of(viewer: Viewer) -> Any:
    """Find the widget on which a viewer that is shown draws.

    Raises
    ------
    BadInput
        Where the viewer has no window on the screen.
    """
    window = viewer.window._qt_window  # there is no public way to the canvas
    for widget in QApplication.allWidgets():
        if type(widget).__name__ == "CanvasBackendDesktop" and window.isAncestorOf(widget):
            return widget
    raise BadInput("The viewer has no canvas on the screen; show its window first.")


def pixel(viewer: Viewer, canvas: QWidget, layer: Layer, voxel: Sequence[float]) -> QPoint:
    """Go to the slice of a voxel of a layer; where it lies on the canvas."""
    world = np.array(layer.data_to_world(voxel))
    dims, camera = viewer.dims, viewer.scene.camera
    step_to(viewer, dims.not_displayed, world[list(dims.not_displayed)])
    live(0.02)
    signs = np.array([-1 if str(s) in ("up", "left") else 1 for s in camera.orientation2d])
    offset = (world[list(dims.displayed)] - np.array(camera.center[-2:])) * camera.zoom * signs
    y, x = np.rint(np.array([canvas.height(), canvas.width()]) / 2 + offset).astype(int)
    return QPoint(int(x), int(y))


def click(canvas: Any, place: Any, *modifiers: str) -> None:
    """Move the mouse to a place on the canvas and click with the left button.

    `modifiers` are names such as ``"Control"``.
    """
    held, left = _held(modifiers), Qt.MouseButton.LeftButton
    QTest.mouseMove(canvas, place)
    QTest.mousePress(canvas, left, held, place)  # type: ignore[call-overload]
    # No hand lets go in the same turn of the event loop.
    live(0)
    QTest.mouseRelease(canvas, left, held, place)  # type: ignore[call-overload]


def drag(canvas: Any, places: Sequence[Any], *modifiers: str) -> None:
    """Press at the first of some places on the canvas, move through them, release at the last."""
    held, left = _held(modifiers), Qt.MouseButton.LeftButton
    QTest.mouseMove(canvas, places[0])
    QTest.mousePress(canvas, left, held, places[0])  # type: ignore[call-overload]
    for start, end in pairwise(places):
        for k in range(1, _MOVES + 1):
            QTest.mouseMove(canvas, start + (end - start) * k / _MOVES)
            live(0.01)  # the canvas listens every few milliseconds
    QTest.mouseRelease(canvas, left, held, places[-1])  # type: ignore[call-overload]


def key(canvas: Any, name: str, *modifiers: str) -> None:
    """Press a key, such as ``"Z"`` or ``"Return"``, while the canvas has the focus."""
    QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{name}"), _held(modifiers))


def _held(modifiers: Sequence[str]) -> Any:
    held = Qt.KeyboardModifier.NoModifier
    for name in modifiers:
        held |= getattr(Qt.KeyboardModifier, f"{name}Modifier")
    return held
