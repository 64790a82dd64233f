"""What every format must do: labels and images come back as they were, where they were."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_making import series
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_each, save_image
from napari_sightline.io.formats import format_of
from napari_sightline.volume import Volume

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".tif", ".ome.tif")
NAMES = {1: "liver", 3: "left kidney", 7: "Größe, unbekannt"}
QUICK = settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLACES = {
    "turn": st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    "sizes": st.tuples(*[st.floats(0.2, 6)] * 3),
    "handed": st.sampled_from([1, -1]),
    "axes": st.permutations(range(3)),
    "seed": st.integers(0, 1000),
}


def somewhere(turn: tuple, sizes: tuple, handed: int, axes: list[int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = nib.eulerangles.euler2mat(*turn) @ np.diag(sizes) @ np.diag([1, 1, handed])
    return nib.affines.from_matvec(matrix[:, axes], rng.uniform(-400, 400, 3))


@pytest.mark.parametrize("ending", ENDINGS)
@given(**PLACES, sheared=st.booleans())
@QUICK
def test_labels_come_back(tmp_path: Path, ending: str, sheared: bool, **place: object) -> None:
    affine = somewhere(**place)
    if sheared:
        affine[:3, 2] += 0.2 * affine[:3, 0]
    rng = np.random.default_rng(place["seed"])
    shape = tuple(rng.integers(1, 6, 3))
    volume = Volume.from_array(np.zeros(shape, "i2"), affine)
    labels = rng.choice([0, 1, 3, 7], volume.shape).astype("u1")
    again, names = load_labels(save(tmp_path / f"l{ending}", labels, volume, NAMES))
    # The file's own grid, bit for bit; NIfTI keeps its affine in single precision.
    assert np.allclose(again.affine, volume.affine, atol=1e-3 if "nii" in ending else 1e-9)
    assert np.array_equal(again.to_file(again.data), volume.to_file(labels))
    assert names == NAMES
    clicked = rng.uniform(-0.5, 5, 3)
    assert np.allclose(again.voxel_to_mm(clicked), volume.voxel_to_mm(clicked), atol=1e-3)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u4", "f4"])
def test_images_come_back(tmp_path: Path, ending: str, dtype: str) -> None:
    affine = somewhere((0.3, -0.2, 2.1), (0.7, 0.9, 3), -1, [1, 2, 0], 0)
    array = np.random.default_rng(0).integers(0, 120, (4, 5, 6)).astype(dtype)
    volume = Volume.from_array(array, affine)
    again = load(save_image(tmp_path / f"i{ending}", volume))
    assert again.data.dtype == np.dtype(dtype)
    assert np.array_equal(again.data, volume.data)
    assert np.allclose(again.affine, volume.affine, atol=1e-4)
    assert again.name == "i"


@pytest.mark.parametrize("ending", [*ENDINGS, ".stl", ".obj", ".ply"])
def test_one_file_an_organ(tmp_path: Path, ending: str) -> None:
    volume = Volume.from_array(np.zeros((6, 7, 8), "i2"), np.diag([-1, -2, 3, 1]))
    labels = np.zeros(volume.shape, "u1")
    labels[1:4, 1:4, 1:4], labels[5:, 5:, 5:] = 1, 3
    written = save_each(tmp_path / f"case{ending}", labels, volume, NAMES)
    assert [path.name for path in written] == [f"case_liver{ending}", f"case_left_kidney{ending}"]
    if ending in ENDINGS:
        again, names = load_labels(written[1])
        assert np.array_equal(again.data, np.where(labels == 3, 3, 0))
        assert names == {3: "left kidney"}
    with pytest.raises(BadInput, match=r"case\S* would be empty; label something first"):
        save_each(tmp_path / f"case{ending}", labels * 0, volume, NAMES)


@pytest.mark.parametrize("ending", [*ENDINGS, ".stl", ".obj", ".ply"])
def test_what_cannot_be_written(tmp_path: Path, ending: str) -> None:
    volume = Volume.from_array(np.zeros((6, 7, 8), "i2"), np.eye(4))
    labels = np.ones(volume.shape, "u1")
    path = save(tmp_path / f"a{ending}", labels, volume)
    before = path.read_bytes()
    for bad, said in ((labels[1:], "shape"), (labels * 0.5, "whole numbers")):
        with pytest.raises(BadInput, match=said):
            save(path, bad, volume)
    with pytest.raises(BadInput, match=r"exists already; choose another name"):
        save(path, labels, volume, overwrite=False)
    with pytest.raises(BadInput, match=r"could not be written"):
        save(tmp_path / "no" / f"a{ending}", labels, volume)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-made is left"


def test_endings_that_no_writer_knows(tmp_path: Path) -> None:
    volume = Volume.from_array(np.zeros((2, 2, 2), "i2"), np.eye(4))
    for name in ("a.png", "a", "a.nii.bz2"):
        with pytest.raises(BadInput, match=r"has no ending that can be written; end it in"):
            save(tmp_path / name, volume.data, volume)
    for name in ("a.stl", "a.dcm"):
        with pytest.raises(BadInput, match=r"cannot hold a scan; end it in \.nii"):
            save_image(tmp_path / name, volume)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    volume = Volume.from_array(np.arange(24, dtype="i2").reshape(2, 3, 4), np.eye(4))
    for ending, kind in ((".nii", "nifti"), (".nrrd", "nrrd"), (".tif", "tiff")):
        path = save_image(tmp_path / f"a{ending}", volume)
        other = path.rename(tmp_path / f"scan_{kind}")
        assert format_of(other) == kind
        assert np.array_equal(load(other).data, volume.data)
    paths = series(tmp_path / "d", volume.data.T, np.eye(4))
    assert [format_of(tmp_path / "d"), format_of(paths), format_of(paths[0])] == ["dicom"] * 3
    with pytest.raises(BadInput, match="holds DICOM images and no label map"):
        load_labels(paths[0])
    with pytest.raises(BadInput, match="holds no DICOM series; leave the series out"):
        load(tmp_path / "scan_nifti", series="a")
