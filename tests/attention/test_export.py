from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from napari_sightline.attention.export import colours, describe, draw_heads, save_heads, save_map
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.errors import BadInput
from napari_sightline.io import load, save_image
from napari_sightline.volume import Volume

#: File axes permuted, flipped and oblique, of uneven spacing.
AFFINE = np.array(
    [[0.1, -1.4, 0.0, 12.0], [1.1, 0.1, 0.2, -7.0], [0.1, 0.0, -2.5, 30.0], [0, 0, 0, 1]]
)


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    data = np.random.default_rng(0).normal(0, 200, (18, 22, 14)).astype(np.int16)
    made = Volume.from_array(data, AFFINE, name="scan", modality="CT")
    return load(save_image(tmp_path / "scan.nii.gz", made))


@pytest.fixture
def answer(scan: Volume) -> AttentionMap:
    frame = Frame.scaled((2, 3, 1), (1, 1, 1), (8, 8, 8))
    weights = np.random.default_rng(1).dirichlet(np.ones(6), 3).astype(np.float32)
    grid = TokenGrid.whole((2, 2, 2), (4.0, 4.0, 4.0))
    return AttentionMap(
        weights[:, :6],
        np.array([0, 1, 2, 3, 4, 7]),
        grid,
        frame,
        np.array([0.25, 0, 0], np.float32),
        np.zeros(3, np.float32),
        "voxel (4, 5, 3) attends to",
        "model",
        "block 1",
        ("head 1", "head 2", "head 3"),
    )


def test_a_map_lies_on_the_scans_own_grid(
    scan: Volume, answer: AttentionMap, tmp_path: Path
) -> None:
    path = save_map(tmp_path / "map.nii.gz", answer, scan, 1)
    image = nibabel.load(path)
    source = nibabel.load(tmp_path / "scan.nii.gz")
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-4)
    back = load(path)
    assert back.shape == scan.shape
    flat = np.full(8, np.nan)
    flat[answer.cells] = answer.weights[1]
    expected = np.full(scan.shape, np.nan)
    expected[2:10, 3:11, 1:9] = np.kron(flat.reshape(2, 2, 2), np.ones((4, 4, 4)))
    np.testing.assert_allclose(scan.from_file(image.get_fdata()), expected, rtol=1e-6)
    said = image.header["descrip"].item().decode()
    assert said.startswith("voxel (4, 5, 3) attends to; model; block 1; head 2")
    (comment,) = image.header.extensions
    assert comment.get_content().decode().rstrip("\0") == describe(answer, 1)
    assert "padding 25.0 %" in describe(answer)
    with pytest.raises(BadInput, match=r"\.nii"):
        save_map(tmp_path / "map.png", answer, scan)


def test_a_picture_has_a_tile_for_each_head(
    scan: Volume, answer: AttentionMap, tmp_path: Path
) -> None:
    path = save_heads(tmp_path / "heads.png", answer, scan, (4, 5, 3))
    with Image.open(path) as picture:
        picture.load()
        assert picture.width >= 3 * 300
    shared = np.asarray(draw_heads(answer, scan, (4, 5, 3)))
    own = np.asarray(draw_heads(answer, scan, (4, 5, 3), same_scale=False))
    assert shared.shape == own.shape
    assert not np.array_equal(shared, own)
    with pytest.raises(BadInput, match="nothing on the axial slice 13"):
        draw_heads(answer, scan, (13, 5, 3))


def test_colours_grow_brighter() -> None:
    ramp = colours(np.linspace(0, 1, 50)).astype(int)
    assert ramp.shape == (50, 3)
    light = ramp @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(light) > 0)
    assert colours([np.nan]).tolist() == [[0, 0, 4]]
