"""Structures that nobody contoured, filled in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_sightline.segment.scaling import Scaling
from napari_sightline.train.completing import brought, complete
from napari_sightline.train.organ_cases import OrganCase, OrganSource

SHAPE = (12, 10, 8)


def case_of(known: tuple[int, ...]) -> OrganCase:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    blank = np.zeros(SHAPE, bool)
    blank[10:] = True
    return OrganCase(
        OrganSource("a", Path("a"), Path("b"), known, False),
        np.zeros((1, *SHAPE), np.float16),
        Scaling(),
        labels,
        blank,
        np.ones(3),
        {1: np.argwhere(labels == 1).astype(np.int16)},
        np.argwhere(~blank).astype(np.int16),
    )


def logits_of(case: OrganCase) -> torch.Tensor:
    """Find 2 in a large part, a fragment, on contours and in blank places, 3 in a box."""
    found = np.zeros(SHAPE, np.int64)
    found[2:12, 2:9, 2:7] = 2
    found[0, 9, 7] = 2
    found[5:7, 0:2, 0:2] = 3
    return torch.nn.functional.one_hot(torch.from_numpy(found), 4).movedim(-1, 0).float()


def test_only_what_is_missing_and_free_and_seen_is_taken() -> None:
    case = case_of((1, 3))
    before = case.labels.copy()
    full = complete(case, logits_of, 4, fragments=0.1)
    assert full.source.known == (1, 2, 3) and case.source.known == (1, 3)
    assert np.array_equal(case.labels, before)
    assert np.array_equal(full.labels == 1, before == 1)
    expected = np.zeros(SHAPE, bool)
    expected[2:10, 2:9, 2:7] = True
    assert np.array_equal(full.labels == 2, expected & (before == 0))
    # 3 is known here, and nobody contoured it: what a model finds of it is no truth.
    assert not (full.labels == 3).any()
    # Crops are drawn round contours.
    assert full.points is case.points
    kept = complete(case, logits_of, 4, fragments=0)
    assert kept.labels[0, 9, 7] == 2 and full.labels[0, 9, 7] == 0


def test_a_case_that_lacks_nothing_stays() -> None:
    case = case_of((1, 2, 3))
    assert complete(case, logits_of, 4, 0.1) is case


def test_chances_come_to_another_grid_of_the_scan() -> None:
    case = case_of((1,))
    fine = replace(
        case,
        labels=np.zeros((24, 10, 5), np.uint8),
        spacing=np.array([0.5, 1.0, 1.6]),
    )

    # Millimetres from the centre of the scan, which both grids share, along each axis.
    def ramps(of: OrganCase) -> torch.Tensor:
        places = [
            (np.arange(n) - (n - 1) / 2) * mm
            for n, mm in zip(of.labels.shape, of.spacing, strict=True)
        ]
        return torch.from_numpy(np.stack(np.meshgrid(*places, indexing="ij"))).float()

    found, expected = brought(ramps(case), case, fine), ramps(fine)
    assert found.shape == (3, 24, 10, 5)
    # Beyond the outer voxels' centres the outer voxel counts.
    limits = torch.tensor([5.5, 4.5, 3.5]).view(3, 1, 1, 1)
    torch.testing.assert_close(found, expected.clamp(-limits, limits))
