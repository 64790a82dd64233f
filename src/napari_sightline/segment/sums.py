"""Windows added up, for as long as a voxel can still change; axes in sweep order, see `slabs`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_sightline.orientation import Shape
from napari_sightline.segment.slabs import Sweep


class SlabSums:
    """Weighted sums of windows, in blocks that exist while they can still change.

    Blocks lie between the starts and ends of windows along the first two axes, and are as wide as
    the volume along the third.

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
        self.channels, self.means, self.device = channels, means, device
        self.roi = sweep.sorted(sweep.windows.roi)
        self.size = sweep.sorted(sweep.windows.size)
        self.before = sweep.sorted(sweep.windows.before)
        self.padded = sweep.sorted(sweep.windows.padded)
        self.weights = sweep.from_network(weights).contiguous().to(device)
        starts = sweep.starts()
        #: Where blocks begin and end along the first two axes, padded voxels.
        self.edges = [
            sorted({0, *starts[k], *(s + self.roi[k] for s in starts[k])}) for k in (0, 1)
        ]
        self._blocks: dict[tuple[int, int], Tensor] = {}
        self._counts: dict[tuple[int, int], Tensor] = {}
        self._freed = 0

    def move(self, device: torch.device) -> None:
        """Keep the sums on another device."""
        self.device, self.weights = device, self.weights.to(device)
        for blocks in (self._blocks, self._counts):
            for key, block in blocks.items():
                blocks[key] = block.to(device)

    def add(self, start: Shape, logits: Tensor) -> None:
        """Add a window's logits, ``(channels, *roi)`` in sweep order, at a padded voxel."""
        # All that takes memory first: where it runs out, the sums are as they were.
        weighted = logits.to(self.device, torch.float32) * self.weights
        spans = [self._spans(k, start[k], start[k] + self.roi[k]) for k in (0, 1)]
        keys = [(p, q) for p in spans[0] for q in spans[1]]
        for key in keys:
            self._make(key)
        c = slice(start[2], start[2] + self.roi[2])
        for p, q in keys:
            a, b = (
                slice(e[i] - s, e[i + 1] - s)
                for e, i, s in zip(self.edges, (p, q), start[:2], strict=True)
            )
            self._blocks[p, q][..., c] += weighted[:, a, b]
            if self.means:
                self._counts[p, q][..., c] += self.weights[a, b]

    def planes(self, start: int, stop: int) -> Tensor:
        """Mean logits of planes of the grid without padding, ``(channels, n, ., .)``."""
        low, high = start + self.before[0], stop + self.before[0]
        parts = []
        for p in self._spans(0, low, high):
            first = max(self.edges[0][p], self._freed)
            inside = slice(max(low, first) - first, min(high, self.edges[0][p + 1]) - first)
            row = [
                self._blocks[p, q][:, inside] / self._counts[p, q][inside]
                for q in range(len(self.edges[1]) - 1)
            ]
            parts.append(torch.cat(row, 2) if len(row) > 1 else row[0])
        whole = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        b, c = (slice(p, p + n) for p, n in zip(self.before[1:], self.size[1:], strict=True))
        return whole[:, :, b, c]

    def take(self, rows: int, columns: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Hand out, and forget, the blocks that end before padded voxels along two axes.

        Yields
        ------
        tuple
            Planes and columns of the grid without padding, and summed logits there.
        """
        c = slice(self.before[2], self.before[2] + self.size[2])
        for p, q in sorted(self._blocks):
            if self.edges[0][p + 1] > rows or self.edges[1][q + 1] > columns:
                continue
            block = self._blocks.pop((p, q))
            cuts, places = [], []
            for k, i in enumerate((p, q)):
                first, last = self.edges[k][i], self.edges[k][i + 1]
                low = max(first, self.before[k])
                high = max(low, min(last, self.before[k] + self.size[k]))
                cuts.append(slice(low - first, high - first))
                places.append(slice(low - self.before[k], high - self.before[k]))
            part = block[:, cuts[0], cuts[1], c]
            del block
            yield places[0], places[1], part
            del part

    def free(self, upto: int) -> None:
        """Forget padded planes before `upto`."""
        for blocks, axis in ((self._blocks, 1), (self._counts, 0)):
            for key in list(blocks):
                first, last = self.edges[0][key[0]], self.edges[0][key[0] + 1]
                if last <= upto:
                    del blocks[key]
                elif max(first, self._freed) < upto:
                    gone = upto - max(first, self._freed)
                    kept = blocks[key].narrow(axis, gone, blocks[key].shape[axis] - gone)
                    blocks[key] = kept.clone()
        self._freed = max(self._freed, upto)

    def _make(self, key: tuple[int, int]) -> None:
        if key not in self._blocks:
            a, b = (e[i + 1] - e[i] for e, i in zip(self.edges, key, strict=True))
            shape = (self.channels, a, b, self.padded[2])
            self._blocks[key] = torch.zeros(shape, device=self.device)
        if self.means and key not in self._counts:
            self._counts[key] = torch.zeros(self._blocks[key].shape[1:], device=self.device)

    def _spans(self, axis: int, start: int, stop: int) -> range:
        """Numbers of the stretches between edges that ``start .. stop`` meets."""
        edges = self.edges[axis]
        return range(bisect_right(edges, start) - 1, bisect_left(edges, stop))
