"""A scan as slabs, read onto a model's grid.

Everything here has its axes in *sweep order*: the axis along which windows sweep first, then the
network's other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_sightline.orientation import Array, Shape
from napari_sightline.segment.frame import Frame
from napari_sightline.segment.resample import Grid, Taps, resample
from napari_sightline.segment.scaling import Scaling
from napari_sightline.segment.windows import Windows

#: Planes of a scan that are worked on at once.
_READ_PLANES = 8


@dataclass(frozen=True)
class Sweep:
    """How windows go over a scan.

    Attributes
    ----------
    frame : Frame
        The network's axes.
    grid : Grid
        The scan's grid and the working grid, in the network's axes.
    windows : Windows
        On the working grid, in the network's axes.
    order : tuple of 3 int
        Network axis of each axis in sweep order.
    """

    frame: Frame
    grid: Grid
    windows: Windows
    order: tuple[int, int, int]

    @classmethod
    def over(cls, frame: Frame, grid: Grid, windows: Windows) -> Sweep:
        """Sweep along the axis on which least needs to be kept."""
        axis = windows.sweep_axis()
        # Rows along the longer one: the fewer columns are open at a time.
        first, second = sorted((k for k in range(3) if k != axis), key=lambda k: -windows.padded[k])
        return cls(frame, grid, windows, (axis, first, second))

    def sorted(self, values: Sequence[int]) -> Shape:
        """Put numbers, one a network axis, in sweep order."""
        a, b, c = (values[k] for k in self.order)
        return a, b, c

    def view(self, canonical: Array) -> Array:
        """View a canonical array in sweep order (its last three axes)."""
        array = self.frame.from_canonical(canonical)
        lead = array.ndim - 3
        return array.transpose(*range(lead), *(lead + k for k in self.order))

    def taps(self, back: bool = False) -> tuple[Taps, Taps, Taps]:
        """Taps from the scan to the working grid, or `back`."""
        taps = self.grid.back if back else self.grid.taps
        a, b, c = (taps[k] for k in self.order)
        return a, b, c

    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of the windows along each axis."""
        return tuple(self.windows.starts[k] for k in self.order)

    def to_network(self, window: Tensor) -> Tensor:
        """Turn the last three axes from sweep order into the network's."""
        lead = window.ndim - 3
        places = [lead + self.order.index(k) for k in range(3)]
        return window.permute(*range(lead), *places)

    def from_network(self, window: Tensor) -> Tensor:
        """Turn the last three axes from the network's order into sweep order."""
        lead = window.ndim - 3
        return window.permute(*range(lead), *(lead + k for k in self.order))

    def box(self, start: int, stop: int) -> tuple[slice, slice, slice]:
        """Canonical box of the scan's planes ``start .. stop`` along the sweep."""
        network = self.order[0]
        axis, n = self.frame.axes[network], self.grid.source[network]
        if self.frame.flips[network]:
            start, stop = n - stop, n - start
        box = [slice(None)] * 3
        box[axis] = slice(start, stop)
        return box[0], box[1], box[2]


class SlabReader:
    """Reads planes of the working grid, filled up to the windows' size, scaled.

    Parameters
    ----------
    channels : sequence of ndarray
        Canonical voxels of each channel.
    scalings : sequence of Scaling
        One a channel.
    sweep : Sweep
        How windows go over the scan.
    """

    def __init__(
        self, channels: Sequence[Array], scalings: Sequence[Scaling], sweep: Sweep
    ) -> None:
        self.sweep = sweep
        self.views = [sweep.view(channel) for channel in channels]
        self.scalings = list(scalings)
        self.taps = sweep.taps()
        self.size = sweep.sorted(sweep.windows.size)
        self.padded = sweep.sorted(sweep.windows.padded)
        self.before = sweep.sorted(sweep.windows.before)
        self._kept: tuple[int, Tensor] | None = None

    def read(self, start: int, stop: int) -> Tensor:
        """Return planes ``start .. stop`` of the padded grid, ``(channels, n, ., .)`` float32.

        What the call before read is not read again.
        """
        fresh = start
        parts: list[Tensor] = []
        if self._kept is not None:
            first, slab = self._kept
            if first <= start < first + slab.shape[1]:
                parts.append(slab[:, start - first : stop - first])
                fresh = first + slab.shape[1]
        if fresh < stop:
            parts.append(self._planes(fresh, stop))
        slab = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        self._kept = (start, slab)
        return slab

    def forget(self) -> None:
        """Drop what is kept for the next call."""
        self._kept = None

    def _planes(self, start: int, stop: int) -> Tensor:
        _, height, width = self.padded
        result = torch.zeros(len(self.views), stop - start, height, width)
        low = max(start - self.before[0], 0)
        high = min(stop - self.before[0], self.size[0])
        if high <= low:
            return result
        box = (
            slice(self.before[1], self.before[1] + self.size[1]),
            slice(self.before[2], self.before[2] + self.size[2]),
        )
        for some in range(low, high, _READ_PLANES):
            end = min(some + _READ_PLANES, high)
            first, last = self.taps[0].needs(some, end)
            taps = (self.taps[0].part(some, end), self.taps[1], self.taps[2])
            at = some + self.before[0] - start
            for k, (view, scaling) in enumerate(zip(self.views, self.scalings, strict=True)):
                planes = scaling.apply(resample(view[first:last], taps))
                result[(k, slice(at, at + end - some), *box)] = torch.from_numpy(planes)
        return result


def constant(window: Tensor) -> tuple[float, ...] | None:
    """Value of each channel where a window ``(channels, ...)`` holds one only, else None."""
    low, high = window.flatten(1).aminmax(dim=1)
    if not torch.equal(low, high):
        return None
    return tuple(np.asarray(low).tolist())
