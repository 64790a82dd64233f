"""Draws the crops that the promptable network learns from."""

from __future__ import annotations

import numpy as np

from napari_sightline.train.crops import Crop, real_crop
from napari_sightline.train.datasets import PHANTOMS, Case, Source, phantom_case, read
from napari_sightline.train.painted import painted_crop, shape_crop

#: How often each set is drawn; sets that are missing leave their share to the others.
SHARES = {
    "headneck_ct": 0.45,
    "hippocampus_mr": 0.18,
    "sarcoma": 0.19,
    "labels": 0.09,
    "shapes": 0.05,
    PHANTOMS: 0.04,
}
#: Phantoms that a process draws. The demo's patients have other seeds.
PHANTOM_COUNT, PHANTOM_SEED = 6, 1000


class Sampler:
    """Draws crops from the cases of one process."""

    def __init__(self, sources: list[Source], rank: int, world: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, rank])
        self.cases: dict[str, list[Case]] = {}
        for source in sources[rank::world]:
            case = read(source)
            group = "labels" if source.image is None else source.group
            if source.image is None or case.targets:
                self.cases.setdefault(group, []).append(case)
        first = PHANTOM_SEED + rank * PHANTOM_COUNT
        self.cases[PHANTOMS] = [phantom_case(first + k) for k in range(PHANTOM_COUNT)]
        self.groups = [g for g in SHARES if g == "shapes" or self.cases.get(g)]
        shares = np.array([SHARES[g] for g in self.groups])
        self.shares = shares / shares.sum()

    def draw(self, size: int) -> Crop:
        """Draw one crop of `size` voxels a side."""
        shape = (size, size, size)
        while True:
            group = str(self.rng.choice(self.groups, p=self.shares))
            if group == "shapes":
                crop = shape_crop(self.rng, shape)
            else:
                cases = self.cases[group]
                case = cases[int(self.rng.integers(len(cases)))]
                make = painted_crop if case.image is None else real_crop
                crop = make(self.rng, case, shape)
            if crop is not None:
                return crop
