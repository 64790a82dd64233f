"""What napari opens and saves through us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from viewer_making import AFFINES, ball_scan

from napari_sightline.io import Legend, load, load_labels, save, save_image
from napari_sightline.viewer.bridge import KEY
from napari_sightline.viewer.files import (
    get_reader,
    labels_layer,
    looks_like_labels,
    open_phantom,
    read,
    write_labels,
)
from napari_sightline.volume import Volume


def test_reader_offers_itself_for_nifti_only() -> None:
    assert get_reader("scan.nii.gz") is read
    assert get_reader(["a.nii", "B.NII.GZ"]) is read
    assert get_reader("scan.png") is None
    assert get_reader(["a.nii", "b.png"]) is None


@pytest.mark.parametrize("kind", AFFINES)
def test_scan_and_labels_are_told_apart(kind: str, tmp_path: Path) -> None:
    scan = Volume.from_array(ball_scan(), AFFINES[kind], name="ball")
    save_image(tmp_path / "scan.nii.gz", scan)
    save(tmp_path / "labels.nii.gz", (scan.data > 0) * 3, scan, {3: "left parotid gland"})
    (image,) = read(str(tmp_path / "scan.nii.gz"))
    (labels,) = read([str(tmp_path / "labels.nii.gz")])
    assert (image[2], labels[2]) == ("image", "labels")
    for key in ("scale", "translate"):
        np.testing.assert_allclose(image[1][key], labels[1][key])
    assert image[1]["units"] == ("mm",) * 3
    layer = Labels(labels[0], **labels[1])
    assert list(layer.features["name"]) == ["", "left parotid gland"]


def test_labels_of_other_programs_are_recognised(tmp_path: Path) -> None:
    values = np.zeros((30, 30, 30), np.float32)
    values[5:20, 5:20, 5:20] = 2
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "mask.nii.gz")
    assert looks_like_labels(load(tmp_path / "mask.nii.gz"))
    rng = np.random.default_rng(0)
    for noisy in (
        rng.integers(0, 255, (20, 20, 20)).astype(np.uint8),
        rng.normal(0, 1, (20, 20, 20)).astype(np.float32),
        np.full((9, 9, 9), np.nan, np.float32),
        np.zeros((9, 9, 9), np.uint8),
    ):
        assert not looks_like_labels(Volume.from_array(noisy))


def test_real_files_are_told_apart(shared_data: Path) -> None:
    found = {
        path.name: looks_like_labels(load(path))
        for pattern in ("headneck_ct/pt_1_*", "sarcoma/STS_031_*", "*_labels/*_0[12].nii.gz")
        for path in sorted(shared_data.glob(pattern))
    }
    cases = sorted(shared_data.glob("hippocampus_mr/*"))[:6]
    found |= {path.name: looks_like_labels(load(path)) for path in cases}
    told = ("organs", "tumour", "labels", "brain_")
    assert found == {name: any(word in name for word in told) for name in found}
    assert len(found) >= 12


def test_labels_are_written_on_the_scans_grid(tmp_path: Path) -> None:
    scan = Volume.from_array(ball_scan((12, 20, 16)), AFFINES["permuted"], name="ball")
    drawn = np.zeros(scan.shape, np.uint8)
    drawn[3, 4, 5] = 7
    _, options, _ = labels_layer(scan, {7: "larynx"})
    layer = Labels(drawn, **options)
    path = str(tmp_path / "out.nii.gz")
    assert write_labels(path, *layer.as_layer_data_tuple()[:2]) == [path]
    written = nib.load(path)
    np.testing.assert_array_equal(written.affine, scan.file_affine)
    labels, names = load_labels(path)
    assert labels.data[3, 4, 5] == 7 and names == {7: "larynx"}


def test_colours_are_those_of_the_file_and_of_the_user(tmp_path: Path) -> None:
    scan = Volume.from_array(ball_scan((9, 10, 11)), name="ball")
    drawn = np.where(scan.data > 0, 2, 5).astype("u1")
    legend = Legend({2: "larynx", 5: "odd"}, {2: (1, 20, 200), 5: (7, 8, 9)})
    ((data, options, _),) = read(str(save(tmp_path / "l.seg.nrrd", drawn, scan, legend)))
    layer = Labels(data, **options)
    for value, colour in legend.colours.items():
        assert np.allclose(layer.get_color(value)[:3], np.array(colour) / 255, atol=1e-6)
    table = {**layer.colormap.color_dict, 5: np.array([1.0, 0.5, 0.0, 1.0])}
    layer.colormap = DirectLabelColormap(color_dict=table)
    path = str(tmp_path / "out.nii.gz")
    assert write_labels(path, *layer.as_layer_data_tuple()[:2]) == [path]
    _, found = load_labels(path)
    assert found == legend
    assert found.colours == {2: (1, 20, 200), 5: (255, 128, 0)}


def test_labels_without_a_scan_keep_their_spacing(tmp_path: Path, told: Any) -> None:
    layer = Labels(np.ones((4, 5, 6), np.uint8), scale=(3, 2, 1))
    path = str(tmp_path / "out.nii.gz")
    assert write_labels(path, *layer.as_layer_data_tuple()[:2]) == [path]
    assert load(path).spacing == (3, 2, 1)
    flat = Labels(np.ones((5, 6), np.uint8), scale=(2, 1))
    assert write_labels(path, *flat.as_layer_data_tuple()[:2]) == [path]
    assert load(path).shape == (1, 5, 6)
    many = Labels(np.ones((2, 4, 5, 6), np.uint8))
    assert write_labels(path, *many.as_layer_data_tuple()[:2]) == []
    assert write_labels(str(tmp_path / "out.xyz"), *flat.as_layer_data_tuple()[:2]) == []
    assert len(told()) == 2 and "4 axes" in told()[0] and "out.xyz" in told()[1]


def test_good_files_are_opened_beside_damaged_ones(tmp_path: Path, told: Any) -> None:
    save_image(tmp_path / "good.nii", Volume.from_array(ball_scan((9, 9, 9))))
    (tmp_path / "bad.nii").write_bytes(b"no header")
    layers = read([str(tmp_path / name) for name in ("bad.nii", "good.nii")])
    assert [layer[1]["name"] for layer in layers] == ["good"]
    assert len(told()) == 1 and "bad.nii" in told()[0]


def test_sample() -> None:
    image, truth = open_phantom()
    assert image[0].shape == truth[0].shape
    assert image[1]["metadata"][KEY]["volume"].modality == "CT"
    assert truth[1]["visible"] is False and truth[2] == "labels"
