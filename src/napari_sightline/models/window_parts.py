"""Attention of shifted windows, some of them at a time: the same answer from less memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Numbers of the bias (windows x heads x tokens x tokens) that are made at a time.
PART = 2**24

# Of a class of MONAI's, so that MONAI is not imported here.
_MADE: dict[Any, Any] = {}


def _in_parts(base: Any) -> Any:
    if base in _MADE:
        return _MADE[base]

    class WindowAttentionInParts(base):
        """MONAI's ``WindowAttention``, whose bias for all windows is as large as their maps."""

        def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
            """Attend within windows ``(windows, tokens, features)``; a mask for each, or None."""
            plain = super().forward
            tokens = x.shape[1]
            count = max(1, PART // (self.num_heads * tokens * tokens))
            if (
                mask is None
                or len(mask) != len(x)  # several samples share the masks
                or len(x) <= count
                or x.device.type != "cpu"
                or torch.is_grad_enabled()
                or not self.use_flash_attention
                or self._forward_pre_hooks  # who watches sees one call, of all windows
            ):
                found: Tensor = plain(x, mask)
                return found
            parts = zip(x.split(count), mask.split(count), strict=True)
            return torch.cat([plain(some, its) for some, its in parts])

    _MADE[base] = WindowAttentionInParts
    return WindowAttentionInParts


def attend_in_parts(network: nn.Module) -> None:
    """Let MONAI's window attention take some windows at a time on a CPU, weights unchanged.

    With windows of 7^3 tokens, three heads and 48^3 tokens, relative positions and shift masks of
    all windows together take 460 MB in float32, and half as much again as a copy in bf16; in parts
    they take 64 MB.

    Parameters
    ----------
    network : torch.nn.Module
        MONAI's Swin-UNETR, or any network with its ``WindowAttention``; others stay as they are.
    """
    for module in network.modules():
        if type(module).__name__ == "WindowAttention" and hasattr(module, "use_flash_attention"):
            module.__class__ = _in_parts(type(module))
