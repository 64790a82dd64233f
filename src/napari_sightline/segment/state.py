"""What a session holds: objects and which one takes prompts, never changed once made.

A step makes a new `Scene` that shares with the last one whatever it left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Prompt
from napari_sightline.segment.acts import Act, Choice, Operation, Paint
from napari_sightline.segment.packed import EMPTY, PackedLogits, PackedMask, tight, union
from napari_sightline.volume import Box3

__all__ = [
    "Option",
    "PackedLogits",
    "PackedMask",
    "Scene",
    "SegmentObject",
    "Step",
    "tight",
    "union",
]

#: Largest value of a label map.
LAST_ID = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True)
class Option:
    """One of the masks that a model offers for a first prompt, as logits."""

    logits: PackedLogits
    quality: float


@dataclass(frozen=True)
class Step:
    """An object after one act: all that undo must bring back.

    Attributes
    ----------
    acts : tuple
        Everything that led here, in order.
    mask : PackedMask
        The object's voxels.
    logits : PackedLogits or None
        From which the next prompt goes on; None where no model spoke or the mask was edited since.
    quality : float
        Predicted intersection over union, 0 .. 1, or NaN.
    options : tuple of Option
        After a first prompt: the model's answer, then its candidates from small to large.
    """

    acts: tuple[Act, ...] = ()
    mask: PackedMask = EMPTY
    logits: PackedLogits | None = None
    quality: float = float("nan")
    options: tuple[Option, ...] = ()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts among the acts."""
        return tuple(act for act in self.acts if not isinstance(act, Choice | Paint | Operation))

    @property
    def chosen(self) -> int | None:
        """Candidate that was taken; None for the model's own answer."""
        last = self.acts[-1] if self.acts else None
        return last.index if isinstance(last, Choice) else None


@dataclass(frozen=True)
class SegmentObject:
    """One structure that is being segmented, or was accepted.

    Attributes
    ----------
    id : int
        Its value in the label map; never given to another object while this one can come back.
    name : str
        What the user calls it.
    accepted : bool
        Whether its mask stands in the label map.
    locked : bool
        Whether no other object may take its voxels; accepted objects are, until unlocked.
    visible : bool
        Whether a viewer shows it.
    colour : tuple of 3 int or None
        Red, green, blue, 0 .. 255; None: the colour that goes with the name.
    step : Step
        Its acts and mask.
    voxel_ml : float
        Volume of a voxel.
    """

    id: int
    name: str = ""
    accepted: bool = False
    locked: bool = False
    visible: bool = True
    colour: tuple[int, int, int] | None = None
    step: Step = field(default_factory=Step)
    voxel_ml: float = 0.0

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts so far."""
        return self.step.prompts

    @property
    def mask_box(self) -> Box3 | None:
        """Bounding box of the mask in voxels of the volume; None if it is empty."""
        return self.step.mask.box

    @property
    def mask(self) -> np.ndarray | None:
        """Bool mask within `mask_box`; None if it is empty."""
        return None if self.step.mask.box is None else self.step.mask.unpack()

    @property
    def quality(self) -> float:
        """Predicted intersection over union, 0 .. 1; NaN where no model spoke."""
        return self.step.quality

    @property
    def volume_ml(self) -> float:
        """Volume of the mask in mL."""
        return self.step.mask.count * self.voxel_ml

    @property
    def untouched(self) -> bool:
        """Whether nothing was done to it yet."""
        return not self.accepted and not self.step.acts and self.step.mask.box is None


@dataclass(frozen=True)
class Scene:
    """Every object of a session at one moment.

    Attributes
    ----------
    objects : tuple of SegmentObject
        In the order of their making.
    current : int
        Id of the object that prompts go to; it is not accepted.
    next_id : int
        Id of the next new object.
    """

    objects: tuple[SegmentObject, ...] = ()
    current: int = 0
    next_id: int = 1

    def get(self, number: int) -> SegmentObject | None:
        """Object of an id, or None."""
        return next((item for item in self.objects if item.id == number), None)

    def need(self, number: int | None) -> SegmentObject:
        """Object of an id, None meaning the current one; `BadInput` where there is none."""
        found = self.get(self.current if number is None else number)
        if found is None:
            raise BadInput(f"There is no object {number}; see the session's objects.")
        return found

    def with_object(self, item: SegmentObject) -> Scene:
        """Put an object in the place of that of the same id, or behind the others."""
        if self.get(item.id) is None:
            return replace(self, objects=(*self.objects, item))
        return replace(self, objects=tuple(item if o.id == item.id else o for o in self.objects))

    def changed(self, number: int | None, **values: Any) -> Scene:
        """Scene with some attributes of an object changed."""
        return self.with_object(replace(self.need(number), **values))

    def without(self, number: int) -> Scene:
        """Scene less an object."""
        return replace(self, objects=tuple(o for o in self.objects if o.id != number))

    def free_id(self) -> int:
        """Id for a new object; `BadInput` where all 65535 are taken."""
        if self.next_id <= LAST_ID:
            return self.next_id
        taken = {item.id for item in self.objects}
        free = next((n for n in range(1, LAST_ID + 1) if n not in taken), None)
        if free is None:
            raise BadInput("A label map holds at most 65535 objects; delete one of them.")
        return free

    def begun(self, voxel_ml: float, name: str = "", **values: Any) -> Scene:
        """Scene with a new current object; a current one that is untouched is taken again."""
        now = self.get(self.current)
        if now is not None and now.untouched:
            return self.with_object(replace(now, name=name or now.name, **values))
        number = self.free_id()
        created = SegmentObject(number, name, voxel_ml=voxel_ml, **values)
        following = max(self.next_id, number + 1)
        return replace(self, objects=(*self.objects, created), current=number, next_id=following)
