"""Attention rollout: what an output token rests on, through every layer, as one vector.

Abnar & Zuidema, "Quantifying attention flow in transformers" (2020): with ``A_l`` the mean of a
layer's heads and ``(A_l + I) / 2`` for the residual beside it, the rollout is the product over the
layers. One row of that product is a vector; it is carried backwards through the layers, a block of
rows at a time, so that no ``N x N`` matrix is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
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
class Flow:
    """Where a vector stands that is carried back through layers.

    Attributes
    ----------
    shape : tuple of 3 int
        Image tokens it stands on.
    image : numpy.ndarray
        Its values there, flat.
    tokens : dict
        Its values on other tokens, by their names.
    lead : numpy.ndarray
        On tokens before the image's.
    product : callable
        ``(call, entry, vector) -> vector @ A`` for the matrix that a layer stands for.
    stay, move : float
        Weight of the residual and of attention.
    padding : float
        What was lost to padding.
    approximate : bool
        Whether windows, merging or cross-attention were met.
    """

    shape: Shape3
    image: Vector
    tokens: dict[tuple[str, ...], Vector]
    lead: Vector
    product: Callable[[Call, int, Vector], Vector]
    stay: float = 0.5
    move: float = 0.5
    padding: float = 0.0
    approximate: bool = False

    def back(self, call: Call, item: int) -> None:
        """Carry it from a call's output to its input, for one entry of the batch."""
        # Without a residual all of it moves.
        factors = (self.stay, self.move) if call.placement.residual else (0.0, 1.0)
        if isinstance(call.placement.queries, TokenGrid):
            self._back_from_grid(call, item, call.placement.queries, *factors)
        elif isinstance(call.placement.queries, TokenList):
            self._back_from_tokens(call, item, call.placement.queries, *factors)

    def _onto(self, shape: Shape3) -> None:
        if self.shape != shape:
            self.image = split(self.image, self.shape, shape)
            self.shape, self.approximate = shape, True

    def _back_from_tokens(
        self, call: Call, item: int, queries: TokenList, stay: float, move: float
    ) -> None:
        keys, own = call.placement.keys, self.tokens.get(queries.names)
        if own is None or not own.any():
            return
        moved = move * self.product(call, item, own)
        self.tokens[queries.names] = stay * own
        if isinstance(keys, TokenList):
            before = self.tokens.get(keys.names, np.zeros(len(moved)))
            self.tokens[keys.names] = before + moved
        elif isinstance(keys, TokenGrid):
            self.approximate = True
            self._onto(keys.shape)
            self.image = self.image + moved[len(keys.lead) :]

    def _back_from_grid(
        self, call: Call, item: int, queries: TokenGrid, stay: float, move: float
    ) -> None:
        keys = call.placement.keys
        self._onto(queries.shape)
        if len(self.lead) != len(queries.lead):
            self.lead = np.zeros(len(queries.lead))
        old = self.image
        if isinstance(keys, TokenList):
            self.approximate = True
            moved = move * self.product(call, item, old)
            before = self.tokens.get(keys.names, np.zeros(len(moved)))
            self.tokens[keys.names] = before + moved
            self.image = stay * old
            return
        assert isinstance(keys, TokenGrid)
        pooled = keys.shape != queries.shape  # then the residual is pooled as well
        kept = stay * old
        new = split(kept, queries.shape, keys.shape) if pooled else kept.copy()
        self.approximate = self.approximate or queries.count > 1 or pooled
        lead = stay * self.lead
        for window in range(queries.count):
            cells = queries.cells(window)
            vector = np.where(cells >= 0, old[np.maximum(cells, 0)], 0.0)
            vector[: len(self.lead)] = self.lead
            if not vector.any():
                continue
            moved = move * self.product(call, item * queries.count + window, vector)
            into = keys.cells(window)
            np.add.at(new, into[into >= 0], moved[into >= 0])
            self.padding += float(moved[into == PADDING].sum())
            lead = lead + moved[: len(keys.lead)]
        self.image, self.lead, self.shape = new, lead, keys.shape


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
    placed = placed_calls(one, calls)
    item = 0 if position is None else one.entry(position)
    flow, said = _begin(one, placed, item, position, prompt)
    flow.product = lambda call, entry, vector: left_product(call, entry, vector, cancel)
    with one.opened():
        for call in reversed(placed):
            flow.back(call, item)
    grid = grid_of(placed, flow.shape)
    kept = float(flow.lead.sum() + sum(v.sum() for v in flow.tokens.values()))
    seen = np.flatnonzero(flow.image > 0)
    return AttentionMap(
        flow.image[None, seen].astype(np.float32),
        seen,
        grid,
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


def placed_calls(one: Pass, calls: list[Call]) -> list[Call]:
    """Keep the calls whose tokens have a place; `BadInput` where none has."""
    placed = [
        call
        for call in calls
        if call.observable
        and call.placement.queries is not None
        and call.placement.keys is not None
    ]
    if not placed:
        raise BadInput(f"No layer of {one.model} in this pass has tokens whose place is known.")
    return placed


def grid_of(calls: list[Call], shape: Shape3) -> TokenGrid:
    """Grid of image tokens of a shape among some calls, as one window."""
    sides = [side for call in calls for side in (call.placement.keys, call.placement.queries)]
    found = next(side for side in sides if isinstance(side, TokenGrid) and side.shape == shape)
    return TokenGrid.whole(found.shape, found.stride)


def _begin(
    one: Pass,
    calls: list[Call],
    item: int,
    position: npt.ArrayLike | None,
    prompt: int | str | None,
) -> tuple[Flow, str]:
    sides = [s for c in reversed(calls) for s in (c.placement.queries, c.placement.keys)]
    grid = next((s for s in sides if isinstance(s, TokenGrid)), None)
    if grid is None or not one.frames:
        raise BadInput(f"This pass of {one.model} has no image tokens with a place in a volume.")
    zeros = np.zeros(int(np.prod(grid.shape)))
    flow = Flow(grid.shape, zeros, {}, np.zeros(len(grid.lead)), left_product)
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


def split(vector: Vector, coarse: Shape3, fine: Shape3) -> Vector:
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
