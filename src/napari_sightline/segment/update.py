"""What a session tells of a step: the mask, and which parts of the label image to paint anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_sightline.errors import Cancelled
from napari_sightline.segment.packed import PackedMask
from napari_sightline.segment.region import Region
from napari_sightline.volume import Box3

ProgressFn = Callable[[float, str], None]
CancelFn = Callable[[], bool]


@dataclass(frozen=True)
class MaskUpdate:
    """What a step changed.

    Attributes
    ----------
    object_id : int
        Whose mask it is: the object that was changed; the current one where there were several.
    box : tuple of 3 slices
        Part of the volume, in voxels, outside which nothing changed.
    mask : numpy.ndarray
        Bool, shape of `box`: the object's whole mask inside the box; outside it has none.
    logits : numpy.ndarray or None
        float16, shape of `box`; None where no model spoke (undo, an existing mask).
    quality : float
        Predicted intersection over union, 0 .. 1, or NaN.
    seconds, encode_seconds : float
        Time of the whole step, and of what depends on the image alone.
    generation : int
        Counts the session's steps.
    region : Region or None
        The working grid whose decoding gave the mask; None where no model spoke.
    changed : tuple of boxes
        Parts of the label image to paint anew, from `Session.paint`; nothing else changed there.
    objects : tuple of int
        Ids of the objects that were made, changed or taken away.
    note : str
        A sentence for the user, where something was not done as asked; else empty.
    """

    object_id: int
    box: Box3
    mask: np.ndarray
    logits: np.ndarray | None
    quality: float
    seconds: float
    encode_seconds: float
    generation: int
    region: Region | None = None
    changed: tuple[Box3, ...] = ()
    objects: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Glimpse:
    """What a prompt gave at first, while the model looks again, wider or closer.

    Nothing of it is kept: the session is as it was until the step is done, and the step's mask does
    not depend on whether anybody saw this.

    Attributes
    ----------
    object_id : int
        Whose mask it is.
    quality : float
        Predicted intersection over union, 0 .. 1.
    painted : tuple of (box, numpy.ndarray)
        Parts of the label image as they would be, as `Session.paint` gives them; the rest is as it
        was.
    region : Region or None
        The working grid whose decoding gave the mask.
    """

    object_id: int
    quality: float
    painted: tuple[tuple[Box3, np.ndarray], ...]
    region: Region | None = None


EarlyFn = Callable[[Glimpse], None]


@dataclass(frozen=True)
class Candidate:
    """One of the masks that may be meant by a first prompt.

    Attributes
    ----------
    kind : str
        ``"part"``, ``"organ"`` or ``"surroundings"``: from small to large.
    quality : float
        Predicted intersection over union, 0 .. 1.
    packed : PackedMask
        Its voxels.
    volume_ml : float
        Its size.
    """

    kind: str
    quality: float
    packed: PackedMask
    volume_ml: float

    @property
    def box(self) -> Box3 | None:
        """Bounding box in voxels of the volume; None if it is empty."""
        return self.packed.box

    @property
    def mask(self) -> np.ndarray:
        """Bool mask within `box`."""
        return self.packed.unpack()


def tell(progress: ProgressFn | None, share: float, word: str) -> None:
    """Report progress to whoever wants it."""
    if progress is not None:
        progress(share, word)


def check(cancel: CancelFn | None) -> None:
    """Raise `Cancelled` where the work is to stop."""
    if cancel is not None and cancel():
        raise Cancelled("The segmentation was cancelled; the object is as it was.")
