"""Masks and logits packed small, and their differences, from which undo rebuilds them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.segment.region import Region
from napari_sightline.volume import Box3

#: Logits are kept in steps of 1/16, up to +-7.9.
_SCALE = 16.0


@dataclass(frozen=True)
class PackedMask:
    """A mask within its bounding box, one bit a voxel, deflated.

    Attributes
    ----------
    box : tuple of 3 slices or None
        Voxels of the volume; None for an empty mask.
    bits : bytes
        Packed voxels of the box.
    count : int
        Voxels in the mask.
    """

    box: Box3 | None
    bits: bytes = b""
    count: int = 0

    # Slices have no hash before Python 3.12.
    def __hash__(self) -> int:
        return hash(self.bits)

    @classmethod
    def of(cls, mask: np.ndarray, box: Box3) -> PackedMask:
        """Pack a mask ``(n0, n1, n2)`` that lies at `box` of the volume."""
        inner = tight(mask)
        if inner is None:
            return cls(None)
        a, b, c = (
            slice(o.start + i.start, o.start + i.stop) for o, i in zip(box, inner, strict=True)
        )
        part = mask[inner]
        bits = zlib.compress(np.packbits(part).tobytes(), 1)
        return cls((a, b, c), bits, int(np.count_nonzero(part)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the box along each axis."""
        if self.box is None:
            return 0, 0, 0
        a, b, c = (s.stop - s.start for s in self.box)
        return a, b, c

    def unpack(self) -> np.ndarray:
        """Return the mask within its box; shape (0, 0, 0) if it is empty."""
        shape = self.shape
        if self.box is None:
            return np.zeros(shape, bool)
        count = int(np.prod(shape))
        flat = np.frombuffer(inflate(self.bits, (count + 7) // 8), np.uint8)
        return np.unpackbits(flat, count=count).view(bool).reshape(shape)

    def paint(self, box: Box3) -> np.ndarray:
        """Return the mask on a box of the volume; what lies outside the box is left out."""
        out = np.zeros([s.stop - s.start for s in box], bool)
        common = overlap(self.box, box)
        if self.box is not None and common is not None:
            out[within(common, box)] = self.unpack()[within(common, self.box)]
        return out

    def xor(self, other: PackedMask) -> PackedMask:
        """Return the voxels that belong to one of both."""
        if self == other:
            return PackedMask(None)
        box = union(self.box, other.box)
        if self.box is None or box is None:
            return other
        if other.box is None:
            return self
        return PackedMask.of(self.paint(box) ^ other.paint(box), box)

    def join(self, other: PackedMask) -> PackedMask:
        """Return the voxels that belong to either."""
        box = union(self.box, other.box)
        if self.box is None or box is None:
            return other
        if other.box is None:
            return self
        return PackedMask.of(self.paint(box) | other.paint(box), box)

    def less(self, other: PackedMask) -> PackedMask:
        """Return this mask without the other's voxels."""
        if self.box is None or overlap(self.box, other.box) is None:
            return self
        return PackedMask.of(self.unpack() & ~other.paint(self.box), self.box)


#: A mask without a voxel.
EMPTY = PackedMask(None)


@dataclass(frozen=True)
class PackedLogits:
    """Logits on a working grid, in steps of 1/16, deflated."""

    region: Region
    data: bytes

    @classmethod
    def of(cls, region: Region, logits: np.ndarray) -> PackedLogits:
        """Pack ``(D, H, W)``."""
        small = np.rint(logits.clip(-7.9, 7.9) * _SCALE).astype(np.int8)
        return cls(region, zlib.compress(small.tobytes(), 1))

    def unpack(self) -> np.ndarray:
        """Return float32 of the region's shape."""
        return self._small().view(np.int8).reshape(self.region.shape).astype(np.float32) / _SCALE

    def difference(self, earlier: PackedLogits) -> bytes:
        """Return what turns `earlier`, of the same region, into these."""
        return zlib.compress((self._small() - earlier._small()).tobytes(), 1)

    def moved(self, difference: bytes, back: bool = False) -> PackedLogits:
        """Return these logits with a difference put on, or taken off again."""
        step = np.frombuffer(inflate(difference, int(np.prod(self.region.shape))), np.uint8)
        small = self._small() - step if back else self._small() + step
        return PackedLogits(self.region, zlib.compress(small.tobytes(), 1))

    def _small(self) -> np.ndarray:
        """Values as bytes, whose differences wrap round."""
        return np.frombuffer(inflate(self.data, int(np.prod(self.region.shape))), np.uint8)


def inflate(data: bytes, size: int) -> bytes:
    """Inflate what must hold exactly `size` bytes; `BadInput` where it does not.

    Nothing larger is ever made of it, whatever a file says.
    """
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise BadInput("Packed voxels are damaged; use an older copy of the file.") from error
    if len(out) != size:
        raise BadInput("Packed voxels do not fill their box; use an older copy of the file.")
    return out


def tight(mask: np.ndarray) -> Box3 | None:
    """Bounding box of the true voxels of a 3D mask; None without."""
    if not mask.any():
        return None
    parts = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != axis)))
        parts.append(slice(int(line[0]), int(line[-1]) + 1))
    a, b, c = parts
    return a, b, c


def union(first: Box3 | None, second: Box3 | None) -> Box3 | None:
    """Smallest box that holds both; None counts as nothing."""
    if first is None or second is None:
        return second if first is None else first
    a, b, c = (
        slice(min(p.start, q.start), max(p.stop, q.stop))
        for p, q in zip(first, second, strict=True)
    )
    return a, b, c


def overlap(first: Box3 | None, second: Box3 | None) -> Box3 | None:
    """Box that both share; None where they share no voxel."""
    if first is None or second is None:
        return None
    a, b, c = (
        slice(max(p.start, q.start), min(p.stop, q.stop))
        for p, q in zip(first, second, strict=True)
    )
    return (a, b, c) if all(s.start < s.stop for s in (a, b, c)) else None


def within(inner: Box3, outer: Box3) -> Box3:
    """Box counted from the corner of another."""
    a, b, c = (
        slice(p.start - q.start, p.stop - q.start) for p, q in zip(inner, outer, strict=True)
    )
    return a, b, c


def widened(box: Box3, voxels: tuple[int, ...], shape: tuple[int, ...]) -> Box3:
    """Box with so many voxels more on every side, cut at the volume's faces."""
    a, b, c = (
        slice(max(0, s.start - v), min(n, s.stop + v))
        for s, v, n in zip(box, voxels, shape, strict=True)
    )
    return a, b, c
