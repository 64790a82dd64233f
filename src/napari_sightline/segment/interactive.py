"""Interactive segmentation of a volume by prompts, without a window.

A `Session` holds one volume, its objects and their prompts. What depends on the image alone is
computed once per region; a click runs the rest.
"""

from __future__ import annotations

from napari_sightline.segment.editing import EditCalls
from napari_sightline.segment.keeping import KeepCalls
from napari_sightline.segment.managing import ObjectCalls
from napari_sightline.segment.predict import Tap
from napari_sightline.segment.update import (
    CancelFn,
    Candidate,
    EarlyFn,
    Glimpse,
    MaskUpdate,
    ProgressFn,
)

__all__ = [
    "CancelFn",
    "Candidate",
    "EarlyFn",
    "Glimpse",
    "MaskUpdate",
    "ProgressFn",
    "Session",
    "Tap",
]


class Session(EditCalls, ObjectCalls, KeepCalls):
    """One volume with its objects and prompts.

    Calls are synchronous and may come from any thread; a lock keeps them apart. Every call that
    raises leaves the session as it was. Whatever changes an object is a step of one history, which
    `undo` and `redo` walk.

    Parameters
    ----------
    model : str or Promptable
        Name of a promptable model, loaded at first use, or a loaded one.
    device : str
        ``"auto"`` or a torch device, for a model given by name.
    tap : Tap, optional
        Watches every decoding. A step decodes once or several times, on regions that need not be
        the same; `MaskUpdate.region` says which one gave the mask. Without a tap nothing is paid.
    """
