from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.models.intensity import Intensity


@given(st.floats(0.01, 1000), st.floats(-1000, 1000), st.integers(0, 99))
def test_unit_and_offset_do_not_matter(gain: float, offset: float, seed: int) -> None:
    data = np.random.default_rng(seed).gamma(2.0, 1.0, (12, 13, 14))
    plain = Intensity.of(data).apply(data)
    scaled = data * gain + offset
    np.testing.assert_allclose(Intensity.of(scaled).apply(scaled), plain, atol=0.02)


def test_soft_tissue_keeps_contrast_beside_air_and_bone() -> None:
    rng = np.random.default_rng(0)
    data = np.full((40, 40, 40), -1000.0)
    data[10:30, 10:30, 10:30] = rng.normal(-100, 15, (20, 20, 20))
    data[15:25, 15:25, 15:25] = rng.normal(50, 15, (10, 10, 10))
    data[19:21, 19:21, 19:21] = 1500
    linear, equalised = Intensity.of(data).apply(np.array([-100.0, 50.0]))
    assert equalised[1] - equalised[0] > 2 * (linear[1] - linear[0]) > 0


def test_order_is_kept_and_range_is_bounded() -> None:
    data = np.random.default_rng(1).normal(0, 100, (20, 20, 20))
    values = np.linspace(-1e6, 1e6, 1001)
    linear, equalised = Intensity.of(data).apply(values)
    assert np.all(np.diff(linear) >= 0)
    assert np.all(np.diff(equalised) >= 0)
    assert linear.min() == -1.5 and linear.max() == 1.5
    assert equalised.min() == -1 and equalised.max() == 1


@pytest.mark.parametrize("value", [0.0, -1024.0, 7.0])
def test_a_constant_image_is_finite(value: float) -> None:
    data = np.full((5, 6, 7), value)
    assert np.isfinite(Intensity.of(data).apply(data)).all()


def test_voxels_that_are_not_finite_count_as_the_lowest() -> None:
    data = np.random.default_rng(2).normal(0, 1, (20, 20, 20))
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    intensity = Intensity.of(data)
    out = intensity.apply(data)
    assert np.isfinite(out).all()
    low = intensity.apply(np.array(intensity.low))
    np.testing.assert_array_equal(out[:, 0, 0, 0], low)


def test_a_volume_without_a_finite_voxel_is_read_all_the_same() -> None:
    data = np.full((4, 4, 4), np.nan)
    assert np.isfinite(Intensity.of(data).apply(data)).all()
