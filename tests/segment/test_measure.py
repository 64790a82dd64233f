"""Measures against independent computations."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sightline.errors import BadInput
from napari_sightline.segment.measure import columns, measure, row_of, write_csv
from napari_sightline.volume import Volume

AFFINE = np.array([[0.0, -1.5, 0, 30], [-0.9, 0, 0, 12], [0, 0, 3.0, -70], [0, 0, 0, 1]])


def image(shape: tuple[int, int, int] = (30, 28, 20), seed: int = 0) -> Volume:
    data = np.random.default_rng(seed).normal(40, 200, shape).astype(np.int16)
    return Volume.from_array(data, AFFINE)


def random_labels(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), 1.5)
    return np.digitize(noise, np.quantile(noise, [0.7, 0.85])).astype(np.uint8)


@given(st.integers(0, 1000))
def test_like_an_independent_computation(seed: int) -> None:
    volume = image(seed=seed)
    labels = random_labels(seed, volume.shape)
    found = measure(labels, volume, {1: "one"})
    assert [m.value for m in found] == [1, 2]
    assert [m.name for m in found] == ["one", "label 2"]
    for one in found:
        mask = labels == one.value
        values = volume.data[mask].astype(float)
        assert one.voxels == mask.sum()
        assert one.volume_ml == pytest.approx(mask.sum() * 0.9 * 1.5 * 3 / 1000)
        assert one.mean == pytest.approx(values.mean())
        assert one.sd == pytest.approx(values.std())
        assert (one.minimum, one.maximum) == (values.min(), values.max())
        assert one.median == pytest.approx(np.median(values))
        assert one.parts == ndimage.label(mask, np.ones((3, 3, 3)))[1]
        np.testing.assert_allclose(one.centroid, ndimage.center_of_mass(mask))
        # On the file's own grid, with the file's affine.
        place = np.argwhere(volume.to_file(mask)).mean(0)
        np.testing.assert_allclose(one.centroid_mm, AFFINE[:3, :3] @ place + AFFINE[:3, 3])
        longest = 0.0
        for plane in mask:
            at = np.argwhere(plane)
            corners = np.concatenate([at + c for c in ((0, 0), (0, 1), (1, 0), (1, 1))])
            mm = corners * volume.spacing[1:]
            if len(mm):
                longest = max(longest, np.sqrt(((mm[:, None] - mm) ** 2).sum(-1)).max())
        assert one.diameter_mm == pytest.approx(longest)
        assert mask[one.slice].any()


def test_a_box_of_known_size() -> None:
    volume = Volume.from_array(np.full((10, 20, 20), 7.0), spacing=(3.0, 1.0, 2.0))
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:5, 4:8, 3:6] = 4
    (one,) = measure(labels, volume)
    assert (one.value, one.voxels, one.parts) == (4, 36, 1)
    assert one.volume_ml == pytest.approx(36 * 6 / 1000)
    assert (one.mean, one.sd) == (7, 0)
    assert one.centroid == (3, 5.5, 4)
    assert one.diameter_mm == pytest.approx(np.hypot(4, 6))


def test_masks_that_overlap_and_chosen_values() -> None:
    volume = image()
    masks = np.zeros((3, *volume.shape), bool)
    masks[0, 2:9, 3:9, 3:9] = True
    masks[2, 4:12, 3:9, 3:12] = True
    found = measure(masks, volume)
    assert [m.value for m in found] == [1, 3]
    assert found[0] == measure(masks[0].astype(np.uint8), volume)[0]
    assert [m.value for m in measure(masks, volume, values=[3])] == [3]
    assert measure(random_labels(0, volume.shape), volume, values=[2])[0].value == 2


def test_voxels_that_are_not_finite_do_not_count() -> None:
    data = np.full((4, 5, 6), np.nan)
    labels = np.ones(data.shape, np.uint8)
    assert np.isnan(measure(labels, Volume.from_array(data))[0].mean)
    data[0, 0, :2] = 4, 8
    one = measure(labels, Volume.from_array(data))[0]
    assert (one.mean, one.median, one.voxels) == (6, 6, 120)


def test_a_table(tmp_path: Path) -> None:
    volume = image()
    found = measure(random_labels(0, volume.shape), volume, {1: "liver, right", 2: "=1+1"})
    path = write_csv(tmp_path / "m.csv", found)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == columns() and len(row_of(found[0])) == len(columns())
    assert rows[0]["name"] == "liver, right"
    assert rows[1]["name"] == "'=1+1"  # no formula
    assert float(rows[0]["volume_ml"]) == pytest.approx(found[0].volume_ml, rel=1e-5)
    assert float(rows[1]["z_mm"]) == pytest.approx(found[1].centroid_mm[2], rel=1e-4)
    with pytest.raises(BadInput, match="could not be written"):
        write_csv(tmp_path / "none" / "m.csv", found)


def test_bad_labels() -> None:
    volume = image()
    with pytest.raises(BadInput, match="give labels on the image's grid"):
        measure(np.zeros((3, 3, 3), np.uint8), volume)
    with pytest.raises(BadInput, match="whole numbers"):
        measure(np.zeros(volume.shape), volume)
    with pytest.raises(BadInput, match="below 0"):
        measure(np.full(volume.shape, -1), volume)
    assert measure(np.zeros(volume.shape, np.uint8), volume) == []
    assert measure(np.ones(volume.shape, bool), replace(volume))[0].value == 1
