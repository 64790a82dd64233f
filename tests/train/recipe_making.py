"""Scans, label maps and networks that recipes of automatic models are tested with."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from napari_sightline.models.segmenter import IntensityRule, SegmenterSpec

SPEC = SegmenterSpec(
    "test",
    {1: "ball", 2: "cube"},
    roi=(64, 32, 32),
    orientation="RAS",
    spacing=(2.0, 2.0, 2.0),
    intensity=IntensityRule("window", -200, 400),
    modality="CT",
)


def write(path: Path, data: np.ndarray, mm: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(data, np.diag([mm, mm, mm, 1])).to_filename(path)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.indices((40, 36, 44))
    rng = np.random.default_rng(seed)
    labels = np.zeros(x.shape, np.uint8)
    labels[(x - 12) ** 2 + (y - 18) ** 2 + (z - 22) ** 2 < 64] = 1
    labels[25:33, 12:22, 16:28] = 2
    image = rng.normal(0, 20, x.shape) + 150 * (labels == 1) - 120 * (labels == 2)
    image[:, :3] = -1024
    return image.astype(np.int16), labels


def small(outputs: int) -> torch.nn.Module:
    from monai.networks.nets.swin_unetr import SwinUNETR

    torch.manual_seed(0)
    return SwinUNETR(1, outputs, feature_size=12, depths=(1, 1, 1, 1), window_size=4)
