"""Prompts as texts: what a shell can say of a click or a box."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Box, Point, Prompt
from napari_sightline.volume import Volume


def read_prompts(
    volume: Volume,
    boxes: Sequence[str] = (),
    clicks: Sequence[str] = (),
    mm: Sequence[str] = (),
) -> list[Prompt]:
    """Turn texts into prompts in canonical voxels: boxes, then clicks, then clicks in mm.

    Parameters
    ----------
    volume : Volume
        The scan they are for.
    boxes : sequence of str
        ``"i0,j0,k0,i1,j1,k1"``: two opposite corner voxels, the file's own axes.
    clicks : sequence of str
        ``"i,j,k"``, the file's own axes; with ``":-"`` after it a negative click.
    mm : sequence of str
        ``"x,y,z"``, scanner RAS millimetres; with ``":-"`` after it a negative click.

    Raises
    ------
    BadInput
        Where a text is not understood or a prompt lies outside the volume.
    """
    prompts: list[Prompt] = []
    for text in boxes:
        numbers = _numbers(text, text, 6, "--box", "i0,j0,k0,i1,j1,k1")
        corners = volume.file_to_voxel([numbers[:3], numbers[3:]])
        for corner in corners:
            _check_inside(volume, corner, f"The box --box {text}")
        prompts.append(Box(tuple(corners[0]), tuple(corners[1])))
    for option, texts, convert in (
        ("--click", clicks, volume.file_to_voxel),
        ("--mm", mm, volume.mm_to_voxel),
    ):
        form = "i,j,k or i,j,k:-" if option == "--click" else "x,y,z or x,y,z:-"
        for text in texts:
            found = re.fullmatch(r"([^:]*)(?::([+-]))?", text)
            if found is None:
                raise BadInput(f"The click {option} {text!r} is not understood; write {form}.")
            place = _numbers(found[1], text, 3, option, form)
            point = Point(tuple(convert(place)), positive=found[2] != "-")
            _check_inside(volume, point.position, f"The click {option} {text}")
            prompts.append(point)
    return prompts


def _numbers(text: str, whole: str, count: int, option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise BadInput(f"The value {option} {whole!r} is not understood; write {form}.")
    return numbers


def _check_inside(volume: Volume, place: npt.ArrayLike, what: str) -> None:
    if not volume.contains(np.asarray(place)):
        size = " x ".join(map(str, volume.file_shape))
        raise BadInput(
            f"{what} lies outside {volume.name or 'the scan'} of {size} voxels; place it inside."
        )
