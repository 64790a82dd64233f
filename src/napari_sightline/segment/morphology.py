"""Shaping masks: largest part, holes, smoothing, growing and shrinking in mm, missing slices.

Functions take a bool mask ``(n0, n1, n2)`` and where needed its voxels' spacing in mm, leave the
mask as it is and return another of its shape. What lies outside the array is not known to them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.segment.acts import OperationName
from napari_sightline.segment.packed import PackedMask, widened
from napari_sightline.volume import Box3

#: Largest distance, mm, by which a mask is grown, shrunk or smoothed.
FARTHEST = 100.0
Spacing = tuple[float, float, float]


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Keep the largest of the parts that hang together by faces, edges or corners."""
    import cc3d

    parts = cc3d.largest_k(mask.astype(np.uint8), k=1, connectivity=26)
    return np.asarray(parts) > 0


def drop_fragments(mask: np.ndarray, share: float) -> np.ndarray:
    """Leave out parts smaller than a share, 0 .. 1, of the largest; parts as in `largest_part`."""
    import cc3d

    parts = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    counts = np.bincount(parts.ravel())
    counts[0] = 0
    return np.asarray((counts > 0) & (counts >= share * counts.max()))[parts]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what the mask shuts in on all sides; in a mask of one slice, within that slice."""
    import cc3d

    flat = [axis for axis in range(3) if mask.shape[axis] == 1]
    plane = mask if not flat else np.squeeze(mask, axis=flat[0])
    outside = np.pad(~plane, 1, constant_values=True).astype(np.uint8)
    parts = cc3d.connected_components(outside, connectivity=6 if plane.ndim == 3 else 4)
    inner = (slice(1, -1),) * plane.ndim
    filled = parts[inner] != parts[(0,) * plane.ndim]
    return np.asarray(filled).reshape(mask.shape)


def grow(mask: np.ndarray, spacing: Spacing, mm: float) -> np.ndarray:
    """Add every voxel within a distance of the mask, or take away every one that near to its rim.

    Distances are Euclidean, between voxel centres, of true voxel size.

    Parameters
    ----------
    mask : numpy.ndarray
        Bool.
    spacing : tuple of 3 float
        Millimetres per voxel.
    mm : float
        Above zero grows, below zero shrinks.
    """
    if mm >= 0:
        return mask | (_distance(~mask, spacing) <= mm + 1e-4)
    return mask & (_distance(mask, spacing) > -mm + 1e-4)


def smooth(mask: np.ndarray, spacing: Spacing, mm: float) -> np.ndarray:
    """Even out the surface with a Gaussian; the number of voxels stays, but for ties.

    Parameters
    ----------
    mask : numpy.ndarray
        Bool.
    spacing : tuple of 3 float
        Millimetres per voxel.
    mm : float
        Standard deviation, above zero.
    """
    from scipy import ndimage

    count = int(np.count_nonzero(mask))
    if count in (0, mask.size):
        return mask.copy()
    soft = ndimage.gaussian_filter(
        mask.astype(np.float32), [mm / s for s in spacing], mode="nearest", truncate=3
    )
    level = float(np.partition(soft, soft.size - count, axis=None)[soft.size - count])
    return np.asarray(soft >= max(level, 1e-6))


def gap_axis(mask: np.ndarray) -> int | None:
    """Axis along which most slices between the first and the last drawn one are empty."""
    most, best = None, 0.0
    for axis in range(3):
        drawn = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != axis)))
        if len(drawn) > 1:
            share = 1 - len(drawn) / (drawn[-1] - drawn[0] + 1)
            if share > best:
                most, best = axis, share
    return most


def interpolate(mask: np.ndarray, spacing: Spacing, axis: int) -> np.ndarray:
    """Fill empty slices between drawn ones, from the shapes on either side.

    Shape-based interpolation (Raya and Udupa, 1990): signed distances within the slices are mixed
    linearly, after both shapes were moved to the place between their centres, so that an oblique
    structure is followed. Drawn slices stay as they are.

    Parameters
    ----------
    mask : numpy.ndarray
        Bool.
    spacing : tuple of 3 float
        Millimetres per voxel.
    axis : int
        Across the drawn slices.
    """
    from scipy import ndimage

    slices = np.moveaxis(mask, axis, 0)
    across = tuple(s for k, s in enumerate(spacing) if k != axis)
    out = slices.copy()
    drawn = np.flatnonzero(slices.any((1, 2)))
    for low, high in pairwise(drawn):
        if high - low < 2:
            continue
        ends = [slices[low], slices[high]]
        fields = [_distance(end, across) - _distance(~end, across) for end in ends]
        centres = [np.argwhere(end).mean(0) for end in ends]
        for k in range(low + 1, high):
            share = (k - low) / (high - low)
            centre = (1 - share) * centres[0] + share * centres[1]
            first, second = (
                ndimage.shift(field, centre - own, order=1, mode="nearest")
                for field, own in zip(fields, centres, strict=True)
            )
            out[k] = (1 - share) * first + share * second > 0
    return np.moveaxis(out, 0, axis)


def _distance(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance, mm, of each true voxel to the nearest false one; far where there is none."""
    import edt

    if mask.all():
        return np.full(mask.shape, np.float32(1e6))
    whole = np.ascontiguousarray(mask)
    return np.asarray(edt.edt(whole, anisotropy=spacing, black_border=False, parallel=1))


def operate(
    name: OperationName, amount: float, packed: PackedMask, spacing: Spacing, shape: tuple[int, ...]
) -> tuple[np.ndarray, Box3]:
    """Do an operation to an object's mask, on no more of the volume than it can reach.

    Parameters
    ----------
    name : str
        Which operation.
    amount : float
        Millimetres, or the axis for ``"interpolate"`` (-1: the one with most empty slices).
    packed : PackedMask
        The object's voxels.
    spacing, shape : tuple of 3
        Of the volume.

    Returns
    -------
    tuple
        Bool mask and the box of the volume at which it lies.

    Raises
    ------
    BadInput
        Where the mask is empty, the distance is none or too long, nothing would be left, or
        there is no empty slice to fill.
    """
    if packed.box is None:
        raise BadInput("The object has no mask yet; segment it before you shape it.")
    if name in ("grow", "smooth"):
        if not math.isfinite(amount) or not 0 < abs(amount) <= FARTHEST:
            raise BadInput(
                f"A distance of {amount:g} mm cannot be used; give one up to {FARTHEST:g} mm."
            )
        reach = abs(amount) * (3 if name == "smooth" else 1)
        margin = tuple(1 + math.ceil(reach / s) for s in spacing)
    else:
        margin = (0, 0, 0)
    if name == "grow" and abs(amount) < min(spacing):
        raise BadInput(
            f"{abs(amount):g} mm is less than a voxel of {min(spacing):g} mm; give more."
        )
    box = widened(packed.box, margin, shape)
    mask = packed.paint(box)
    if name == "largest part":
        out = largest_part(mask)
    elif name == "fill holes":
        out = fill_holes(mask)
    elif name == "smooth":
        out = smooth(mask, spacing, abs(amount))
    elif name == "grow":
        out = grow(mask, spacing, amount)
    else:
        axis = gap_axis(mask) if amount < 0 else int(amount)
        if axis not in (0, 1, 2):
            raise BadInput("There is no empty slice between drawn ones; nothing to interpolate.")
        out = interpolate(mask, spacing, axis)
    if not out.any():
        raise BadInput(f"Nothing would be left of the object after {abs(amount):g} mm; give less.")
    return out, box
