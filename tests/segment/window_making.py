"""Small networks and scans for sliding windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.segment.automatic import Segmentation, segment
from napari_sightline.volume import Volume

PLAIN = IntensityRule("none")


class Net(nn.Module):
    """Small, and different at each place of a window, so that blending shows."""

    def __init__(self, outputs: int = 4, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(channels, 6, 3, padding=1)
        self.last = nn.Conv3d(6, outputs, 3, padding=1)
        self.calls = 0
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(x))
        # Zero padding inside each window makes its border differ from its middle.
        return self.last(torch.relu(self.first(x))) * 3


def model(roi: tuple[int, int, int] = (12, 12, 12), **facts: Any) -> Segmenter:
    outputs, channels = facts.pop("outputs", 4), facts.pop("inputs", 1)
    overlapping = facts.get("overlapping", False)
    top = outputs if overlapping else outputs - 1
    labels = {k: f"s{k}" for k in range(1, top + 1)}
    spec = SegmenterSpec(
        "tiny",
        labels,
        channels=tuple(f"c{k}" for k in range(channels)),
        roi=roi,
        **({"orientation": "SPL", "intensity": PLAIN} | facts),
    )
    return Segmenter(Net(outputs, channels), spec)


def scan(shape: tuple[int, int, int], seed: int = 0, spacing: Any = (1.0, 1.0, 1.0)) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume.from_array(rng.normal(0, 1, shape).astype(np.float32), spacing=spacing)


def run(volume: Any, made: Segmenter, **options: Any) -> Segmentation:
    return segment(volume, made, **({"device": "cpu", "precision": "fp32"} | options))
