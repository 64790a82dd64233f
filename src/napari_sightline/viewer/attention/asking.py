"""From a recorded pass and the panel's settings to an answer; runs on the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_sightline.attention.calls import Call, Pass
from napari_sightline.attention.maps import (
    Answer,
    AttentionMap,
    pick_heads,
    query_prompt,
    query_voxel,
)
from napari_sightline.attention.rollout import rollout
from napari_sightline.attention.tokens import TokenGrid, TokenList
from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.viewer.attention.state import HeadRow, Mode, Placed, Position, Settings, Shown

_STRAIGHT = 1e-6


def blocks_for(one: Pass, settings: Settings) -> list[int]:
    """Numbers of the calls that can answer in the present mode and direction."""
    wanted = TokenList if settings.mode == "prompt" else TokenGrid
    return [
        number
        for number, call in enumerate(one.calls)
        if call.observable and isinstance(_side(call, settings), wanted)
    ]


def _side(call: Call, settings: Settings) -> object:
    place = call.placement
    return place.queries if settings.direction == "to" else place.keys


def _other(call: Call, settings: Settings) -> object:
    place = call.placement
    return place.keys if settings.direction == "to" else place.queries


def block_number(one: Pass, settings: Settings) -> int:
    """Find the number of the chosen block.

    Where the chosen one does not fit, the last one that fits and has a map on the image.

    Raises
    ------
    BadInput
        Where no block of the pass fits.
    """
    fitting = blocks_for(one, settings)
    if not fitting:
        one.check()
        raise BadInput(_none(one, settings.mode))
    for number in fitting:
        if one.calls[number].module == settings.block:
            return number
    drawn = [n for n in fitting if isinstance(_other(one.calls[n], settings), TokenGrid)]
    return (drawn or fitting)[-1]


def _none(one: Pass, mode: Mode) -> str:
    if mode == "prompt":
        return (
            f"{one.model} has no prompt tokens in this direction; follow the cursor, or choose "
            "the other direction."
        )
    known = any(call.placement.queries is not None for call in one.calls)
    if not known:
        return (
            f"It is not known where the tokens of {one.model} lie, so there is nothing to draw on "
            "the scan."
        )
    return f"No block of {one.model} answers in this direction; choose the other one."


def ask(
    one: Pass,
    settings: Settings,
    position: Position | None,
    cancel: Callable[[], bool] | None = None,
) -> Shown:
    """Answer a query.

    Raises
    ------
    BadInput, ModelError
        One sentence for the panel: outside the window, no attention, weights replaced, ...
    """
    number = block_number(one, settings)
    answer: Answer
    if settings.mode == "prompt":
        answer = query_prompt(one, settings.prompt, number, settings.direction)
        position = None
    else:
        if position is None:
            raise BadInput("Move the cursor over the scan to ask what a voxel looks at.")
        if settings.mode == "rollout":
            answer = rollout(one, position, last=number, cancel=cancel)
        else:
            answer = query_voxel(one, position, number, settings.direction)
    if not isinstance(answer, AttentionMap):
        return Shown(answer, position=position)
    return show(answer, settings, position)


def show(answer: AttentionMap, settings: Settings, position: Position | None = None) -> Shown:
    """Merge and place what is to be drawn of a map."""
    merged = merge(answer, settings)
    return Shown(answer, merged, placed(merged), placed(answer), position)


def merge(answer: AttentionMap, settings: Settings) -> AttentionMap:
    """One map of the chosen heads; heads that the block does not have are left out."""
    count = len(answer.weights)
    chosen = [head for head in settings.heads if head < count]
    if chosen and len(chosen) < count:
        answer = pick_heads(answer, chosen)
    return answer if len(answer.weights) == 1 else answer.reduce(settings.reduction)


def placed(answer: AttentionMap) -> Placed:
    """Turn a map's axes so that they run along the volume's; flips and transposes only.

    A frame that is turned against the volume is put on the volume's own voxels instead.
    """
    affine, values = answer.affine, answer.values()
    linear = affine[:3, :3]
    order = [int(np.argmax(np.abs(row))) for row in linear]
    rest = linear.copy()
    rest[range(3), order] = 0
    if sorted(order) != [0, 1, 2] or np.abs(rest).max() > _STRAIGHT * np.abs(linear).max():
        return _resampled(answer)
    values = values.transpose(0, *(1 + axis for axis in order))
    step, origin = linear[range(3), order].copy(), affine[:3, 3].copy()
    for axis in range(3):
        if step[axis] < 0:
            values = np.flip(values, 1 + axis)
            origin[axis] += step[axis] * (values.shape[1 + axis] - 1)
            step[axis] = -step[axis]
    return Placed(np.ascontiguousarray(values), _three(step), _three(origin))


def _resampled(answer: AttentionMap) -> Placed:
    size = np.array(answer.frame.shape)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size])).reshape(3, -1).T
    places = answer.frame.to_volume(corners)
    low = np.ceil(places.min(0)).astype(int)
    high = np.floor(places.max(0)).astype(int) + 1
    a, b, c = (slice(int(i), max(int(i) + 1, int(j))) for i, j in zip(low, high, strict=True))
    heads = range(len(answer.weights))
    shape = (b.stop, b.stop, c.stop)
    values = np.stack([answer.on_volume(shape, head, (a, b, c))[1] for head in heads])
    return Placed(values, (1.0, 1.0, 1.0), _three(low))


def all_heads(
    one: Pass,
    settings: Settings,
    position: Position | None,
    scene: tuple[Any, ...],
    cancel: Callable[[], bool] | None = None,
) -> list[HeadRow]:
    """Attention by structure of each head of each block that answers the present query.

    Parameters
    ----------
    one : Pass
        A recorded pass.
    settings : Settings
        Mode, direction and prompt.
    position : tuple of 3 float or None
        Voxel that is asked for.
    scene : tuple
        What `napari_sightline.attention.structure.by_structure` takes after the map.
    cancel : callable, optional
        Asked before each block.

    Raises
    ------
    BadInput, ModelError, Cancelled
        As `ask`.
    """
    from napari_sightline.attention.structure import NO_STRUCTURE, by_structure

    rows = []
    with one.opened():
        for number in blocks_for(one, settings):
            if cancel is not None and cancel():
                raise Cancelled("Counting the heads was cancelled.")
            call = one.calls[number]
            if settings.mode == "prompt":
                answer = query_prompt(one, settings.prompt, number, settings.direction)
            elif position is not None:
                answer = query_voxel(one, position, number, settings.direction)
            else:
                raise BadInput("Move the cursor over the scan to ask what a voxel looks at.")
            if not isinstance(answer, AttentionMap):
                continue
            found = by_structure(answer, *scene)
            known = frozenset(found.names[: -len(NO_STRUCTURE)])
            even = dict(zip(found.names, map(float, found.volumes), strict=True))
            for head, shares in enumerate(found.shares):
                share = dict(zip(found.names, map(float, shares), strict=True))
                rows.append(HeadRow(call.module, call.label, head, share, even, known))
    return rows


def strongest(one: Placed, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Canonical voxels ``(k, 3)`` of the strongest tokens of a placed map, and their values."""
    flat = np.nan_to_num(one.values[0].reshape(-1), nan=-1.0)
    picked = np.argsort(flat)[::-1][:count]
    picked = picked[flat[picked] > 0]
    cells = np.stack(np.unravel_index(picked, one.values.shape[1:]), 1)
    return cells * np.array(one.step) + one.origin, flat[picked]


def _three(values: Sequence[float] | np.ndarray) -> Position:
    a, b, c = (float(v) for v in values)
    return a, b, c
