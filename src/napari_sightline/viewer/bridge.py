"""Volumes and napari layers: the one place that knows the geometry of both.

World coordinates of a layer that this plugin opened are scanner millimetres along superior,
posterior, left, so that scans of one patient lie on each other. An oblique scan is shown as if
it were not turned (its spacing is kept, its middle stays in place): napari does not slice turned
volumes. Its true affine stays in the `Volume`, and what is saved lies on the file's own grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pint

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Affine, Array, Points, as_points
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image, Layer

#: Key of `Layer.metadata` under which a layer's `Volume` and label names are kept.
KEY = "sightline"
#: Key of `Layer.metadata` of an image that shows something about a scan, and is none itself.
OVERLAY = "sightline-overlay"
AXES = ("superior", "posterior", "left")
#: Window of a CT when it is opened, HU: soft tissue.
SOFT_TISSUE = (-160.0, 240.0)
_CT_RANGE = (-1024.0, 3071.0)
# Superior, posterior, left from scanner right, anterior, superior.
_TO_WORLD = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]], float)
_THIN = 48  # voxels along an axis that are looked at for the contrast


def bare(layer: Any) -> Any:
    """Return the layer or viewer behind a plugin proxy: identity and weak references need it."""
    return getattr(layer, "__wrapped__", layer)


def is_scan(layer: Any) -> bool:
    """Whether a layer is an image that may be segmented, not a map drawn over one."""
    from napari.layers import Image

    return isinstance(layer, Image) and OVERLAY not in layer.metadata


# ---- from a volume to a layer


def placed(volume: Volume) -> dict[str, Any]:
    """Keyword arguments that put a layer with the volume's grid where the patient was.

    Returns
    -------
    dict
        ``scale`` and ``translate`` in mm along superior, posterior, left; ``units``;
        ``axis_labels``.
    """
    scale = np.array(volume.spacing)
    half = (np.array(volume.shape) - 1) / 2
    middle = _TO_WORLD @ volume.voxel_to_mm(half)
    return {
        "scale": tuple(scale.tolist()),
        "translate": tuple((middle - half * scale).tolist()),
        "units": ("mm",) * 3,
        "axis_labels": AXES,
    }


def image_layer(volume: Volume) -> tuple[Array, dict[str, Any], str]:
    """Layer data tuple that shows a scan."""
    low, high = contrast(volume)
    options = {
        "name": volume.name or "scan",
        "colormap": "gray",
        "contrast_limits": (low, high),
        "metadata": {KEY: {"volume": volume}},
        **placed(volume),
    }
    return volume.data, options, "image"


def contrast(volume: Volume) -> tuple[float, float]:
    """Grey levels to begin with: soft tissue for CT, else from the values themselves."""
    if volume.modality == "CT":
        return SOFT_TISSUE
    values = _thinned(volume)
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low, low + 1.0)


def widen_range(layer: Image) -> None:
    """Let the contrast slider of a layer that we opened reach beyond its first window.

    napari takes the first window for all there is, and a reader cannot say otherwise.
    """
    layer = bare(layer)
    volume = layer.metadata.get(KEY, {}).get("volume")
    if not isinstance(volume, Volume) or layer.rgb:
        return
    low, high = layer.contrast_limits
    if list(layer.contrast_limits_range) != [low, high]:
        return
    values = np.array(_CT_RANGE) if volume.modality == "CT" else _thinned(volume)
    layer.contrast_limits_range = (
        min(low, float(values.min())),
        max(high, float(values.max())),
    )


def _thinned(volume: Volume) -> Array:
    """Finite values of some of the voxels, at least one value."""
    steps = (max(1, n // _THIN) for n in volume.shape)
    values = np.asarray(volume.data[tuple(slice(None, None, s) for s in steps)], np.float64)
    values = values[np.isfinite(values)]
    return values if values.size else np.zeros(1)


# ---- from a layer to a volume


@dataclass(frozen=True)
class Source:
    """All that a worker needs to make a volume of a layer, taken on the main thread.

    Attributes
    ----------
    name : str
        Of the layer.
    array : array_like
        Voxels, maybe lazy; leading axes beyond three are indexed by `frame`.
    frame : tuple of int
        Chosen index of each leading axis; empty for most layers.
    spacing, origin : tuple of 3 float
        mm per voxel and mm of the first voxel, superior, posterior, left.
    rgb : bool
        The last axis of `array` is colour.
    known : Volume or None
        The volume that the layer was opened from.
    notes : tuple of str
        What was chosen, for the reader's eyes.
    """

    name: str
    array: Any
    frame: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    rgb: bool
    known: Volume | None
    notes: tuple[str, ...] = ()

    def read(self) -> Volume:
        """Make the volume; reads lazy arrays, so call it on a worker.

        Raises
        ------
        BadInput
            If the layer's voxels cannot be segmented; see `Volume.from_array`.
        """
        if self.known is not None and self.array is self.known.data:
            return replace(self.known, name=self.name)
        array = np.asarray(self.array[self.frame] if self.frame else self.array)
        array = array.view(np.ndarray)
        if array.ndim == (3 if self.rgb else 2):
            array = array[None]
        if self.known is not None and array.shape == self.known.shape:
            return replace(self.known, data=array, name=self.name)
        affine = np.eye(4)
        affine[:3, :3] = _TO_WORLD.T @ np.diag(self.spacing)
        affine[:3, 3] = _TO_WORLD.T @ np.array(self.origin)
        volume = Volume.from_array(array, affine, name=self.name, rgb=self.rgb)
        return replace(volume, notes=(*self.notes, *volume.notes))


def source(
    layer: Image,
    point: Sequence[float],
    units: Sequence[Any] | None = None,
    at: tuple[int, ...] | None = None,
) -> Source:
    """Describe an image layer, whoever made it; cheap.

    Parameters
    ----------
    layer : Image
        Any image: 2D, 3D, more axes (the last three are space), multiscale, lazy, colour.
    point : sequence of float
        World position that the viewer shows (``viewer.dims.point``); chooses the frame.
    units : sequence of pint units, optional
        Of `point`.
    at : tuple of int, optional
        Frame, whatever the viewer shows; one that the layer does not have is not heeded.

    Raises
    ------
    BadInput
        If the layer has no axes to segment.
    """
    layer = bare(layer)
    array, notes = layer.data, []
    if layer.multiscale:
        array = array[0]
        size = " x ".join(str(n) for n in array.shape[: layer.ndim])
        notes.append(f"Finest of {len(layer.data)} levels used ({size}).")
    if layer.ndim < 2:
        raise BadInput(f"{layer.name} has one axis; choose an image with two or three.")
    picked = frame(layer, point, units)
    if at is not None and len(at) == len(picked):
        picked = at if all(0 <= i < n for i, n in zip(at, array.shape, strict=False)) else picked
    if picked:
        where = ", ".join(str(i + 1) for i in picked)
        of = ", ".join(str(n) for n in array.shape[: len(picked)])
        notes.append(f"Frame {where} of {of} used.")
    matrix = np.diag([*_millimetres(layer), 1.0]) @ to_world(layer)
    kept = layer.metadata.get(KEY, {}).get("volume")
    known = kept if isinstance(kept, Volume) and layer.ndim == 3 else None
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    return Source(
        layer.name,
        array,
        picked,
        tuple(spacing.tolist()),
        tuple(matrix[:3, 3].tolist()),
        bool(layer.rgb),
        known,
        tuple(notes),
    )


def frame(
    layer: Image, point: Sequence[float], units: Sequence[Any] | None = None
) -> tuple[int, ...]:
    """Index of the shown frame along the axes before the last three; empty without such axes."""
    layer = bare(layer)
    extra = layer.ndim - 3
    if extra <= 0:
        return ()
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    where = np.rint(_to_data(layer, point, units)[:extra])
    return tuple(int(np.clip(i, 0, n - 1)) for i, n in zip(where, shape, strict=False))


# ---- between world and voxels


def to_world(layer: Layer) -> Affine:
    """Matrix from voxels of a layer's last three axes to its world, shape (4, 4).

    A layer with two axes has a third, the first, of thickness 1.
    """
    layer = bare(layer)
    n = layer.ndim
    zero = np.array(layer.data_to_world(np.zeros(n)))
    columns = np.array([layer.data_to_world(row) for row in np.eye(n)]).T - zero[:, None]
    matrix = np.eye(4)
    k = min(n, 3)
    matrix[3 - k : 3, 3 - k : 3] = columns[-k:, -k:]
    matrix[3 - k : 3, 3] = zero[-k:]
    return matrix


def voxel_at(
    layer: Image,
    position: Sequence[float],
    units: Sequence[Any] | None = None,
    displayed: Sequence[int] | None = None,
) -> tuple[float, float, float]:
    """Voxel of the layer's volume at a world position.

    Parameters
    ----------
    layer : Image
        Whatever its scale, translation or units are now.
    position : sequence of float
        World coordinates, as in a mouse event; one per axis of the viewer.
    units : sequence of pint units, optional
        Of `position` (``viewer.dims.units``).
    displayed : sequence of int, optional
        Axes of the viewer that are on the canvas. Across the others a position means the slice
        that napari shows: the nearest one.

    Returns
    -------
    tuple of 3 float
        Canonical voxel indices.
    """
    layer = bare(layer)
    data = _to_data(layer, position, units)
    if displayed is not None:
        offset = len(position) - layer.ndim
        for axis in range(layer.ndim):
            if axis + offset not in displayed:
                data[axis] = np.rint(data[axis])
    a, b, c = [0.0] * (3 - len(data)) + [float(v) for v in data[-3:]]
    return a, b, c


def grid_like(image: Image) -> dict[str, Any]:
    """Attributes that put a layer of voxels, labels or points, on an image's last axes."""
    image = bare(image)
    k = layer_axes(image)
    whole, matrix = to_world(image), np.eye(k + 1)
    matrix[:k, :k], matrix[:k, k] = whole[3 - k : 3, 3 - k : 3], whole[3 - k : 3, 3]
    linear = matrix[:k, :k]
    straight = np.array_equal(linear, np.diag(np.diag(linear)))
    return {
        "scale": np.diag(linear) if straight else np.ones(k),
        "translate": matrix[:k, k] if straight else np.zeros(k),
        "affine": np.eye(k + 1) if straight else matrix,
        "units": tuple(image.units)[-k:],
        "axis_labels": tuple(image.axis_labels)[-k:],
    }


def slice_at(
    image: Image, point: Sequence[float], order: Sequence[int], units: Sequence[Any] | None = None
) -> tuple[int, int]:
    """Tell which slice of an image a viewer shows.

    Parameters
    ----------
    image : Image
        A picture with two axes counts as one slice.
    point, order
        ``viewer.dims.point`` and ``viewer.dims.order``, in slices.
    units : sequence of pint units, optional
        Of `point`.

    Returns
    -------
    tuple of 2 int
        The volume's axis across the canvas (0, 1 or 2), and the voxel along it.
    """
    axis = max(0, order[-3] - (len(order) - 3)) if len(order) >= 3 else 0
    return axis, round(voxel_at(image, point, units)[axis])


def layer_axes(image: Image) -> int:
    """Axes that a layer on the image's grid needs: two for a picture, else three."""
    return min(int(bare(image).ndim), 3)


def points_on(image: Image, voxels: Points) -> Array:
    """Voxel positions as data of a points layer on the image's grid, (N, 2 or 3)."""
    k = layer_axes(image)
    return np.asarray(as_points(voxels)[:, 3 - k :])


def _to_data(layer: Any, position: Sequence[float], units: Sequence[Any] | None) -> Array:
    """Turn a world position into data coordinates, for all of the layer's axes."""
    n = layer.ndim
    where = np.zeros(n)
    given = np.asarray(position, float)[-n:]
    where[n - len(given) :] = given
    if units is not None and len(units) >= n:
        pairs = zip(tuple(units)[-n:], layer.units, strict=True)
        where *= [_ratio(world, own) for world, own in pairs]
    return np.array(layer.world_to_data(where), float)


@lru_cache(maxsize=64)
def _ratio(old: Any, new: Any) -> float:
    """How many of the new unit make one of the old; 1 where they do not compare."""
    try:
        return float(pint.get_application_registry().Quantity(1, old).to(new).magnitude)
    except (pint.DimensionalityError, pint.UndefinedUnitError, AttributeError):
        return 1.0


def _millimetres(layer: Any) -> list[float]:
    """Millimetres per unit along the last three axes; a unit that is no length counts as mm."""
    own = [_ratio(unit, "mm") for unit in tuple(layer.units)[-3:]]
    return [1.0] * (3 - len(own)) + own
