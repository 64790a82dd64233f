"""Queries: what a voxel or a prompt attends to, and what attends to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.answers import (
    Answer,
    AttentionMap,
    Direction,
    Reduction,
    TokenAttention,
    Values,
    cells_of_voxels,
    entropy_of_rows,
)
from napari_sightline.attention.calls import Call, Pass
from napari_sightline.attention.tokens import PADDING, SPECIAL, TokenGrid, TokenList
from napari_sightline.errors import BadInput

__all__ = [
    "Answer",
    "AttentionMap",
    "Direction",
    "Reduction",
    "TokenAttention",
    "Values",
    "cells_of_voxels",
    "pick_heads",
    "prompts_of",
    "query_prompt",
    "query_voxel",
    "query_voxel_blocks",
]


def query_voxel(
    one: Pass,
    position: npt.ArrayLike,
    block: int | str,
    direction: Direction = "to",
) -> Answer:
    """Ask what a voxel attends to, or what attends to it, in one block.

    A row of the map, ``softmax(q_i k^T * scale + bias)`` over the keys of the voxel's token ``i``
    (``"to"``), or a column, the weight that each query gives to the token (``"from"``); Vaswani et
    al., "Attention is all you need" (2017), eq. 1.

    Parameters
    ----------
    one : Pass
        A recorded pass.
    position : array_like
        ``(3,)``, canonical voxel of the volume.
    block : int or str
        Number of the call, from 0, its module's name or its label.
    direction : {"to", "from"}
        See above.

    Returns
    -------
    AttentionMap or TokenAttention
        Per head. The latter where the other side is no image, such as prompts.

    Raises
    ------
    BadInput
        Where the block is not there, was not recorded, has no geometry, has no image tokens on
        the query's side, or the position lies outside it.
    ModelError
        Where the model's weights changed since.
    """
    one.check()
    return _ask(one, position, block, direction)


def _ask(one: Pass, position: npt.ArrayLike, block: int | str, direction: Direction) -> Answer:
    call = one.call(block)
    sides = (call.placement.queries, call.placement.keys)
    own = sides[0] if direction == "to" else sides[1]
    if own is None:
        raise BadInput(
            f"Nothing is known of where the tokens of {call.label} lie; ask for its raw rows."
        )
    if not isinstance(own, TokenGrid):
        raise BadInput(
            f"In {call.label} the {'queries' if direction == 'to' else 'keys'} are prompts, not "
            "voxels; ask for a prompt, or for the other direction."
        )
    item = one.entry(position)
    frame = one.frames[item]
    cell = own.cell(frame.from_volume(position))
    if cell is None:
        where = ", ".join(f"{v:g}" for v in np.asarray(position, float))
        raise BadInput(f"The voxel ({where}) lies outside the tokens of {call.label}.")
    window, token = own.locate(cell)
    where = ", ".join(f"{v:g}" for v in np.asarray(position, float))
    said = f"voxel ({where}) attends to" if direction == "to" else f"attends to voxel ({where})"
    return _answer(one, call, item, window, token, said, direction)


def query_voxel_blocks(
    one: Pass, position: npt.ArrayLike, direction: Direction = "to"
) -> list[Answer]:
    """Ask a voxel of every block that has image tokens on its side; see `query_voxel`.

    Raises
    ------
    BadInput, ModelError
        As `query_voxel`; blocks that were not recorded are left out.
    """
    numbers = [
        number
        for number, call in enumerate(one.calls)
        if call.observable
        and isinstance(
            call.placement.queries if direction == "to" else call.placement.keys, TokenGrid
        )
    ]
    if not numbers:
        one.check()
        raise BadInput(
            f"No block of {one.model} in this pass has image tokens whose place is known."
        )
    one.check()
    with one.opened():
        return [_ask(one, position, number, direction) for number in numbers]


def query_prompt(
    one: Pass, prompt: int | str, block: int | str, direction: Direction = "to"
) -> Answer:
    """Ask what a prompt's token attends to, or what attends to it, in one block.

    Parameters
    ----------
    one : Pass
        A recorded pass of a promptable model.
    prompt : int or str
        Number of the prompt token, from 0 in the order of the pass's prompts, or a token's name,
        such as ``"seed"`` or ``"click 1 (+)"``.
    block, direction
        As in `query_voxel`.

    Raises
    ------
    BadInput
        Where the block or the prompt is not there.
    ModelError
        Where the model's weights changed since.
    """
    one.check()
    call = one.call(block)
    sides = (call.placement.queries, call.placement.keys)
    own = sides[0] if direction == "to" else sides[1]
    if not isinstance(own, TokenList):
        raise BadInput(
            f"In {call.label} the {'queries' if direction == 'to' else 'keys'} are no prompts; "
            "choose a block between prompts and image."
        )
    if isinstance(prompt, str) and prompt in own.names:
        token: int | None = own.names.index(prompt)
    elif isinstance(prompt, int) and prompt >= 0:
        token = own.token_of(prompt)
    else:
        token = None
    if token is None:
        raise BadInput(f"There is no prompt {prompt!r}; choose one of {', '.join(own.names)}.")
    name = own.names[token]
    said = f"{name} attends to" if direction == "to" else f"attends to {name}"
    return _answer(one, call, 0, 0, token, said, direction)


def prompts_of(one: Pass) -> tuple[str, ...]:
    """Names of the prompt tokens of a pass, the decoder's own first; empty without prompts."""
    for call in one.calls:
        for side in (call.placement.queries, call.placement.keys):
            if isinstance(side, TokenList):
                return side.names
    return ()


def _answer(
    one: Pass, call: Call, item: int, window: int, token: int, said: str, direction: Direction
) -> Answer:
    own, other = call.placement.queries, call.placement.keys
    if direction == "from":
        own, other = other, own
    if other is None:
        raise BadInput(
            f"Nothing is known of where the tokens of {call.label} lie; ask for its raw rows."
        )
    windows = own.count if isinstance(own, TokenGrid) else 1
    if isinstance(other, TokenGrid):
        windows = max(windows, other.count)
    entry = item * windows + window
    if direction == "to":
        rows = call.rows(entry, [token])[:, 0].cpu().numpy()
    else:
        rows = call.column(entry, token).cpu().numpy()
    heads = tuple(f"head {number + 1}" for number in range(len(rows)))
    if isinstance(other, TokenList):
        return TokenAttention(rows, other, said, one.model, call.label, heads, direction)
    cells = other.cells(window if other.count > 1 else 0)
    seen = cells >= 0
    hidden = None if call.bias is None else call.bias.hidden(entry, token, direction == "from")
    if hidden is not None:
        seen &= ~hidden.cpu().numpy()
    total: Values = rows if direction == "to" else rows / np.maximum(rows.sum(1), 1e-30)[:, None]
    if not one.frames:
        raise BadInput(f"This pass of {one.model} has no place in a volume; give its frame.")
    return AttentionMap(
        rows[:, seen],
        cells[seen],
        other,
        one.frames[item],
        total[:, cells == PADDING].sum(1),
        total[:, cells == SPECIAL].sum(1),
        said,
        one.model,
        call.label,
        heads,
        direction,
        entropy=entropy_of_rows(rows).astype(np.float32) if direction == "to" else None,
    )


def pick_heads(answer: AttentionMap, heads: Sequence[int]) -> AttentionMap:
    """Keep some heads of a map, from 0; `BadInput` where one is not there."""
    count = len(answer.weights)
    for head in heads:
        if not 0 <= head < count:
            raise BadInput(f"There is no head {head + 1}; {answer.block} has heads 1 to {count}.")
    chosen = list(heads)
    return replace(
        answer,
        weights=answer.weights[chosen],
        padding=answer.padding[chosen],
        special=answer.special[chosen],
        heads=tuple(answer.heads[head] for head in chosen),
        entropy=None if answer.entropy is None else answer.entropy[chosen],
    )
