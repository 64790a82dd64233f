"""Relevance, and how faithful a map is: looks that run the model again. On the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.faithful import Faithfulness, Test
    from napari_sightline.attention.maps import AttentionMap
    from napari_sightline.attention.probe import Probe
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.region import Region
    from napari_sightline.viewer.attention.state import Position
    from napari_sightline.viewer.worker import Job

#: Runs of each kind of chance, and steps: enough for a look, not for a study.
RANDOMS, STEPS = 3, 6
TESTS: tuple[Test, ...] = ("deletion", "insertion")
GRADIENT, GRADCAM = "the gradient", "Seg-Grad-CAM"


@dataclass(frozen=True, eq=False)
class Look:
    """All that is needed to run a model again as it ran in a pass.

    Attributes
    ----------
    one : Pass
        The pass.
    model : Promptable or Segmenter
        Who answered.
    region : Region or None
        Working grid of a prompt's pass; None of an automatic model's.
    position : tuple of 3 float or None
        Voxel that is asked about.
    """

    one: Pass
    model: Any
    region: Region | None
    position: Position | None

    def probe(self, volume: Volume) -> Probe:
        """Repeat the look.

        Raises
        ------
        BadInput
            Where the model cannot be run so.
        """
        from napari_sightline.attention.probe import probe_click, probe_window

        self.one.check()
        if self.region is not None:
            return probe_click(self.model, volume, self.region, self.one)
        if self.position is None:
            raise BadInput("Pin a voxel first: relevance explains the answer there.")
        segmenter: Segmenter = self.model
        window = self.one.frames[self.one.entry(self.position)]
        return probe_window(segmenter, volume, self.position, window=window)


def relevance_of(look: Look, volume: Volume) -> AttentionMap:
    """Relevance of the tokens for the mask (Chefer et al. 2021).

    Raises
    ------
    BadInput, ModelError
        Where there is no mask to explain, or the model shows no attention with gradients.
    """
    from napari_sightline.attention.relevance import relevance, run_with_gradients

    return relevance(run_with_gradients(look.probe(volume)))


def gradcam_of(look: Look, volume: Volume) -> AttentionMap:
    """Seg-Grad-CAM of the mask (Vinogradova et al. 2020), a reference without attention.

    Raises
    ------
    BadInput, ModelError
        As `relevance_of`.
    """
    from napari_sightline.attention.gradcam import seg_grad_cam

    return seg_grad_cam(look.probe(volume))


@dataclass(frozen=True, eq=False)
class Judged:
    """How faithful a map was.

    Attributes
    ----------
    found : Faithfulness
        Of the map, by the name ``"map"``; agreement with references by their names.
    missing : tuple of str
        Why there is no agreement with a reference, as sentences.
    """

    found: Faithfulness
    missing: tuple[str, ...] = ()


def faithfulness_of(look: Look, answer: AttentionMap, volume: Volume, job: Job[Any]) -> Judged:
    """Measure deletion and insertion of a map against chance, and its agreement with gradients.

    Raises
    ------
    BadInput, ModelError, Cancelled
        As the engine's; also where the answer is no mask to measure.
    """
    import torch

    from napari_sightline.attention.faithful import faithfulness
    from napari_sightline.attention.gradcam import seg_grad_cam
    from napari_sightline.attention.relevance import run_with_gradients

    probe = look.probe(volume)
    if tuple(answer.frame.shape) != tuple(probe.frame.shape) or not np.allclose(
        answer.frame.affine, probe.frame.affine
    ):
        raise BadInput(
            "The map is of another window than the model's answer there; pin a voxel near its "
            "middle and measure again."
        )
    job.progress(0.0, "running the model")
    with torch.inference_mode():
        mask = (probe.logits(probe.image) > 0).cpu().numpy()
    if not mask.any():
        raise BadInput("The model finds no mask here, so there is nothing to measure.")
    references: dict[str, Callable[[], Any]] = {
        GRADIENT: lambda: run_with_gradients(probe, mask).saliency,
        GRADCAM: lambda: seg_grad_cam(probe, mask),
    }
    beside, missing = {}, []
    for name, make in references.items():
        if job.cancelled():
            raise Cancelled("Measuring the map's faithfulness was cancelled.")
        try:
            beside[name] = make()
        except BadInput as error:  # a model without that layer: the rest is measured all the same
            missing.append(f"Agreement with {name} is not known: {error}")
    found = faithfulness(
        probe,
        {"map": answer},
        mask,
        RANDOMS,
        STEPS,
        progress=job.progress,
        cancel=job.cancelled,
        beside=beside,
    )
    return Judged(found, tuple(missing))


def verdict(judged: Judged) -> str:
    """Say in words what deletion and insertion found."""
    found = judged.found
    parts, better = [], 0
    for test in TESTS:
        said = []
        for chance, moved in (("scattered", None), ("moved", "map")):
            mean, spread = found.chance(test, moved=moved)
            better += found.gain("map", test, moved=moved is not None) > max(spread, 0.01)
            said.append(f"{chance} {mean:.2f} ± {spread:.2f}")
        parts.append(f"{test} {found.maps['map'].area(test):.2f} (chance: {', '.join(said)})")
    words = {
        4: "better than both kinds of chance on both",
        0: "no better than chance: do not read a reason into it",
    }.get(better, f"better than chance in {better} of 4 comparisons")
    text = f"Overlap with the mask, {'; '.join(parts)}: {words}."
    agreed = [
        f"{name} {found.agreement['map', name]:+.2f}"
        for name in (GRADIENT, GRADCAM)
        if ("map", name) in found.agreement
    ]
    if agreed:
        text += f" Rank correlation with {', '.join(agreed)}."
    return " ".join([text, *judged.missing])
