"""DICOM segmentations, as highdicom and pydicom read them and as they come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import enhanced, series
from test_dicom import AXIAL, OBLIQUE, PHI, scan

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save
from napari_sightline.volume import Volume

highdicom = pytest.importorskip("highdicom")
NAMES = {1: "liver", 3: "left kidney", 9: "tumour", 12: "strange thing"}


def labelled(volume: Volume) -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 3, 9, 12], volume.shape).astype("u1")


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("way", ["classic", "enhanced"])
def test_labels_come_back(tmp_path: Path, affine: np.ndarray, way: str) -> None:
    if way == "classic":
        series(tmp_path / "s", scan(), affine, order=[3, 1, 0, 4, 2])
    else:
        enhanced(tmp_path / "s", scan(), affine, order=[3, 1, 0, 4, 2])
    volume = load(tmp_path / "s")
    labels = labelled(volume)
    path = save(tmp_path / "l.dcm", labels, volume, NAMES)
    again, names = load_labels(path)
    assert np.array_equal(again.data, labels)
    assert np.allclose(again.affine, volume.affine, atol=1e-4)
    assert names == NAMES
    assert again.notes == ()

    segmentation = highdicom.seg.segread(path)
    kidney = segmentation.get_segment_description(2)
    assert kidney.segment_label == "left kidney"
    assert kidney.segmented_property_type.value == "64033007"
    modifier = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert modifier.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    tumour = segmentation.get_segment_description(3)
    assert tumour.segmented_property_category.value == "49755003"
    assert segmentation.get_segment_description(4).segment_label == "strange thing"
    theirs = segmentation.get_volume(combine_segments=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ theirs.affine
    numbered = Volume.from_array(theirs.array, lps)
    assert np.array_equal(numbered.data, np.searchsorted([0, 1, 3, 9, 12], labels))
    assert np.allclose(numbered.affine, volume.affine, atol=1e-4)

    plain = pydicom.dcmread(path)
    assert plain.pixel_array.shape[1:] == scan().T.shape[1:]
    referred = plain.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == "1.2.3.4.5"
    assert len(referred.ReferencedInstanceSequence) == (5 if way == "classic" else 1)
    assert plain.PatientID == "PID-778899"  # a DICOM file belongs to its patient


def test_sparse_frames_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sightline.io.dicom_seg._FULL", 0)
    series(tmp_path / "s", scan((6, 5, 12)), AXIAL)
    volume = load(tmp_path / "s")
    labels = np.zeros(volume.shape, "u1")
    labels[2, 1:3], labels[9, 2:4] = 1, 3
    again, _ = load_labels(save(tmp_path / "l.dcm", labels, volume))
    assert pydicom.dcmread(tmp_path / "l.dcm").NumberOfFrames == 2
    where = volume.mm_to_voxel(again.voxel_to_mm(np.argwhere(again.data > -1)))
    assert np.allclose(where, np.rint(where), atol=1e-3)
    found = np.zeros_like(labels)
    found[tuple(np.rint(where).astype(int).T)] = again.data.ravel()
    assert np.array_equal(found, labels)


def test_what_cannot_be_referred_to(tmp_path: Path) -> None:
    paths = series(tmp_path / "s", scan(), AXIAL)
    volume = load(tmp_path / "s")
    labels = labelled(volume)
    with pytest.raises(BadInput, match="would be empty"):
        save(tmp_path / "l.dcm", labels * 0, volume)
    cropped = volume.crop((slice(1, 3), slice(None), slice(None)))
    with pytest.raises(BadInput, match="must refer to a whole DICOM series, which thin is not"):
        save(tmp_path / "l.dcm", labels[1:3], cropped)
    foreign = Volume.from_array(scan(), AXIAL)
    with pytest.raises(BadInput, match="must refer to a whole DICOM series"):
        save(tmp_path / "l.dcm", labels, foreign)
    paths[2].unlink()
    gappy = load(tmp_path / "s")
    with pytest.raises(BadInput, match="lie on slices that thin lacks"):
        save(tmp_path / "l.dcm", labels, gappy)
    labels[2] = 0
    again, _ = load_labels(save(tmp_path / "l.dcm", labels, gappy, NAMES))
    assert np.array_equal(again.data, labels)
    paths[0].unlink()
    with pytest.raises(BadInput, match="i0000 does not exist") as caught:
        save(tmp_path / "l.dcm", labels, gappy)
    assert not any(word in str(caught.value).casefold() for word in PHI)
