"""How MONAI's Swin-UNETR merged tokens by default before version 1.5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.models.monai_parts import PatchMergingV2

__all__ = ["NEIGHBOURS_BEFORE_1_5", "PatchMergingBefore15"]

#: Offset (depth, height, width) that each block of channels comes from. (0, 1, 0) and (0, 0, 1)
#: come twice, (1, 1, 0) and (0, 1, 1) never: a slip that was kept for the models trained with it
#: and put right in 1.5 (https://github.com/Project-MONAI/MONAI/issues/8284).
NEIGHBOURS_BEFORE_1_5 = (
    (0, 0, 0),
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (1, 0, 1),
    (0, 1, 0),
    (0, 0, 1),
    (1, 1, 1),
)


class PatchMergingBefore15(PatchMergingV2):
    """Merges 2 x 2 x 2 tokens into one, in the order of MONAI 0.9 to 1.4."""

    def forward(self, x: Tensor) -> Tensor:
        """Merge tokens ``(B, D, H, W, C)`` into ``(B, D/2, H/2, W/2, 2 C)``, sizes rounded up."""
        _, d, h, w, _ = x.shape
        if d % 2 or h % 2 or w % 2:
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
        parts = [x[:, i::2, j::2, k::2] for i, j, k in NEIGHBOURS_BEFORE_1_5]
        merged: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return merged
