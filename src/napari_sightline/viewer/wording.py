"""What the panel says: one sentence on what to do next, one on how the last click went."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_sightline.viewer.state import Outcome, State


@dataclass(frozen=True)
class Situation:
    """All that the advice depends on."""

    image: bool = True
    fault: str = ""
    clicking: bool = True
    flat: bool = True
    tool: str = ""
    waiting: int = 0
    glimpsed: bool = False
    preparing: bool = False
    drawn: bool = False
    clicks: int = 0
    drawing: str = "point"
    offered: int = 0
    marked: bool = False
    owner: str = ""  # locked object that has the place of the last prompt


_DRAW = {
    "box": "Drag a box round the organ. Shift and a second box, on another slice, make it 3D.",
    "scribble": "Draw a stroke through the organ; with Ctrl, through what does not belong.",
    "lasso": "Draw round the organ on this slice; with Ctrl, round what does not belong.",
}


def advice(now: Situation) -> str:
    """Say what to do next."""
    if not now.image:
        return "Open a scan: drag a NIfTI file into the window, or File › Open Sample."
    if now.fault:
        return now.fault
    if now.waiting:
        more = f" {now.waiting - 1} more wait." if now.waiting > 1 else ""
        if now.glimpsed:
            return f"This is a first look. The model looks once more, wider or closer …{more}"
        return f"Working on your click …{more}"
    if not now.clicking:
        return "Clicking is off: the mouse belongs to napari. Switch it on to go on."
    if now.tool:
        return f"{now.tool} is in use and has the mouse. Choose its pan and zoom tool to click."
    if now.marked:
        return "A prompt is marked. Drag it, or take it away with Delete; the mask follows."
    if now.owner and not now.drawn:
        return (
            f"That place belongs to {now.owner}, which is locked. Unlock it in the list, or undo "
            "and click elsewhere."
        )
    if now.offered:
        return "Which is meant? C goes through the three. Or click what is missing; Enter accepts."
    if not now.flat:
        return "In 3D: click on the mask, or on what is bright, to add a place there."
    if now.drawing in _DRAW and not now.drawn:
        return f"{_DRAW[now.drawing]} A plain click works too."
    if now.drawn:
        return (
            "Look through the slices. Click what is missing; Ctrl+click what is too much. "
            "Enter accepts."
        )
    if now.clicks:
        return "Nothing was found there. Click once more inside the organ, or undo."
    ready = " You may click while the model gets ready." if now.preparing else ""
    return f"Click in the middle of the organ, in any slice.{ready}"


def timing(outcome: Outcome) -> str:
    """Say how long the last step took, and where it ran."""
    update, state = outcome.update, outcome.state
    if update is None or update.logits is None:
        return ""
    where = ", ".join(word for word in (state.device, state.precision) if word)
    text = f"Last click {update.seconds:.2f} s"
    if where:
        text += f" on {where}"
    if update.encode_seconds >= 0.005:
        text += f"; image part {update.encode_seconds:.2f} s"
    return text


def quality(state: State) -> str:
    """Say how well the model expects to have done."""
    if math.isnan(state.quality) or not state.drawn:
        return ""
    return f"expected overlap {100 * state.quality:.0f} %"


def millilitres(ml: float) -> str:
    """Write a volume with about three digits."""
    if ml <= 0:
        return ""
    return f"{ml:.2f} mL" if ml < 10 else f"{ml:.1f} mL" if ml < 100 else f"{ml:.0f} mL"
