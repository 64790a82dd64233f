"""Tokens of `sightline-3d`: image tokens at stride 16, and a seed token before the prompts'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.tokens import (
    Kind,
    LiveCall,
    Placement,
    Side,
    TokenGrid,
    TokenList,
    family,
    sides,
)
from napari_sightline.models.sightline3d import (
    BOX_HIGH,
    BOX_LOW,
    NEGATIVE,
    PAD,
    POSITIVE,
    SCRIBBLE_NEGATIVE,
    SCRIBBLE_POSITIVE,
    STRIDE,
)

_WORDS = {
    PAD: "padding",
    NEGATIVE: "click {} (−)",
    POSITIVE: "click {} (+)",
    SCRIBBLE_NEGATIVE: "scribble (−), point {}",
    SCRIBBLE_POSITIVE: "scribble (+), point {}",
    BOX_LOW: "box, low corner",
    BOX_HIGH: "box, high corner",
}


def prompt_names(codes: npt.NDArray[np.int64]) -> list[str]:
    """Name prompt tokens by their codes; clicks are counted together, whatever their sign."""
    clicks = points = 0
    names = []
    for code in codes.tolist():
        clicks += code in (NEGATIVE, POSITIVE)
        points += code in (SCRIBBLE_NEGATIVE, SCRIBBLE_POSITIVE)
        names.append(_WORDS[code].format(clicks if code in (NEGATIVE, POSITIVE) else points))
    return names


@family("Attention")
def sightline(call: LiveCall) -> Placement | None:
    """Place the four calls of a two-way block of `sightline-3d`."""
    block = call.above("TwoWayBlock")
    if block is None or not call.running.module.__module__.startswith("napari_sightline."):
        return None
    number = int(block.name.rsplit(".", 1)[-1]) + 1 if block.name[-1:].isdigit() else 0
    part = call.running.name.rsplit(".", 1)[-1]
    grid = _grid(call)
    tokens = _tokens(call)
    image = f"{sides(grid.shape)} tokens" if isinstance(grid, TokenGrid) else "no geometry"
    known: dict[str, tuple[str, Side | None, Side | None]] = {
        "image_self": (f"image to image, global, {image}", grid, grid),
        "token_self": ("prompts to prompts", tokens, tokens),
        "token_to_image": (f"prompts to image, {image}", tokens, grid),
        "image_to_token": (f"image to prompts, {image}", grid, tokens),
    }
    if part not in known:
        return None
    words, queries, keys = known[part]
    kind: Kind = "global" if part == "image_self" else "cross"
    return Placement(f"block {number}, {words}", kind, queries, keys, block=number)


def _grid(call: LiveCall) -> TokenGrid | None:
    """Image tokens: the region's voxels over the stride."""
    if call.grid is None:
        return None
    a, b, c = (n // STRIDE for n in call.grid)
    return TokenGrid.whole((a, b, c), (STRIDE, STRIDE, STRIDE))


def _tokens(call: LiveCall) -> TokenList | None:
    if call.codes is None or call.points is None:
        return None
    voxels = np.concatenate([np.full((1, 3), np.nan), call.points])
    prompts = (-1, *range(len(call.codes)))
    return TokenList(("seed", *prompt_names(call.codes)), prompts, voxels)
