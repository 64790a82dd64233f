"""A quick look at unseen cases while training goes on; not the figure to quote."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.models.sightline3d import Sightline3D
from napari_sightline.train import simulate
from napari_sightline.train.crops import sampling_grid
from napari_sightline.train.datasets import Case, Source, read

CLICKS = 5
#: Objects looked at in each set.
COUNT = {"headneck_ct": 21, "hippocampus_mr": 10, "sarcoma": 15}
SIZE = 64


class Judge:
    """Five robot clicks on fixed crops of 64 voxels a side round validation objects."""

    def __init__(self, sources: list[Source], rank: int, world: int) -> None:
        self.world = world
        chosen: list[tuple[str, Case, int]] = []
        for group, count in COUNT.items():
            members = [s for s in sources if s.group == group]
            rng = np.random.default_rng(1)
            rng.shuffle(members)
            kept: list[tuple[str, Case, int]] = []
            for source in members:
                case = read(source)
                kept += [(group, case, i) for i in range(len(case.targets))]
                if len(kept) >= count:
                    break
            chosen += kept[:count]
        self.mine = chosen[rank::world]

    def score(self, model: Sightline3D) -> dict[str, object]:
        """Return mean Dice after each click by set."""
        sums = {g: torch.zeros(CLICKS + 1, dtype=torch.float64) for g in COUNT}
        for group, case, which in self.mine:
            sums[group] += torch.tensor([1.0, *self._clicks(model, case, which)])
        out: dict[str, object] = {}
        for group, total in sums.items():
            if self.world > 1:
                dist.all_reduce(total)
            if total[0]:
                out[group] = [round(float(v), 3) for v in total[1:] / total[0]]
        return out

    @torch.no_grad()
    def _clicks(self, model: Sightline3D, case: Case, which: int) -> list[float]:
        image, truth, step = _crop(case, which)
        goal = truth.numpy()
        prompts = simulate.PromptList()
        scores: list[float] = []
        mask, previous = np.zeros_like(goal), None
        with torch.autocast("cpu", torch.bfloat16):
            features = model.encode(image[None], torch.tensor([step]))
            for _ in range(CLICKS):
                click = simulate_click(mask, goal)
                if click is not None:
                    prompts.add(click.position, int(click.positive))
                    previous = model.decode(features, simulate.batch([prompts]), previous).logits
                    previous = previous[:, :1]
                    mask = (previous[0, 0] > 0).numpy()
                scores.append(2 * float((mask & goal).sum()) / float(mask.sum() + goal.sum()))
        return scores


def _crop(case: Case, which: int) -> tuple[Tensor, Tensor, float]:
    import torch.nn.functional as F

    assert case.image is not None
    step = max(float(case.spacing.min()), case.extent[which] / (0.9 * SIZE))
    centre = (case.points[which].mean(0) + 0.5) * case.spacing
    size = (SIZE, SIZE, SIZE)
    grid = sampling_grid(case.labels.shape, case.spacing, centre, np.eye(3) * step, size)
    image = F.grid_sample(torch.from_numpy(case.image).float()[None] + 1, grid, align_corners=False)
    mask = torch.from_numpy(np.isin(case.labels, case.targets[which])).float()
    truth = F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0] > 0.5
    return image[0] - 1, truth, step
