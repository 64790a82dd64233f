"""What was done to one object, in order: prompts, and everything else that shaped its mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Prompt, Scribble
from napari_sightline.segment.packed import EMPTY, PackedMask

OperationName = Literal["largest part", "fill holes", "smooth", "grow", "interpolate"]


@dataclass(frozen=True)
class Choice:
    """One of the candidates after a first prompt was taken; None: the model's own answer."""

    index: int | None


@dataclass(frozen=True)
class Paint:
    """Voxels that were put into the mask, and taken out of it, by something else than a prompt."""

    added: PackedMask
    removed: PackedMask = EMPTY


@dataclass(frozen=True)
class Operation:
    """A morphological operation, see `napari_sightline.segment.morphology`.

    ``amount`` is in mm for ``"smooth"`` and ``"grow"`` (below zero: shrinks) and the axis for
    ``"interpolate"``.
    """

    name: OperationName
    amount: float = 0.0


Act: TypeAlias = Prompt | Choice | Paint | Operation


def is_prompt(act: Act) -> bool:
    """Whether a reader placed it in the image."""
    return isinstance(act, Point | Box | Scribble | Lasso | MaskPrompt)


def is_edit(act: Act) -> bool:
    """Whether it set voxels directly, so that earlier prompts need not hold any more."""
    return isinstance(act, MaskPrompt | Paint | Operation)


def said(acts: tuple[Act, ...]) -> tuple[Prompt, ...]:
    """Prompts after the last edit: what they say of a voxel holds."""
    last = max((k for k, act in enumerate(acts) if is_edit(act)), default=-1)
    return tuple(act for act in acts[last + 1 :] if not isinstance(act, Choice | Paint | Operation))
