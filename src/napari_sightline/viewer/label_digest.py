"""What has changed in a label map since it was last looked at."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sightline.orientation import Array


@dataclass(frozen=True)
class Digest:
    """Checksum and voxel counts of every slice of a label map.

    Attributes
    ----------
    sums : tuple of int
        CRC-32 of each slice along axis 0.
    counts : tuple of mapping
        Voxels of each value above 0 in each slice.
    """

    sums: tuple[int, ...] = ()
    counts: tuple[Mapping[int, int], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, labels: Array, before: Digest | None = None) -> Digest:
        """Look through a label map ``(d0, d1, d2)``; slices that stayed are not counted again."""
        sums: list[int] = []
        counts: list[Mapping[int, int]] = []
        for number, plane in enumerate(labels):
            flat = np.ascontiguousarray(plane)
            sums.append(zlib.crc32(flat.data))
            if before is not None and before.sums[number : number + 1] == (sums[-1],):
                counts.append(before.counts[number])
                continue
            counts.append(_count(flat))
        return cls(tuple(sums), tuple(counts))

    @property
    def voxels(self) -> dict[int, int]:
        """Voxels of each value that occurs."""
        total: dict[int, int] = {}
        for plane in self.counts:
            for value, n in plane.items():
                total[value] = total.get(value, 0) + n
        return dict(sorted(total.items()))

    def changed(self, before: Digest) -> set[int]:
        """Values that occur, or occurred, in a slice that is not what it was."""
        if len(before.sums) != len(self.sums):
            return set(self.voxels) | set(before.voxels)
        found: set[int] = set()
        for number, (old, new) in enumerate(zip(before.sums, self.sums, strict=True)):
            if old != new:
                found |= set(before.counts[number]) | set(self.counts[number])
        return found


def _count(plane: Array) -> dict[int, int]:
    if plane.dtype.itemsize <= 2 and plane.dtype.kind in "bu":
        found = np.bincount(plane.ravel())  # many times faster than sorting
        return {int(v): int(found[v]) for v in np.flatnonzero(found) if v > 0}
    values, voxels = np.unique(plane, return_counts=True)
    pairs = zip(values.tolist(), voxels.tolist(), strict=True)
    return {int(value): int(n) for value, n in pairs if value > 0}
