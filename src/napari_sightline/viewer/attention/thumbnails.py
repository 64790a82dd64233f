"""Small pictures of what each head looks at on the shown slice; plain arrays, no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_sightline.viewer.attention.state import Array, Placed

#: Pixels of a picture's longer side.
SIDE = 72
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """What slice is shown, and how.

    Attributes
    ----------
    axis, index : int
        Canonical axis across the screen, and the slice along it.
    rows, columns : int
        Canonical axes that run down and along the screen.
    upside_down : bool
        Whether the vertical axis runs upwards.
    grey : tuple of 2 float
        Grey levels of the scan.
    opacity : float
        Of the map.
    """

    axis: int = 0
    index: int = 0
    rows: int = 1
    columns: int = 2
    upside_down: bool = False
    grey: tuple[float, float] = (0.0, 1.0)
    opacity: float = 0.45


def pictures(
    scan: npt.NDArray[np.generic],
    maps: Placed,
    look: Look,
    limits: list[tuple[float, float]],
    colours: Array,
) -> Pictures:
    """Draw each head's map over the scan, for the part of the slice that the network saw.

    Parameters
    ----------
    scan : numpy.ndarray
        Canonical voxels, ``(D, H, W)``.
    maps : Placed
        All heads.
    look : Look
        The slice; the nearest one that the network saw is taken where it saw another part.
    limits : list of tuple of 2 float
        Colour scale of each head.
    colours : numpy.ndarray
        ``(n, 3)``, 0 .. 1: the colour map.

    Returns
    -------
    numpy.ndarray
        ``(heads, height, width, 3)`` uint8.
    """
    shape = maps.values.shape[1:]
    sides = [look.rows, look.columns]
    millimetre = [maps.step[a] * shape[a] for a in sides]  # voxels; spacing is near enough even
    longest = max(millimetre)
    voxels, tokens = [], []
    for axis, extent in zip(sides, millimetre, strict=True):
        count = max(8, round(SIDE * extent / longest))
        token = (np.arange(count) + 0.5) / count * shape[axis] - 0.5
        if axis == look.rows and look.upside_down:
            token = token[::-1]
        tokens.append(np.rint(token).astype(int).clip(0, shape[axis] - 1))
        voxels.append(np.rint(maps.origin[axis] + token * maps.step[axis]).astype(int))
    across = round((look.index - maps.origin[look.axis]) / maps.step[look.axis])
    across = int(np.clip(across, 0, shape[look.axis] - 1))
    inside = [(v >= 0) & (v < scan.shape[axis]) for v, axis in zip(voxels, sides, strict=True)]
    place: list[int | npt.NDArray[np.int64]] = [0, 0, 0]
    place[look.axis] = int(np.clip(look.index, 0, scan.shape[look.axis] - 1))
    for axis, v in zip(sides, voxels, strict=True):
        v = v.clip(0, scan.shape[axis] - 1)
        place[axis] = v[:, None] if axis == look.rows else v[None, :]
    low, high = look.grey
    base = (np.asarray(scan[tuple(place)], np.float32) - low) / max(high - low, 1e-6)
    base = np.nan_to_num(base).clip(0, 1) * inside[0][:, None] * inside[1][None, :]
    where: list[int | npt.NDArray[np.int64]] = [0, 0, 0]
    where[look.axis] = across
    where[look.rows], where[look.columns] = tokens[0][:, None], tokens[1][None, :]
    # All heads at once, in few steps: after each the interpreter may be another thread's for long.
    planes = maps.values[(slice(None), *where)]
    bottom, top = np.array(limits, np.float32).T[..., None, None]
    shares = (planes - bottom) / np.maximum(top - bottom, np.float32(1e-12))
    seen = np.isfinite(shares)
    last = len(colours) - 1
    entries = (np.where(seen, shares, 0).clip(0, 1) * last).astype(np.uint8 if last < 256 else int)
    inks = (255 * look.opacity * np.asarray(colours, np.float32))[entries]
    under = np.float32(255) * base[..., None]
    mixed = np.where(seen[..., None], under * np.float32(1 - look.opacity) + inks, under)
    return mixed.astype(np.uint8)
