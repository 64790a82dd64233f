"""Pictures show the right voxels in the right places, and refuse what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sightline.errors import BadInput
from napari_sightline.io.picture import GAP, HEAD, PALETTE, TILE, Shown, draw, save_picture
from napari_sightline.prompts import Point
from napari_sightline.volume import Volume


@pytest.fixture
def scene() -> tuple[Volume, np.ndarray]:
    """An even scan with a block high up, behind, on the left; voxels 3 x 1 x 1 mm."""
    data = np.full((40, 120, 120), 40, np.int16)
    mask = np.zeros(data.shape, bool)
    mask[25:35, 60:90, 70:100] = True
    return Volume.from_array(data, spacing=(3.0, 1.0, 1.0), modality="CT", name="scene"), mask


def tiles(picture: Image.Image, row: int = 0, top: int = 0) -> list[np.ndarray]:
    pixels = np.asarray(picture).astype(int)
    y = top + row * (HEAD + TILE) + HEAD
    starts = [GAP + k * (TILE + GAP) for k in range(3)]
    return [pixels[y : y + TILE, x : x + TILE] for x in starts]


def coloured(tile: np.ndarray) -> np.ndarray:
    """Pixels that are not grey: the object and its clicks."""
    return tile.max(axis=2) - tile.min(axis=2) > 15


def test_saves_a_png(scene: tuple[Volume, np.ndarray], tmp_path: Path) -> None:
    volume, mask = scene
    file = save_picture(tmp_path / "p.png", volume, [Shown(mask, "block"), Shown(mask)], "title")
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.size == (3 * TILE + 4 * GAP, 46 + 2 * (HEAD + TILE) + GAP)


def test_planes_are_to_scale_in_millimetres(scene: tuple[Volume, np.ndarray]) -> None:
    volume, mask = scene
    for tile in tiles(draw(volume, [Shown(mask, colour=(255, 0, 0))])):
        where = np.argwhere(coloured(tile))
        high, wide = where.max(0) - where.min(0)
        assert abs(high - wide) <= 6  # 30 mm along every axis
        assert abs((where.max(0) + where.min(0)) / 2 - TILE / 2).max() <= 4  # in the middle


def test_head_is_up_and_left_is_right(scene: tuple[Volume, np.ndarray]) -> None:
    volume, mask = scene
    # A notch at the upper, rear, left corner of the block must show there in every plane.
    mask[31:35, 78:90, 88:100] = False
    notch = mask[25:35, 60:90, 70:100]
    assert not notch[-1, -1, -1]
    data = np.array(volume.data)
    data[30:40] = 200  # bright towards the head
    bright = Volume.from_array(data, spacing=(3.0, 1.0, 1.0), modality="CT")
    axial, coronal, sagittal = tiles(draw(bright, [Shown(mask)]))
    assert coronal[20:40, 60:300].mean() > coronal[-60:-40, 60:300].mean() + 20
    assert sagittal[20:40, 60:300].mean() > sagittal[-60:-40, 60:300].mean() + 20
    assert axial.size


def test_clicks_are_marked_in_their_colours(scene: tuple[Volume, np.ndarray]) -> None:
    volume, mask = scene
    plain = draw(volume, [Shown(mask, colour=(90, 90, 255))])
    clicks = [Point((29, 74, 84)), Point((29, 50, 84), positive=False)]
    marked = draw(volume, [Shown(mask, clicks=clicks, colour=(90, 90, 255))])
    before, after = tiles(plain)[0], tiles(marked)[0]
    changed = (before != after).any(axis=2)
    green = changed & (after[..., 1] > 150) & (after[..., 0] < 140)
    red = changed & (after[..., 0] > 180) & (after[..., 1] < 140)
    assert green.any() and red.any()
    assert np.argwhere(red)[:, 0].mean() < np.argwhere(green)[:, 0].mean()  # further in front


def test_empty_mask_constant_image_and_one_slice() -> None:
    flat = Volume.from_array(np.zeros((1, 30, 30), np.float32), spacing=(1.0, 1.0, 1.0))
    nothing = np.zeros(flat.shape, bool)
    draw(flat, [Shown(nothing)])
    draw(flat, [Shown(nothing, clicks=[Point((0, 3, 4))])])
    everything = np.ones(flat.shape, bool)
    for tile in tiles(draw(flat, [Shown(everything, colour=PALETTE[1])])):
        assert coloured(tile).any()
    empty = Volume.from_array(np.full((4, 30, 30), np.nan, np.float32), spacing=(1.0, 1.0, 1.0))
    draw(empty, [Shown(np.zeros(empty.shape, bool))])


def test_refuses(scene: tuple[Volume, np.ndarray], tmp_path: Path) -> None:
    volume, mask = scene
    with pytest.raises(BadInput, match=r"\.png"):
        save_picture(tmp_path / "p.jpg", volume, [Shown(mask)])
    with pytest.raises(BadInput, match="cannot be written"):
        save_picture(tmp_path / "no" / "p.png", volume, [Shown(mask)])
    with pytest.raises(BadInput, match="no object"):
        draw(volume, [])
    with pytest.raises(BadInput, match="grid"):
        draw(volume, [Shown(mask[1:], "block")])
