"""Maps as files: NIfTI on the scan's grid, and a picture of the heads side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.maps import AttentionMap
from napari_sightline.errors import BadInput
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from PIL import Image

Colours = npt.NDArray[np.uint8]
TILE, GAP, HEAD = 300, 10, 62
_GROUND, _INK, _FAINT = (16, 18, 22), (236, 238, 242), (176, 182, 192)
_QUERY = (92, 219, 120)
# Dark violet over red to pale yellow: light grows evenly, so that grey prints read too.
_STOPS = [
    (0, 0, 4),
    (60, 15, 110),
    (140, 41, 129),
    (222, 73, 104),
    (254, 159, 109),
    (252, 253, 191),
]


def describe(answer: AttentionMap, head: int = 0) -> str:
    """Say in one line what a map shows: query, model, block, head, direction, what is missing."""
    parts = [
        answer.query,
        answer.model,
        answer.block,
        answer.heads[head],
        answer.unit,
        f"padding {100 * float(answer.padding[head]):.1f} %",
        "NaN: not seen",
    ]
    if answer.approximate:
        parts.append("approximate")
    return "; ".join(parts)


def save_map(
    path: str | os.PathLike[str], answer: AttentionMap, volume: Volume, head: int = 0
) -> Path:
    """Write a head's map on the scan's own grid.

    Parameters
    ----------
    path : path
        Ends in ``.nii`` or ``.nii.gz``.
    answer : AttentionMap
        The map.
    volume : Volume
        The scan.
    head : int
        Row of the map, from 0.

    Returns
    -------
    Path
        The file: float32, NaN where the query could not see. The header's ``descrip`` holds the
        beginning of `describe`, a comment extension all of it.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    import nibabel as nib

    from napari_sightline.io.atomic import replacing

    where, values = answer.on_volume(volume.shape, head)
    whole = np.full(volume.shape, np.nan, np.float32)
    whole[where] = values
    image = nib.Nifti1Image(np.ascontiguousarray(volume.to_file(whole)), volume.file_affine)
    image.set_sform(volume.file_affine, 1)
    image.set_qform(volume.file_affine, 1)
    image.header.set_xyzt_units("mm")
    text = describe(answer, head)
    image.header["descrip"] = text.encode("ascii", "replace")[:79]
    comment = nib.nifti1.Nifti1Extension("comment", text.encode())
    image.header.extensions.append(comment)
    target = Path(path)
    with replacing(target, True, (".nii", ".nii.gz"), "NIfTI file") as temporary:
        nib.save(image, temporary)
    return target


def colours(values: npt.ArrayLike) -> Colours:
    """Colour values 0 .. 1 ``(...)`` as ``(..., 3)``; NaN becomes black."""
    x = np.nan_to_num(np.asarray(values, float)).clip(0, 1) * (len(_STOPS) - 1)
    stops = np.array(_STOPS, float)
    low = np.minimum(x.astype(int), len(_STOPS) - 2)
    share = (x - low)[..., None]
    return np.asarray(stops[low] * (1 - share) + stops[low + 1] * share, np.uint8)


def save_heads(
    path: str | os.PathLike[str],
    answer: AttentionMap,
    volume: Volume,
    position: npt.ArrayLike,
    same_scale: bool = True,
) -> Path:
    """Write a picture of all heads on the axial slice through a voxel; see `draw_heads`.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    from napari_sightline.io.atomic import replacing

    target = Path(path)
    with replacing(target, True, (".png",), "PNG picture") as temporary:
        draw_heads(answer, volume, position, same_scale).save(temporary, "PNG")
    return target


def draw_heads(
    answer: AttentionMap, volume: Volume, position: npt.ArrayLike, same_scale: bool = True
) -> Image.Image:
    """Draw each head over the axial slice through a voxel.

    What was not seen lies outside the frame; the stronger the attention, the brighter and the
    denser its colour. The green cross is the voxel that was asked.

    Parameters
    ----------
    answer : AttentionMap
        The map; one tile a row.
    volume : Volume
        The scan.
    position : array_like
        ``(3,)``, canonical voxel.
    same_scale : bool
        Whether all heads share one scale and can be compared.
    """
    from PIL import Image, ImageDraw, ImageFont

    place = np.asarray(position, float)
    slice_ = int(np.clip(round(place[0]), 0, volume.shape[0] - 1))
    box = _seen_box(answer, volume, slice_)
    if box is None:
        raise BadInput(f"The map has nothing on the axial slice {slice_}; choose another voxel.")
    _, first = answer.on_volume(volume.shape, 0, box)
    maps = [first[0]] + [
        answer.on_volume(volume.shape, head, box)[1][0] for head in range(1, len(answer.heads))
    ]
    grey = _grey(volume, box)
    columns = min(len(maps), 4)
    rows = -(-len(maps) // columns)
    high, wide = (
        (s.stop - s.start) * mm for s, mm in zip(box[1:], volume.spacing[1:], strict=True)
    )
    scale = TILE / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    width = max(columns * (TILE + GAP) + GAP, 640)
    picture = Image.new("RGB", (width, HEAD + rows * (TILE + 28 + GAP) + GAP), _GROUND)
    pen, font, small = (
        ImageDraw.Draw(picture),
        ImageFont.load_default(17),
        ImageFont.load_default(13),
    )
    pen.text((GAP, 8), f"{answer.query} · {answer.model}", _INK, font)
    scaled = "one scale" if same_scale else "a scale for each"
    said = f"{answer.block} · axial slice {slice_} · {answer.unit}, {scaled}"
    said += " · outside the frame: not seen"
    pen.text((GAP, 34), said, _FAINT, small)
    tops = [float(np.nanmax(m)) if np.isfinite(m).any() else 1.0 for m in maps]
    for number, (values, top) in enumerate(zip(maps, tops, strict=True)):
        top = max(tops) if same_scale else top
        tile = Image.fromarray(_blend(grey, values / max(top, 1e-30))).resize(
            size, Image.Resampling.NEAREST
        )
        x = GAP + (number % columns) * (TILE + GAP) + (TILE - size[0]) // 2
        y = HEAD + (number // columns) * (TILE + 28 + GAP)
        picture.paste(tile, (x, y + 24))
        _outline(
            pen,
            np.isfinite(values),
            x,
            y + 24,
            (size[0] / values.shape[1], size[1] / values.shape[0]),
        )
        share = f", padding {100 * float(answer.padding[number]):.0f} %"
        lost = share if answer.padding[number] > 0.005 else ""
        text = f"{answer.heads[number]} · largest {tops[number]:.3g}{lost}"
        pen.text((x, y + 4), text, _INK, small)
        at = (place[1:] - [s.start for s in box[1:]] + 0.5) * volume.spacing[1:] * scale
        _cross(pen, x + at[1], y + 24 + at[0])
    return picture


def _seen_box(answer: AttentionMap, volume: Volume, slice_: int) -> Box3 | None:
    """Part of the slice that holds the network's frame, with a little room."""
    where, _ = answer.on_volume(volume.shape)
    if not where[0].start <= slice_ < where[0].stop:
        return None
    b, c = (
        slice(max(0, s.start - (s.stop - s.start) // 12), min(n, s.stop + (s.stop - s.start) // 12))
        for s, n in zip(where[1:], volume.shape[1:], strict=True)
    )
    return slice(slice_, slice_ + 1), b, c


def _grey(volume: Volume, box: Box3) -> npt.NDArray[np.float64]:
    from napari_sightline.io.picture import CT_WINDOW

    values = np.nan_to_num(np.asarray(volume.data[box], float))[0]
    low, high = CT_WINDOW if volume.modality == "CT" else np.percentile(values, [1, 99.5])
    return np.asarray(((values - low) / max(high - low, 1e-9)).clip(0, 1))


def _blend(grey: npt.NDArray[np.float64], values: npt.NDArray[np.floating]) -> Colours:
    base = np.repeat(grey[..., None] * 255, 3, -1)
    seen = np.isfinite(values)
    share = np.where(seen, 0.25 + 0.6 * np.nan_to_num(values).clip(0, 1), 0)[..., None]
    return np.asarray(base * (1 - share) + colours(values) * share, np.uint8)


def _outline(
    pen: object, seen: npt.NDArray[np.bool_], x: float, y: float, step: tuple[float, float]
) -> None:
    """Frame what was seen, so that "seen, near zero" and "not seen" differ."""
    if not seen.any():
        return
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    corners = (
        x + columns[0] * step[0],
        y + rows[0] * step[1],
        x + (columns[-1] + 1) * step[0] - 1,
        y + (rows[-1] + 1) * step[1] - 1,
    )
    pen.rectangle(corners, outline=_FAINT)  # type: ignore[attr-defined]


def _cross(pen: object, x: float, y: float) -> None:
    for width, colour in ((4, (0, 0, 0)), (2, _QUERY)):
        for line in ((x - 7, y, x + 7, y), (x, y - 7, x, y + 7)):
            pen.line(line, fill=colour, width=width)  # type: ignore[attr-defined]
