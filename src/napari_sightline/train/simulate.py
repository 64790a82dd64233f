"""Simulated prompts for training: first clicks, boxes, scribbles, corrections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_sightline.evaluate.robot import simulate_box, simulate_click
from napari_sightline.models.sightline3d import (
    BOX_HIGH,
    BOX_LOW,
    NEGATIVE,
    PAD,
    POSITIVE,
    SCRIBBLE_NEGATIVE,
    SCRIBBLE_POSITIVE,
    Prompts,
)

#: Points along one scribble that the network sees.
SCRIBBLE_POINTS = 16


class PromptList:
    """Prompts of one crop, growing step by step."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float, float]] = []
        self.codes: list[int] = []

    def add(self, point: tuple[float, ...], code: int) -> None:
        """Append a point, in voxels of the crop."""
        self.points.append((float(point[0]), float(point[1]), float(point[2])))
        self.codes.append(code)


def batch(lists: list[PromptList]) -> Prompts:
    """Pad lists to one tensor."""
    longest = max(len(item.codes) for item in lists)
    points = torch.zeros(len(lists), longest, 3)
    codes = torch.full((len(lists), longest), PAD)
    for i, item in enumerate(lists):
        if item.codes:
            points[i, : len(item.codes)] = torch.tensor(item.points)
            codes[i, : len(item.codes)] = torch.tensor(item.codes)
    return Prompts(points, codes)


def scribble(rng: np.random.Generator, region: np.ndarray) -> np.ndarray | None:
    """Walk through a region ``(D, H, W)`` within one plane; points ``(n, 3)`` or None."""
    axis = int(rng.integers(3))
    counts = region.sum(tuple(k for k in range(3) if k != axis))
    if counts.max() < 8:
        return None
    plane = int(rng.choice(np.flatnonzero(counts >= max(8, 0.5 * counts.max()))))
    where = np.argwhere(region.take(plane, axis)).astype(float)
    # Along the longest direction of the slice, the middle of what lies across it.
    centred = where - where.mean(0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = centred @ direction
    order = np.argsort(along)
    count = int(rng.integers(4, SCRIBBLE_POINTS + 1))
    parts = np.array_split(where[order], min(count, len(where)))
    jitter = rng.uniform(0.1, 0.9)
    chosen = np.array([part[int(jitter * (len(part) - 1))] for part in parts])
    return np.insert(chosen, axis, plane, axis=1)


def first(rng: np.random.Generator, target: np.ndarray, prompts: PromptList) -> None:
    """Add the first prompt: mostly a click near the middle, else a box or a scribble."""
    draw = rng.random()
    if draw < 0.12:
        box = simulate_box(target, rng, jitter=0.08)
        if box is not None:
            prompts.add(box.low, BOX_LOW)
            prompts.add(box.high, BOX_HIGH)
            return
    elif draw < 0.2:
        line = scribble(rng, target)
        if line is not None:
            for point in line:
                prompts.add(point, SCRIBBLE_POSITIVE)
            return
    correct(rng, np.zeros_like(target), target, prompts, noisy=0.35)


def correct(
    rng: np.random.Generator,
    mask: np.ndarray,
    target: np.ndarray,
    prompts: PromptList,
    noisy: float = 0.25,
) -> None:
    """Add a corrective click (or, seldom, a scribble) in the largest error, if there is any."""
    click = simulate_click(mask, target, rng=rng, noisy=bool(rng.random() < noisy))
    if click is None:
        return
    if rng.random() < 0.07:
        wrong = (mask != target) & (target == click.positive)
        line = scribble(rng, wrong)
        if line is not None:
            for point in line:
                prompts.add(point, SCRIBBLE_POSITIVE if click.positive else SCRIBBLE_NEGATIVE)
            return
    prompts.add(click.position, POSITIVE if click.positive else NEGATIVE)


def rough_mask(rng: np.random.Generator, target: Tensor) -> Tensor:
    """Logits ``(D, H, W)`` of a mask as someone else might leave it: shifted, grown or shrunk."""
    import torch.nn.functional as F

    mask = target[None, None].float()
    radius = int(rng.integers(1, 3))
    kernel = 2 * radius + 1
    if rng.random() < 0.5:
        mask = F.max_pool3d(mask, kernel, 1, radius)
    else:
        mask = 1 - F.max_pool3d(1 - mask, kernel, 1, radius)
    shift = [int(v) for v in rng.integers(-2, 3, 3)]
    mask = torch.roll(mask[0, 0], shift, (0, 1, 2))
    return mask * 8 - 4
