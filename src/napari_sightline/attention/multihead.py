"""Queries and keys of `torch.nn.MultiheadAttention`, projected again from its arguments."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def queries_keys_mask(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor | None, bool] | None:
    """Project queries and keys as ``torch.nn.functional.multi_head_attention_forward`` does.

    Returns
    -------
    tuple or None
        ``(B, heads, n, d)``, ``(B, heads, m, d)``, what is added to the scores, and whether the
        map is causal; None where keys are appended (``bias_k``, ``static_k``, ``add_zero_attn``),
        which few models do.
    """
    given = _SIGNATURE.bind(*args, **kwargs)
    given.apply_defaults()
    a = given.arguments
    appended = [a[name] is not None for name in ("bias_k", "bias_v", "static_k", "static_v")]
    if any(appended) or a["add_zero_attn"]:
        return None
    query, key = a["query"].detach(), a["key"].detach()
    if query.ndim == 2:
        query, key = query[:, None], key[:, None]
    width = query.shape[-1]
    bias = a["in_proj_bias"]
    if a["use_separate_proj_weight"]:
        weights = (a["q_proj_weight"], a["k_proj_weight"])
    else:
        weights = (a["in_proj_weight"][:width], a["in_proj_weight"][width : 2 * width])
    shifts = (None, None) if bias is None else (bias[:width], bias[width : 2 * width])
    heads = a["num_heads"]
    q, k = (
        F.linear(x, w.detach(), None if b is None else b.detach())
        .unflatten(-1, (heads, -1))
        .permute(1, 2, 0, 3)
        for x, w, b in zip((query, key), weights, shifts, strict=True)
    )
    mask = _merged(a["attn_mask"], a["key_padding_mask"], q.shape[0], heads)
    return q, k, mask, bool(a["is_causal"]) and mask is None


def _merged(mask: Tensor | None, padding: Tensor | None, batch: int, heads: int) -> Tensor | None:
    """Sum of the mask and of the keys that only pad the batch, as something to add."""
    parts = []
    if mask is not None:
        parts.append(_added(mask).unflatten(0, (batch, heads)) if mask.ndim == 3 else _added(mask))
    if padding is not None:
        parts.append(_added(padding).view(-1, 1, 1, padding.shape[-1]))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _added(mask: Tensor) -> Tensor:
    """Turn a mask, in which True means "may not be seen", into something to add."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -torch.inf)
