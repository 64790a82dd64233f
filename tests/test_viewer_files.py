"""Dropping and saving files in napari: DICOM folders, NRRD, segmentations, as real events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "io"))

from dicom_making import series

from napari_sightline.io import load, load_labels, save
from napari_sightline.viewer.bridge import KEY
from napari_sightline.viewer.files import get_reader

AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
SCAN = np.random.default_rng(0).integers(-1000, 1000, (17, 16, 15)).astype("i2")
Told = Callable[[], list[str]]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def told() -> Told:
    """Sentences that the user was told since the test began."""
    from napari.utils.notifications import notification_manager

    begun = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[begun:]]


def test_who_reads_what(tmp_path: Path) -> None:
    for name in ("a.nii", "a.NRRD", "a.dcm", "a.zip", "a.tif"):
        assert get_reader(name) is not None
    assert get_reader("a.png") is None
    assert get_reader(["a.dcm", "b.png"]) is None
    assert get_reader(str(tmp_path)) is not None


def test_a_folder_of_two_series_as_layers(viewer: Any, tmp_path: Path, told: Told) -> None:
    paths = series(tmp_path / "a", SCAN, AFFINE, uid="1.1", SeriesDescription="soft")
    series(tmp_path / "b", SCAN[..., :4], AFFINE, uid="1.2", SeriesDescription="bone")
    paths[7].unlink()
    viewer.open(str(tmp_path), plugin="napari-sightline")
    soft, bone = viewer.layers
    assert (soft.name, bone.name) == ("soft", "bone")
    assert tuple(soft.scale) == pytest.approx((2.5, 0.9, 0.8))
    assert soft.contrast_limits == [-160, 240]
    assert any("soft: Missing slices: 1 after slice 7" in text for text in told())
    # A place in the viewer comes back at the same millimetres.
    volume = soft.metadata[KEY]["volume"]
    voxel = soft.world_to_data(soft.data_to_world((3.25, 4.5, 5.75)))
    mm = load(tmp_path, series="soft").voxel_to_mm((3.25, 4.5, 5.75))
    assert np.allclose(volume.voxel_to_mm(voxel), mm, atol=1e-3)


def test_labels_are_saved_in_other_formats(viewer: Any, tmp_path: Path) -> None:
    series(tmp_path / "s", SCAN, AFFINE)
    volume = load(tmp_path / "s")
    labels = (volume.data > 500).astype("u1")
    first = save(tmp_path / "l.seg.nrrd", labels, volume, {1: "liver"})
    viewer.open([str(first)], plugin="napari-sightline")
    viewer.open(str(tmp_path / "s"), plugin="napari-sightline")
    layer, scan = viewer.layers
    assert list(layer.features["name"]) == ["", "liver"]
    for ending in (".nrrd", ".nii.gz", ".stl"):
        out = tmp_path / f"out{ending}"
        assert layer.save(str(out), plugin="napari-sightline") == [str(out)]
    again, names = load_labels(tmp_path / "out.nrrd")
    assert np.array_equal(again.data, labels)
    assert names == {1: "liver"}
    out = tmp_path / "scan.nrrd"
    assert scan.save(str(out), plugin="napari-sightline") == [str(out)]
    assert np.array_equal(load(out).data, volume.data)
    assert np.allclose(load(out).affine, volume.affine)


def test_a_folder_without_images_is_one_sentence(viewer: Any, tmp_path: Path, told: Told) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert viewer.open(str(tmp_path), plugin="napari-sightline") == []
    assert any("is a folder without DICOM images" in text for text in told())
