"""Facts of kinds of models that many checkpoints share, for files that do not say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule

_BTCV = (
    *("spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach"),
    *("aorta", "inferior vena cava", "portal and splenic veins", "pancreas"),
    *("right adrenal gland", "left adrenal gland"),
)
_HEAD_AND_NECK = (
    *("brainstem", "spinal cord", "right parotid gland", "left parotid gland", "oesophagus"),
    *("larynx", "mandible"),
)


@dataclass(frozen=True)
class Preset:
    """What a kind of model expects.

    Attributes
    ----------
    name, title : str
        Short name, and what people read.
    values : mapping
        Facts by the keys of `questions.FIELDS`.
    source : str
        Where the values are published.
    """

    name: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def fits(self, in_channels: int, out_channels: int) -> bool:
        """Whether a network with these channels can be of this kind."""
        labels, overlapping = self.values["labels"], self.values["overlapping"]
        outputs = len(labels) + (0 if overlapping else 1)
        return (in_channels, out_channels) == (len(self.values["channels"]), outputs)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "btcv",
            "Abdomen, CT: 13 organs (BTCV)",
            {
                "labels": dict(enumerate(_BTCV, 1)),
                "channels": ("CT",),
                "overlapping": False,
                "orientation": "RAS",
                "spacing": (1.5, 1.5, 2.0),
                "intensity": IntensityRule("window", -175.0, 250.0),
                "roi": (96, 96, 96),
                "overlap": 0.5,
                "modality": "CT",
            },
            "https://github.com/Project-MONAI/research-contributions/tree/main/SwinUNETR/BTCV",
        ),
        Preset(
            "brats",
            "Brain tumours, MR: three regions that overlap, from four sequences (BraTS 2021)",
            {
                "labels": {1: "tumour core", 2: "whole tumour", 3: "enhancing tumour"},
                "channels": ("FLAIR", "T1c", "T1", "T2"),
                "overlapping": True,
                # The recipe does not turn the scans; those of BraTS 2021 lie like this.
                "orientation": "LPS",
                "spacing": (1.0, 1.0, 1.0),
                "intensity": IntensityRule("zscore_nonzero"),
                "roi": (128, 128, 128),
                "overlap": 0.6,
                "modality": "MR",
            },
            "https://github.com/Project-MONAI/research-contributions/tree/main/SwinUNETR/BRATS21",
        ),
        Preset(
            "headneck",
            "Head and neck, planning CT: seven organs at risk",
            {
                "labels": dict(enumerate(_HEAD_AND_NECK, 1)),
                "channels": ("CT",),
                "overlapping": False,
                "orientation": "SPL",
                "spacing": (2.5, 2.5, 2.5),
                "intensity": IntensityRule("window", -200.0, 400.0),
                "roi": (96, 96, 96),
                "overlap": 0.5,
                "modality": "CT",
            },
            "https://github.com/ababier/open-kbp",
        ),
    )
}


def preset_named(name: str) -> Preset:
    """Find a preset.

    Raises
    ------
    BadInput
        Where there is none of that name.
    """
    if name not in PRESETS:
        raise BadInput(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
