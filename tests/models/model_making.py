"""Small networks, checkpoints and bundles, made with MONAI's own tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SMALL: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "feature_size": 12,
    "depths": (1, 1, 1, 1),
    "num_heads": (2, 2, 4, 4),
    "window_size": 2,
}


#: To what a checkpoint alone does not say.
ANSWERS = {
    "labels": "1=liver, 2=spleen",
    "channels": "CT",
    "overlapping": "no",
    "orientation": "RAS",
    "spacing": "1.5 1.5 2",
    "intensity": "window -175 250",
    "roi": "64",
}
_MADE: dict[str, nn.Module] = {}


def swin(**changes: Any) -> nn.Module:
    """MONAI's Swin-UNETR, small, in evaluation mode; always the same, so leave it as it is."""
    from monai.networks.nets import SwinUNETR

    key = repr(sorted(changes.items()))
    if key in _MADE:
        return _MADE[key]
    torch.manual_seed(1)
    network = SwinUNETR(**{**SMALL, **changes}).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(value.half().float())  # so that half precision loses nothing
    _MADE[key] = network
    return network


def scan(channels: int = 1, shape: tuple[int, int, int] = (64, 32, 32)) -> Tensor:
    return torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(2))


def logits(network: nn.Module, image: Tensor) -> Tensor:
    """What a network says of an image."""
    with torch.inference_mode():
        return network(image)


METADATA: dict[str, Any] = {
    "version": "0.1.0",
    "changelog": {"0.1.0": "first"},
    "monai_version": "1.3.0",
    "task": "two organs",
    "license": "Apache-2.0",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": [96, 96, 96],
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": 3,
                "channel_def": {"0": "background", "1": "liver", "2": "spleen"},
            }
        },
    },
}

INFERENCE: dict[str, Any] = {
    "imports": ["$import glob"],
    "bundle_root": ".",
    "pixdim": [1.5, 1.5, 2.0],
    "window": {"low": -175, "high": 250},
    "network_def": {
        "_target_": "SwinUNETR",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "feature_size": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [2, 2, 4, 4],
        "window_size": 2,
        "use_checkpoint": False,
    },
    "network": "$@network_def.to('cpu')",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": "@window::low",
                "a_max": "@window#high",
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [64, 64, 64],
        "sw_batch_size": 4,
        "overlap": 0.625,
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    },
}


def bundle(
    folder: Path,
    network: nn.Module,
    inference: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    yaml: bool = False,
) -> Path:
    """Write a bundle as MONAI's own exporter lays it out."""
    from monai.bundle import ConfigParser

    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    metadata = METADATA if metadata is None else metadata
    inference = INFERENCE if inference is None else inference
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    name = "inference.yaml" if yaml else "inference.json"
    ConfigParser.export_config_file(
        inference, str(folder / "configs" / name), fmt="yaml" if yaml else "json"
    )
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder
