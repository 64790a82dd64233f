"""Dropping and saving files in napari: DICOM folders, NRRD, segmentations, as real events."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image, Labels

sys.path.insert(0, str(Path(__file__).parent / "io"))

from dicom_making import series

from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.viewer.bridge import KEY, voxel_at
from napari_sightline.viewer.files import get_reader, read
from napari_sightline.volume import Volume

AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
SCAN = np.random.default_rng(0).integers(-1000, 1000, (17, 16, 15)).astype("i2")
TURNED = nib.eulerangles.euler2mat(0.2, -0.3, 0.1)
TURNS = {
    "permuted": AFFINE[:, [2, 0, 1, 3]],
    "flipped": AFFINE @ np.diag([-1, -1, -1, 1]),
    "oblique": nib.affines.from_matvec(TURNED @ AFFINE[:3, :3], (4, -7, 11)),
    "left-handed": nib.affines.from_matvec(TURNED @ np.diag([0.8, 0.9, -2.5]), (4, -7, 11)),
}
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


@pytest.mark.parametrize("kind", ["dicom", "zip", "nii.gz", "nrrd", "tif", "ome.tif", "seg.nrrd"])
@pytest.mark.parametrize("turn", ["permuted", "flipped", "oblique", "left-handed"])
def test_points_come_back_at_the_same_millimetres(tmp_path: Path, kind: str, turn: str) -> None:
    affine = TURNS[turn]
    volume = Volume.from_array(SCAN, affine)
    if kind in ("dicom", "zip"):
        paths = series(tmp_path / "s", SCAN, affine, order=list(range(15))[::-1])
        source = tmp_path / "s"
        if kind == "zip":
            source = tmp_path / "s.zip"
            with zipfile.ZipFile(source, "w") as archive:
                for path in paths:
                    archive.write(path, path.name)
    elif kind == "seg.nrrd":
        source = save(tmp_path / "l.seg.nrrd", (volume.data > 0).astype("u1"), volume, {1: "a"})
    else:
        source = save_image(tmp_path / f"a.{kind}", volume)
    ((data, options, layer_type),) = read(str(source))
    layer = {"image": Image, "labels": Labels}[layer_type](data, **options)
    opened = options["metadata"][KEY]["volume"]
    for clicked in np.random.default_rng(0).uniform(0, 14, (5, 3)):
        # A click on the canvas is a world position; what lies there in the scanner is the file's.
        voxel = voxel_at(layer, layer.data_to_world(clicked))
        mm = volume.voxel_to_mm(volume.file_to_voxel(opened.voxel_to_file(clicked)))
        if kind in ("dicom", "zip"):  # its slices run along their normal, whatever the array's do
            mm = opened.voxel_to_mm(clicked)
            back = volume.mm_to_voxel(mm)
            assert np.allclose(volume.voxel_to_mm(back), mm, atol=1e-3)
            nearest = tuple(np.rint(back).astype(int))
            whole = tuple(np.rint(opened.mm_to_voxel(volume.voxel_to_mm(nearest))).astype(int))
            assert opened.data[whole] == volume.data[nearest]
        assert np.allclose(opened.voxel_to_mm(voxel), mm, atol=1e-3)
