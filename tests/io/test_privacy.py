"""Nothing that leaves a reader or a writer says who the patient is."""

from __future__ import annotations

import gzip
import logging
import pickle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import item, series

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.io.dicom import list_series, read_all_series
from napari_sightline.io.dicom_privacy import private_words, scrubbed

AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
WHO = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": "Mustermann^Erika^von=山田^花子",
    "PatientID": "PID-778899",
    "PatientBirthDate": "19640812",
    "OtherPatientIDs": "KK55501",
    "OtherPatientNames": "Gabler^Erika",
    "PatientBirthName": "Gabler",
    "PatientAddress": "Heidestrasse 17",
    "PatientTelephoneNumbers": "0221-445566",
    "PatientComments": "Mustermann, born 1964-08-12",
    "ImageComments": "PID-778899",
    "ReferringPhysicianName": "Mustermann^Max",
    "StudyDescription": "Mustermann thorax",
    "RequestedProcedureDescription": "Erika 778899",
}
SAID = "thorax Erika MUSTERMANN PID-778899 KK55501 12.08.1964 gabler 山田"
SECRETS = ("mustermann", "erika", "gabler", "778899", "19640812", "1964-08", "08.1964", "kk55501",
           "heidestrasse", "445566", "山田", "花子")  # fmt: skip


def nobody(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text.casefold(), text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients' series, who are named in every place, the names of files among them."""
    array = np.arange(7 * 6 * 5).reshape(7, 6, 5).astype("i2")
    ids = item(PatientID="KK55501", TypeOfPatientID="TEXT")
    named = {**WHO, "SeriesDescription": SAID, "OtherPatientIDsSequence": ids}
    series(tmp_path / "d", array, AFFINE, uid="1.1", prefix="Mustermann_Erika_", **named)
    other = {**named, "PatientName": "Gabler^Xaver", "PatientID": "KK55501"}
    series(tmp_path / "d", array[..., :4], AFFINE, uid="1.2", prefix="g", **other)
    return tmp_path / "d"


def test_names_notes_and_layers(folder: Path, capfd: pytest.CaptureFixture) -> None:
    for one in list_series(folder):
        nobody(one.name)
        nobody(repr(one.notes))
        assert "thorax" in one.name
    volumes = read_all_series(folder)
    assert len(volumes) == 2
    for volume in volumes:
        nobody("".join((volume.name, repr(volume), *volume.notes)))
        # What goes into a layer's metadata holds no header; file names are the user's own.
        kept = pickle.dumps(volume.header).decode("latin-1").casefold()
        for secret in ("778899", "19640812", "kk55501", "heidestrasse"):
            assert secret not in kept
    nobody("".join(capfd.readouterr()))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".tif", ".ome.tif",
                                    ".stl", ".obj", ".ply", ".label"])  # fmt: skip
def test_files(folder: Path, tmp_path: Path, ending: str) -> None:
    volume = load(folder, series=0)
    labels = (volume.data > 100).astype("u1")
    written = [save(tmp_path / f"out{ending}", labels, volume, {1: "liver"})]
    if ending in (".nii", ".nii.gz", ".nrrd", ".tif", ".ome.tif"):
        written.append(save_image(tmp_path / f"image{ending}", volume))
    for path in written:
        data = path.read_bytes()
        nobody(data.decode("latin-1"))
        nobody(data.decode("utf-8", "replace"))
        if ending == ".nii.gz":
            nobody(gzip.decompress(data).decode("latin-1"))


def test_errors_and_logs(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    paths = sorted(folder.glob("Mustermann*"))
    said = []

    def fails(**options: object) -> None:
        with pytest.raises(BadInput) as caught:
            load(folder, **options)
        said.append(str(caught.value))
        assert caught.value.__cause__ is None or not any(
            secret in str(caught.value.__cause__).casefold() for secret in SECRETS
        )

    with caplog.at_level(logging.DEBUG):
        fails()
        fails(series="nothing")
        fails(series=0, channel=7)
        whole = paths[0].read_bytes()
        paths[0].write_bytes(whole[:-40])
        fails(series=0)
        ds = pydicom.dcmread(paths[1])
        ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        ds["PixelData"].VR = "OB"
        ds.save_as(paths[1])
        paths[0].write_bytes(whole)
        fails(series=0)
        ds.NumberOfFrames = 3
        ds.PerFrameFunctionalGroupsSequence = item(SliceThickness=1)
        ds.save_as(paths[1])
        fails(series=0)
    for text in [*said, caplog.text, *capfd.readouterr()]:
        nobody(text)
    assert all(text.endswith(".") for text in said)


def test_segments_that_name_somebody(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    volume = load(folder, series=0)
    path = save(tmp_path / "s.dcm", volume.data > 100, volume, {1: "liver of Mustermann"})
    labels, names = load_labels(path)
    assert names == {1: "liver of"}
    nobody(labels.name + repr(labels.notes))


def test_short_names_and_dates() -> None:
    ds = pydicom.Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Li^Wu", "7", "19990131"
    words = private_words(ds)
    assert scrubbed("Li liver 7 mm 17 Wu", words) == "liver mm 17"
    assert scrubbed("seen 31.01.1999 or 1999-01-31 or 01/31/1999", words) == "seen or or"
    assert scrubbed("nothing to hide", words) == "nothing to hide"
