from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from napari_sightline.errors import BadInput
from napari_sightline.io import load, save_image
from napari_sightline.io.sample import phantom
from napari_sightline.volume import Volume

Sample = tuple[Volume, np.ndarray, dict[int, str]]


@pytest.fixture(scope="module")
def sample() -> Sample:
    return phantom()


def of(sample: Sample, name: str) -> np.ndarray:
    _, labels, names = sample
    value = next(value for value, known in names.items() if known == name)
    return labels == value


def millilitres(sample: Sample, name: str) -> float:
    return float(of(sample, name).sum() * np.prod(sample[0].spacing) / 1000)


def middle(sample: Sample, name: str) -> np.ndarray:
    """Centre of mass in scanner millimetres: right, anterior, superior."""
    return sample[0].voxel_to_mm(ndimage.center_of_mass(of(sample, name)))


def test_it_is_a_ct_on_a_usual_grid(sample: Sample) -> None:
    volume, labels, names = sample
    assert (volume.shape, volume.spacing) == ((96, 144, 144), (3, 2, 2))
    assert (volume.data.dtype, volume.modality, volume.name) == (np.int16, "CT", "phantom")
    assert nib.aff2axcodes(volume.file_affine) == ("L", "P", "S")
    assert np.allclose(volume.voxel_to_mm((np.array(volume.shape) - 1) / 2), 0)
    assert (labels.shape, labels.dtype) == (volume.shape, np.uint8)
    assert set(np.unique(labels)) == {0, *names}


def test_it_is_quick() -> None:
    phantom((24, 36, 36))  # imports
    start = time.process_time()
    phantom()
    assert time.process_time() - start < 5  # about 0.5 s where nothing else runs


def test_a_seed_is_a_patient() -> None:
    first, again, other = (phantom((32, 48, 48), seed) for seed in (5, 5, 6))
    assert np.array_equal(first[0].data, again[0].data)
    assert np.array_equal(first[1], again[1])
    overlap = np.mean(first[1][first[1] > 0] == other[1][first[1] > 0])
    assert 0.5 < overlap < 0.95
    assert set(np.unique(other[1])) == {0, *other[2]}


def test_the_grid_may_be_another() -> None:
    volume, labels, names = phantom((32, 48, 64))
    assert volume.shape == labels.shape == (32, 48, 64)
    assert volume.spacing == (9, 6, 4.5)
    assert set(np.unique(labels)) == {0, *names}
    for shape in ((8, 48, 48), (48, 48)):
        with pytest.raises(BadInput, match="give three sides from 16 on"):
            phantom(shape)
    with pytest.raises(BadInput, match="give 0 or more"):
        phantom(seed=-1)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brainstem", 18, 35),
        ("spinal cord", 10, 30),
        ("right parotid gland", 14, 35),
        ("left parotid gland", 14, 35),
        ("oesophagus", 5, 16),
        ("larynx", 15, 40),
        ("mandible", 40, 80),
        ("brain", 900, 1500),
        ("right eye", 5, 10),
        ("left eye", 5, 10),
        ("right submandibular gland", 4, 12),
        ("left submandibular gland", 4, 12),
    ],
)
def test_structures_have_a_human_size_and_are_one_piece(
    sample: Sample, name: str, low: float, high: float
) -> None:
    assert low < millilitres(sample, name) < high
    pieces, count = ndimage.label(of(sample, name), np.ones((3, 3, 3)))
    assert count >= 1
    assert np.bincount(pieces.ravel())[1:].max() > 0.95 * of(sample, name).sum()


@pytest.mark.parametrize("name", ["parotid gland", "eye", "submandibular gland"])
def test_the_right_side_is_the_patients(sample: Sample, name: str) -> None:
    right, left = middle(sample, f"right {name}"), middle(sample, f"left {name}")
    assert right[0] > 15 > -15 > left[0]
    assert ndimage.center_of_mass(of(sample, f"right {name}"))[2] < 72
    assert np.allclose(right[1:], left[1:], atol=12)


def test_structures_lie_as_in_a_patient(sample: Sample) -> None:
    heights = [middle(sample, name)[2] for name in ("spinal cord", "larynx", "mandible", "brain")]
    assert heights == sorted(heights)
    depths = [middle(sample, name)[1] for name in ("spinal cord", "oesophagus", "larynx")]
    assert depths == sorted(depths)
    stem, cord = of(sample, "brainstem"), of(sample, "spinal cord")
    assert ndimage.binary_dilation(stem, iterations=2)[cord].any()
    assert np.ptp(np.nonzero(cord)[0]) * 3 > 120


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brain", 25, 45),
        ("brainstem", 20, 45),
        ("right parotid gland", -60, 60),
        ("mandible", 400, 1100),
        ("right eye", -10, 40),
        ("larynx", -400, 100),
    ],
)
def test_structures_look_like_ct(sample: Sample, name: str, low: float, high: float) -> None:
    assert low < np.median(sample[0].data[of(sample, name)]) < high


def test_air_bone_and_couch(sample: Sample) -> None:
    volume, labels, _ = sample
    air = volume.data[60:90, :20, :20]
    assert air.mean() == pytest.approx(-1000, abs=5)
    assert 4 < air.std() < 20
    assert volume.data.max() > 1500  # teeth
    assert volume.data.min() >= -1024
    couch = volume.data[:, 132:, 40:100]
    assert (couch > -300).mean() > 0.05
    assert not labels[:, 136:].any()


def test_it_goes_through_a_file(sample: Sample, tmp_path: Path) -> None:
    volume = sample[0]
    again = load(save_image(tmp_path / "phantom.nii.gz", volume))
    assert np.array_equal(again.data, volume.data)
    assert np.array_equal(again.affine, volume.affine)
    assert again.modality == "CT"
