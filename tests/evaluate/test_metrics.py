"""Metrics against MONAI's, against brute force, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.metrics import (
    auc,
    bounding_box,
    clicks_to_reach,
    dice,
    surface_areas,
    surface_dice,
)


def blobs(seed: int, shape: tuple[int, int, int] = (22, 19, 25)) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return noise > np.quantile(noise, 0.8)


def test_dice_counts_voxels() -> None:
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[:2], b[1:3] = True, True
    assert dice(a, b) == pytest.approx(0.5)
    assert dice(a, a) == 1.0
    assert dice(a, ~a) == 0.0


def test_dice_takes_labels_as_masks() -> None:
    assert dice(np.array([0, 3, 3]), np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_empty_masks() -> None:
    empty, one = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    one[2, 2, 2] = True
    assert dice(empty, empty) == surface_dice(empty, empty, (1, 1, 1)) == 1.0
    assert dice(one, empty) == dice(empty, one) == 0.0
    assert surface_dice(one, empty, (1, 1, 1)) == surface_dice(empty, one, (1, 1, 1)) == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(BadInput, match="same grid"):
        dice(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
    with pytest.raises(BadInput, match="3D"):
        surface_dice(np.zeros((2, 2)), np.zeros((2, 2)), (1, 1, 1))
    with pytest.raises(BadInput, match="spacing"):
        surface_dice(np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1))
    with pytest.raises(BadInput, match="negative"):
        surface_dice(np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1), -1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.9, 1.3)])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0])
def test_surface_dice_equals_monai(spacing: tuple[float, float, float], tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    for seed in range(3):
        pred, truth = blobs(seed), blobs(seed) ^ (blobs(seed + 10) & blobs(seed + 20))
        theirs = metrics.compute_surface_dice(
            torch.from_numpy(pred)[None, None].float(),
            torch.from_numpy(truth)[None, None].float(),
            class_thresholds=[tolerance],
            include_background=True,
            spacing=list(spacing),
            use_subvoxels=True,
        )
        assert surface_dice(pred, truth, spacing, tolerance) == pytest.approx(
            float(theirs), abs=1e-5
        )


def test_surface_dice_equals_brute_force() -> None:
    spacing = (1.7, 1.0, 0.8)
    pred, truth = blobs(1, (10, 9, 11)), blobs(2, (10, 9, 11))
    areas = surface_areas(spacing)

    def surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(mask, 1)
        points, weights = [], []
        for corner in np.ndindex(*(n - 1 for n in padded.shape)):
            i, j, k = corner
            bits = padded[i : i + 2, j : j + 2, k : k + 2].ravel()
            code = int("".join("1" if b else "0" for b in bits), 2)
            if 0 < code < 255:
                points.append(np.array(corner) * spacing)
                weights.append(areas[code])
        return np.array(points), np.array(weights)

    (p, wp), (t, wt) = surface(pred), surface(truth)
    distance = np.linalg.norm(p[:, None] - t[None], axis=2)
    for tolerance in (0.5, 1.0, 2.0):
        near = wp[distance.min(1) <= tolerance].sum() + wt[distance.min(0) <= tolerance].sum()
        expected = near / (wp.sum() + wt.sum())
        assert surface_dice(pred, truth, spacing, tolerance) == pytest.approx(expected, abs=1e-6)


def test_surface_dice_shift_within_tolerance() -> None:
    a, b = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    a[5:12, 5:12, 5:12], b[7:14, 5:12, 5:12] = True, True
    assert surface_dice(a, b, (1.0, 1.0, 1.0), 2.0) == 1.0  # exactly 2 mm is within 2 mm
    assert surface_dice(a, b, (1.1, 1.0, 1.0), 2.0) < 1.0


def test_surface_area_of_a_box() -> None:
    # Two voxels thick in each direction: six flat faces of a box, edges and corners cut off.
    areas = surface_areas((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0.0
    assert areas[0b11110000] == pytest.approx(6.0)  # a plane across axis 0: 2 mm x 3 mm
    assert areas[0b10101010] == pytest.approx(2.0)  # a plane across axis 2: 1 mm x 2 mm
    np.testing.assert_allclose(areas, areas[::-1])


def test_auc_is_at_most_four_for_five_clicks() -> None:
    assert auc([1.0] * 5) == pytest.approx(4.0)
    assert auc([0.0, 1.0, 1.0]) == pytest.approx(1.5)


def test_clicks_to_reach() -> None:
    assert clicks_to_reach([0.5, 0.86, 0.8], 0.85, 10) == 2
    assert clicks_to_reach([0.5, 0.6], 0.85, 10) == 10


def test_bounding_box() -> None:
    mask = np.zeros((4, 5, 6), bool)
    assert bounding_box(mask) is None
    mask[1:3, 2, 4:6] = True
    assert bounding_box(mask) == (slice(1, 3), slice(2, 3), slice(4, 6))
