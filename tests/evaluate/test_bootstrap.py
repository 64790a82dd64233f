"""Intervals of means over items that patients own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from napari_sightline.evaluate.bootstrap import interval_of_mean


def test_an_interval_is_scipys_where_each_patient_owns_one_item() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 30)
    low, high = interval_of_mean(values, [f"patient {n}" for n in range(30)])
    found = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert (low, high) == pytest.approx(found.confidence_interval, abs=0.005)


def test_more_items_of_the_same_patients_tell_nothing_new() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 12)
    owners = [f"patient {n}" for n in range(12)]
    once = interval_of_mean(values, owners)
    assert interval_of_mean(np.tile(values, 9), owners * 9) == pytest.approx(once, abs=1e-4)
    apart = interval_of_mean(np.tile(values, 9), [str(n) for n in range(108)])
    assert apart[1] - apart[0] < (once[1] - once[0]) / 2


def test_a_patient_with_more_items_counts_more() -> None:
    # Samples hold only the first, only the second, or both: then the mean over four items.
    assert interval_of_mean([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"]) == [0.0, 1.0]
    assert interval_of_mean([0.4, 0.6], ["a", "a"]) == [0.5, 0.5]
