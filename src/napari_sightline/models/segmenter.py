"""What automatic segmentation needs to know of a model: the protocol between loaders and engine.

Loaders (`models/swin_unetr.py`, `models/bundle.py`) make a `Segmenter`; the engine
(`segment/automatic.py`) runs it and knows nothing of architectures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn


#: Facts that models share which learn from each other or answer together; how a difference is
#: called.
ALIKE = {
    "labels": "other structures",
    "channels": "other channels",
    "overlapping": "another way of telling structures apart",
    "orientation": "axes in another order",
    "spacing": "another grid",
    "intensity": "other intensities",
}


@dataclass(frozen=True)
class IntensityRule:
    """How a channel's voxels become a network's input.

    Attributes
    ----------
    kind : {"window", "percentile", "zscore", "zscore_nonzero", "none"}
        ``"window"`` maps ``low .. high`` to ``to_low .. to_high``; ``"percentile"`` does so with
        percentiles of the volume; ``"zscore"`` subtracts the mean and divides by the standard
        deviation, ``"zscore_nonzero"`` over the voxels that are not zero, which stay zero.
    low, high : float
        In the volume's unit (HU), or percentiles, 0 .. 100.
    to_low, to_high : float
        What they become.
    clip : bool
        Whether what lies outside is clipped.
    """

    kind: Literal["window", "percentile", "zscore", "zscore_nonzero", "none"] = "window"
    low: float = -175.0
    high: float = 250.0
    to_low: float = 0.0
    to_high: float = 1.0
    clip: bool = True


@dataclass(frozen=True)
class SegmenterSpec:
    """Facts of an automatic model.

    Attributes
    ----------
    name : str
        As in the catalog.
    labels : mapping of int to str
        Structure by label value; 0, the background, is not listed. Where `overlapping`, value
        ``k`` is output channel ``k - 1``, else output channel ``k``.
    channels : tuple of str
        What each input channel is, such as ``("CT",)`` or ``("T1c", "T1", "T2", "FLAIR")``.
    roi : tuple of 3 int
        Voxels of a window, in the network's axes.
    orientation : str
        Directions in which the network's three array axes run, as nibabel's ``axcodes``:
        ``"RAS"``, ``"SPL"`` (the canonical order of `Volume`).
    spacing : tuple of 3 float or None
        Millimetres a voxel along the network's axes; None works at the scan's own.
    spacing_range : float
        Factor, 1 or more, by which a scan's spacing may differ from `spacing` along an axis and
        is kept nevertheless; beyond, that axis is resampled.
    intensity : IntensityRule
        Applied to each channel.
    overlap : float
        Share of a window that the next one sees again, 0 .. <1.
    overlapping : bool
        Whether structures may overlap: sigmoid for each channel instead of softmax.
    fragments : float
        Parts of a structure smaller than this share, 0 .. 1, of its largest part are left out of
        labels; 0 keeps all. The network's own answer has them.
    mirror : bool
        Whether a run also passes each window mirrored left to right, and takes the mean of both
        answers: for a network that learnt from mirrored scans too. Structures of the two sides
        change places, see `partners_of`.
    blank : float or None
        Value, in the first channel's unit, at or below which a place was never reconstructed,
        such as -1024 HU in CT that is cut to a region. Labels leave such places out; the
        network's own answer has them.
    modality : str or None
        ``"CT"``, ``"MR"``, ``"PT"``: others are warned of.
    licence, source : str
        Shown before a download.
    notes : tuple of str
        Sentences on what was inferred or assumed.
    """

    name: str
    labels: Mapping[int, str]
    channels: tuple[str, ...] = ("CT",)
    roi: tuple[int, int, int] = (96, 96, 96)
    orientation: str = "RAS"
    spacing: tuple[float, float, float] | None = None
    spacing_range: float = 1.0
    intensity: IntensityRule = field(default_factory=IntensityRule)
    overlap: float = 0.5
    overlapping: bool = False
    fragments: float = 0.0
    mirror: bool = False
    blank: float | None = None
    modality: str | None = None
    licence: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> int:
        """Which of the network's axes, 0 .. 2, runs from one side of the body to the other."""
        return next(k for k, code in enumerate(self.orientation) if code in "LR")

    @property
    def outputs(self) -> int:
        """Number of output channels: the structures, and the background unless they overlap."""
        top = max(self.labels, default=0)
        return top if self.overlapping else top + 1


def partners_of(labels: Mapping[int, str]) -> dict[int, int]:
    """Pair the structures of both sides of the body: those whose names differ in left and right.

    Parameters
    ----------
    labels : mapping of int to str
        Structure by label value, such as ``{3: "right parotid gland", 4: "left parotid gland"}``.

    Returns
    -------
    dict of int to int
        Both ways, such as ``{3: 4, 4: 3}``. A structure of one side whose partner is not listed is
        left out.
    """
    by_name = {_words(name): value for value, name in labels.items()}
    found = {}
    for words, value in by_name.items():
        partner = by_name.get(tuple(_SIDES.get(word, word) for word in words), value)
        if partner != value:
            found[value] = partner
    return found


_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


@dataclass(frozen=True)
class Segmenter:
    """A network with what it needs.

    Attributes
    ----------
    network : torch.nn.Module
        Maps ``(B, len(channels), *roi)`` float32 to logits ``(B, outputs, *roi)``; in evaluation
        mode, float32 weights, on the CPU. The engine moves it.
    spec : SegmenterSpec
        Its facts.
    others : tuple of torch.nn.Module
        Networks of the same facts that are asked too: an answer is the mean of all networks'
        logits. Attention is that of `network` alone.
    """

    network: nn.Module
    spec: SegmenterSpec
    others: tuple[nn.Module, ...] = ()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All of its networks, the first first."""
        return (self.network, *self.others)

    @property
    def attends(self) -> str:
        """What attention is said to be of: the model, or one network of several."""
        if not self.others:
            return self.spec.name
        return f"{self.spec.name}, the first of {len(self.networks)} networks"

    @cached_property
    def whole(self) -> nn.Module:
        """What gives the model's answer: the network, or all of them as one."""
        if not self.others:
            return self.network
        from napari_sightline.models.ensemble import Ensemble

        return Ensemble(self.networks).eval()
