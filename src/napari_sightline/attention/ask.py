"""One question in a word: which map of a pass, of which block, with which heads."""

from __future__ import annotations

from typing import Literal

import numpy.typing as npt

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.maps import (
    AttentionMap,
    TokenAttention,
    pick_heads,
    query_prompt,
    query_voxel,
)
from napari_sightline.attention.probe import Probe
from napari_sightline.attention.tokens import TokenGrid, TokenList
from napari_sightline.errors import BadInput

Mode = Literal[
    "to", "from", "prompt", "to-prompt", "rollout", "prompt-rollout", "relevance", "gradcam"
]
#: What each mode shows, for people.
MODES: dict[str, str] = {
    "to": "what the voxel attends to",
    "from": "what attends to the voxel",
    "prompt": "what a prompt attends to",
    "to-prompt": "what attends to a prompt",
    "rollout": "what the voxel rests on, through all layers",
    "prompt-rollout": "what a prompt rests on, through all layers",
    "relevance": "what the mask depends on, through attention",
    "gradcam": "what the mask depends on, through convolution",
}


def default_block(one: Pass, mode: str) -> int:
    """Find the last call that can answer a mode.

    Raises
    ------
    BadInput
        Where none can.
    """
    wanted: dict[str, tuple[type, type]] = {
        "to": (TokenGrid, TokenGrid),
        "from": (TokenGrid, TokenGrid),
        "prompt": (TokenList, TokenGrid),
        "to-prompt": (TokenGrid, TokenList),
    }
    if mode not in wanted:
        raise BadInput(f"The mode {mode!r} has no blocks of its own; leave the block out.")
    queries, keys = wanted[mode]
    for number in reversed(range(len(one.calls))):
        call = one.calls[number]
        placement = call.placement
        if (
            call.observable
            and isinstance(placement.queries, queries)
            and isinstance(placement.keys, keys)
        ):
            return number
    one.check()
    raise BadInput(f"No block of {one.model} in this pass shows {MODES[mode]}.")


def ask(
    one: Pass,
    mode: str = "to",
    position: npt.ArrayLike | None = None,
    block: int | str | None = None,
    prompt: int | str = 0,
    heads: str = "all",
    probe: Probe | None = None,
) -> AttentionMap | TokenAttention:
    """Answer one question.

    Parameters
    ----------
    one : Pass
        A recorded pass.
    mode : str
        One of `MODES`.
    position : array_like, optional
        ``(3,)``, canonical voxel; needed by modes about a voxel.
    block : int or str, optional
        As in `query_voxel`; by default the last that can answer.
    prompt : int or str
        For modes about a prompt.
    heads : str
        ``"all"``, ``"mean"``, ``"max"``, ``"entropy"``, or a head's number from 1.
    probe : Probe, optional
        Needed by ``"relevance"`` and ``"gradcam"``, which run the network again.

    Raises
    ------
    BadInput, ModelError
        As the functions that it calls.
    """
    if mode not in MODES:
        raise BadInput(f"The mode {mode!r} is not known; choose one of {', '.join(MODES)}.")
    answer: AttentionMap | TokenAttention
    if mode in ("relevance", "gradcam"):
        if probe is None:
            raise BadInput(f"The mode {mode!r} runs the model again and has nothing to run.")
        answer = _with_gradients(probe, mode)
    elif mode in ("rollout", "prompt-rollout"):
        from napari_sightline.attention.rollout import rollout

        answer = rollout(one, position) if mode == "rollout" else rollout(one, prompt=prompt)
    else:
        chosen = default_block(one, mode) if block is None else block
        if mode in ("prompt", "to-prompt"):
            answer = query_prompt(one, prompt, chosen, "to" if mode == "prompt" else "from")
        elif position is None:
            raise BadInput(f"The mode {mode!r} is about a voxel; give one.")
        else:
            answer = query_voxel(one, position, chosen, "to" if mode == "to" else "from")
    return choose_heads(answer, heads)


def _with_gradients(probe: Probe, mode: str) -> AttentionMap:
    if mode == "gradcam":
        from napari_sightline.attention.gradcam import seg_grad_cam

        return seg_grad_cam(probe)
    from napari_sightline.attention.relevance import relevance, run_with_gradients

    return relevance(run_with_gradients(probe))


def choose_heads(
    answer: AttentionMap | TokenAttention, heads: str
) -> AttentionMap | TokenAttention:
    """Merge or pick heads of an answer: ``"all"``, ``"mean"``, ``"max"``, ``"entropy"``, ``"1"``.

    Raises
    ------
    BadInput
        Where it is none of these.
    """
    if heads == "all" or isinstance(answer, TokenAttention) or len(answer.heads) == 1:
        return answer
    if heads in ("mean", "max", "entropy"):
        return answer.reduce(heads)  # type: ignore[arg-type]
    if not heads.isdigit():
        raise BadInput(f"The head {heads!r} is not understood; write mean, max, entropy or 1.")
    return pick_heads(answer, [int(heads) - 1])
