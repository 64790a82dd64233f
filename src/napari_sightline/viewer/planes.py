"""Axial, coronal and sagittal slices, head up.

napari draws the vertical axis downwards. Of a scan in reading order that turns coronal and
sagittal slices upside down, so the camera is turned round whenever superior-inferior is vertical.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

import numpy as np

from napari_sightline.orientation import Array
from napari_sightline.viewer.bridge import KEY, bare

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Order of superior, posterior, left: the axis that is stepped through comes first.
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
_kept: WeakSet[Any] = WeakSet()


def show(viewer: Viewer, plane: int) -> None:
    """Show axial (0), coronal (1) or sagittal (2) slices."""
    dims = bare(viewer).dims
    extra = dims.ndim - 3
    if extra < 0:
        return
    dims.ndisplay = 2
    dims.order = (*range(extra), *(extra + axis for axis in _ORDERS[plane]))


def shown(viewer: Viewer) -> int:
    """Which plane is shown; -1 where it is none, such as 3D or a flat picture."""
    dims = bare(viewer).dims
    extra = dims.ndim - 3
    if extra < 0 or dims.ndisplay != 2:
        return -1
    last = tuple(axis - extra for axis in dims.order[-3:])
    return _ORDERS.index(last) if last in _ORDERS else -1


def go_to(viewer: Viewer, image: Any, voxel: Sequence[float], frame: Sequence[int] = ()) -> None:
    """Show the slices through a voxel of an image; the picture moves only where it must.

    Parameters
    ----------
    voxel : sequence of 3 float
        Of the image's last three axes.
    frame : sequence of int
        Of the axes before them.
    """
    viewer, image = bare(viewer), bare(image)
    own = [*frame, *voxel][-image.ndim :]
    world = np.asarray(image.data_to_world(own), float)
    dims, camera = viewer.dims, viewer.scene.camera
    offset = dims.ndim - len(world)
    step_to(viewer, range(offset, dims.ndim), world)
    low, high = np.sort(np.asarray(image.corner_pixels, float), axis=0)
    shown = [axis - offset for axis in dims.displayed if axis >= offset]
    if any(not low[axis] <= own[axis] <= high[axis] for axis in shown):
        centre = list(camera.center)
        centre[-len(shown) :] = [world[axis] for axis in shown]
        camera.center = tuple(centre)


def step_to(viewer: Viewer, axes: Sequence[int], world: Sequence[float] | Array) -> None:
    """Show the slices nearest to a place; every layer is sliced once.

    Off the steps of its sliders, or axis by axis, napari slices all layers again each time.

    Parameters
    ----------
    axes : sequence of int
        Of the viewer.
    world : sequence of float
        Place along each of them.
    """
    dims = bare(viewer).dims
    steps = []
    for axis, place in zip(axes, world, strict=True):
        first, step = dims.range[axis].start, dims.range[axis].step
        steps.append(float(first + round((float(place) - first) / step) * step if step else place))
    dims.set_point(list(axes), steps)


def next_plane(viewer: Viewer) -> int:
    """Plane that follows the one that is shown."""
    return (shown(viewer) + 1) % len(_ORDERS)


def keep_upright(viewer: Viewer) -> None:
    """Hold the head up from now on, whoever changes the plane; also after the panel closed."""
    viewer = bare(viewer)
    if viewer not in _kept:
        _kept.add(viewer)
        viewer.dims.events.order.connect(_turner(viewer))
    turn(viewer)


def turn(viewer: Viewer) -> None:
    """Turn the camera so that the head is up; only where a scan of ours is open."""
    viewer = bare(viewer)
    if viewer.dims.ndim < 3 or not any(KEY in layer.metadata for layer in viewer.layers):
        return
    vertical = viewer.dims.order[-2] - (viewer.dims.ndim - 3)
    wanted = ("up" if vertical == 0 else "down", "right")
    camera = viewer.scene.camera
    if tuple(str(side) for side in camera.orientation2d) != wanted:
        camera.orientation2d = wanted


def _turner(viewer: Any) -> Callable[[Any], None]:
    """Make a callback that does not keep the viewer alive."""
    weak = ref(viewer)

    def run(_: Any = None) -> None:
        alive = weak()
        if alive is not None:
            turn(alive)

    return run
