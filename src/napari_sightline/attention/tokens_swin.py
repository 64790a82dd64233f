"""Tokens of MONAI's Swin-UNETR (also its second version): windows, shifts, padding, four stages."""

from __future__ import annotations

import numpy as np

from napari_sightline.attention.bias import WindowBias
from napari_sightline.attention.tokens import LiveCall, Placement, TokenGrid, family, sides


@family("WindowAttention")
def swin(call: LiveCall) -> Placement | None:
    """Place a call of MONAI's window attention, and rebuild its bias from the table."""
    block = call.above("SwinTransformerBlock")
    module = call.running.module
    if block is None or not hasattr(module, "relative_position_bias_table"):
        return None
    x = block.args[0] if block.args else block.kwargs["x"]
    size = np.array(x.shape[1:-1])
    flat = len(size) == 2
    full = np.array(block.module.window_size)
    shift = np.array(block.module.shift_size)
    # MONAI shrinks a window to the grid where that is not larger, and does not shift it then.
    small = size <= full
    window, shift = np.where(small, size, full), np.where(small, 0, shift)
    stage = _stage(block.name)
    if stage == 0:
        return None
    stride = np.array(_patch(call, len(size)), float) * 2 ** (stage - 1)
    if flat:
        size, window = np.r_[1, size], np.r_[1, window]
        shift, stride = np.r_[0, shift], np.r_[1.0, stride]
    grid = TokenGrid(_three(size), _strides(stride), _three(window), _three(shift))
    shifted = bool(shift.any())
    number = int(block.name.rsplit(".", 1)[-1]) + 1
    kind = "shifted" if shifted else "windowed"
    words = "shifted windows" if shifted else "windows"
    if grid.count == 1:
        kind, words = "global", "one window"
    label = (
        f"stage {stage}, block {number}, {words} of {sides(grid.window)} on {sides(grid.shape)} "
        "tokens"
    )
    _, _, n, m = call.weights_shape
    if n != grid.tokens or m != grid.tokens:
        return None
    bias = None
    if call.q is not None:
        bias = WindowBias(
            module.relative_position_bias_table,  # type: ignore[arg-type]
            module.relative_position_index,  # type: ignore[arg-type]
            grid,
            call.q.dtype,
        )
    return Placement(label, kind, grid, grid, bias, stage, number)  # type: ignore[arg-type]


def _patch(call: LiveCall, axes: int) -> tuple[int, ...]:
    whole = call.above("SwinTransformer")
    patch = 2 if whole is None else whole.module.patch_size
    return (patch,) * axes if isinstance(patch, int) else tuple(patch)  # type: ignore[arg-type]


def _stage(name: str) -> int:
    """Stage by the module's name, such as ``swinViT.layers3.0.blocks.1``."""
    for part in name.split("."):
        if part.startswith("layers") and part[6:].isdigit():
            return int(part[6:])
    return 0


def _three(values: np.ndarray) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return a, b, c


def _strides(values: np.ndarray) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
