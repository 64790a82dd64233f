"""Morphological operations against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sightline.errors import BadInput
from napari_sightline.segment.morphology import (
    drop_fragments,
    fill_holes,
    gap_axis,
    grow,
    interpolate,
    largest_part,
    operate,
    smooth,
)
from napari_sightline.segment.packed import PackedMask

spacings = st.tuples(*(st.floats(0.4, 4) for _ in range(3)))


def random_mask(seed: int, share: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(rng.integers(1, 9, 3)) < share


@given(st.integers(0, 999), spacings, st.floats(0.5, 6))
def test_growing_and_shrinking_by_mm(
    seed: int, spacing: tuple[float, float, float], mm: float
) -> None:
    mask = random_mask(seed, 0.15)
    places = np.argwhere(np.ones(mask.shape, bool)) * spacing
    for wanted, distance in ((True, mm), (False, -mm)):
        there = places[(mask == wanted).ravel()]
        if not len(there):
            continue
        away = np.linalg.norm(places[:, None] - there[None], axis=-1).min(1).reshape(mask.shape)
        sure = np.abs(away - mm) > 1e-3  # rounding of float32
        expected = mask | (away <= mm) if wanted else mask & (away > mm)
        np.testing.assert_array_equal(grow(mask, spacing, distance)[sure], expected[sure])


@given(st.integers(0, 999))
def test_largest_part_and_holes(seed: int) -> None:
    mask = random_mask(seed, 0.3)
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    found = largest_part(mask)
    if count:
        assert found.sum() == sizes.max() and not (found & ~mask).any()
        assert len(np.unique(parts[found])) == 1
    dense = random_mask(seed, 0.8)
    if min(dense.shape) > 1:
        np.testing.assert_array_equal(fill_holes(dense), ndimage.binary_fill_holes(dense))


@given(st.integers(0, 999), st.floats(0.05, 1))
def test_fragments_are_parts_smaller_than_a_share(seed: int, share: float) -> None:
    mask = random_mask(seed, 0.2)
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    expected = mask & (sizes[parts] >= share * sizes.max())
    np.testing.assert_array_equal(drop_fragments(mask, share), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_holes_within_one_slice(axis: int) -> None:
    ring = np.ones((7, 8), bool)
    ring[2:5, 3:6] = False
    assert fill_holes(np.expand_dims(ring, axis)).all()
    ring[0, 4], ring[1, 4] = False, False  # open to the outside
    assert not fill_holes(np.expand_dims(ring, axis)).all()


def test_smoothing_evens_out_and_keeps_the_volume() -> None:
    z, y, x = np.indices((30, 30, 30))
    ball = (z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 < 81
    rough = ball ^ ((np.random.default_rng(0).random(ball.shape) < 0.1) & ball)
    found = smooth(rough, (1, 1, 1), 1.5)
    assert found.sum() == pytest.approx(rough.sum(), rel=0.01)

    def rim(mask: np.ndarray) -> int:
        return sum(int(np.diff(mask.astype(int), axis=k).astype(bool).sum()) for k in range(3))

    assert rim(found) < 0.6 * rim(rough)
    for nothing in (np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)):
        np.testing.assert_array_equal(smooth(nothing, (1, 1, 1), 1), nothing)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_between_drawn_ones_follow_an_oblique_cone(axis: int) -> None:
    # Radius 4 to 8 and centre 10 to 20 over 8 slices of anisotropic voxels.
    spacing = tuple(float(s) for s in np.insert([1.0, 1.5], axis, 3.0))
    solid = np.zeros((9, 40, 40), bool)
    y, x = np.indices((40, 40))
    for k in range(9):
        solid[k] = np.hypot((y - 14) * 1.0, (x - 10 - 10 * k / 8) * 1.5) <= 4 + k / 2
    truth = np.moveaxis(solid, 0, axis)
    drawn = np.zeros_like(solid)
    drawn[[0, 8]] = solid[[0, 8]]
    mask = np.moveaxis(drawn, 0, axis)
    assert gap_axis(mask) == axis
    found = interpolate(mask, spacing, axis)  # type: ignore[arg-type]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    np.testing.assert_array_equal(np.moveaxis(found, axis, 0)[[0, 8]], drawn[[0, 8]])


def test_operations_look_no_further_than_they_reach() -> None:
    packed = PackedMask.of(np.ones((4, 4, 4), bool), (slice(50, 54), slice(0, 4), slice(96, 100)))
    mask, box = operate("grow", 3.0, packed, (1, 1, 3), (100, 100, 100))
    assert box == (slice(46, 58), slice(0, 8), slice(94, 100))
    assert mask[0].sum() == 0 and mask[1].any() and mask.shape == (12, 8, 6)
    # The volume's face is no rim: nothing is taken away from there.
    mask, box = operate("grow", -1.0, packed, (1, 1, 3), (100, 100, 100))
    assert mask[:, 0].any() and mask[:, :, -1].any()
    with pytest.raises(BadInput, match="less than a voxel"):
        operate("grow", 0.5, packed, (1, 1, 3), (100, 100, 100))
