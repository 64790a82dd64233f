"""Attention between image tokens and prompt tokens, as in SAM's two-way decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., 2017).

    Calls `torch.nn.functional.scaled_dot_product_attention`, so that a recorder of attention sees
    queries and keys.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from `query` ``(B, N, C)`` to `memory` ``(B, M, C)``.

        `mask` is ``(B, 1, 1, M)``, True where a memory token may be seen.
        """
        b, n, c = query.shape
        q = self.q(query).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.kv(memory).view(b, memory.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(x.transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Sequential):
    """Two linear layers, twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class TwoWayBlock(nn.Module):
    """Self-attention of image and prompt tokens, then attention both ways between them.

    After Kirillov et al., "Segment Anything" (2023), fig. 14, with global self-attention of the
    image tokens added and a residual round every step (pre-norm), so that relevance rules that add
    the identity hold.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.image_self = Attention(width, heads)
        self.token_self = Attention(width, heads)
        self.token_to_image = Attention(width, heads)
        self.image_to_token = Attention(width, heads)
        self.image_mlp, self.token_mlp = Mlp(width), Mlp(width)
        self.norms = nn.ModuleDict(
            {
                name: nn.LayerNorm(width)
                for name in (
                    *("image_self", "token_self", "to_image_q", "to_image_m", "token_mlp"),
                    *("to_token_q", "to_token_m", "image_mlp"),
                )
            }
        )

    def forward(self, image: Tensor, tokens: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Update image tokens ``(B, N, C)`` and prompt tokens ``(B, M, C)``.

        `seen` is ``(B, 1, 1, M)``, False for tokens that only pad the batch.
        """
        norm = self.norms
        x = norm["image_self"](image)
        image = image + self.image_self(x, x)
        x = norm["token_self"](tokens)
        tokens = tokens + self.token_self(x, x, seen)
        tokens = tokens + self.token_to_image(norm["to_image_q"](tokens), norm["to_image_m"](image))
        tokens = tokens + self.token_mlp(norm["token_mlp"](tokens))
        memory = norm["to_token_m"](tokens)
        image = image + self.image_to_token(norm["to_token_q"](image), memory, seen)
        return image + self.image_mlp(norm["image_mlp"](image)), tokens


class PositionEncoding(nn.Module):
    """Sines and cosines of a position in voxels, wavelengths 4 to 512 voxels."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 6:
            raise ValueError(f"The width {width} is not a multiple of 6; choose one that is.")
        wavelengths = 4.0 * 128.0 ** torch.linspace(0, 1, width // 6)
        self.register_buffer("frequencies", 2 * torch.pi / wavelengths, persistent=False)

    def forward(self, position: Tensor) -> Tensor:
        """Encode positions ``(..., 3)``, voxels from the region's centre, as ``(..., width)``."""
        angle = position.float()[..., None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)
