"""Random crops of real volumes, as the promptable network will meet them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.train.datasets import Case


@dataclass
class Crop:
    """``image`` ``(2, D, H, W)`` float32; ``target`` and ``known`` bool; ``spacing`` mm.

    ``known`` is False outside the volume, where no truth exists.
    """

    image: Tensor
    target: Tensor
    known: Tensor
    spacing: float


def choose_spacing(rng: np.random.Generator, native: float, extent: float, size: int) -> float:
    """Draw a working spacing, mm: mostly near the scan's own, else so that the object fits."""
    if rng.random() < 0.75:
        return float(native * np.exp(rng.uniform(np.log(0.6), np.log(1.5))))
    fine = max(extent / (1.3 * size), 0.5 * native)
    coarse = max(min(extent / 7, 4 * native), 1.1 * fine)
    return float(np.exp(rng.uniform(np.log(fine), np.log(coarse))))


def rotation(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Draw a rotation ``(3, 3)`` by up to `degrees` round each axis."""
    out = np.eye(3)
    for axis in range(3):
        a = np.radians(rng.uniform(-degrees, degrees))
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(a)
        turn[i, j], turn[j, i] = -np.sin(a), np.sin(a)
        out = out @ turn
    return out


def place(
    rng: np.random.Generator,
    anchor: np.ndarray,
    field: np.ndarray,
    side: float,
) -> np.ndarray:
    """Draw the centre, mm, of a crop of `side` mm that holds `anchor`, mostly inside the volume.

    `field` is the volume's extent in mm, ``(3,)``.
    """
    centre = anchor + rng.uniform(-0.4, 0.4, 3) * side
    if rng.random() < 0.75:
        half = side / 2
        for k in range(3):
            if side < field[k]:
                centre[k] = np.clip(centre[k], half, field[k] - half)
            else:
                slack = side - field[k]
                centre[k] = field[k] / 2 + rng.uniform(-0.5, 0.5) * slack
    return np.clip(centre, anchor - 0.45 * side, anchor + 0.45 * side)


def sampling_grid(
    shape: tuple[int, ...],
    spacing: np.ndarray,
    centre: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int, int],
) -> Tensor:
    """Grid for `torch.nn.functional.grid_sample`, ``(1, D, H, W, 3)``.

    Voxel ``u`` of the crop lies at ``centre + matrix @ (u - (size - 1) / 2)`` mm of a volume of
    `shape` voxels of `spacing` mm, whose first voxel is centred at ``spacing / 2``.
    """
    n = np.array(shape, float)
    # Normalised coordinates: -1 and 1 are the outer faces of the volume.
    to_unit = np.diag(2 / (n * spacing))
    linear = to_unit @ matrix
    offset = to_unit @ centre - 1
    axes = [torch.arange(k, dtype=torch.float32) - (k - 1) / 2 for k in size]
    u = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    grid = u @ torch.from_numpy(linear.T.astype(np.float32)) + torch.from_numpy(
        offset.astype(np.float32)
    )
    return grid.flip(-1)[None]


def window(
    shape: tuple[int, ...], spacing: np.ndarray, centre: np.ndarray, reach: float
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Part of a volume within `reach` mm of `centre`, and the centre as seen from that part.

    Sampling from the part costs less than from the whole. Faces that the part shares with the
    volume stay faces; others lie beyond the crop.
    """
    low = np.floor((centre - reach) / spacing).astype(int)
    high = np.ceil((centre + reach) / spacing).astype(int) + 1
    low = np.clip(low, 0, np.array(shape) - 1)
    high = np.clip(high, low + 1, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return box, centre - low * spacing


def real_crop(rng: np.random.Generator, case: Case, size: tuple[int, int, int]) -> Crop | None:
    """Draw a crop of `size` voxels with one of the case's structures, or None if it is too small.

    Random working spacing, place, mirror, slight rotation and stretch; intensities by `augment`.
    """
    assert case.image is not None
    which = int(rng.integers(len(case.targets)))
    spacing = case.spacing
    base = float(spacing.min())
    step = choose_spacing(rng, base, case.extent[which], min(size))
    field = np.array(case.labels.shape) * spacing
    anchor = (case.points[which][rng.integers(len(case.points[which]))] + 0.5) * spacing
    centre = place(rng, anchor, field, step * min(size))
    matrix = np.eye(3) * step
    if rng.random() < 0.5:
        matrix = rotation(rng, 12) @ matrix @ np.diag(rng.uniform(0.88, 1.14, 3))
    mirror = np.where(rng.random(3) < (0.05, 0.05, 0.5), -1.0, 1.0)
    matrix = matrix @ np.diag(mirror)
    box, centre = window(case.labels.shape, spacing, centre, 1.25 * step * max(size))
    labels = case.labels[box]
    grid = sampling_grid(labels.shape, spacing, centre, matrix, size)
    # Outside the volume both channels read -1, as the session fills its regions.
    image = torch.from_numpy(case.image[(slice(None), *box)]).float()[None] + 1
    image = F.grid_sample(image, grid, align_corners=False)[0] - 1
    mask = np.isin(labels, case.targets[which])
    target = F.grid_sample(torch.from_numpy(mask).float()[None, None], grid, align_corners=False)
    target = target[0, 0] > 0.5
    if int(target.sum()) < 30:
        return None
    known = (grid[0].abs() < 1).all(-1)
    return Crop(augment(rng, image), target, known, step)


def augment(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Vary the intensities of ``(2, D, H, W)``: contrast, gamma, noise, blur, slice thickness."""
    if rng.random() < 0.5:
        gain, shift = rng.uniform(0.75, 1.3), rng.uniform(-0.2, 0.2)
        image = image * float(gain) + float(shift)
    if rng.random() < 0.3:
        gamma = float(np.exp(rng.uniform(-0.4, 0.4)))
        image = ((image + 1.5).clamp(0, 3) / 3) ** gamma * 3 - 1.5
    if rng.random() < 0.03:
        image = -image
    if rng.random() < 0.2:
        axis = int(rng.integers(3))
        factor = float(rng.uniform(0.25, 0.7))
        scale = [1.0, 1.0, 1.0]
        scale[axis] = factor
        small = F.interpolate(image[None], scale_factor=scale, mode="area")
        image = F.interpolate(small, image.shape[1:], mode="trilinear")[0]
    elif rng.random() < 0.15:
        image = F.avg_pool3d(image[None], 3, 1, 1, count_include_pad=False)[0]
    if rng.random() < 0.4:
        image = image + torch.randn_like(image) * float(rng.uniform(0, 0.12))
    return image
