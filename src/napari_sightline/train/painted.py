"""Crops without a scan: label maps and random shapes painted with random intensities.

After Billot et al., "SynthSeg" (Medical Image Analysis, 2023), and Hoffmann et al., "SynthMorph"
(IEEE TMI, 2022): a network that never sees the same contrast twice learns "the thing under the
click".
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.models.intensity import Intensity
from napari_sightline.train.crops import Crop, augment, rotation, sampling_grid, window
from napari_sightline.train.datasets import Case


def smooth_noise(size: tuple[int, int, int], cells: float) -> Tensor:
    """Noise ``(D, H, W)`` that varies over about ``size / cells`` voxels."""
    coarse = [max(2, round(n / max(size) * cells)) for n in size]
    return F.interpolate(torch.randn(1, 1, *coarse), size, mode="trilinear", align_corners=True)[
        0, 0
    ]


def paint(rng: np.random.Generator, labels: Tensor, same: list[int]) -> Tensor:
    """Give each label a random mean and texture: ``(D, H, W)`` intensities.

    Labels listed in `same` share one mean, so that together they are one thing to see.
    """
    count = int(labels.max()) + 1
    means = rng.uniform(0, 1, count)
    means[0] = rng.choice([0.0, means[0]])
    for value in same[1:]:
        means[value] = means[same[0]]
    size = (labels.shape[0], labels.shape[1], labels.shape[2])
    image = torch.from_numpy(means.astype(np.float32))[labels]
    spread = torch.from_numpy((rng.uniform(0, 0.12, count) ** 1.2).astype(np.float32))[labels]
    texture = torch.randn(size)
    if rng.random() < 0.5:
        texture = 0.6 * texture + smooth_noise(size, rng.uniform(6, 24))
    image = image + spread * texture
    if rng.random() < 0.7:
        image = image * torch.exp(float(rng.uniform(0, 0.4)) * smooth_noise(size, 3))
    if rng.random() < 0.8:
        image = F.avg_pool3d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return image


def _finish(
    rng: np.random.Generator, labels: Tensor, target: Tensor, same: list[int], mm: float
) -> Crop:
    image = paint(rng, labels, same).numpy()
    channels = torch.from_numpy(Intensity.of(image).apply(image))
    return Crop(augment(rng, channels), target, torch.ones_like(target), mm)


def painted_crop(rng: np.random.Generator, case: Case, size: tuple[int, int, int]) -> Crop | None:
    """Draw a crop of a label map, painted; None where it is empty."""
    labels, spacing = case.labels, case.spacing
    inside = np.array(labels.shape) * spacing
    for _ in range(8):
        anchor_voxel = rng.integers(0, labels.shape)
        if labels[tuple(anchor_voxel)]:
            break
    anchor = (anchor_voxel + 0.5) * spacing
    step = float(spacing.min() * np.exp(rng.uniform(np.log(0.4), np.log(2.2))))
    centre = anchor + rng.uniform(-0.3, 0.3, 3) * step * min(size)
    matrix = rotation(rng, 25) @ np.diag(rng.uniform(0.8, 1.25, 3)) * step
    matrix = matrix[:, rng.permutation(3)] if rng.random() < 0.3 else matrix
    matrix = matrix @ np.diag(rng.choice([-1.0, 1.0], 3, p=[0.3, 0.7]))
    box, centre = window(labels.shape, spacing, centre.clip(0, inside), 1.4 * step * max(size))
    labels = labels[box]
    inside = np.array(labels.shape) * spacing
    grid = sampling_grid(labels.shape, spacing, centre, matrix, size)
    # A smooth warp, up to about four voxels, so that the few anatomies differ each time.
    warp = torch.stack([smooth_noise(size, 5) for _ in range(3)], -1)
    amount = 4 * step / torch.from_numpy(inside[::-1].astype(np.float32).copy())
    grid = grid + (warp * amount * float(rng.uniform(0, 1)))[None]
    source = torch.from_numpy(labels.astype(np.float32))[None, None]
    crop = F.grid_sample(source, grid, mode="nearest", align_corners=False)[0, 0].long()
    present, counts = torch.unique(crop, return_counts=True)
    good = [
        int(v) for v, c in zip(present, counts, strict=True) if v and 60 <= c < 0.5 * crop.numel()
    ]
    if not good:
        return None
    same = [int(rng.choice(good))]
    if len(good) > 3 and rng.random() < 0.2:
        same += [int(v) for v in rng.choice(good, 2) if v != same[0]]
    target = torch.isin(crop, torch.tensor(same))
    mm = step * float(np.exp(rng.uniform(-0.5, 0.5)))
    return _finish(rng, crop, target, same, mm)


def shape_crop(rng: np.random.Generator, size: tuple[int, int, int]) -> Crop | None:
    """Draw random shapes: regions of smooth noise, with balls, tubes and bricks laid over them."""
    kinds = int(rng.integers(3, 9))
    cells = float(np.exp(rng.uniform(np.log(2), np.log(10))))
    labels = torch.stack([smooth_noise(size, cells) for _ in range(kinds)]).argmax(0)
    axes = [torch.arange(n, dtype=torch.float32) for n in size]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    for _ in range(int(rng.integers(0, 5))):
        kinds += 1
        centre = rng.uniform(0.1, 0.9, 3) * size
        half = np.exp(rng.uniform(np.log(2.5), np.log(0.4 * min(size)), 3))
        form = rng.choice(["ball", "tube", "brick"])
        u = torch.stack([z - float(centre[0]), y - float(centre[1]), x - float(centre[2])], -1)
        u = u @ torch.from_numpy(rotation(rng, 90).astype(np.float32))
        if form == "tube":
            half = np.array([0.7 * min(size), *([max(2.0, half[1:].min())] * 2)])
            bend = torch.sin(u[..., 0] / float(rng.uniform(6, 20))) * float(rng.uniform(0, 6))
            u = torch.stack([u[..., 0], u[..., 1] + bend, u[..., 2]], -1)
        unit = u.abs() / torch.from_numpy(half.astype(np.float32))
        inside = (unit < 1).all(-1) if form == "brick" else (unit**2).sum(-1) < 1
        labels[inside] = kinds - 1
    import cc3d

    chosen = kinds - 1 if rng.random() < 0.5 else int(rng.integers(kinds))
    parts = cc3d.connected_components((labels == chosen).numpy(), connectivity=6)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    good = np.flatnonzero((sizes >= 60) & (sizes < 0.5 * parts.size))
    if not len(good):
        return None
    target = torch.from_numpy(parts == rng.choice(good))
    return _finish(rng, labels, target, [chosen], float(np.exp(rng.uniform(-1, 1.6))))
