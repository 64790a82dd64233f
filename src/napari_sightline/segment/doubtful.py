"""Contours that seem to belong to another image: found by what they lie on.

A label map of another patient, of another session or moved by a few centimetres has the right shape
and grid, and nothing else tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

#: Robust standard deviations from the middle of all cases.
FAR = 8.0
#: What one such deviation is at least, in HU: scanners differ by as much.
LEAST_HU = 12.0
#: Cases that must contour a structure before any is called doubtful.
ENOUGH = 10

T = TypeVar("T", int, str)


def doubtful(medians: Mapping[str, Mapping[T, float]], least: float) -> dict[str, tuple[T, ...]]:
    """Find structures whose median intensity is far from that of the same structure elsewhere.

    Far is more than `FAR` robust standard deviations (1.4826 times the median absolute deviation;
    Hampel, "The influence curve and its role in robust estimation", JASA 1974), each counted
    as `least` or more. Where that is so of two structures of a case, all of its
    contours are doubtful.

    Parameters
    ----------
    medians : mapping of str to mapping of int or str to float
        By case and structure (label value or name): the median intensity under the contour.
    least : float
        What is an ordinary difference between scans, in the unit of intensities, such as
        `LEAST_HU`.

    Returns
    -------
    dict of str to tuple of int or str
        By case: the structures that are doubtful. Cases without any are not listed, nor is
        anything of a structure that fewer than `ENOUGH` cases contour.
    """
    by_value: dict[T, dict[str, float]] = {}
    for name, found in medians.items():
        for value, median in found.items():
            if not np.isfinite(median):  # a scan with holes there says nothing
                continue
            by_value.setdefault(value, {})[name] = median
    far: dict[str, list[T]] = {}
    for value, there in by_value.items():
        if len(there) < ENOUGH:
            continue
        values = np.array(list(there.values()), float)
        middle = np.median(values)
        spread = max(1.4826 * float(np.median(np.abs(values - middle))), least)
        for name, median in there.items():
            if abs(median - middle) > FAR * spread:
                far.setdefault(name, []).append(value)
    return {
        name: tuple(few if len(few) < 2 else medians[name]) for name, few in sorted(far.items())
    }


def sentence(case: str, structures: Iterable[str]) -> str:
    """Say that a case's contours of these structures are doubtful, and what to do."""
    return (
        f"{case}: the contours of {', '.join(structures)} lie on intensities far from those of the "
        "other cases; check that they belong to this scan."
    )
