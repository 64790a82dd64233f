"""What the user said holds: positive clicks inside the mask, negative ones outside."""

from __future__ import annotations

import numpy as np

from napari_sightline.prompts import MaskPrompt, Point, Prompt, Scribble
from napari_sightline.segment.region import Region
from napari_sightline.volume import Box3, Volume

#: How far, in voxels of the region, an unheeded click reaches (standard deviation).
REACH = 3.0
#: Logit that it gets.
CLEAR = 1.5
#: Logit above which parts of a mask still hang together.
LOOSE = -1.0


def heed(logits: np.ndarray, region: Region, prompts: tuple[Prompt, ...]) -> np.ndarray:
    """Lift or lower logits round the last click where the model left it on the wrong side.

    Adds a Gaussian that brings the click to `CLEAR` on its own side, narrower where a click of the
    other sign is near. Later clicks start from the result.

    Parameters
    ----------
    logits : numpy.ndarray
        ``(D, H, W)`` on `region`; not changed.
    region : Region
        The working grid.
    prompts : tuple of Prompt
        In the order they were placed; only a click that comes last is looked at, and not if it is
        the only prompt, which says nothing of the object's size.
    """
    last = prompts[-1]
    if len(prompts) < 2 or not isinstance(last, Point):
        return logits
    centre = region.to_region(np.array(last.position))
    voxel = tuple(int(v) for v in np.rint(centre).clip(0, np.array(logits.shape) - 1))
    value = float(logits[voxel])
    if (value > 0) == last.positive:
        return logits
    others = [
        float(np.linalg.norm(region.to_region(np.array(p.position)) - centre))
        for p in prompts[:-1]
        if isinstance(p, Point) and p.positive != last.positive
    ]
    width = max(0.5, min([REACH, *(d / 2.5 for d in others)]))
    axes = [
        np.exp(-((np.arange(n) - v) ** 2) / (2 * width**2))
        for n, v in zip(logits.shape, voxel, strict=True)
    ]
    lift = (CLEAR if last.positive else -CLEAR) - value
    bump = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return (logits + lift * bump).astype(np.float32)


def connect(logits: np.ndarray, region: Region, prompts: tuple[Prompt, ...]) -> np.ndarray:
    """Keep what hangs together with a positive click or scribble; islands without one go.

    Parts hang together where logits above `LOOSE` join them (26-connected), so that a thin organ
    with a gap stays whole. On training cases this raised Dice after five clicks by .01 (head and
    neck) and .02 (hippocampus). Nothing goes where no positive click is in a part, or where a mask
    was given to start from: its parts are the user's.

    Parameters
    ----------
    logits : numpy.ndarray
        ``(D, H, W)`` on `region`; not changed.
    region : Region
        The working grid.
    prompts : tuple of Prompt
        In the order they were placed.
    """
    import cc3d

    if any(isinstance(p, MaskPrompt) for p in prompts):
        return logits
    parts = cc3d.connected_components((logits > LOOSE).view(np.uint8), connectivity=26)
    kept: set[int] = set()
    for prompt in prompts:
        if isinstance(prompt, Point | Scribble) and prompt.positive:
            path = prompt.sample(1.0) if isinstance(prompt, Scribble) else [prompt.position]
            voxels = np.rint(region.to_region(np.array(path))).astype(int)
            for voxel in voxels.clip(0, np.array(logits.shape) - 1):
                near = tuple(slice(max(0, int(v) - 1), int(v) + 2) for v in voxel)
                kept.update(int(part) for part in np.unique(parts[near]))
    kept.discard(0)
    islands = (logits > 0) & ~np.isin(parts, list(kept))
    if not kept or not islands.any():
        return logits
    out = logits.copy()
    out[islands] = LOOSE
    return out


def enforce(
    mask: np.ndarray, box: Box3, prompts: tuple[Prompt, ...], volume: Volume, spacing: float
) -> np.ndarray:
    """Correct a mask round clicks that it contradicts.

    Where a click's voxel has the wrong side, the voxels within one working voxel of it that lie
    nearer to it than to any click of the other sign change sides; its own voxel always does.

    Parameters
    ----------
    mask : numpy.ndarray
        Bool, at `box` of the volume; changed in place and returned.
    box : tuple of 3 slices
        Voxels of the volume.
    prompts : tuple of Prompt
        In the order they were placed.
    volume : Volume
        For its spacing.
    spacing : float
        Working spacing, mm.
    """
    corner = np.array([s.start for s in box])
    said: dict[tuple[int, ...], bool] = {}
    for prompt in prompts:
        if isinstance(prompt, Point):
            places = np.array([prompt.position])
        elif isinstance(prompt, Scribble):
            places = prompt.sample(0.5)
        else:
            continue
        for voxel in np.unique(np.rint(places).astype(int), axis=0) - corner:
            if np.all(voxel >= 0) and np.all(voxel < mask.shape):
                key = tuple(int(v) for v in voxel)
                said.pop(key, None)
                said[key] = prompt.positive
    mm = np.array(volume.spacing)
    radius = max(spacing, float(mm.min())) * 1.01
    reach = np.floor(radius / mm).astype(int)
    for voxel, inside in said.items():
        if mask[voxel] == inside:
            continue
        low = np.maximum(np.array(voxel) - reach, 0)
        high = np.minimum(np.array(voxel) + reach + 1, mask.shape)
        grid = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1)
        own = np.linalg.norm((grid - voxel) * mm, axis=-1)
        near = own <= radius
        for other, sign in said.items():
            if sign != inside:
                near &= own < np.linalg.norm((grid - other) * mm, axis=-1)
        part = mask[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
        part[near] = inside
    for voxel, inside in said.items():
        mask[voxel] = inside
    return mask
