"""Attention rollout: what an output token rests on, through every layer, as one vector.

Abnar & Zuidema, "Quantifying attention flow in transformers" (2020): with ``A_l`` the mean of a
layer's heads and ``(A_l + I) / 2`` for the residual beside it, the rollout is the product over the
layers. One row of that product is a vector; it is carried backwards through the layers, a block of
rows at a time, so that no ``N x N`` matrix is ever held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_sightline.attention.calls import Call, Pass
from napari_sightline.attention.frame import Shape3
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.tokens import PADDING, TokenGrid, TokenList
from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.segment.update import CancelFn

Vector = npt.NDArray[np.float64]


def left_product(
    call: Call, entry: int, vector: npt.ArrayLike, cancel: CancelFn | None = None
) -> Vector:
    """Multiply a row vector with the mean of a call's heads: ``v @ A``.

    Parameters
    ----------
    call : Call
        A recorded call.
    entry : int
        Entry of the batch (of windows).
    vector : array_like
        ``(n,)``, one value a query; rows whose value is 0 are not computed.
    cancel : callable, optional
        Asked between blocks of rows; True stops the work.

    Returns
    -------
    numpy.ndarray
        ``(m,)`` float64.

    Raises
    ------
    Cancelled
        Where `cancel` returned True.
    """
    values = torch.as_tensor(np.asarray(vector, np.float64))
    used = torch.nonzero(values).flatten()
    out = np.zeros(call.keys)
    step = max(1, call.blocks(entry)[0].stop)
    with call.opened():
        for start in range(0, len(used), step):
            if cancel is not None and cancel():
                raise Cancelled("The rollout was cancelled.")
            some = used[start : start + step]
            rows = call.rows(entry, some.numpy())
            weight = values[some].to(rows.device, rows.dtype)
            out += torch.einsum("htm,t->m", rows, weight).double().cpu().numpy()
    return out / call.heads


@dataclass
class _Flow:
    """Where the vector stands: on image tokens, on other tokens, or lost to padding."""

    shape: Shape3
    image: Vector
    tokens: dict[tuple[str, ...], Vector]
    lead: Vector
    padding: float = 0.0
    approximate: bool = False


def rollout(
    one: Pass,
    position: npt.ArrayLike | None = None,
    prompt: int | str | None = None,
    last: int | None = None,
    cancel: CancelFn | None = None,
) -> AttentionMap:
    """Follow attention from a voxel's or a prompt's token back to the first layer.

    Windows, shifts, padding, pooled queries, patch merging (each merged token is split evenly over
    those it came from) and two-way cross-attention are followed. It is exact in Abnar & Zuidema's
    sense for one global grid; with windows, merging or cross-attention it is labelled approximate.
    Convolutions, multilayer perceptrons and values are not part of it.

    Parameters
    ----------
    one : Pass
        A recorded pass.
    position : array_like, optional
        ``(3,)``, canonical voxel of the volume: its token in the last layer with image tokens.
    prompt : int or str, optional
        A prompt's token instead, as in `query_prompt`.
    last : int, optional
        Number of the call to begin with, from 0; the last one with image tokens by default.
    cancel : callable, optional
        Asked between blocks of rows; True stops the work.

    Returns
    -------
    AttentionMap
        One row, on the tokens of the first layer; sums to 1 with padding and, as ``special``,
        what stays on prompts and class tokens.

    Raises
    ------
    BadInput
        Where neither or both of `position` and `prompt` are given, or a layer is not known.
    ModelError
        Where the weights changed since.
    """
    one.check()
    if (position is None) == (prompt is None):
        raise BadInput("A rollout starts at a voxel or at a prompt; give one of them.")
    calls = list(one.calls if last is None else one.calls[: last + 1])
    placed = [call for call in calls if call.observable and _known(call)]
    if not placed:
        raise BadInput(f"No layer of {one.model} in this pass has tokens whose place is known.")
    item = 0 if position is None else one.entry(position)
    flow, said = _begin(one, placed, item, position, prompt)
    with one.opened():
        for call in reversed(placed):
            _back(call, item, flow, cancel)
    grids = [s for c in placed for s in (c.placement.keys, c.placement.queries)]
    grid = next(s for s in grids if isinstance(s, TokenGrid) and s.shape == flow.shape)
    kept = float(flow.lead.sum() + sum(v.sum() for v in flow.tokens.values()))
    seen = np.flatnonzero(flow.image > 0)
    return AttentionMap(
        flow.image[None, seen].astype(np.float32),
        seen,
        TokenGrid.whole(grid.shape, grid.stride),
        one.frames[item],
        np.array([flow.padding], np.float32),
        np.array([kept], np.float32),
        said,
        one.model,
        f"rollout of {len(placed)} layers" + (", approximate" if flow.approximate else ""),
        ("mean of heads",),
        unit="share of attention flow",
        approximate=flow.approximate,
    )


def _known(call: Call) -> bool:
    return call.placement.queries is not None and call.placement.keys is not None


def _begin(
    one: Pass,
    calls: list[Call],
    item: int,
    position: npt.ArrayLike | None,
    prompt: int | str | None,
) -> tuple[_Flow, str]:
    sides = [s for c in reversed(calls) for s in (c.placement.queries, c.placement.keys)]
    grid = next((s for s in sides if isinstance(s, TokenGrid)), None)
    if grid is None or not one.frames:
        raise BadInput(f"This pass of {one.model} has no image tokens with a place in a volume.")
    flow = _Flow(grid.shape, np.zeros(int(np.prod(grid.shape))), {}, np.zeros(len(grid.lead)))
    if position is not None:
        cell = grid.cell(one.frames[item].from_volume(position))
        where = ", ".join(f"{v:g}" for v in np.asarray(position, float))
        if cell is None:
            raise BadInput(f"The voxel ({where}) lies outside the tokens of {one.model}.")
        flow.image[np.ravel_multi_index(cell, grid.shape)] = 1
        return flow, f"voxel ({where}) rests on"
    tokens = next((s for s in sides if isinstance(s, TokenList)), None)
    if tokens is None:
        raise BadInput(f"The model {one.model} has no prompt tokens in this pass; give a voxel.")
    found = tokens.names.index(prompt) if prompt in tokens.names else None
    found = tokens.token_of(prompt) if isinstance(prompt, int) and prompt >= 0 else found
    if found is None:
        raise BadInput(f"There is no prompt {prompt!r}; choose one of {', '.join(tokens.names)}.")
    flow.tokens[tokens.names] = np.eye(len(tokens.names))[found]
    return flow, f"{tokens.names[found]} rests on"


def _back(call: Call, item: int, flow: _Flow, cancel: CancelFn | None) -> None:
    """Carry the vector from a call's output to its input."""
    queries, keys = call.placement.queries, call.placement.keys
    stays = 0.5 if call.placement.residual else 0.0
    if isinstance(queries, TokenGrid):
        if flow.shape != queries.shape:
            flow.image = _split(flow.image, flow.shape, queries.shape)
            flow.shape, flow.approximate = queries.shape, True
        if len(flow.lead) != len(queries.lead):
            flow.lead = np.zeros(len(queries.lead))
        _from_grid(call, item, flow, queries, keys, stays, cancel)
        return
    assert isinstance(queries, TokenList)
    names = queries.names
    own = flow.tokens.get(names)
    if own is None or not own.any():
        return
    flow.approximate = flow.approximate or isinstance(keys, TokenGrid)
    moved = (1 - stays) * left_product(call, item, own, cancel)
    flow.tokens[names] = stays * own
    if isinstance(keys, TokenList):
        flow.tokens[keys.names] = flow.tokens.get(keys.names, np.zeros(len(moved))) + moved
    else:
        assert isinstance(keys, TokenGrid)
        if flow.shape != keys.shape:
            flow.image = _split(flow.image, flow.shape, keys.shape)
            flow.shape = keys.shape
        flow.image += moved[len(keys.lead) :]


def _from_grid(
    call: Call,
    item: int,
    flow: _Flow,
    queries: TokenGrid,
    keys: TokenGrid | TokenList | None,
    stays: float,
    cancel: CancelFn | None,
) -> None:
    old = flow.image
    if isinstance(keys, TokenList):
        flow.approximate = True
        moved = (1 - stays) * left_product(call, item, old, cancel)
        flow.tokens[keys.names] = flow.tokens.get(keys.names, np.zeros(len(moved))) + moved
        flow.image = stays * old
        return
    assert isinstance(keys, TokenGrid)
    flow.approximate = flow.approximate or queries.count > 1
    kept = stays * old
    if keys.shape != queries.shape:  # pooled queries: the residual is pooled as well
        kept = _split(kept, queries.shape, keys.shape)
        flow.approximate = True
    new, lead = kept.copy(), stays * flow.lead
    for window in range(queries.count):
        cells = queries.cells(window)
        vector = np.where(cells >= 0, old[np.maximum(cells, 0)], 0.0)
        vector[: len(flow.lead)] = flow.lead
        if not vector.any():
            continue
        moved = (1 - stays) * left_product(call, item * queries.count + window, vector, cancel)
        into = keys.cells(window)
        np.add.at(new, into[into >= 0], moved[into >= 0])
        flow.padding += float(moved[into == PADDING].sum())
        lead = lead + moved[: len(keys.lead)]
    flow.image, flow.lead, flow.shape = new, lead, keys.shape


def _split(vector: Vector, coarse: Shape3, fine: Shape3) -> Vector:
    """Spread each coarse token evenly over the fine ones it came from."""
    factors = [-(-f // c) for f, c in zip(fine, coarse, strict=True)]
    places = [np.arange(f) // k for f, k in zip(fine, factors, strict=True)]
    counts = [np.bincount(p, minlength=c) for p, c in zip(places, coarse, strict=True)]
    spread = vector.reshape(coarse)
    for axis, (place, count) in enumerate(zip(places, counts, strict=True)):
        shape = [1, 1, 1]
        shape[axis] = len(count)
        spread = (spread / np.maximum(count, 1).reshape(shape)).take(place, axis)
    return spread.reshape(-1)
