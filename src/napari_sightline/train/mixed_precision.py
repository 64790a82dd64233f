"""Learning in bf16: what must leave it, and what need not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def guard_small_grids(network: nn.Module) -> None:
    """Let convolutions on grids of fewer than three voxels a side leave bf16.

    oneDNN's bf16 weight gradient is wrong there, see docs/training.md.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and max(module.kernel_size) > 1:
            module.forward = _guarded(module.forward)  # type: ignore[assignment]


def _guarded(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        if min(x.shape[2:]) >= 3:
            return forward(x)
        with torch.autocast("cpu", enabled=False):
            return forward(x.float())

    return run


def halve_attention(network: nn.Module) -> None:
    """Let scores of attention stay in the precision of autocast while gradients are wanted.

    MONAI adds a float32 bias to bf16 scores, so that these, their softmax and all their gradients
    are float32, 64 of them a token and head. The softmax itself sums in float32 either way. Without
    autocast, or without gradients, MONAI's own forward runs.

    Parameters
    ----------
    network : torch.nn.Module
        MONAI's Swin-UNETR, or any network with its ``WindowAttention``; others stay as they are.
    """
    for module in network.modules():
        names = {cls.__name__ for cls in type(module).__mro__}
        if "WindowAttention" in names and hasattr(module, "relative_position_bias_table"):
            module.forward = _forward(module, module.forward)


def _forward(
    attention: Any, plain: Callable[[Tensor, Tensor | None], Tensor]
) -> Callable[[Tensor, Tensor | None], Tensor]:
    def run(x: Tensor, mask: Tensor | None) -> Tensor:
        if not (torch.is_grad_enabled() and torch.is_autocast_enabled(x.device.type)):
            return plain(x, mask)
        b, n, c = x.shape
        heads = attention.num_heads
        q, k, v = attention.qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        index = attention.relative_position_index[:n, :n].reshape(-1)
        bias = attention.relative_position_bias_table[index].reshape(n, n, -1).permute(2, 0, 1)
        scores = (q * attention.scale) @ k.transpose(-2, -1)
        scores = scores + bias.to(scores.dtype)
        if mask is not None:
            windows = len(mask)
            scores = scores.view(b // windows, windows, heads, n, n)
            scores = (scores + mask.to(scores.dtype)[:, None]).view(b, heads, n, n)
        with torch.autocast(x.device.type, enabled=False):
            shares = attention.attn_drop(scores.softmax(-1))
        found = (shares @ v).transpose(1, 2).reshape(b, n, c)
        done: Tensor = attention.proj_drop(attention.proj(found))
        return done

    return run
