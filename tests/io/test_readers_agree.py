"""SimpleITK, which shares no code with us, sees the same voxels at the same place."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_making import series

from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.volume import Volume

sitk = pytest.importorskip("SimpleITK")
TURNS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
ARRAY = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype("i2")


def turned(axes: tuple[int, ...], flips: tuple[int, ...]) -> np.ndarray:
    """An affine of those axes, oblique by some degrees."""
    matrix = np.zeros((3, 3))
    for column, (axis, flip, size) in enumerate(zip(axes, flips, (0.7, 1.1, 3), strict=True)):
        matrix[axis, column] = flip * size
    matrix = nib.eulerangles.euler2mat(0.1, -0.2, 0.15) @ matrix
    return nib.affines.from_matvec(matrix, (5.25, -7, 11))


def theirs(source: Path) -> Volume:
    """Read with SimpleITK (LPS, x first), on the same terms."""
    if source.is_dir():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source)))
        image = reader.Execute()
    else:
        image = sitk.ReadImage(str(source))
    matrix = np.eye(4)
    turn = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    matrix[:3] = np.diag([-1, -1, 1]) @ np.column_stack([turn, image.GetOrigin()])
    return Volume.from_array(sitk.GetArrayFromImage(image).T, matrix)


def agree(ours: Volume, other: Volume) -> None:
    assert ours.shape == other.shape
    assert np.allclose(ours.affine, other.affine, atol=1e-4)
    assert np.array_equal(ours.data, other.data)


@pytest.mark.parametrize(("axes", "flips"), TURNS)
def test_all_orientations(tmp_path: Path, axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    affine = turned(axes, flips)
    volume = Volume.from_array(ARRAY, affine)
    for ending in (".nii.gz", ".nrrd"):
        # Ours as they read it, and theirs as we read it.
        path = save_image(tmp_path / f"a{ending}", volume)
        agree(volume, theirs(path))
        image = sitk.GetImageFromArray(ARRAY.T)
        lps = np.diag([-1.0, -1, 1, 1]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        sitk.WriteImage(image, str(tmp_path / f"b{ending}"))
        agree(load(tmp_path / f"b{ending}"), volume)
    labels = (volume.data > 0).astype("u1") + (volume.data > 900)
    agree(
        load_labels(save(tmp_path / "l.seg.nrrd", labels, volume))[0],
        theirs(tmp_path / "l.seg.nrrd"),
    )
    # A stack that runs against its normal is what DICOM cannot say: GDCM turns it round.
    order = np.random.default_rng(1).permutation(ARRAY.shape[2]).tolist()
    series(tmp_path / "d", ARRAY + 1024, affine, intercept=-1024, order=order)
    agree(load(tmp_path / "d"), volume)
    agree(load(tmp_path / "d"), theirs(tmp_path / "d"))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
def test_all_orders_of_slices(tmp_path: Path, order: tuple[int, ...]) -> None:
    affine = turned((0, 1, 2), (-1, -1, 1))
    array = ARRAY[..., :4]
    series(tmp_path, array, affine, order=list(order))
    agree(load(tmp_path), Volume.from_array(array, affine))
    agree(load(tmp_path), theirs(tmp_path))
