"""What the user said holds: positive clicks inside the mask, negative ones outside."""

from __future__ import annotations

import numpy as np

from napari_sightline.prompts import Lasso, Point, Prompt, Scribble
from napari_sightline.segment.region import Region
from napari_sightline.volume import Box3, Volume

#: How far, in voxels of the region, an unheeded click reaches (standard deviation).
REACH = 3.0
#: Logit that it gets.
CLEAR = 1.5
#: Logit above which parts of a mask still hang together.
LOOSE = -1.0


def heed(
    logits: np.ndarray, region: Region, prompts: tuple[Prompt, ...], alone: bool = True
) -> np.ndarray:
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
        In the order they were placed; only a click or lasso that comes last is looked at, and a
        click not if it is the only prompt, which says nothing of the object's size.
    alone : bool
        Whether a single click is the object's first; False where it corrects a mask.
    """
    last = prompts[-1] if prompts else None
    if isinstance(last, Lasso):
        return _heed_lasso(logits, region, last)
    if (alone and len(prompts) < 2) or not isinstance(last, Point):
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


def _heed_lasso(logits: np.ndarray, region: Region, lasso: Lasso) -> np.ndarray:
    """Bring what a lasso encloses to its side, fading away across the slice."""
    from skimage.draw import polygon2mask

    axis = lasso.axis
    path = region.to_region(np.array(lasso.path))
    across = tuple(n for k, n in enumerate(logits.shape) if k != axis)
    inside = np.expand_dims(polygon2mask(across, np.delete(path, axis, 1)), axis)
    # As thick as the slice at least, where the region is finer than the scan.
    width = max(REACH, 0.5 / region.step[axis])
    near = np.exp(-((np.arange(logits.shape[axis]) - path[0, axis]) ** 2) / (2 * width**2))
    near = near.reshape([-1 if k == axis else 1 for k in range(3)])
    sign = 1.0 if lasso.positive else -1.0
    lift = np.maximum(CLEAR - sign * logits, 0) * sign
    return (logits + lift * near * inside).astype(np.float32)


def connect(logits: np.ndarray, region: Region, prompts: tuple[Prompt, ...]) -> np.ndarray:
    """Keep what hangs together with a positive click, scribble or lasso; other islands go.

    Parts hang together where logits above `LOOSE` join them (26-connected), so that a thin organ
    with a gap stays whole. On training cases this raised Dice after five clicks by .01 (head and
    neck) and .02 (hippocampus). Nothing goes where no positive click is in a part. Not for objects
    whose mask was given or edited: its parts are the user's.

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

    parts = cc3d.connected_components((logits > LOOSE).view(np.uint8), connectivity=26)
    kept: set[int] = set()
    for prompt in prompts:
        if isinstance(prompt, Point | Scribble | Lasso) and prompt.positive:
            path = np.array([prompt.position]) if isinstance(prompt, Point) else _path(prompt)
            voxels = np.rint(region.to_region(path)).astype(int)
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


def _path(prompt: Scribble | Lasso) -> np.ndarray:
    """Voxels ``(N, 3)`` of the volume that a stroke or lasso covers."""
    if isinstance(prompt, Scribble):
        return prompt.sample(1.0)
    mask, origin = prompt.filled()
    return np.argwhere(mask) + origin


def enforce(
    mask: np.ndarray, box: Box3, prompts: tuple[Prompt, ...], volume: Volume, spacing: float
) -> np.ndarray:
    """Correct a mask round clicks that it contradicts.

    Where a click's voxel has the wrong side, the voxels within one working voxel of it that lie
    nearer to it than to any click of the other sign change sides; its own voxel always does. What
    a lasso encloses takes its side. On one voxel the last prompt holds.

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
    lassos = [prompt for prompt in prompts if isinstance(prompt, Lasso)]
    for prompt in prompts:
        if isinstance(prompt, Point):
            places = np.array([prompt.position])
        elif isinstance(prompt, Scribble):
            places = prompt.sample(0.5)
        elif isinstance(prompt, Lasso):
            lasso = _put(mask, corner, prompt)
            said = {voxel: sign for voxel, sign in said.items() if voxel not in lasso}
            continue
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
    # A click's surroundings end where a lasso spoke; its own voxel, if later, does not.
    for lasso_prompt in lassos:
        _put(mask, corner, lasso_prompt)
    for voxel, inside in said.items():
        mask[voxel] = inside
    return mask


def _put(mask: np.ndarray, corner: np.ndarray, lasso: Lasso) -> set[tuple[int, ...]]:
    """Give what a lasso encloses its side, in a mask whose box begins at `corner`; its voxels."""
    inside, origin = lasso.filled()
    voxels = np.argwhere(inside) + origin - corner
    voxels = voxels[np.all((voxels >= 0) & (voxels < mask.shape), axis=1)]
    mask[tuple(voxels.T)] = lasso.positive
    return {tuple(int(v) for v in voxel) for voxel in voxels}
