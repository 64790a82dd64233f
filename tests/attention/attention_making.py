"""Small networks, and a reference that keeps whole calls and computes whole maps in float64."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_sightline.models.sightline3d import Config, Features, Prompts, Sightline3D

SMALL = Config(widths=(8, 16, 24, 36), heads=3, blocks=2, keys=4)
#: Clicks of the small promptable network: positive, negative, and the two corners of a box.
POINTS = torch.tensor([[20.0, 30.0, 10.0], [5.0, 6.0, 7.0], [1.0, 2.0, 3.0], [30.0, 31.0, 29.0]])
CODES = torch.tensor([1, 0, 4, 5])


class Reference(TorchFunctionMode):
    """Keeps every argument of every call of attention, and the full map in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.maps.append(full_map(*args, **kwargs))
        return func(*args, **kwargs)


def full_map(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Softmax(q k^T * scale + bias), float64."""
    q, k = query.double(), key.double()
    if enable_gqa:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        else:
            scores = scores + attn_mask.double()
    return scores.softmax(-1)


def promptable(seed: int = 0) -> Sightline3D:
    """Make a small `sightline-3d` whose attention is far from even."""
    torch.manual_seed(seed)
    network = Sightline3D(SMALL).eval().requires_grad_(False)
    for block in network.blocks:
        for layer in (block.image_self, block.token_self, block.token_to_image):
            layer.q.weight.mul_(4)
        block.image_to_token.q.weight.mul_(4)
    return network


def encoded(network: Sightline3D, shape: tuple[int, int, int], seed: int = 0) -> Features:
    """Features of a random image."""
    torch.manual_seed(seed)
    return network.encode(torch.randn(1, 2, *shape), torch.ones(1))


def prompts() -> Prompts:
    """The prompts above, as a batch of one."""
    return Prompts(POINTS[None], CODES[None])


def swin_unetr(window: int = 3, v2: bool = False, flash: bool = True) -> torch.nn.Module:
    """Make a small Swin-UNETR whose relative position bias matters."""
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(window)
    network = SwinUNETR(
        in_channels=1,
        out_channels=2,
        feature_size=12,
        num_heads=(3, 6, 12, 24),
        window_size=(window,) * 3,
        use_v2=v2,
        use_flash_attention=flash,
    )
    for name, weight in network.named_parameters():
        if "relative_position_bias_table" in name:
            torch.nn.init.normal_(weight.data)
        elif name.endswith("qkv.weight"):
            weight.data.mul_(8)
    return network.eval().requires_grad_(False)
