"""A small automatic model and scans for tests of what is around them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_sightline.evaluate.scans import AutoOptions, Job, Outcome
from napari_sightline.io import load, save, save_image
from napari_sightline.models.segmenter import IntensityRule, SegmenterSpec
from napari_sightline.volume import Volume

SPEC = SegmenterSpec(
    "small",
    {1: "brainstem", 2: "spinal cord"},
    roi=(64, 32, 32),
    orientation="RAS",
    spacing=(2.0, 2.0, 2.0),
    intensity=IntensityRule("window", -200, 400),
    overlap=0.25,
    modality="CT",
)


def write_model(folder: Path, **facts: Any) -> Path:
    """Write a Swin-UNETR with random weights."""
    from dataclasses import replace

    import torch
    from monai.networks.nets.swin_unetr import SwinUNETR

    from napari_sightline.models.segmenter_io import write_segmenter

    torch.manual_seed(0)
    spec = replace(SPEC, **facts)
    network = SwinUNETR(1, spec.outputs, feature_size=12, depths=(1, 1, 1, 1), window_size=4)
    return write_segmenter(folder / "small.safetensors", network.eval(), spec)


def scan(seed: int = 0, shape: tuple[int, int, int] = (24, 40, 36)) -> Volume:
    """Make a scan of noise with air round it, modality unknown."""
    data = np.full(shape, -1000, np.int16)
    rng = np.random.default_rng(seed)
    data[2:-2, 4:-4, 4:-4] = rng.normal(40, 150, tuple(np.array(shape) - (4, 8, 8)))
    return Volume.from_array(data, spacing=(3.0, 2.0, 2.0))


def write_scans(folder: Path, count: int) -> list[Path]:
    """Write scans ``p0.nii.gz`` ... into a new folder."""
    folder.mkdir()
    return [save_image(folder / f"p{k}.nii.gz", scan(k)) for k in range(count)]


def bright_voxels(job: Job, options: AutoOptions, overwrite: bool) -> Outcome:
    """Stand for the network on a worker, which would take seconds to import."""
    volume = load(job.image)
    time.sleep(0.7)
    save(job.out, (volume.data > 100).astype(np.uint8), volume, {1: options.model})
    return Outcome(str(job.image), str(job.out), "done", structures=1)
