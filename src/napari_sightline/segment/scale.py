"""Choosing where, and how finely, a model looks: from the prompts, then from the mask itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sightline.prompts import Lasso, Point, Prompt, Scribble
from napari_sightline.segment.packed import tight
from napari_sightline.segment.region import Region, plan
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari_sightline.models.promptable import Decoded

#: Voxels of a usual region, and of one that had to grow.
USUAL = 80**3
LARGEST = 128**3
#: Finest working spacing, as a share of the scan's smallest: a little interpolation helps thin
#: organs (tried at .65 on 39 structures of training cases: Dice after five clicks rose by .005 to
#: .017 with the larger region, against a share of one).
FINEST = 0.7
#: A mask smaller than this many region voxels along its longest side is looked at more closely.
SMALL = 18
#: What it then measures, about.
COMFORTABLE = 36
#: Voxels of the region between a prompt or mask and an open face.
MARGIN = 4
#: A region is moved, grown or refined at most so often for one prompt.
TRIES = 3


@dataclass
class Found:
    """Logits on a region, the predicted quality of their mask, and other masks that may be meant.

    ``candidates`` is ``(C, D, H, W)`` with the ``qualities`` ``(C,)``; C is 0 where the model
    offered none.
    """

    region: Region
    logits: np.ndarray
    quality: float
    candidates: np.ndarray
    qualities: np.ndarray


def finest(volume: Volume) -> float:
    """Working spacing, mm, below which a model would see little but interpolation."""
    return FINEST * min(volume.spacing)


def fitting(volume: Volume, budget: int) -> float:
    """Working spacing, mm, at which the whole volume fits a region of `budget` voxels, about."""
    extent = float(np.prod(np.array(volume.shape) * np.array(volume.spacing)))
    return float((extent / budget) ** (1 / 3))


def start(volume: Volume, centre: np.ndarray) -> Region:
    """Region for a first click: fine where the volume is small, else half of what would fit all."""
    spacing = max(finest(volume), fitting(volume, USUAL) / 2)
    return plan(volume.shape, volume.spacing, spacing, centre, USUAL)


def cover(volume: Volume, low: np.ndarray, high: np.ndarray) -> Region:
    """Region that holds a box of the volume (inclusive voxels) with room round it."""
    size = (high - low + 1) * np.array(volume.spacing)
    centre = (low + high) / 2
    spacing = max(finest(volume), float(size.max()) / 64)
    for _ in range(12):
        region = plan(volume.shape, volume.spacing, spacing, centre, USUAL)
        if region.holds(np.stack([low, high]), volume.shape, MARGIN):
            return region
        spacing *= 1.25
    return region


def follow(volume: Volume, region: Region, places: np.ndarray) -> Region:
    """Keep the region if it holds all places ``(N, 3)``, else one that does, as fine as it can."""
    if region.holds(places, volume.shape, 0):
        return region
    corners = np.stack(
        [region.to_volume(np.zeros(3)), region.to_volume(np.array(region.shape) - 1)]
    )
    everything = np.concatenate([places, corners]).clip(0, np.array(volume.shape) - 1)
    low, high = everything.min(0), everything.max(0)
    spacing = region.spacing
    for _ in range(12):
        grown = plan(volume.shape, volume.spacing, spacing, (low + high) / 2, LARGEST)
        if grown.holds(np.stack([low, high]), volume.shape, 0):
            return grown
        spacing *= 1.2
    return grown


def grow(volume: Volume, region: Region, touched: np.ndarray) -> Region:
    """Region that reaches further beyond the faces ``(3, 2)`` which the mask touches."""
    low = region.to_volume(np.full(3, -0.5))
    high = region.to_volume(np.array(region.shape) - 0.5)
    reach = 0.6 * (high - low)
    places = np.stack(
        [np.where(touched[:, 0], low - reach, low), np.where(touched[:, 1], high + reach, high)]
    )
    places = places.clip(0, np.array(volume.shape) - 1)
    return follow(volume, region, places)


def move_logits(logits: np.ndarray, old: Region, new: Region) -> np.ndarray:
    """Logits of one region on another, linearly; zero (unknown) beyond the old one."""
    step = np.array(new.step) / np.array(old.step)
    origin = old.to_region(np.array(new.origin))
    a, b, c = (float(v) for v in origin)
    d, e, f = (float(v) for v in step)
    return Region((a, b, c), (d, e, f), new.shape, new.spacing).extract(logits, 0.0)


def settle(
    volume: Volume,
    region: Region,
    previous: np.ndarray | None,
    prompts: tuple[Prompt, ...],
    decode: Callable[[Region, np.ndarray | None], Decoded],
    tries: int = TRIES,
    early: Callable[[Found], None] | None = None,
) -> Found:
    """Decode, and look again wider or closer where the mask asks for it.

    Parameters
    ----------
    volume : Volume
        The scan.
    region : Region
        Where to begin.
    previous : numpy.ndarray or None
        Logits so far on `region`.
    prompts : tuple of Prompt
        All of the object's prompts.
    decode : callable
        Runs the model on a region with the logits so far.
    tries : int
        How often it may look again.
    early : callable, optional
        Told what was found at first, before it looks again; not where it does not.
    """
    fresh = previous is None
    found = first = _found(region, decode(region, previous))
    for _ in range(tries):
        box = tight(found.logits > 0)
        if box is None:
            break
        size = np.array(found.region.shape)
        ends = np.array([[s.start, s.stop] for s in box])
        open_faces = found.region.open_faces(volume.shape)
        touched = open_faces & np.stack([ends[:, 0] <= 1, ends[:, 1] >= size - 1], 1)
        longest = int((ends[:, 1] - ends[:, 0]).max())
        if touched.any():
            wider = grow(volume, found.region, touched)
            if wider == found.region:
                break
            if early is not None and found is first:
                early(first)
            prior = None if fresh else move_logits(found.logits, found.region, wider)
            found = _found(wider, decode(wider, prior))
        elif fresh and longest < SMALL and found.region.spacing > 1.2 * finest(volume):
            spacing = max(finest(volume), found.region.spacing * longest / COMFORTABLE)
            centre = found.region.to_volume((ends.sum(1) - 1) / 2)
            closer = plan(volume.shape, volume.spacing, spacing, centre, USUAL)
            places = np.array([corner for p in prompts for corner in p.bounds])
            if closer == found.region or not closer.holds(places, volume.shape, MARGIN):
                break
            if early is not None and found is first:
                early(first)
            second = _found(closer, decode(closer, None))
            if second.quality < found.quality - 0.05:
                break
            found = second
        else:
            break
    return found


def _found(region: Region, decoded: Decoded) -> Found:
    logits, quality = decoded.logits, decoded.quality
    return Found(region, logits[0], float(quality[0]), logits[1:], quality[1:])


def native(
    volume: Volume, region: Region, logits: np.ndarray, prompts: tuple[Prompt, ...]
) -> tuple[Box3, np.ndarray]:
    """Logits on the volume's own voxels round the mask and every click, scribble and lasso.

    Returns
    -------
    tuple
        Box of the volume, and float16 logits of its shape.
    """
    box = tight(logits > 0)
    ends = [] if box is None else [[s.start for s in box], [s.stop - 1 for s in box]]
    clicks = [region.to_region(np.array(p.position)) for p in prompts if isinstance(p, Point)]
    places = np.array([*ends, *clicks])
    if not len(places):
        places = (np.array(region.shape)[None] - 1) / 2
    low = np.maximum(places.min(0) - 2, -0.5)
    high = np.minimum(places.max(0) + 2, np.array(region.shape) - 0.5)
    first = np.ceil(region.to_volume(low) - 1e-6).astype(int).clip(0)
    last = np.floor(region.to_volume(high) + 1e-6).astype(int) + 1
    last = np.minimum(last, volume.shape)
    # What lies beside the mask, or at the region's edge, still has its own voxels.
    for p in prompts:
        if isinstance(p, Point | Scribble | Lasso):
            reach = np.rint(np.array(p.bounds)).astype(int)
            first, last = np.minimum(first, reach[0]), np.maximum(last, reach[1] + 1)
    a, b, c = (slice(int(i), max(int(i) + 1, int(j))) for i, j in zip(first, last, strict=True))
    where: Box3 = (a, b, c)
    out = np.empty([s.stop - s.start for s in where], np.float16)
    for rows, values in region.restore(logits, where):
        out[rows] = values
    return where, out
