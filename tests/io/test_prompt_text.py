"""Texts of prompts become prompts in canonical voxels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.io.prompt_text import read_prompts
from napari_sightline.prompts import Box, Point
from napari_sightline.volume import Volume


@pytest.fixture
def volume() -> Volume:
    """File axes left, posterior, superior, first voxel at (40, 30, -20) mm."""
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = 40, 30, -20
    return Volume.from_array(np.zeros((20, 25, 30), np.int16), affine, name="scan")


def test_file_voxels_and_millimetres_meet(volume: Volume) -> None:
    by_voxel, by_mm = read_prompts(volume, clicks=["3,4,5"], mm=["34,26,-5"])
    assert by_voxel == by_mm == Point((5.0, 4.0, 3.0))


def test_signs(volume: Volume) -> None:
    found = read_prompts(volume, clicks=["3,4,5", "3,4,5:+", "3,4,5:-"], mm=["34,26,-5:-"])
    assert [point.positive for point in found if isinstance(point, Point)] == [
        True,
        True,
        False,
        False,
    ]


def test_boxes_come_first_and_are_sorted(volume: Volume) -> None:
    box, click = read_prompts(volume, boxes=["9,8,7,1,2,3"], clicks=["0.5,0,0"])
    assert box == Box((3.0, 2.0, 1.0), (7.0, 8.0, 9.0))
    assert click == Point((0.0, 0.0, 0.5))


@pytest.mark.parametrize("text", ["", "1", "1,2", "1,2,3,4", "a,b,c", "1,2,3:", "1,2,3:x", "1;2;3"])
def test_not_understood(volume: Volume, text: str) -> None:
    with pytest.raises(BadInput, match="--click"):
        read_prompts(volume, clicks=[text])


def test_outside(volume: Volume) -> None:
    with pytest.raises(BadInput, match="outside scan of 20 x 25 x 30"):
        read_prompts(volume, clicks=["20,0,0"])
    with pytest.raises(BadInput, match="outside scan"):
        read_prompts(volume, mm=["0,0,900"])
    with pytest.raises(BadInput, match="The box"):
        read_prompts(volume, boxes=["0,0,0,5,5,30"])
