"""Names and colours of labels: kept by every format, and read from other programs' files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from dicom_making import series

from napari_sightline.anatomy import by_name
from napari_sightline.errors import BadInput
from napari_sightline.io import Legend, load, load_labels, save, save_each
from napari_sightline.io.label_descriptions import read_descriptions
from napari_sightline.volume import Volume

AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
NAMES = {1: "liver", 3: "left kidney", 9: 'odd <name> & "quotes" \\ back', 12: "Größe"}
CHOSEN = {1: (10, 200, 30), 9: (1, 2, 3), 12: (255, 254, 0)}
VOXELS = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".tif", ".ome.tif", ".dcm")


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    """A DICOM series, so that every format can be written."""
    array = np.arange(7 * 6 * 5).reshape(7, 6, 5).astype("i2")
    series(tmp_path / "scan", array, AFFINE)
    return load(tmp_path / "scan")


def labelled(volume: Volume) -> np.ndarray:
    return np.random.default_rng(0).choice([0, *NAMES], volume.shape).astype("u1")


@pytest.mark.parametrize("ending", VOXELS)
def test_colours_come_back(tmp_path: Path, scan: Volume, ending: str) -> None:
    if ending == ".dcm":
        pytest.importorskip("highdicom")
    expected = {**CHOSEN, 3: by_name("left kidney").colour}
    path = save(tmp_path / f"a{ending}", labelled(scan), scan, Legend(NAMES, CHOSEN))
    _, legend = load_labels(path)
    names = {**NAMES, 9: " ".join(NAMES[9].replace("\\", " ").split())}
    assert legend == (names if ending == ".dcm" else NAMES)
    assert legend.colours == expected
    # And go on into any other format.
    again, _ = load_labels(path)
    _, further = load_labels(save(tmp_path / "b.seg.nrrd", again.data, scan, legend))
    assert (further, further.colours) == (legend, expected)


@pytest.mark.parametrize("ending", [*VOXELS, ".ply"])
def test_one_file_an_organ_keeps_its_colour(tmp_path: Path, scan: Volume, ending: str) -> None:
    if ending == ".dcm":
        pytest.importorskip("highdicom")
    legend = Legend({1: "liver", 3: "odd"}, {1: (9, 8, 7), 3: (250, 1, 99)})
    labels = np.where(np.isin(labelled(scan), (1, 3)), labelled(scan), 0)
    for value, path in zip(
        (1, 3), save_each(tmp_path / f"a{ending}", labels, scan, legend), strict=True
    ):
        if ending == ".ply":
            body = path.read_bytes().split(b"end_header\n", 1)[1]
            assert tuple(body[12:15]) == legend.colours[value]
        else:
            found = load_labels(path)[1]
            assert (dict(found), found.colours) == (
                {value: legend[value]},
                {value: legend.colours[value]},
            )


def test_label_tables_of_other_programs(tmp_path: Path) -> None:
    def written(content: str, code: int) -> Legend:
        image = nib.Nifti1Image(np.ones((3, 3, 3), "u1"), np.eye(4))
        extension = nib.nifti1.Nifti1Extension(code, content.encode())
        image.header.extensions.append(extension)
        nib.save(image, tmp_path / "a.nii.gz")
        return load_labels(tmp_path / "a.nii.gz")[1]

    # TotalSegmentator: code 0, names in CDATA.
    table = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> <VolumeInformation Index="0">'
        '<LabelTable><Label Key="1" Red="1.0" Green="0.0" Blue="0.2" Alpha="1">'
        '<![CDATA[spleen]]></Label>\n<Label Key="7" Red="nan" Green="0" Blue="0" Alpha="1">'
        "<![CDATA[gall & bladder]]></Label></LabelTable>{}</VolumeInformation></CaretExtension>"
    )
    legend = written(table.format(""), 0)
    assert legend == {1: "spleen", 7: "gall & bladder"}
    assert legend.colours == {1: (255, 0, 51)}
    assert written(table.format(""), 30) == legend
    # Earlier files of ours: names as JSON in a comment.
    old = json.dumps({"napari-sightline": {"labels": {"4": "heart"}}})
    assert written(old, 6) == {4: "heart"}
    # Nothing is expanded, and nothing that is no table is one.
    bomb = '<!DOCTYPE a [<!ENTITY b "spleen">]>' + table.format("").replace("spleen", "&b;")
    for bad in (bomb, table.format("<"), table.replace("Key", "Keys"), "<a/>", "<" * 9000):
        assert written(bad, 30) == {}


def test_a_label_description_of_itk_snap(tmp_path: Path, scan: Volume) -> None:
    legend = Legend({2: "spleen", 5: 'a "quoted" one'}, {2: (1, 22, 222)})
    labels = np.where(labelled(scan) > 3, 5, 2)
    path = save(tmp_path / "case.label", labels, scan, legend)
    rows = [line.split(maxsplit=7) for line in path.read_text().splitlines() if line[0] != "#"]
    assert rows[0][-1] == '"Clear Label"'
    assert rows[1] == ["2", "1", "22", "222", "1", "1", "1", '"spleen"']
    # Found beside a label map that has no names of its own.
    nib.save(nib.Nifti1Image(labels.astype("u1"), np.eye(4)), tmp_path / "case.nii.gz")
    _, found = load_labels(tmp_path / "case.nii.gz")
    assert found == {2: "spleen", 5: "a 'quoted' one"}
    assert found.colours[2] == (1, 22, 222)
    path.write_bytes(b'\xff\xfe 1 2 3\n 1 999 0 0 1 1 1 "bad"\n' + bytes(100))
    assert load_labels(tmp_path / "case.nii.gz")[1] == {}
    assert read_descriptions(tmp_path / "gone.label") == {}
    with pytest.raises(BadInput, match=r"case\.label exists already"):
        save(path, labels, scan, legend, overwrite=False)


def test_colours_that_are_none(tmp_path: Path) -> None:
    for colour in ("1 0", "a b c", "2 0 0", "nan 0 0", "inf 0 0", "-0.5 0 0"):
        header = {"Segment0_Name": "one", "Segment0_Color": colour}
        nrrd.write(str(tmp_path / "a.seg.nrrd"), np.ones((3, 3, 3), "u1"), header)
        _, legend = load_labels(tmp_path / "a.seg.nrrd")
        assert (dict(legend), legend.colours) == ({1: "one"}, {})
