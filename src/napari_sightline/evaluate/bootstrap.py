"""Intervals of means: patients, or cases, are drawn anew with replacement (percentile bootstrap).

Structures and scans of one patient are alike, so it is patients that are drawn, each with all that
was measured on it (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COVER", "SAMPLES", "SEED", "draws", "interval", "interval_of_mean"]

#: Samples, their seed, and the share that an interval covers.
SAMPLES, SEED, COVER = 2000, 42, 0.95


def draws(n: int) -> npt.NDArray[np.integer[Any]]:
    """Draw numbers of `n` patients with replacement, ``(SAMPLES, n)``; always the same ones."""
    return np.random.default_rng(SEED).integers(n, size=(SAMPLES, n))


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """Give the interval of a figure that was computed for each sample; NaN is left out."""
    edges = np.nanpercentile(values, [50 * (1 - COVER), 50 * (1 + COVER)])
    return [round(float(edge), 4) for edge in edges]


def interval_of_mean(values: npt.ArrayLike, owners: Sequence[str]) -> list[float]:
    """Give the interval of a mean over items, of which each patient owns some.

    Parameters
    ----------
    values : array-like
        ``(items,)``; each item counts once in the mean.
    owners : sequence of str
        Patient of each item.
    """
    patients, number = np.unique(list(owners), return_inverse=True)
    sums = np.bincount(number, np.asarray(values, np.float64))
    counts = np.bincount(number)
    drawn = draws(len(patients))
    return interval(sums[drawn].sum(1) / counts[drawn].sum(1))
