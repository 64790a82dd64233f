"""What the mouse does on the canvas: clicks, boxes, strokes, lassos, and prompts that are moved.

A press and a release in one place are a click, with every tool. With the point tool a drag stays
napari's, unless it begins on a prompt; with the others it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Pixels that the mouse may move between press and release.
STEADY = 5
_LEFT = 1


@dataclass
class Gesture:
    """A press, what followed, and where.

    Attributes
    ----------
    position : tuple of float
        World coordinates of the pointer now.
    displayed : tuple of int
        Axes of the viewer on the canvas.
    keys : frozenset of str
        Modifiers held at the press.
    ray : tuple of float or None
        Direction of view in 3D.
    begun : tuple of float
        World coordinates of the press.
    trail : list of tuple of float
        World coordinates from press to release.
    """

    position: tuple[float, ...]
    displayed: tuple[int, ...]
    keys: frozenset[str]
    ray: tuple[float, ...] | None
    begun: tuple[float, ...] = ()
    trail: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def negative(self) -> bool:
        """Whether a modifier asked for what does not belong to the object."""
        return "Control" in self.keys

    @property
    def extending(self) -> bool:
        """Whether a modifier asked to go on with what is there."""
        return "Shift" in self.keys


class Listener(Protocol):
    """Who decides what gestures mean."""

    def press(self, gesture: Gesture) -> bool:
        """Say whether a drag from here is the panel's; napari's else."""
        ...

    def drag(self, gesture: Gesture) -> None:
        """Show what is being drawn or moved."""
        ...

    def release(self, gesture: Gesture) -> None:
        """Take what was drawn or moved."""
        ...

    def click(self, gesture: Gesture) -> None:
        """Take a click."""
        ...


class Mouse:
    """Listens for gestures on a viewer's canvas.

    Parameters
    ----------
    viewer : Viewer
        In slices or in 3D.
    listener : callable
        Returns who is told, or None once that is gone.
    """

    def __init__(self, viewer: Viewer, listener: Callable[[], Listener | None]) -> None:
        self._viewer = bare(viewer)
        self._listener = listener
        self._callback: Callable[[Any, Any], Iterator[None]] | None = None

    def listen(self) -> None:
        """Begin to listen."""
        if self._callback is None:
            self._callback = _follow(self._listener)
            self._viewer.mouse_drag_callbacks.append(self._callback)

    def ignore(self) -> None:
        """Listen no longer."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)
        self._callback = None


def _follow(listener: Callable[[], Listener | None]) -> Callable[[Any, Any], Iterator[None]]:
    def follow(viewer: Any, event: Any) -> Iterator[None]:
        keys = frozenset(str(getattr(key, "name", key)) for key in event.modifiers)
        told = listener()
        if told is None or event.button != _LEFT or "Alt" in keys:  # Alt and drag: napari zooms
            return
        # napari gives the same event object other contents later: copy what counts.
        place = tuple(float(x) for x in event.position)
        ray = getattr(event, "view_direction", None)
        gesture = Gesture(
            place,
            tuple(int(axis) for axis in event.dims_displayed),
            keys,
            None if ray is None else tuple(float(x) for x in ray),
            place,
            [place],
        )
        pressed, moved, ours = np.array(event.pos, float), 0.0, told.press(gesture)
        camera = viewer.scene.camera
        panned = camera.mouse_pan
        if ours:
            camera.mouse_pan = False
        try:
            yield
            while event.type == "mouse_move":
                moved = max(moved, float(np.abs(np.array(event.pos, float) - pressed).max()))
                if ours and moved >= STEADY:
                    gesture.position = tuple(float(x) for x in event.position)
                    gesture.trail.append(gesture.position)
                    told.drag(gesture)
                yield
        finally:
            if ours:
                camera.mouse_pan = panned
        moved = max(moved, float(np.abs(np.array(event.pos, float) - pressed).max()))
        if moved < STEADY:
            told.click(gesture)
        elif ours:
            gesture.position = tuple(float(x) for x in event.position)
            gesture.trail.append(gesture.position)
            told.release(gesture)

    return follow
