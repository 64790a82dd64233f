"""The parts of MONAI that are used here.

MONAI's modules import each other in circles. Two threads that begin with different parts wait for
each other, and Python then gives both a half-imported module. Whoever asks for the whole package
first waits until it is there; so parts are imported after it, and here only.
"""

from __future__ import annotations

import monai  # noqa: F401  # the whole, before its parts
from monai.inferers.utils import sliding_window_inference
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import MERGING_MODE, PatchMergingV2, SwinUNETR
from monai.networks.nets.unetr import UNETR

__all__ = [
    "MERGING_MODE",
    "UNETR",
    "DynUNet",
    "PatchMergingV2",
    "SABlock",
    "SwinUNETR",
    "sliding_window_inference",
]
