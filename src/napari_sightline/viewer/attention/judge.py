"""Relevance, and how faithful a map is: looks that run the model again. On the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.faithful import Faithfulness
    from napari_sightline.attention.maps import AttentionMap
    from napari_sightline.attention.probe import Probe
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.region import Region
    from napari_sightline.viewer.attention.state import Position
    from napari_sightline.viewer.worker import Job

#: Random orders and steps of deletion and insertion: enough for a look, not for a study.
RANDOMS, STEPS = 3, 8


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
        """Repeat the look, without the mask that was there before.

        Raises
        ------
        BadInput
            Where the model cannot be run so.
        """
        from napari_sightline.attention.probe import probe_click, probe_window

        self.one.check()
        if self.region is not None:
            points, codes = self.one.points, self.one.codes
            if points is None or codes is None:
                raise BadInput("This pass has no prompts; click once more.")
            return probe_click(self.model, volume, self.region, points, codes)
        if self.position is None:
            raise BadInput("Pin a voxel first: relevance explains the answer there.")
        segmenter: Segmenter = self.model
        return probe_window(segmenter, volume, self.position)


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


def faithfulness_of(
    look: Look, answer: AttentionMap, volume: Volume, job: Job[Any]
) -> Faithfulness:
    """Measure deletion and insertion of a map against random orders.

    Raises
    ------
    BadInput, ModelError, Cancelled
        As the engine's; also where the answer is no mask to measure.
    """
    import torch

    from napari_sightline.attention.faithful import faithfulness

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
    return faithfulness(
        probe, {"map": answer}, mask, RANDOMS, STEPS, progress=job.progress, cancel=job.cancelled
    )


def verdict(found: Faithfulness) -> str:
    """Say in words what deletion and insertion found."""
    curves = found.maps["map"]
    parts, better = [], 0
    for which, sign in (("deletion", -1), ("insertion", 1)):
        area = getattr(curves, f"{which}_area")
        mean, spread = found.random_area(which)
        parts.append(f"{which} {area:.2f} (chance {mean:.2f} ± {spread:.2f})")
        better += sign * (area - mean) > max(spread, 0.01)
    said = {
        2: "better than chance on both",
        1: "better than chance on one of two",
        0: "no better than chance: do not read a reason into it",
    }[better]
    return f"This map: {', '.join(parts)}; {said}."
