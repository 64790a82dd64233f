"""Linear resampling between two grids along their own axes, a slab at a time.

Both grids share their centre and their axes' directions, so that each axis is resampled by itself:
a position between two voxels is a weighted mean of both. Positions beyond the outer voxels' centres
take the outer voxel. Nothing is smoothed first, as in MONAI's ``Spacing``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.orientation import Array, Shape

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taps:
    """Where the voxels of one axis come from.

    Attributes
    ----------
    first : ndarray of int, shape (n,)
        Source voxel before each position; the one after it takes part too.
    share : ndarray of float32, shape (n,)
        Weight of the one after it, 0 .. 1.
    source : int
        Number of source voxels.
    """

    first: npt.NDArray[np.intp]
    share: Floats
    source: int

    @classmethod
    def between(cls, source: int, source_mm: float, target: int, target_mm: float) -> Taps:
        """Lay `target` voxels of `target_mm` centrally over `source` voxels of `source_mm`."""
        factor = target_mm / source_mm
        start = (source - 1 - (target - 1) * factor) / 2
        at = np.clip(start + factor * np.arange(target), 0, source - 1)
        first = np.minimum(np.floor(at).astype(np.intp), max(0, source - 2))
        return cls(first, (at - first).astype(np.float32), source)

    @property
    def identity(self) -> bool:
        """Whether nothing changes."""
        n = len(self.first)
        return n == self.source and bool(np.all(self.first + self.share == np.arange(n)))

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Source voxels, first and past the last, that positions ``start .. stop`` are made of."""
        # A position on a voxel's centre needs no neighbour.
        last = int(self.first[stop - 1]) + 1 + bool(self.share[stop - 1] > 0)
        return int(self.first[start]), last

    def reach(self, low: int, high: int) -> tuple[int, int]:
        """Positions, first and past the last, that source voxels ``low .. high`` take part in."""
        start = int(np.searchsorted(self.first, low - 1))
        return start, int(np.searchsorted(self.first, high - 1, "right"))

    def part(self, start: int, stop: int) -> Taps:
        """Taps of some positions, into the source voxels that `needs` names."""
        low, high = self.needs(start, stop)
        return Taps(self.first[start:stop] - low, self.share[start:stop], high - low)

    def ready(self, done: int) -> int:
        """Count of positions that the first `done` source voxels suffice for."""
        if done >= self.source:
            return len(self.first)
        last = self.first + (self.share > 0)
        return int(np.searchsorted(last, done))


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid laid over another one.

    Attributes
    ----------
    source, target : tuple of 3 int
        Shapes.
    taps, back : tuple of 3 Taps
        From source to target and from target to source.
    steps : tuple of 3 float
        Source voxels that a target voxel measures.
    """

    source: Shape
    target: Shape
    taps: tuple[Taps, Taps, Taps]
    back: tuple[Taps, Taps, Taps]
    steps: tuple[float, float, float]

    @classmethod
    def of(
        cls,
        source: Shape,
        source_mm: tuple[float, float, float],
        target_mm: tuple[float, float, float],
    ) -> Grid:
        """Lay voxels of `target_mm` centrally over a grid of `source_mm`."""
        there: list[Taps] = []
        back: list[Taps] = []
        for n, own, wished in zip(source, source_mm, target_mm, strict=True):
            # A grid that is kept is kept exactly, whatever its header rounds to.
            size = n if own == wished else target_size(n, own, wished)
            there.append(Taps.between(n, own, size, wished))
            back.append(Taps.between(size, wished, n, own))
        a, b, c = (len(taps.first) for taps in there)
        taps, returns = (there[0], there[1], there[2]), (back[0], back[1], back[2])
        d, e, f = (wished / own for own, wished in zip(source_mm, target_mm, strict=True))
        return cls(source, (a, b, c), taps, returns, (d, e, f))

    def origin(self, axis: int) -> float:
        """Source voxel, between voxels mostly, at which the target's first voxel lies."""
        return (self.source[axis] - 1 - (self.target[axis] - 1) * self.steps[axis]) / 2

    @property
    def identity(self) -> bool:
        """Whether both grids are one."""
        return all(taps.identity for taps in self.taps)


def target_size(source: int, source_mm: float, target_mm: float) -> int:
    """Voxels of `target_mm` that cover `source` voxels of `source_mm`, at least one."""
    return max(1, round(source * source_mm / target_mm))


def resample(array: Array, taps: tuple[Taps, Taps, Taps]) -> Floats:
    """Resample the last three axes linearly.

    Parameters
    ----------
    array : ndarray, shape (..., d0, d1, d2)
    taps : tuple of 3 Taps
        One an axis.

    Returns
    -------
    ndarray of float32
    """
    result = array
    # What gets smaller goes first: less work for the others.
    order = sorted(range(3), key=lambda axis: len(taps[axis].first) / max(1, taps[axis].source))
    for axis in order:
        if not taps[axis].identity:
            result = _along(result, taps[axis], axis - 3)
    return np.asarray(result, dtype=np.float32)


def _along(array: Array, taps: Taps, axis: int) -> Floats:
    if taps.source == 1:
        return np.repeat(np.asarray(array, np.float32), len(taps.first), axis)
    shape = [1] * array.ndim
    shape[axis] = -1
    share = taps.share.reshape(shape)
    before = np.take(array, taps.first, axis).astype(np.float32, copy=False)
    after = np.take(array, np.minimum(taps.first + 1, taps.source - 1), axis).astype(
        np.float32, copy=False
    )
    after = after - before
    after *= share
    after += before
    return after


def resample_tensor(tensor: Tensor, taps: tuple[Taps, Taps, Taps]) -> Tensor:
    """Resample the last three axes of a float32 tensor linearly, as `resample` does."""
    import torch

    order = sorted(range(3), key=lambda axis: len(taps[axis].first) / max(1, taps[axis].source))
    for axis in order:
        one = taps[axis]
        if one.identity:
            continue
        first = torch.from_numpy(one.first).to(tensor.device)
        before = tensor.index_select(axis - 3, first)
        if one.source == 1:
            tensor = before
            continue
        shape = [1, 1, 1]
        shape[axis] = -1
        share = torch.from_numpy(one.share).to(tensor.device).view(shape)
        after = (first + 1).clamp(max=one.source - 1)
        tensor = before.lerp_(tensor.index_select(axis - 3, after), share)
    return tensor
