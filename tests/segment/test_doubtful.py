"""Contours of another image stand out; ordinary differences do not."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.segment.doubtful import ENOUGH, LEAST_HU, doubtful


def cases(count: int = 20) -> dict[str, dict[int, float]]:
    rng = np.random.default_rng(0)
    return {f"c{k}": {1: 10 + rng.normal(0, 5), 2: 600 + rng.normal(0, 80)} for k in range(count)}


def test_ordinary_cases_are_trusted() -> None:
    assert doubtful(cases(200), LEAST_HU) == {}


def test_one_contour_that_lies_elsewhere() -> None:
    found = cases()
    found["c3"][1] = -400.0
    assert doubtful(found, LEAST_HU) == {"c3": (1,)}


def test_two_make_all_of_a_case_doubtful() -> None:
    found = cases()
    found["c3"] |= {1: 270.0, 2: -800.0, 3: -88.0}
    assert doubtful(found, LEAST_HU) == {"c3": (1, 2, 3)}


def test_cases_that_hardly_differ_do_not_make_small_differences_large() -> None:
    found = {f"c{k}": {"cord": 10.0} for k in range(20)}
    found["c0"]["cord"] += 7.9 * LEAST_HU
    assert doubtful(found, LEAST_HU) == {}
    found["c0"]["cord"] = 10 + 8.1 * LEAST_HU
    assert doubtful(found, LEAST_HU) == {"c0": ("cord",)}


def test_scans_with_holes_hide_nothing() -> None:
    found = cases()
    found["c3"][1], found["c4"][1] = -400.0, float("nan")
    assert doubtful(found, LEAST_HU) == {"c3": (1,)}


@pytest.mark.parametrize("count", [ENOUGH - 1, ENOUGH])
def test_a_few_cases_say_nothing(count: int) -> None:
    found = cases(count)
    found["c0"][1] = 3000.0
    assert bool(doubtful(found, LEAST_HU)) == (count == ENOUGH)
