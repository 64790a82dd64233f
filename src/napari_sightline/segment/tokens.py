"""Prompts of the volume as points of a region, and masks as logits to start from."""

from __future__ import annotations

import numpy as np

from napari_sightline.prompts import Box, Lasso, Point, Prompt, Scribble
from napari_sightline.segment import scale
from napari_sightline.segment.packed import PackedMask
from napari_sightline.segment.region import Region
from napari_sightline.segment.state import Step
from napari_sightline.volume import Volume

#: Points along one scribble, or inside one lasso, that the model sees; it was trained on as many.
SCRIBBLE_POINTS = 16
#: Logit of a voxel of a mask that was given.
GIVEN = 4.0
#: What the logits so far count for, by the number of prompts that they answered. Chosen on training
#: cases, on which it raised Dice by .01 to .07 at the second click and .00 to .02 at the fifth.
TRUST = (0.2, 0.3, 0.5, 0.7)
# The model's codes; its module needs torch, this one does not.
_NEGATIVE, _POSITIVE, _SCRIBBLE_NEGATIVE, _SCRIBBLE_POSITIVE, _BOX_LOW, _BOX_HIGH = range(6)


def solid(box: Box, volume: Volume) -> Box:
    """Box in 3D: one drawn on a slice becomes as deep as it is wide, across that slice.

    Its third extent is open; the model, which knows boxes in 3D alone, is given the mean of the
    other two in mm, centred on the slice and cut at the volume's faces. The mask is not held
    to it.
    """
    axis = box.flat_axis
    if axis is None:
        return box
    low, high = np.array(box.low), np.array(box.high)
    size = (high - low + 1) * np.array(volume.spacing)
    depth = float(np.sqrt(np.prod(np.delete(size, axis)))) / volume.spacing[axis]
    half = max(0.0, (depth - 1) / 2)
    low[axis] = max(low[axis] - half, 0)
    high[axis] = min(high[axis] + half, volume.shape[axis] - 1)
    a, b, c = (float(v) for v in low)
    d, e, f = (float(v) for v in high)
    return Box((a, b, c), (d, e, f))


def prompt_tokens(prompts: tuple[Prompt, ...], region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Turn prompts into points ``(M, 3)``, in voxels of the region, and codes ``(M,)``.

    Of several boxes, which are in 3D, the last counts; masks have no points. A lasso is shown as
    a scribble over its inside: so the model sees what is meant there, in a form it was trained on.
    """
    points: list[np.ndarray] = []
    codes: list[int] = []
    boxes = [p for p in prompts if isinstance(p, Box)]
    if boxes:
        # The corners' outer faces, as the model saw them: voxel centres of its own grid.
        low = region.to_region(np.array(boxes[-1].low) - 0.5) + 0.5
        high = region.to_region(np.array(boxes[-1].high) + 0.5) - 0.5
        points += [low, high]
        codes += [_BOX_LOW, _BOX_HIGH]
    for prompt in prompts:
        if isinstance(prompt, Point):
            points.append(region.to_region(np.array(prompt.position)))
            codes.append(_POSITIVE if prompt.positive else _NEGATIVE)
        elif isinstance(prompt, Scribble | Lasso):
            if isinstance(prompt, Lasso):
                path = prompt.sample(SCRIBBLE_POINTS)
            else:
                path = prompt.sample(min(region.step))
            chosen = np.unique(np.linspace(0, len(path) - 1, SCRIBBLE_POINTS).round().astype(int))
            points += list(region.to_region(path[chosen]))
            codes += [_SCRIBBLE_POSITIVE if prompt.positive else _SCRIBBLE_NEGATIVE] * len(chosen)
    return np.array(points, np.float32).reshape(-1, 3), np.array(codes, np.int64)


def trusted(previous: np.ndarray, prompts: int) -> np.ndarray:
    """Logits so far, weaker the fewer prompts stand behind them.

    The network keeps to a mask it is shown more than a mask deserves that rests on one or two
    clicks: see `TRUST`.

    Parameters
    ----------
    previous : numpy.ndarray
        Logits ``(D, H, W)``; not changed.
    prompts : int
        How many prompts they answered.
    """
    factor = TRUST[min(max(prompts, 1), len(TRUST)) - 1]
    return previous if factor == 1 else (previous * np.float32(factor)).astype(np.float32)


def resample_mask(mask: PackedMask, region: Region) -> np.ndarray:
    """Logits ``(D, H, W)`` of a mask on a region: +-`GIVEN`, between them where it is coarser."""
    box = mask.box
    assert box is not None
    # The mask in a frame of one voxel, so that its surface is sharp on the region too.
    pixels = np.pad(mask.unpack(), 1).astype(np.float32)
    origin = np.array(region.origin) - [s.start - 1 for s in box]
    a, b, c = (float(v) for v in origin)
    moved = Region((a, b, c), region.step, region.shape, region.spacing)
    return (moved.extract(pixels, 0.0) * 2 - 1) * GIVEN


def start_logits(
    volume: Volume, before: Step, prompts: tuple[Prompt, ...], ready: Region | None = None
) -> tuple[Region, np.ndarray | None]:
    """Region to begin with, and the logits so far on it (None for a fresh object).

    Parameters
    ----------
    volume : Volume
        The scan.
    before : Step
        The object so far.
    prompts : tuple of Prompt
        All of its prompts, boxes in 3D.
    ready : Region, optional
        A region whose image was read ahead; a first click well inside it is answered there.
    """
    places = np.array([corner for p in prompts for corner in p.bounds])
    if before.logits is not None:
        kept = before.logits
        region = scale.follow(volume, kept.region, places)
        if region == kept.region:
            return region, kept.unpack()
        return region, scale.move_logits(kept.unpack(), kept.region, region)
    if before.mask.box is not None:
        low = np.array([s.start for s in before.mask.box])
        high = np.array([s.stop - 1 for s in before.mask.box])
        region = scale.cover(
            volume, np.minimum(low, places.min(0)), np.maximum(high, places.max(0))
        )
        return region, resample_mask(before.mask, region)
    if any(isinstance(p, Box | Scribble | Lasso) for p in prompts):
        return scale.cover(volume, places.min(0), places.max(0)), None
    if ready is not None and ready.holds(places, volume.shape, min(ready.shape) / 4):
        return ready, None
    return scale.start(volume, places.mean(0)), None
