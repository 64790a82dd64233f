"""What `sightline info` says and `sightline convert` writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "io"))

from dicom_making import series

from napari_sightline import cli
from napari_sightline.io import load, load_labels, save
from napari_sightline.volume import Volume

AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
SCAN = np.random.default_rng(0).integers(-1000, 1000, (7, 6, 5)).astype("i2")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_info_of_a_folder_with_two_series(tmp_path: Path, run: Run) -> None:
    series(tmp_path / "a", SCAN, AFFINE, uid="1.1", SeriesDescription="soft")
    paths = series(tmp_path / "b", SCAN[..., :4], AFFINE, uid="1.2", SeriesDescription="bone")
    paths[1].unlink()
    code, out, _ = run("info", tmp_path, "--json", tmp_path / "facts.json")
    assert code == 0
    for text in ("series 0: soft (CT, 5 slices)", "series 1: bone", "modality  CT",
                 "voxels    7 x 6 x 5 in the file, axes LPS", "2.5 x 0.9 x 0.8 mm"):  # fmt: skip
        assert text in out
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["range"] == [SCAN.min(), SCAN.max()]
    code, out, _ = run("info", tmp_path, "--series", "bone")
    assert "note      Missing slices: 1 after slice 1" in out
    assert not any(word in out for word in ("Mustermann", "778899", "1964"))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_info_names_axes_as_nibabel_does(
    tmp_path: Path, run: Run, axes: tuple[int, ...], sign: int
) -> None:
    affine = np.zeros((4, 4))
    for column, axis in enumerate(axes):
        affine[axis, column] = sign * (column + 1)
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(SCAN, affine), tmp_path / "a.nii")
    _, out, _ = run("info", tmp_path / "a.nii")
    assert f"axes {''.join(nibabel.aff2axcodes(affine))}" in out


def test_convert_a_scan_and_labels(tmp_path: Path, run: Run) -> None:
    series(tmp_path / "s", SCAN, AFFINE)
    for ending in (".nii.gz", ".nrrd", ".ome.tif"):
        code, out, _ = run("convert", tmp_path / "s", tmp_path / f"a{ending}")
        assert (code, out.strip()) == (0, str(tmp_path / f"a{ending}"))
        again = load(tmp_path / f"a{ending}")
        assert np.array_equal(again.data, load(tmp_path / "s").data)
    code, _, err = run("convert", tmp_path / "s", tmp_path / "a.nrrd")
    assert code == 2
    assert "exists already" in err
    volume = Volume.from_array(SCAN, AFFINE)
    labels = (volume.data > 0).astype("u1") + (volume.data > 500)
    save(tmp_path / "l.nii.gz", labels, volume, {1: "liver", 2: "spleen"})
    code, out, _ = run("convert", tmp_path / "l.nii.gz", tmp_path / "l.seg.nrrd")
    assert code == 0
    again, names = load_labels(tmp_path / "l.seg.nrrd")
    assert np.array_equal(again.data, labels)
    assert names == {1: "liver", 2: "spleen"}
    code, out, _ = run("info", tmp_path / "l.seg.nrrd")
    assert "label 1   liver, " in out
    code, out, _ = run("convert", tmp_path / "l.seg.nrrd", tmp_path / "l.stl", "--each")
    assert [Path(line).name for line in out.split()] == ["l_liver.stl", "l_spleen.stl"]


def test_convert_to_a_dicom_segmentation(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("highdicom")
    series(tmp_path / "s", SCAN, AFFINE)
    volume = load(tmp_path / "s")
    labels = (volume.data > 0).astype("u1")
    save(tmp_path / "l.nii.gz", labels, volume, {1: "liver"})
    code, _, err = run("convert", tmp_path / "l.nii.gz", tmp_path / "l.dcm")
    assert code == 2
    assert "must refer to a whole DICOM series" in err
    series_of = ("--scan", tmp_path / "s")
    assert run("convert", tmp_path / "l.nii.gz", tmp_path / "l.dcm", *series_of)[0] == 0
    assert np.array_equal(load_labels(tmp_path / "l.dcm")[0].data, labels)
    other = Volume.from_array(SCAN, np.diag([1, 1, 1.5, 1]))
    save(tmp_path / "o.nii.gz", other.data > 0, other)
    code, _, err = run("convert", tmp_path / "o.nii.gz", tmp_path / "o.dcm", *series_of)
    assert code == 2
    assert "does not lie on the grid of thin" in err


@pytest.mark.parametrize("name", ["gone.nii", "bad.nrrd", "bad.dcm"])
def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, run: Run, name: str) -> None:
    if name != "gone.nii":
        (tmp_path / name).write_bytes(b"NRRD0004\nsizes: 5\n\n")
    code, _, err = run("info", tmp_path / name)
    assert code == 2
    assert err.startswith(f"sightline: {name} ")
    assert err.count("\n") == 1
