"""The robot user's protocol against a plain implementation with scipy."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.robot import simulate_box, simulate_click


def deepest(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> set[tuple]:
    """All voxels that the protocol allows: of one of the largest components, the deepest."""
    error = np.pad(pred != truth, 1)
    labels, count = ndimage.label(error, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    allowed: set[tuple] = set()
    for index in np.flatnonzero(sizes == sizes.max()):
        depth = ndimage.distance_transform_edt(labels == index + 1, sampling=spacing)
        where = np.argwhere(depth >= depth.max() - 1e-6) - 1
        allowed |= {tuple(int(v) for v in w) for w in where}
    assert count
    return allowed


@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 0.7)])
def test_clicks_the_deepest_voxel_of_the_largest_error(
    spacing: tuple[float, float, float] | None,
) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = ndimage.gaussian_filter(rng.normal(size=(2, 18, 21, 16)), (0, 2, 2, 2))
        pred, truth = noise[0] > 0.05, noise[1] > 0.05
        click = simulate_click(pred, truth, spacing)
        assert click is not None
        voxel = tuple(int(v) for v in click.position)
        assert voxel in deepest(pred, truth, spacing or (1, 1, 1))
        assert click.positive == bool(truth[voxel])
        assert pred[voxel] != truth[voxel]


def test_first_click_is_the_middle_of_the_structure() -> None:
    truth = np.zeros((20, 20, 20), bool)
    truth[4:11, 6:13, 8:15] = True
    click = simulate_click(np.zeros_like(truth), truth)
    assert click is not None
    assert click.position == (7.0, 9.0, 11.0)
    assert click.positive


def test_negative_where_the_truth_is_outside() -> None:
    truth, pred = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    truth[2, 2, 2] = True
    pred[5:10, 5:10, 5:10] = True
    click = simulate_click(pred, truth)
    assert click is not None and not click.positive
    assert click.position == (7.0, 7.0, 7.0)


def test_the_edge_of_the_volume_is_a_border() -> None:
    truth = np.zeros((9, 30, 30), bool)
    truth[:5, 10:20, 10:20] = True
    click = simulate_click(np.zeros_like(truth), truth)
    assert click is not None
    assert click.position[0] == 2.0  # not 0, although nothing lies on the other side


def test_diagonal_neighbours_are_one_component() -> None:
    truth = np.zeros((8, 8, 8), bool)
    for n in range(5):
        truth[n, n, n] = True  # five voxels joined at corners alone
    truth[7, 0, 0:4] = True  # four in a row
    click = simulate_click(np.zeros_like(truth), truth)
    assert click is not None and click.position[0] == click.position[1] == click.position[2]


def test_ties_are_broken_by_the_seed() -> None:
    truth = np.zeros((6, 6, 40), bool)
    truth[2, 2, 2:38] = True  # every voxel equally deep
    empty = np.zeros_like(truth)
    assert simulate_click(empty, truth) == simulate_click(empty, truth)
    rng = np.random.default_rng(0)
    assert len({simulate_click(empty, truth, rng=rng) for _ in range(20)}) > 5


def test_no_error_no_click() -> None:
    truth = np.zeros((5, 5, 5), bool)
    assert simulate_click(truth, truth) is None
    assert simulate_box(truth) is None


def test_noisy_user_stays_in_the_component_and_prefers_its_depth() -> None:
    truth = np.zeros((25, 25, 25), bool)
    truth[3:22, 3:22, 3:22] = True
    truth[24, 24, 24] = True
    rng = np.random.default_rng(1)
    clicks = [simulate_click(np.zeros_like(truth), truth, rng=rng, noisy=True) for _ in range(200)]
    points = np.array([c.position for c in clicks if c is not None])
    assert points.min() >= 3 and points.max() <= 21
    assert len(np.unique(points, axis=0)) > 100
    from_border = np.minimum(points - 2, 22 - points).min(axis=1)
    plain = np.argwhere(truth)[:-1]
    assert from_border.mean() > np.minimum(plain - 2, 22 - plain).min(axis=1).mean() + 0.5


def test_box_is_tight_and_inclusive() -> None:
    truth = np.zeros((10, 12, 14), bool)
    truth[2:5, 3:9, 4:6] = True
    box = simulate_box(truth)
    assert box is not None
    assert (box.low, box.high) == ((2.0, 3.0, 4.0), (4.0, 8.0, 5.0))
    loose = simulate_box(truth, jitter=0.5, rng=3)
    assert loose is not None
    assert min(loose.low) >= 0 and all(h < n for h, n in zip(loose.high, truth.shape, strict=True))


def test_bad_shapes() -> None:
    with pytest.raises(BadInput, match="3D"):
        simulate_click(np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(BadInput, match="shapes"):
        simulate_click(np.zeros((3, 3, 3)), np.zeros((3, 3, 4)))


def test_is_fast_on_a_whole_volume() -> None:
    truth = np.zeros((128, 128, 120), bool)
    truth[30:90, 20:100, 20:100] = True
    pred = np.roll(truth, 7, axis=1)
    simulate_click(pred, truth)
    begin = time.perf_counter()
    simulate_click(pred, truth)
    assert time.perf_counter() - begin < 1.0  # tens of milliseconds on an idle machine
