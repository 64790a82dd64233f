"""What a session keeps of an object after each step, packed small."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from napari_sightline.prompts import History, Prompt
from napari_sightline.segment.region import Region
from napari_sightline.volume import Box3

#: Logits are kept in steps of 1/16, up to +-7.9.
_SCALE = 16.0


@dataclass(frozen=True)
class PackedMask:
    """A mask within its bounding box, one bit a voxel.

    ``box`` is None for an empty mask.
    """

    box: Box3 | None
    bits: bytes = b""

    @classmethod
    def of(cls, mask: np.ndarray, box: Box3) -> PackedMask:
        """Pack a mask ``(n0, n1, n2)`` that lies at `box` of the volume."""
        inner = tight(mask)
        if inner is None:
            return cls(None)
        a, b, c = (
            slice(o.start + i.start, o.start + i.stop) for o, i in zip(box, inner, strict=True)
        )
        return cls((a, b, c), zlib.compress(np.packbits(mask[inner]).tobytes(), 1))

    def unpack(self) -> np.ndarray:
        """Return the mask within its box; shape (0, 0, 0) if it is empty."""
        if self.box is None:
            return np.zeros((0, 0, 0), bool)
        shape = tuple(s.stop - s.start for s in self.box)
        flat = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(flat, count=int(np.prod(shape))).view(bool).reshape(shape)

    def paint(self, box: Box3) -> np.ndarray:
        """Return the mask on a box of the volume; what lies outside the box is left out."""
        out = np.zeros([s.stop - s.start for s in box], bool)
        if self.box is None:
            return out
        here, there = [], []
        for mine, wanted in zip(self.box, box, strict=True):
            low, high = max(mine.start, wanted.start), min(mine.stop, wanted.stop)
            if low >= high:
                return out
            there.append(slice(low - mine.start, high - mine.start))
            here.append(slice(low - wanted.start, high - wanted.start))
        out[tuple(here)] = self.unpack()[tuple(there)]
        return out

    @property
    def count(self) -> int:
        """Voxels in the mask."""
        return int(self.unpack().sum())


@dataclass(frozen=True)
class PackedLogits:
    """Logits on a working grid, in steps of 1/16."""

    region: Region
    data: bytes

    @classmethod
    def of(cls, region: Region, logits: np.ndarray) -> PackedLogits:
        """Pack ``(D, H, W)``."""
        small = np.rint(logits.clip(-7.9, 7.9) * _SCALE).astype(np.int8)
        return cls(region, zlib.compress(small.tobytes(), 1))

    def unpack(self) -> np.ndarray:
        """Return float32 of the region's shape."""
        flat = np.frombuffer(zlib.decompress(self.data), np.int8)
        return flat.reshape(self.region.shape).astype(np.float32) / _SCALE


@dataclass(frozen=True)
class Step:
    """An object after one prompt: all that undo must bring back."""

    prompts: tuple[Prompt, ...] = ()
    mask: PackedMask = PackedMask(None)
    logits: PackedLogits | None = None
    quality: float = float("nan")


@dataclass
class SegmentObject:
    """One structure that is being segmented, or was accepted.

    Attributes
    ----------
    id : int
        Its value in the label map.
    name : str
        What the user calls it.
    accepted : bool
        Whether its mask stands in the label map and is locked.
    """

    id: int
    name: str = ""
    accepted: bool = False
    history: History[Step] = field(default_factory=lambda: History([Step()]))
    voxel_ml: float = 0.0

    @property
    def step(self) -> Step:
        """The state after the last prompt that was not undone."""
        return self.history.current or Step()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts so far."""
        return self.step.prompts

    @property
    def mask_box(self) -> Box3 | None:
        """Bounding box of the mask in voxels of the volume; None if it is empty."""
        return self.step.mask.box

    @property
    def mask(self) -> np.ndarray | None:
        """Bool mask within `mask_box`; None if it is empty."""
        return None if self.step.mask.box is None else self.step.mask.unpack()

    @property
    def quality(self) -> float:
        """Predicted intersection over union, 0 .. 1; NaN where no model spoke."""
        return self.step.quality

    @property
    def volume_ml(self) -> float:
        """Volume of the mask in mL."""
        return self.step.mask.count * self.voxel_ml


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
