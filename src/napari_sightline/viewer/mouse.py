"""Clicks on the canvas: a press and a release in one place. A drag stays napari's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Pixels that the mouse may move between press and release.
STEADY = 5
_LEFT = 1

#: World position, axes on the canvas, whether a modifier asked for a negative click.
OnClick = Callable[[tuple[float, ...], tuple[int, ...], bool], None]


class Mouse:
    """Listens for clicks on a viewer's canvas.

    Parameters
    ----------
    viewer : Viewer
        In slices or in 3D; whoever listens decides what a click there means.
    on_click : callable
        Called on release.
    """

    def __init__(self, viewer: Viewer, on_click: OnClick) -> None:
        self._viewer = bare(viewer)
        self._on_click = on_click
        self._callback: Callable[[Any, Any], Iterator[None]] | None = None

    def listen(self) -> None:
        """Begin to listen."""
        if self._callback is None:
            self._callback = _clicks(self._on_click)
            self._viewer.mouse_drag_callbacks.append(self._callback)

    def ignore(self) -> None:
        """Listen no longer."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)
        self._callback = None


def _clicks(on_click: OnClick) -> Callable[[Any, Any], Iterator[None]]:
    def follow(_: Any, event: Any) -> Iterator[None]:
        keys = {str(getattr(key, "name", key)) for key in event.modifiers}
        if event.button != _LEFT or "Alt" in keys:  # Alt and drag: napari zooms
            return
        # napari gives the same event object other contents later: copy what counts.
        position = tuple(float(x) for x in event.position)
        displayed = tuple(int(axis) for axis in event.dims_displayed)
        pressed = np.array(event.pos, float)
        moved = 0.0
        yield
        while event.type == "mouse_move":
            moved = max(moved, float(np.abs(np.array(event.pos, float) - pressed).max()))
            yield
        moved = max(moved, float(np.abs(np.array(event.pos, float) - pressed).max()))
        if moved < STEADY:
            on_click(position, displayed, bool(keys & {"Control", "Shift"}))

    return follow
