"""What the panel says of a map: names of layers, captions, scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sightline.viewer.attention.state import Scale, Settings, Shown

if TYPE_CHECKING:
    from napari_sightline.attention.maps import AttentionMap, TokenAttention

#: How to read a map, always in sight.
CAVEAT = "Attention is correlation, not a reason."
#: What a study over many structures found (docs/attention.md).
STUDY = (
    "On 18 validation structures relevance of sightline-3d was better than chance; the attention "
    "of one voxel was not."
)


def place_of(label: str) -> str:
    """Stage and block of a label alone."""
    parts = label.split(", ")
    return ", ".join(
        [part for part in parts[:2] if part.startswith(("stage", "block", "layer"))] or parts[:1]
    )


def short_block(label: str) -> str:
    """Stage and block of a label, or block and which attention, without the sizes."""
    parts, words = label.split(", "), place_of(label).split(", ")
    if len(words) == 1 and len(parts) > 1 and words[0].startswith("block"):
        words.append(parts[1])
    return ", ".join(words)


def layer_name(shown: Shown) -> str:
    """Query, model, block and head; the list of layers cuts the middle of long names."""
    answer = shown.merged or shown.answer
    head = answer.heads[0] if len(answer.heads) == 1 else f"{len(answer.heads)} heads"
    return f"{answer.query} · {answer.model} · {short_block(answer.block)} · {head}"


def caption(shown: Shown, settings: Settings) -> str:
    """Say in full what is drawn, and what is not."""
    answer = shown.merged
    if answer is None:
        listed: TokenAttention = shown.answer  # type: ignore[assignment]
        return f"{listed.model}; {listed.block}; {listed.query}. {shares(listed)}"
    head = answer.heads[0] if len(answer.heads) == 1 else f"{len(answer.heads)} heads"
    text = f"{answer.model}; {answer.block}; {head}; {answer.query}."
    if answer.approximate:
        text += " Approximate."
    padding = float(np.mean(answer.padding))
    if padding >= 0.005:
        text += f" {percent(padding)} of the attention fell on padding beyond the scan's window."
    special = float(np.mean(answer.special))
    if special >= 0.005:
        text += f" {percent(special)} stayed on tokens that are no place."
    if not answer.seen.all():
        text += " Not tinted: not seen by this query."
    if settings.scale.normalise:
        text += " Normalised: colours do not compare between maps."
    return text


def shares(answer: TokenAttention) -> str:
    """Say how attention is spread over tokens that are no grid."""
    mean = answer.weights.mean(0)
    order = np.argsort(mean)[::-1][:4]
    said = ", ".join(f"{answer.tokens.names[i]} {percent(float(mean[i]))}" for i in order)
    return f"It lies on prompts, not on the image: {said} (mean of the heads)."


def percent(share: float) -> str:
    """Write a share with two digits."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def scale_words(
    answer: AttentionMap, limits: tuple[float, float], scale: Scale
) -> tuple[str, str, str]:
    """Words under the colour bar: low end, what it measures, high end."""
    if scale.normalise:
        return "0", "of this map's largest value", f"{limits[1]:.2g}"
    if answer.unit.startswith("share"):
        even = 1 / max(1, answer.weights.shape[1])
        return "0 %", f"a token; even: {percent(even)}", percent(limits[1])
    return "0", answer.unit, f"{limits[1]:.2g}"
