"""A scan as slabs: read onto a model's grid, added up from windows, brought back to the scan.

Everything here has its axes in *sweep order*: the axis along which windows sweep first, then the
network's other two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_sightline.orientation import Array, Shape
from napari_sightline.segment.frame import Frame
from napari_sightline.segment.resample import Grid, Taps, resample, resample_tensor
from napari_sightline.segment.scaling import Scaling
from napari_sightline.segment.windows import Windows

#: Bytes of probabilities, and planes of a scan, that are worked on at once.
_CHUNK_BYTES, _READ_PLANES = 2**24, 8


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
        first, second = (k for k in range(3) if k != axis)
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


class SlabSums:
    """Weighted sums of windows, for the planes that still change (a ring of planes).

    Parameters
    ----------
    channels : int
        Outputs of the network.
    sweep : Sweep
        How windows go over the scan.
    weights : torch.Tensor
        Weight of a window's voxels, network axes.
    device : torch.device
        Where the sums are kept.
    means : bool
        Whether means are wanted; sums suffice to tell which channel is greatest.
    """

    def __init__(
        self, channels: int, sweep: Sweep, weights: Tensor, device: torch.device, means: bool
    ) -> None:
        self.roi = sweep.sorted(sweep.windows.roi)
        self.size = sweep.sorted(sweep.windows.size)
        self.before = sweep.sorted(sweep.windows.before)
        padded = sweep.sorted(sweep.windows.padded)
        # One plane more: what comes back to the scan lies between two planes.
        self.ring = self.roi[0] + 1
        self.device = device
        self.weights = sweep.from_network(weights).contiguous().to(device)
        self.sums = torch.zeros(channels, self.ring, *padded[1:], device=device)
        self.counts: Tensor | None = None
        if means:
            self.counts = torch.zeros(self.ring, *padded[1:], device=device)
        self.freed = 0

    def move(self, device: torch.device) -> None:
        """Keep the sums on another device."""
        self.device = device
        self.sums, self.weights = self.sums.to(device), self.weights.to(device)
        if self.counts is not None:
            self.counts = self.counts.to(device)

    def add(self, start: Shape, logits: Tensor) -> None:
        """Add a window's logits, ``(channels, *roi)`` in sweep order, at a padded voxel."""
        # The product first: where memory runs out in it, the sums are as they were.
        weighted = logits.to(self.device, torch.float32) * self.weights
        b, c = (slice(s, s + n) for s, n in zip(start[1:], self.roi[1:], strict=True))
        for ring, part in self._parts(start[0], start[0] + self.roi[0]):
            self.sums[:, ring, b, c] += weighted[:, part]
            if self.counts is not None:
                self.counts[ring, b, c] += self.weights[part]

    def planes(self, start: int, stop: int) -> Tensor:
        """Mean (or summed) logits of planes of the grid without padding, (channels, n, ., .)."""
        low, high = start + self.before[0], stop + self.before[0]
        b, c = (slice(p, p + n) for p, n in zip(self.before[1:], self.size[1:], strict=True))
        parts = []
        for ring, _ in self._parts(low, high):
            part = self.sums[:, ring, b, c]
            parts.append(part if self.counts is None else part / self.counts[ring, b, c])
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def free(self, upto: int) -> None:
        """Forget padded planes before `upto`; their place is used again."""
        if upto <= self.freed:
            return
        for ring, _ in self._parts(self.freed, upto):
            self.sums[:, ring] = 0
            if self.counts is not None:
                self.counts[ring] = 0
        self.freed = upto

    def _parts(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Yield stretches of the ring, and the stretch of ``start .. stop`` that each holds."""
        at = start
        while at < stop:
            place = at % self.ring
            n = min(stop - at, self.ring - place)
            yield slice(place, place + n), slice(at - start, at - start + n)
            at += n


class SlabWriter:
    """Brings finished planes back to the scan's own grid.

    Parameters
    ----------
    sums : SlabSums
        Where finished planes are.
    sweep : Sweep
        How windows go over the scan.
    overlapping : bool
        Whether structures may overlap (sigmoid of each channel), or not (softmax).
    whole : bool
        Whether probabilities are wanted everywhere, or only where they make a label.
    """

    def __init__(self, sums: SlabSums, sweep: Sweep, overlapping: bool, whole: bool) -> None:
        self.sums, self.overlapping, self.whole = sums, overlapping, whole
        self.taps = sweep.taps(back=True)
        self.shape = sweep.sorted(sweep.grid.source)
        self.written = 0

    def finished(self, done: int) -> Iterator[tuple[int, int, tuple[slice, slice], Tensor]]:
        """Yield what the first `done` padded planes suffice for, a few planes at a time.

        Yields
        ------
        start, stop : int
            Planes of the scan.
        box : tuple of 2 slices
            Part of each plane; outside it nothing is labelled.
        probabilities : torch.Tensor, shape (channels, stop - start, ., .)
            Interpolated; where `sums` keeps no means (the grids are one), summed logits instead.
        """
        before, size = self.sums.before[0], self.sums.size[0]
        ready = self.taps[0].ready(min(max(done - before, 0), size))
        channels = self.sums.sums.shape[0]
        plane = (
            channels * 4 * max(self.shape[1] * self.shape[2], self.sums.size[1] * self.sums.size[2])
        )
        step = max(1, _CHUNK_BYTES // plane)
        while self.written < ready:
            start, stop = self.written, min(self.written + step, ready)
            low, high = self.taps[0].needs(start, stop)
            logits = self.sums.planes(low, high)
            if self.sums.counts is None:
                yield start, stop, (slice(None), slice(None)), logits
                self.written = stop
                continue
            chance = logits.sigmoid_() if self.overlapping else logits.softmax(0)
            box, chance = self._back(chance, start, stop)
            yield start, stop, box, chance
            self.written = stop
        if ready < self.shape[0]:
            self.sums.free(self.taps[0].needs(ready, ready + 1)[0] + before)

    def _back(self, chance: Tensor, start: int, stop: int) -> tuple[tuple[slice, slice], Tensor]:
        ranges = [(0, self.shape[1]), (0, self.shape[2])]
        if not self.whole:
            # Between voxels that are background by more than half, background wins: exact.
            some = (chance > 0.5).any(0) if self.overlapping else chance[0] <= 0.5
            some = some.any(0)
            for axis in (0, 1):
                hit = some.any(1 - axis).nonzero()
                if not len(hit):
                    ranges = [(0, 0), (0, 0)]
                    break
                ranges[axis] = self.taps[axis + 1].reach(int(hit[0]), int(hit[-1]) + 1)
        box = (slice(*ranges[0]), slice(*ranges[1]))
        if ranges[0][0] >= ranges[0][1] or ranges[1][0] >= ranges[1][1]:
            return (slice(0, 0), slice(0, 0)), chance[:, :0, :0, :0].new_zeros(
                chance.shape[0], stop - start, 0, 0
            )
        taps = [self.taps[0].part(start, stop)]
        cuts = []
        for axis in (0, 1):
            first, last = self.taps[axis + 1].needs(*ranges[axis])
            cuts.append(slice(first, last))
            taps.append(self.taps[axis + 1].part(*ranges[axis]))
        chance = chance[:, :, cuts[0], cuts[1]]
        return box, resample_tensor(chance, (taps[0], taps[1], taps[2]))


def constant(window: Tensor) -> tuple[float, ...] | None:
    """Value of each channel where a window ``(channels, ...)`` holds one only, else None."""
    low, high = window.flatten(1).aminmax(dim=1)
    if not torch.equal(low, high):
        return None
    return tuple(np.asarray(low).tolist())
