"""What the attention panel is set to, and what it shows: plain data, no widgets, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_sightline.attention.maps import Answer, AttentionMap

Direction = Literal["to", "from"]
Reduction = Literal["mean", "max", "entropy"]
Position = tuple[float, float, float]
Source = Literal["click", "automatic", "own"]
Mode = Literal["cursor", "pinned", "prompt", "rollout", "relevance", "gradcam"]
Array = npt.NDArray[np.float32]

#: What a panel offers, with the words for people.
SOURCES: dict[Source, str] = {
    "click": "last click",
    "automatic": "last automatic run",
    "own": "run at the cursor",
}
MODES: dict[Mode, str] = {
    "cursor": "follow the cursor",
    "pinned": "pinned voxel",
    "prompt": "prompt token",
    "rollout": "rollout over the blocks",
    "relevance": "relevance for the mask",
    "gradcam": "Seg-Grad-CAM (reference)",
}
REDUCTIONS: tuple[Reduction, ...] = ("mean", "max", "entropy")
#: Modes that ask about a pinned voxel, and those that run the model again.
STILL: tuple[Mode, ...] = ("pinned", "rollout", "relevance", "gradcam")
#: Modes that ask one block, and so have heads.
ASKED: tuple[Mode, ...] = ("cursor", "pinned", "prompt")
AGAIN: tuple[Mode, ...] = ("relevance", "gradcam")
COLORMAPS = ("inferno", "magma", "viridis", "turbo", "gray")


@dataclass(frozen=True)
class Scale:
    """How values become colours.

    Attributes
    ----------
    fixed : bool
        One scale for all heads, blocks and queries; else each map has its own.
    percentile : float
        Of a map's values, where its own scale ends, 50 .. 100.
    top : float
        Where the fixed scale ends, as a share of the attention.
    normalise : bool
        Divide each map by its largest value before it is drawn.
    """

    fixed: bool = False
    percentile: float = 99.5
    top: float = 0.05
    normalise: bool = False

    def limits(self, values: Array, unit: str = "") -> tuple[float, float]:
        """Lowest and highest value on the colour scale, for values as they are drawn."""
        if unit.startswith("entropy"):
            return 0.0, 1.0
        if self.fixed and not self.normalise:
            return 0.0, self.top
        seen = values[np.isfinite(values)]
        high = float(np.percentile(seen, self.percentile)) if seen.size else 0.0
        return 0.0, high if high > 0 else 1e-6

    def limits_each(self, heads: Array) -> list[tuple[float, float]]:
        """`limits` of the map of each head, ``(heads, ...)``; quick where all saw the same."""
        flat = heads.reshape(len(heads), -1)
        seen = np.isfinite(flat)
        own = not self.fixed or self.normalise
        if not own or (seen != seen[0]).any() or not seen[0].any():
            return [self.limits(values) for values in heads]
        tops = np.percentile(flat if seen.all() else flat[:, seen[0]], self.percentile, axis=1)
        return [(0.0, float(top) if top > 0 else 1e-6) for top in tops]

    def drawn(self, values: Array) -> Array:
        """Values as they are drawn."""
        if not self.normalise:
            return values
        seen = values[np.isfinite(values)]
        top = float(seen.max()) if seen.size else 0.0
        return values / top if top > 0 else values


@dataclass(frozen=True)
class Settings:
    """All that the user chose.

    Attributes
    ----------
    source, mode, direction
        Which pass, what is asked of it, and from which side.
    block : str
        Name of the block's module in the network; empty for the first that fits.
    prompt : str
        Name of the prompt token.
    reduction : {"mean", "max", "entropy"}
        How heads are merged where several are shown.
    heads : tuple of int
        Chosen heads, from 0; empty for all.
    colormap, opacity, smooth, scale
        How maps are drawn.
    lines : int
        How many of the strongest tokens are joined to the query by lines.
    """

    source: Source = "click"
    mode: Mode = "cursor"
    direction: Direction = "to"
    block: str = ""
    prompt: str = ""
    reduction: Reduction = "mean"
    heads: tuple[int, ...] = ()
    colormap: str = "inferno"
    opacity: float = 0.45
    smooth: bool = False
    scale: Scale = field(default_factory=Scale)
    lines: int = 0


@dataclass(frozen=True, eq=False)
class Placed:
    """A map along the volume's own axes.

    Attributes
    ----------
    values : numpy.ndarray
        ``(heads, D, H, W)`` float32, NaN where not seen.
    step, origin : tuple of 3 float
        Canonical voxels a token, and the canonical voxel at the first token's centre.
    """

    values: Array
    step: Position
    origin: Position


@dataclass(frozen=True, eq=False)
class HeadRow:
    """How much of one head's attention lies in each structure.

    Attributes
    ----------
    module, block : str
        Name of the block's module in the network, and for people.
    head : int
        From 0.
    shares, even : dict of str to float
        By structure: share of the attention, and what even attention would give (NaN where that
        means nothing).
    structures : frozenset of str
        Which of these are labelled structures; the rest is tissue, air, padding.
    """

    module: str
    block: str
    head: int
    shares: dict[str, float]
    even: dict[str, float]
    structures: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Shown:
    """An answer and all that is drawn of it.

    Attributes
    ----------
    answer : AttentionMap or TokenAttention
        All heads.
    merged : AttentionMap or None
        The chosen heads, merged into one; None where the answer lies on prompts, not on the image.
    layer : Placed or None
        `merged`, placed.
    heads : Placed or None
        All heads, placed.
    position : tuple of 3 float or None
        The voxel that was asked for.
    """

    answer: Answer
    merged: AttentionMap | None = None
    layer: Placed | None = None
    heads: Placed | None = None
    position: Position | None = None
