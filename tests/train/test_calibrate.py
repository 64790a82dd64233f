"""Offsets of logits against a search by brute force."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
from napari_sightline.train.calibrate import COUNT, OFFSETS, calibrate, spread


class Case:
    """Random logits round a random truth: of structure 1 too much is drawn, of 2 too little."""

    def __init__(self, seed: int, values: tuple[int, ...] = (1, 2)) -> None:
        rng = np.random.default_rng(seed)
        self.labels = rng.choice(4, (8, 9, 10), p=(0.7, 0.1, 0.1, 0.1)).astype(np.uint8)
        self.points = {value: np.zeros((1, 3)) for value in values}
        logits = rng.normal(0, 1, (4, 8, 9, 10))
        logits += 2 * (self.labels == np.arange(4)[:, None, None, None])
        logits[1] += 0.9
        logits[2] -= 0.7
        self.logits = torch.from_numpy(logits).float()


def logits_of(case: Any) -> torch.Tensor:
    return case.logits  # type: ignore[no-any-return]


def mean_dice(cases: list[Case], value: int, offset: float) -> float:
    found = []
    for case in cases:
        changed = case.logits.clone()
        changed[value] += offset
        drawn, true = changed.argmax(0).numpy() == value, case.labels == value
        found.append(2 * (drawn & true).sum() / (drawn.sum() + true.sum()))
    return float(np.mean(found))


def test_the_offset_with_the_best_dice_is_chosen() -> None:
    cases = [Case(seed) for seed in range(3)]
    offsets = calibrate(cases, logits_of, 4)  # type: ignore[arg-type]
    assert offsets[0] == offsets[3] == 0  # the background; no case has the other
    for value, sign in ((1, -1), (2, 1)):
        best = max(OFFSETS, key=lambda x: mean_dice(cases, value, x))
        assert mean_dice(cases, value, float(offsets[value])) == pytest.approx(
            mean_dice(cases, value, best), abs=1e-9
        )
        assert sign * float(offsets[value]) > 0.2
        assert mean_dice(cases, value, best) > mean_dice(cases, value, 0) + 0.01


def test_both_sides_of_the_body_get_the_same() -> None:
    cases = [Case(0), Case(1, (1,))]
    apart = calibrate(cases, logits_of, 4)  # type: ignore[arg-type]
    assert apart[1] != apart[2]
    offsets = calibrate(cases, logits_of, 4, {1: 2, 2: 1})  # type: ignore[arg-type]
    assert offsets[1] == offsets[2]

    def together(x: float) -> float:
        return 2 * mean_dice(cases, 1, x) + mean_dice(cases[:1], 2, x)

    assert together(float(offsets[1])) == pytest.approx(max(map(together, OFFSETS)), abs=1e-9)


def test_what_makes_no_difference_stays() -> None:
    case = Case(0)
    sure = 50 * torch.nn.functional.one_hot(torch.from_numpy(case.labels).long(), 4)
    offsets = calibrate([case], lambda _: sure.movedim(-1, 0).float(), 4)  # type: ignore[list-item]
    assert not offsets.any()
    assert not calibrate([], logits_of, 4).any()


@pytest.mark.parametrize("count", [1, 5, COUNT, COUNT + 1, 85])
def test_cases_are_spread_over_all_whatever_they_contour(count: int) -> None:
    cases: list[Any] = [
        SimpleNamespace(
            source=SimpleNamespace(name=f"p{k:03d}"), points=dict.fromkeys(range(k % 8))
        )
        for k in range(count)
    ]
    found = [case.source.name for case in spread(cases[::-1])]
    assert len(found) == len(set(found)) == min(count, COUNT) and found == sorted(found)
    places = [int(name[1:]) for name in found]
    steps = np.diff([*places, count])
    assert places[0] == 0 and steps.max() - steps.min() <= 1
