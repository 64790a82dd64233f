"""Tokens of the SAM families in transformers: image encoders, and two-way decoders' prompts."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sightline.attention.bias import DecomposedBias, relative_table
from napari_sightline.attention.tokens import (
    Kind,
    LiveCall,
    Placement,
    Running,
    Side,
    TokenGrid,
    TokenList,
    family,
    sides,
)
from napari_sightline.attention.tokens_sightline import prompt_names


@family("SamVisionAttention", "SamHQVisionAttention", "Sam3ViTRoPEAttention")
def vision_layer(call: LiveCall) -> Placement | None:
    """Place a call of a plain vision transformer: windows padded at the end, or global."""
    layer = call.stack[-2] if len(call.stack) > 1 else None
    if layer is None or not hasattr(layer.module, "window_size"):
        return None
    height, width = _first(layer, "hidden_states").shape[1:3]
    side = int(layer.module.window_size)  # type: ignore[arg-type]
    stride = _strides(call, (height, width))
    number = _number(layer.name)
    if side > 0:
        grid = TokenGrid((1, height, width), stride, (1, side, side))
        kind: Kind = "windowed"
        label = f"image encoder, block {number}, windows of {side} x {side} on {height} x {width}"
    else:
        grid = TokenGrid.whole((1, height, width), stride)
        kind, label = "global", f"image encoder, block {number}, global, {height} x {width}"
    if call.weights_shape[2] != grid.tokens:
        return None
    module, bias = call.running.module, None
    if call.q is not None and getattr(module, "use_rel_pos", False):
        _, rows, columns = grid.window
        bias = DecomposedBias(
            relative_table(rows, module.rel_pos_h),  # type: ignore[arg-type]
            relative_table(columns, module.rel_pos_w),  # type: ignore[arg-type]
            call.q.dtype,
        )
    return Placement(f"{label} tokens", kind, grid, grid, bias, block=number)


@family("Sam2MultiScaleAttention")
def hiera(call: LiveCall) -> Placement | None:
    """Place a call of SAM 2's Hiera: windows, and queries pooled where a stage begins."""
    block = call.above("Sam2MultiScaleBlock")
    if block is None:
        return None
    height, width = _first(block, "hidden_states").shape[1:3]
    side = int(block.module.window_size)  # type: ignore[arg-type]
    pool: tuple[int, int] = tuple(block.module.query_stride or (1, 1))  # type: ignore[arg-type]
    stride = _strides(call, (height, width))
    window = (1, side, side) if side > 0 else (1, height, width)
    keys = TokenGrid((1, height, width), stride, window)
    queries = TokenGrid(
        (1, height // pool[0], width // pool[1]),
        (1.0, stride[1] * pool[0], stride[2] * pool[1]),
        (1, window[1] // pool[0], window[2] // pool[1]),
    )
    _, _, n, m = call.weights_shape
    if (n, m) != (queries.tokens, keys.tokens) or queries.windows != keys.windows:
        return None
    number = _number(block.name)
    reach = f"windows of {side} x {side} on {height} x {width}" if side > 0 else "global"
    label = f"image encoder, block {number}, {reach} tokens"
    if pool != (1, 1):
        label += f", queries pooled {pool[0]} x {pool[1]}"
    return Placement(label, "windowed" if side > 0 else "global", queries, keys, block=number)


_DECODERS = ("Sam", "SamHQ", "Sam2", "Sam2Video", "Sam3Tracker", "EdgeTam")


@family(*(f"{name}Attention" for name in _DECODERS))
def two_way(call: LiveCall) -> Placement | None:
    """Place a call of a two-way decoder between prompt tokens and the image."""
    decoder = call.above(*(f"{name}MaskDecoder" for name in _DECODERS))
    if decoder is None:
        return None
    part = call.running.name.rsplit(".", 1)[-1]
    embeddings = _first(decoder, "image_embeddings")
    height, width = (int(n) for n in embeddings.shape[-2:])
    grid = TokenGrid.whole((1, height, width), _strides(call, (height, width)))
    _, _, n, m = call.weights_shape
    count = m if part == "cross_attn_image_to_token" else n
    tokens = TokenList(*_tokens(call, decoder, count))
    block = call.above(*(f"{name}TwoWayAttentionBlock" for name in _DECODERS))
    number = 0 if block is None else _number(block.name)
    where = "decoder, last" if block is None else f"decoder, block {number}"
    image = f"{sides(grid.shape)} tokens"
    known: dict[str, tuple[str, Side, Side]] = {
        "self_attn": ("prompts to prompts", tokens, tokens),
        "cross_attn_token_to_image": (f"prompts to image, {image}", tokens, grid),
        "cross_attn_image_to_token": (f"image to prompts, {image}", grid, tokens),
        "final_attn_token_to_image": (f"prompts to image, {image}", tokens, grid),
    }
    if part not in known:
        return None
    words, queries, keys = known[part]
    sizes = [s.tokens if isinstance(s, TokenGrid) else len(s.names) for s in (queries, keys)]
    if sizes != [n, m]:
        return None
    # The first block's self-attention replaces its input instead of adding to it.
    skips = block is not None and bool(getattr(block.module, "skip_first_layer_pe", False))
    residual = not (part == "self_attn" and skips)
    return Placement(f"{where}, {words}", "cross", queries, keys, block=number, residual=residual)


def _tokens(
    call: LiveCall, decoder: Running, count: int
) -> tuple[tuple[str, ...], tuple[int, ...], np.ndarray]:
    """Names, prompts and places of a decoder's tokens: its own, then the prompts'."""
    module: Any = decoder.module
    own = ["object score"] if hasattr(module, "obj_score_token") else []
    own += ["predicted quality"]
    own += [f"mask {i + 1}" for i in range(int(module.mask_tokens.num_embeddings))]
    own += ["high quality"] if hasattr(module, "hq_token") else []
    own = own[:count]
    rest = count - len(own)
    given = 0 if call.codes is None else len(call.codes)
    names = prompt_names(call.codes) if call.codes is not None and given <= rest else []
    voxels = np.full((count, 3), np.nan)
    if names and call.points is not None:
        voxels[len(own) : len(own) + given] = call.points
    if not names:
        names = [f"prompt {i + 1}" for i in range(rest)]
    prompts = [-1] * len(own) + list(range(len(names)))
    # SAM adds a point that is none where there is no box.
    extra = rest - len(names)
    names += ["no point"] * extra
    return (*own, *names), (*prompts, *[-1] * extra), voxels


def _strides(call: LiveCall, tokens: tuple[int, int]) -> tuple[float, float, float]:
    """Pixels per token: of the frame, of the running encoder's image, or 16."""
    size: tuple[int, ...] | None = None if call.grid is None else call.grid[1:]
    if size is None:
        for running in call.stack:
            pixels = running.kwargs.get("pixel_values")
            pixels = running.args[0] if pixels is None and running.args else pixels
            if getattr(pixels, "ndim", 0) == 4 and pixels.shape[1] == 3:  # type: ignore[union-attr]
                size = tuple(pixels.shape[2:])  # type: ignore[union-attr]
                break
    if size is None:
        return 1.0, 16.0, 16.0
    return 1.0, size[0] / tokens[0], size[1] / tokens[1]


def _first(running: Running, name: str) -> Any:
    return running.kwargs[name] if name in running.kwargs else running.args[0]


def _number(name: str) -> int:
    """Count from 1, by the last number in a module's name."""
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return numbers[-1] + 1 if numbers else 0
