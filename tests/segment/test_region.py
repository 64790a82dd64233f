from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.segment.region import Region, _weights, plan

SIDE = st.integers(1, 300)
MM = st.floats(0.3, 6.0)


def linear(shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return (3 * z - 2 * y + x).astype(np.float32)


@given(st.tuples(SIDE, SIDE, SIDE), st.tuples(MM, MM, MM), MM, st.tuples(*[st.floats(0, 1)] * 3))
def test_a_plan_holds_its_place_and_keeps_its_budget(
    shape: tuple[int, int, int],
    mm: tuple[float, float, float],
    spacing: float,
    where: tuple[float, float, float],
) -> None:
    centre = np.array(where) * (np.array(shape) - 1)
    region = plan(shape, mm, spacing, centre, 64**3)
    assert np.prod(region.shape) <= 64**3
    assert all(n % 16 == 0 for n in region.shape)
    assert region.holds(centre[None], shape)
    np.testing.assert_allclose(np.array(region.step) * mm, spacing)


@given(st.tuples(*[st.floats(-20, 320)] * 3))
def test_points_there_and_back(point: tuple[float, float, float]) -> None:
    region = plan((100, 200, 300), (2.0, 1.0, 0.7), 1.5, np.array([40.0, 90, 150]), 64**3)
    back = region.to_volume(region.to_region(np.array(point)))
    np.testing.assert_allclose(back, point, atol=1e-9)


@pytest.mark.parametrize("spacing", [0.6, 1.0, 1.7])
def test_extracting_a_linear_image_is_exact(spacing: float) -> None:
    data = linear((40, 50, 60))
    region = plan(data.shape, (1.0, 1.0, 1.0), spacing, np.array([20.0, 25, 30]), 32**3)
    values = region.extract(data, -99.0)
    index = np.stack(np.meshgrid(*map(np.arange, region.shape), indexing="ij"), -1)
    at = region.to_volume(index)
    inside = np.all((at >= 2) & (at <= np.array(data.shape) - 3), -1)
    assert inside.any()
    expected = 3 * at[..., 0] - 2 * at[..., 1] + at[..., 2]
    # A tent that averages over a broken number of voxels is centred to a fifth of one.
    np.testing.assert_allclose(values[inside], expected[inside], atol=1e-3 if spacing <= 1 else 0.6)


def test_outside_is_filled_and_nan_too() -> None:
    data = np.zeros((10, 10, 10), np.float32)
    data[4, 5, 6] = np.nan
    region = plan(data.shape, (1.0, 1.0, 1.0), 1.0, np.array([5.0, 5, 5]), 32**3)
    values = region.extract(data, -7.0)
    box = region.box(data.shape)
    assert [s.stop - s.start for s in box] == [10, 10, 10]
    assert (values == -7).sum() == values.size - 1000 + 1


def test_integers_and_views_are_read_as_they_are() -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, (20, 22, 24)).astype(np.int16)
    region = plan((24, 22, 20), (1.0, 1.0, 1.0), 1.0, np.zeros(3), 64**3)
    turned = region.extract(data.transpose(2, 1, 0)[::-1], 0)
    np.testing.assert_array_equal(
        turned, region.extract(np.ascontiguousarray(data.transpose(2, 1, 0)[::-1]), 0)
    )


@given(
    st.tuples(*[st.integers(1, 60)] * 3),
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.floats(0.2, 5)] * 3),
    st.tuples(*[st.floats(-10, 30)] * 3),
    st.integers(0, 9),
)
def test_bands_leave_out_nothing_but_zeros(
    size: tuple[int, int, int],
    shape: tuple[int, int, int],
    step: tuple[float, float, float],
    origin: tuple[float, float, float],
    seed: int,
) -> None:
    data = np.random.default_rng(seed).integers(-1000, 1000, size, dtype=np.int16)
    region = Region(origin, step, shape, 1.0)
    matrices = [_weights(*facts) for facts in zip(shape, size, origin, step, strict=True)]
    expected = np.einsum("ai,bj,ck,ijk->abc", *matrices, data, optimize=True)
    inside = [m.any(1) for m in matrices]
    expected[~(inside[0][:, None, None] & inside[1][:, None] & inside[2])] = -7
    np.testing.assert_allclose(region.extract(data, -7), expected, rtol=1e-4, atol=2e-3)
    box = (slice(2, 31), slice(0, 3), slice(1, 40))
    back = [
        _weights(s.stop - s.start, n, (s.start - o) / d, 1 / d, clamp=True)
        for s, n, o, d in zip(box, shape, origin, step, strict=True)
    ]
    grid = np.random.default_rng(seed).normal(0, 5, shape).astype(np.float32)
    expected = np.einsum("ai,bj,ck,ijk->abc", *back, grid, optimize=True)
    restored = np.concatenate([values for _, values in region.restore(grid, box)])
    np.testing.assert_allclose(restored, expected, rtol=1e-4, atol=1e-4)


def test_averages_where_it_gets_coarser() -> None:
    data = np.random.default_rng(0).normal(0, 1, (64, 64, 64)).astype(np.float32)
    region = plan(data.shape, (1.0, 1.0, 1.0), 4.0, np.array([32.0, 32, 32]), 16**3)
    assert region.extract(data, 0)[2:-2, 2:-2, 2:-2].std() < 0.3


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.5])
def test_restoring_a_linear_grid_is_exact(spacing: float) -> None:
    shape = (30, 41, 52)
    region = plan(shape, (2.0, 1.0, 1.0), spacing, np.array([15.0, 20, 25]), 32**3)
    index = np.stack(np.meshgrid(*map(np.arange, region.shape), indexing="ij"), -1)
    at = region.to_volume(index)
    grid = at[..., 0] - 2 * at[..., 1] + 0.5 * at[..., 2]
    box = region.box(shape)
    out = np.empty([s.stop - s.start for s in box], np.float32)
    for rows, values in region.restore(grid, box):
        out[rows] = values
    voxel = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), -1)
    # Averages near a face lean inwards; beyond the last centre the last value holds.
    first, last = region.to_volume(np.zeros(3)), region.to_volume(np.array(region.shape) - 1)
    inside = np.all((voxel >= first + 1) & (voxel <= last - 1), -1)
    assert inside.any()
    at = voxel[inside]
    expected = at[:, 0] - 2 * at[:, 1] + 0.5 * at[:, 2]
    np.testing.assert_allclose(out[inside], expected, atol=0.06)


def test_open_faces() -> None:
    region = plan((200, 20, 20), (1.0, 1.0, 1.0), 1.0, np.array([0.0, 10, 10]), 64 * 32 * 32)
    assert region.open_faces((200, 20, 20)).tolist() == [[False, True], [False] * 2, [False] * 2]


def test_neighbouring_places_share_a_region() -> None:
    shape, mm = (400, 400, 400), (1.0, 1.0, 1.0)
    regions = {
        plan(shape, mm, 1.0, np.array([200.0 + d, 200, 200]), 64**3) for d in np.linspace(0, 7, 8)
    }
    assert len(regions) <= 2
    assert isinstance(next(iter(regions)), Region)
