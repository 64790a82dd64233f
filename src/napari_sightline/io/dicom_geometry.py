"""Where the slices of a DICOM series lie: sorted along their normal, gaps and tilt found.

DICOM speaks of LPS millimetres; everything that leaves this module is RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Affine

__all__ = ["Placed", "Stack", "stacked"]

_SAME = 1e-3  # mm between slices that count as one place
_EVEN = 0.01  # of a step: rounding
_UNEVEN = 0.1  # of a step: said, but still one grid
_TILT = 0.2  # degrees
_MOST_LEVELS = 20_000
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class Placed(Protocol):
    """What geometry needs to know of a slice (LPS millimetres)."""

    @property
    def position(self) -> tuple[float, ...] | None:
        """Centre of the first voxel, (3,)."""

    @property
    def orientation(self) -> tuple[float, ...] | None:
        """Directions of growing column and of growing row, (6,)."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres between rows, between columns, between slices; 0 where unknown."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Order among slices at one place."""


@dataclass(frozen=True)
class Stack:
    """Slices in order.

    Attributes
    ----------
    levels : tuple of tuple of int
        For each place along the normal the slices there, by number, one a channel; empty
        where a slice is missing.
    affine : ndarray, shape (4, 4), float64
        Voxel (column, row, slice) to RAS millimetres.
    notes : tuple of str
    """

    levels: tuple[tuple[int, ...], ...]
    affine: Affine
    notes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """How many slices lie at each place."""
        return max(len(level) for level in self.levels)


def stacked(slices: Sequence[Placed], name: str, step: float | None = None) -> Stack:
    """Put slices of one orientation and size in order.

    Parameters
    ----------
    slices : sequence of Placed
        At least one, in any order.
    name : str
        Of the series, for messages.
    step : float, optional
        Millimetres between slices where most of them may be left out, as in a segmentation:
        any number may then be missing, and nothing is said of it.

    Returns
    -------
    Stack

    Raises
    ------
    BadInput
        If the slices do not lie on one grid.
    """
    first = slices[0]
    rows, columns = (size or 1.0 for size in first.spacing[:2])
    notes: list[str] = []
    if not all(first.spacing[:2]):
        notes.append("The file gives no size of its pixels; 1 mm is assumed.")
    axes = _axes(first.orientation)
    if axes is None or any(piece.position is None for piece in slices):
        return _unplaced(slices, rows, columns, notes)
    positions = np.array([piece.position for piece in slices])
    along = positions @ np.cross(axes[0], axes[1])
    levels = _levels(along, [piece.rank for piece in slices])
    levels = _channels(levels, notes)
    centres = np.array([positions[level[0]] for level in levels])
    heights = np.array([along[level[0]] for level in levels])
    filled, index = _gaps(levels, heights, name, notes, step)
    normal = np.cross(axes[0], axes[1])
    if len(centres) > 1:
        vector = (centres[-1] - centres[0]) / index[-1]
        _check_straight(centres, index, vector, name, notes)
        tilt = np.degrees(np.arccos(np.clip(vector @ normal / np.linalg.norm(vector), -1, 1)))
        if tilt > _TILT:
            notes.append(
                f"The gantry was tilted by {tilt:.1f} degrees; slices are shifted against each "
                "other, and positions take that into account."
            )
    else:
        thickness = step or first.spacing[2]
        if thickness <= 0:
            thickness = 1.0
            notes.append("One slice without a thickness; 1 mm is assumed.")
        vector = normal * thickness
    matrix = np.eye(4)
    matrix[:3, 0] = axes[0] * columns
    matrix[:3, 1] = axes[1] * rows
    matrix[:3, 2] = vector
    matrix[:3, 3] = centres[0]
    matrix[:3] = _LPS_TO_RAS @ matrix[:3]
    return Stack(filled, matrix, tuple(notes))


def _axes(orientation: tuple[float, ...] | None) -> npt.NDArray[np.float64] | None:
    """Return unit vectors of column and row; None unless they are such and stand upright."""
    if orientation is None:
        return None
    axes = np.array(orientation).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if not np.all(np.abs(lengths - 1) < 0.02) or abs(axes[0] @ axes[1]) > 0.02:
        return None
    return axes


def _unplaced(slices: Sequence[Placed], rows: float, columns: float, notes: list[str]) -> Stack:
    """Stack slices whose file says nothing of their place, by number."""
    order = sorted(range(len(slices)), key=lambda i: slices[i].rank)
    matrix = np.diag([-columns, -rows, slices[0].spacing[2] or 1.0, 1.0])
    note = "The file gives no positions; left and right may be swapped"
    note += "." if len(slices) == 1 else ", and slices lie in the order of their numbers."
    return Stack(tuple((i,) for i in order), matrix, (*notes, note))


def _levels(
    along: npt.NDArray[np.float64], ranks: list[tuple[float, ...]]
) -> list[tuple[int, ...]]:
    """Gather slices at one height, lowest first; at one height by rank."""
    order = np.argsort(along, kind="stable")
    cuts = np.nonzero(np.diff(along[order]) > _SAME)[0] + 1
    return [
        tuple(sorted((int(i) for i in level), key=lambda i: ranks[i]))
        for level in np.split(order, cuts)
    ]


def _channels(levels: list[tuple[int, ...]], notes: list[str]) -> list[tuple[int, ...]]:
    """Keep several slices a place only where every place has as many."""
    counts = {len(level) for level in levels}
    if len(counts) == 1:
        return levels
    twice = sum(len(level) > 1 for level in levels)
    notes.append(
        f"Duplicate slices at {twice} place{'s' * (twice > 1)}; the first by number was kept."
    )
    return [level[:1] for level in levels]


def _gaps(
    levels: list[tuple[int, ...]],
    heights: npt.NDArray[np.float64],
    name: str,
    notes: list[str],
    step: float | None,
) -> tuple[tuple[tuple[int, ...], ...], npt.NDArray[np.int64]]:
    """Leave room where slices are missing; return levels and the index of each known one."""
    count = len(levels)
    if count < 2:
        return tuple(levels), np.arange(count)
    steps = np.diff(heights)
    base = float(np.median(steps))
    if not np.any(np.abs(steps - base) < _UNEVEN * base):
        base = float(steps.min())
    base = step or base
    jumps = np.maximum(1, np.rint(steps / base)).astype(np.int64)
    index = np.concatenate([[0], np.cumsum(jumps)])
    uneven = float(np.max(np.abs(steps / jumps - base)) / base)
    missing = int(index[-1] + 1 - count)
    if uneven > _UNEVEN or missing > (_MOST_LEVELS if step else count):
        raise BadInput(
            f"{name} has slices {steps.min():.3g} to {steps.max():.3g} mm apart, which no single "
            "grid holds; open files of one spacing only, or export the series again."
        )
    if uneven > _EVEN:
        notes.append(
            f"The spacing varies: slices lie {steps.min():.4g} to {steps.max():.4g} mm apart; "
            "their mean is used."
        )
    if not missing:
        return tuple(levels), index
    if not step:
        places = ", ".join(
            f"{jump - 1} after slice {at + 1}"
            for at, jump in zip(index.tolist(), jumps.tolist(), strict=False)
            if jump > 1
        )
        notes.append(
            f"Missing slices: {places}; they are shown blank, so that the rest lies right."
        )
    filled: list[tuple[int, ...]] = [()] * int(index[-1] + 1)
    for at, level in zip(index, levels, strict=True):
        filled[int(at)] = level
    return tuple(filled), index


def _check_straight(
    centres: npt.NDArray[np.float64],
    index: npt.NDArray[np.int64],
    step: npt.NDArray[np.float64],
    name: str,
    notes: list[str],
) -> None:
    """Refuse slices that are far from one line, note those that are a little off."""
    away = np.linalg.norm(centres - centres[0] - index[:, None] * step, axis=1)
    # Steps may vary by a tenth, and sums of steps by more: half a step is off the grid.
    if away.max() > max(0.5 * float(np.linalg.norm(step)), 0.01):
        raise BadInput(
            f"{name} has slices that are shifted by up to {away.max():.3g} mm against a straight "
            "stack; open the parts of the series one by one, or export it again."
        )
    if away.max() > max(_EVEN * float(np.linalg.norm(step)) * len(centres), 0.1):
        notes.append(f"Slices lie up to {away.max():.2g} mm off a straight, even stack.")
