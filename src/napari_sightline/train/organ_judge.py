"""Dice on unseen cases while an automatic model trains; not the figure to quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.train.organ_cases import OrganCase

#: Cases looked at, and overlap of their windows: few, so that training waits little.
COUNT, OVERLAP = 8, 0.25


class OrganJudge:
    """Segments a few whole scans and compares them where they are contoured.

    Parameters
    ----------
    cases : sequence of OrganCase
        Those of this process.
    spec : SegmenterSpec
        The model's facts.
    world : int
        Number of processes.
    """

    def __init__(self, cases: Sequence[OrganCase], spec: SegmenterSpec, world: int) -> None:
        self.cases, self.spec, self.world = cases, spec, world

    def score(self, network: nn.Module, bf16: bool) -> dict[str, Any]:
        """Return mean Dice by structure, on the working grid, and over structures."""
        top = self.spec.outputs
        sums = torch.zeros(2, top, dtype=torch.float64)
        for case in self.cases:
            found = self.logits(network, case, bf16).argmax(0)
            truth = torch.from_numpy(case.labels.astype("int64"))
            for value in case.points:
                both = float(((found == value) & (truth == value)).sum())
                either = float((found == value).sum() + (truth == value).sum())
                sums[0, value] += 2 * both / either
                sums[1, value] += 1
        if self.world > 1:
            dist.all_reduce(sums)
        dice = {
            name: round(float(sums[0, value] / sums[1, value]), 3)
            for value, name in self.spec.labels.items()
            if sums[1, value]
        }
        if not dice:
            return {}
        return {"dice": dice, "mean": round(sum(dice.values()) / len(dice), 4)}

    @torch.no_grad()
    def logits(
        self,
        network: nn.Module,
        case: OrganCase,
        bf16: bool,
        roi: tuple[int, int, int] | None = None,
    ) -> Tensor:
        """Logits of a whole case, ``(outputs, d0, d1, d2)``; in windows of `roi` or the model's."""
        from napari_sightline.models.monai_parts import sliding_window_inference

        image = torch.from_numpy(case.image).float()[None]
        image = image.clamp(case.scaling.low, case.scaling.high)

        def run(windows: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return network(windows).float()

        logits = sliding_window_inference(
            image, roi or self.spec.roi, 1, run, overlap=OVERLAP, mode="gaussian"
        )
        assert isinstance(logits, Tensor)
        return logits[0]
