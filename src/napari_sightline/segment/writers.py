"""Finished sums brought back to the scan's own grid; axes in sweep order, see `slabs`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from napari_sightline.segment.resample import resample_tensor
from napari_sightline.segment.slabs import Sweep
from napari_sightline.segment.sums import SlabSums

#: Bytes of probabilities that are worked on at once.
_CHUNK_BYTES = 2**24


class PlainWriter:
    """Hands out sums as soon as no window adds to them, where the grids are one.

    Parameters
    ----------
    sums : SlabSums
        Without means: which output is greatest needs none.
    """

    def __init__(self, sums: SlabSums) -> None:
        self.sums, self.written = sums, 0

    def rows(self, done: int, columns: int) -> Iterator[tuple[slice, tuple[slice, slice], Tensor]]:
        """Yield what ends before a padded plane and column: planes, box, summed logits."""
        for planes, across, block in self.sums.take(done, columns):
            yield planes, (across, slice(None)), block
            del block

    def finished(self, done: int) -> Iterator[tuple[slice, tuple[slice, slice], Tensor]]:
        """Yield what is left of the first `done` padded planes."""
        yield from self.rows(done, self.sums.padded[1])
        self.written = min(max(done - self.sums.before[0], 0), self.sums.size[0])


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

    def rows(self, done: int, columns: int) -> Iterator[tuple[slice, tuple[slice, slice], Tensor]]:
        """Yield nothing: only whole planes are brought back."""
        yield from ()

    def finished(self, done: int) -> Iterator[tuple[slice, tuple[slice, slice], Tensor]]:
        """Yield what the first `done` padded planes suffice for, a few planes at a time.

        Yields
        ------
        planes : slice
            Of the scan.
        box : tuple of 2 slices
            Part of each plane; outside it nothing is labelled.
        probabilities : torch.Tensor, shape (channels, stop - start, ., .)
            Interpolated.
        """
        before, size = self.sums.before[0], self.sums.size[0]
        ready = self.taps[0].ready(min(max(done - before, 0), size))
        channels = self.sums.channels
        plane = (
            channels * 4 * max(self.shape[1] * self.shape[2], self.sums.size[1] * self.sums.size[2])
        )
        step = max(1, _CHUNK_BYTES // plane)
        while self.written < ready:
            start, stop = self.written, min(self.written + step, ready)
            low, high = self.taps[0].needs(start, stop)
            logits = self.sums.planes(low, high)
            chance = logits.sigmoid_() if self.overlapping else logits.softmax(0)
            box, chance = self._back(chance, start, stop)
            yield slice(start, stop), box, chance
            self.written = stop
        if ready < self.shape[0]:
            # Windows still add to planes from `done` on, whether these are needed here or not.
            self.sums.free(min(self.taps[0].needs(ready, ready + 1)[0] + before, done))

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
