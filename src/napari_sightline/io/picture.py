"""A picture of a segmentation: three planes through each object, as a PNG.

Axial, coronal and sagittal, as a radiologist expects them (patient's right on
the left of the picture, head up), to scale in millimetres. Drawn with Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Point
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

TILE = 380  # pixels, side of a plane
GAP = 10
HEAD = 58  # pixels above the planes of an object
_FINE = 2  # everything is drawn this many times as large, so that lines come out smooth

_GROUND = (16, 18, 22)
_INK = (236, 238, 242)
_FAINT = (176, 182, 192)
_POSITIVE = (92, 219, 120)
_NEGATIVE = (255, 92, 82)

Colour = tuple[int, int, int]
#: Contours that stand out from grey, for one object after another.
PALETTE: tuple[Colour, ...] = ((255, 170, 51), (77, 196, 255), (255, 110, 180), (190, 220, 90))
#: Soft tissue: Hounsfield units shown black and white.
CT_WINDOW = (-160.0, 240.0)


@dataclass(frozen=True)
class Shown:
    """One object of a picture.

    Attributes
    ----------
    mask : ndarray of bool
        Shape of the volume, canonical order.
    name : str
        Heading.
    caption : str
        Small print beside it.
    clicks : sequence of Point
        Drawn where they lie in a plane, fainter where they lie before or behind it.
    colour : tuple of int, optional
        Of the contour; 0 to 255.
    """

    mask: npt.NDArray[np.bool_]
    name: str = ""
    caption: str = ""
    clicks: Sequence[Point] = ()
    colour: Colour = PALETTE[0]


class _Plane(NamedTuple):
    """A plane: the axis it cuts, those that run down and right, whether down is flipped."""

    name: str
    cuts: int
    down: int
    right: int
    flipped: bool
    letters: tuple[str, str, str, str]  # at the left, right, upper and lower edge


_PLANES = (
    _Plane("axial", 0, 1, 2, False, ("R", "L", "A", "P")),
    _Plane("coronal", 1, 0, 2, True, ("R", "L", "S", "I")),
    _Plane("sagittal", 2, 0, 1, True, ("A", "P", "S", "I")),
)


class _View(NamedTuple):
    """What is seen of a plane: its cut, centre (voxels), side (mm), pixels per mm, spacing."""

    plane: _Plane
    cut: int
    centre: npt.NDArray[np.float64]
    side: float
    scale: float
    spacing: npt.NDArray[np.float64]

    def pixel(self, voxel: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pixels (right, down) in the tile of positions (N, 3) in voxels."""
        mm = (np.atleast_2d(np.asarray(voxel, float)) - self.centre) * self.spacing
        down = mm[:, self.plane.down] * (-1 if self.plane.flipped else 1)
        pixels: npt.NDArray[np.float64] = (
            np.stack([mm[:, self.plane.right], down], axis=1) + self.side / 2
        ) * self.scale
        return pixels


def save_picture(
    path: str | os.PathLike[str], volume: Volume, objects: Sequence[Shown], title: str = ""
) -> Path:
    """Draw objects of a volume and write the picture.

    Parameters
    ----------
    path : path
        Ends in ``.png``.
    volume : Volume
        The scan.
    objects : sequence of Shown
        A row of three planes each.
    title : str
        Above everything.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        Where the path does not end in .png or cannot be written, there is no object, or a
        mask is not on the volume's grid.
    """
    file = Path(path)
    if file.suffix.lower() != ".png":
        raise BadInput(f"{file.name} is no name for a picture; end it in .png.")
    picture = draw(volume, objects, title)
    try:
        picture.save(file, format="PNG", optimize=True)
    except OSError as error:
        raise BadInput(
            f"The picture {str(file)!r} cannot be written ({error.strerror}); "
            "give a path in a folder that exists and is yours."
        ) from error
    return file


def draw(volume: Volume, objects: Sequence[Shown], title: str = "") -> Image.Image:
    """Draw objects of a volume; parameters and errors as for `save_picture`."""
    from PIL import Image, ImageDraw

    if not objects:
        raise BadInput("There is no object to draw; give one or more.")
    for item in objects:
        if item.mask.shape != volume.shape:
            raise BadInput(
                f"The mask of {item.name or 'an object'} has shape {item.mask.shape} and the "
                f"volume {volume.shape}; give masks on the volume's grid."
            )
    top = 46 if title else 0
    width = 3 * TILE + 4 * GAP
    height = top + len(objects) * (HEAD + TILE) + GAP
    picture = Image.new("RGB", (width * _FINE, height * _FINE), _GROUND)
    pen = ImageDraw.Draw(picture, "RGBA")
    if title:
        _text(pen, (GAP + 2, 14), title, 21, _INK)
    low, high = _window(volume)
    for row, item in enumerate(objects):
        y = top + row * (HEAD + TILE)
        _heading(pen, item, y)
        middle, centre, side = _place(item, volume)
        for column, plane in enumerate(_PLANES):
            scale, spacing = TILE * _FINE / side, np.array(volume.spacing)
            view = _View(plane, int(middle[plane.cuts]), centre, side, scale, spacing)
            tile = _tile(volume, item, view, low, high)
            picture.paste(tile, ((GAP + column * (TILE + GAP)) * _FINE, (y + HEAD) * _FINE))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _tile(volume: Volume, item: Shown, view: _View, low: float, high: float) -> Image.Image:
    from PIL import Image, ImageDraw
    from skimage.measure import find_contours

    size = TILE * _FINE
    plane, index = view.plane, view.cut
    grey = _plane_of(volume.data, plane, index)
    grey = np.nan_to_num(grey.astype(np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((grey - low) / max(high - low, 1e-9), 0, 1) * 255
    tile = Image.new("RGB", (size, size), (0, 0, 0))
    corner = view.pixel(_at(plane, (-0.5, -0.5)))[0]
    far = view.pixel(_at(plane, (grey.shape[0] - 0.5, grey.shape[1] - 0.5)))[0]
    if plane.flipped:
        grey = grey[::-1]
        corner[1], far[1] = far[1], corner[1]
    # One affine resampling, straight into the tile: scans may be far larger than it.
    step = (far - corner) / np.array(grey.shape[::-1])
    shown = Image.fromarray(grey.astype(np.uint8)).transform(
        (size, size),
        Image.Transform.AFFINE,
        (1 / step[0], 0, -corner[0] / step[0], 0, 1 / step[1], -corner[1] / step[1]),
        Image.Resampling.BICUBIC,
    )
    tile.paste(shown.convert("RGB"))
    pen = ImageDraw.Draw(tile, "RGBA")

    # A border of zeros closes the outlines of masks that reach the edge of the volume.
    inside = np.pad(_plane_of(item.mask, plane, index), 1)
    outlines = [view.pixel(_at(plane, c - 1)) for c in find_contours(inside.astype(float), 0.5)]
    _fill(tile, outlines, item.colour)
    for outline in outlines:
        pen.line([tuple(p) for p in outline], fill=(*item.colour, 255), width=2 * _FINE)
    for click in item.clicks:
        _marker(pen, click, view)
    _letters(pen, plane)
    if plane.name == "axial":
        _scale_bar(pen, view)
    return tile


def _plane_of(array: npt.NDArray[np.generic], plane: _Plane, index: int) -> np.ndarray:
    """Return the plane with its down axis first."""
    cut = np.take(array, index, axis=plane.cuts)
    return cut if plane.down < plane.right else cut.T


def _at(plane: _Plane, places: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Voxel positions (N, 3) of places (down, right) in a plane; 0 along the axis it cuts."""
    pairs = np.atleast_2d(np.asarray(places, float))
    voxels = np.zeros((len(pairs), 3))
    voxels[:, plane.down], voxels[:, plane.right] = pairs[:, 0], pairs[:, 1]
    return voxels


def _fill(tile: Image.Image, outlines: list[npt.NDArray[np.float64]], colour: Colour) -> None:
    """Tint the inside of outlines; an outline within another is a hole."""
    from PIL import Image, ImageChops, ImageDraw

    cover = Image.new("1", tile.size)
    for outline in outlines:
        one = Image.new("1", tile.size)
        ImageDraw.Draw(one).polygon([tuple(p) for p in outline], fill=1)
        cover = ImageChops.logical_xor(cover, one)
    tint = cover.convert("L").point(lambda value: 46 if value else 0)
    tile.paste(Image.new("RGB", tile.size, colour), mask=tint)


def _marker(pen: ImageDraw.ImageDraw, click: Point, view: _View) -> None:
    """Draw a click: a ring with plus or minus, small and faint up to 15 mm off the plane."""
    x, y = view.pixel(click.position)[0]
    axis = view.plane.cuts
    off = abs(click.position[axis] - view.cut)
    if off * view.spacing[axis] > 15:
        return
    near = off < 1.0
    colour = _POSITIVE if click.positive else _NEGATIVE
    alpha = 255 if near else 110
    radius, arm = (8 * _FINE, 4 * _FINE) if near else (5 * _FINE, 2.5 * _FINE)
    ring = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse(ring, fill=(10, 12, 14, 150 if near else 70), outline=(*colour, alpha), width=3)
    pen.line((x - arm, y, x + arm, y), fill=(*colour, alpha), width=4)
    if click.positive:
        pen.line((x, y - arm, x, y + arm), fill=(*colour, alpha), width=4)


def _letters(pen: ImageDraw.ImageDraw, plane: _Plane) -> None:
    left, right, upper, lower = plane.letters
    middle, end = TILE / 2, TILE - 12
    for letter, place in (
        (left, (12, middle)),
        (right, (end, middle)),
        (upper, (middle, 13)),
        (lower, (middle, end)),
    ):
        _text(pen, place, letter, 14, _FAINT, "mm")
    _text(pen, (TILE - 10, TILE - 13), plane.name, 13, _FAINT, "rm")


def _scale_bar(pen: ImageDraw.ImageDraw, view: _View) -> None:
    """Draw a bar of a round length, about a quarter of the tile."""
    length = max(mm for mm in (1, 2, 5, 10, 20, 50, 100, 200, 500) if mm <= max(1, view.side / 3))
    pixels = length * view.scale
    y = (TILE - 14) * _FINE
    x = 12 * _FINE
    edge = _FINE
    pen.rectangle((x - edge, y - 2 * edge, x + pixels + edge, y + 2 * edge), fill=(0, 0, 0, 160))
    pen.rectangle((x, y - edge, x + pixels, y + edge), fill=(*_INK, 255))
    text = f"{length // 10} cm" if length >= 10 else f"{length} mm"
    _text(pen, (12, TILE - 26), text, 13, _INK, "lm")


def _heading(pen: ImageDraw.ImageDraw, item: Shown, y: int) -> None:
    pen.rounded_rectangle(
        ((GAP + 2) * _FINE, (y + 24) * _FINE, (GAP + 16) * _FINE, (y + 38) * _FINE),
        radius=4 * _FINE,
        fill=item.colour,
    )
    _text(pen, (GAP + 26, y + 31), item.name or "object", 19, _INK, "lm")
    _text(pen, (3 * TILE + 3 * GAP - 2, y + 32), item.caption, 15, _FAINT, "rm")


def _text(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    anchor: str = "la",
    rim: Colour = (0, 0, 0),
) -> None:
    x, y = place
    # A dark rim keeps letters readable on bone.
    pen.text(
        (x * _FINE, y * _FINE),
        text,
        colour,
        _font(size),
        anchor,
        stroke_width=_FINE,
        stroke_fill=rim,
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINE)


def _window(volume: Volume) -> tuple[float, float]:
    """Intensities shown black and white."""
    if volume.modality == "CT":
        return CT_WINDOW
    thin = volume.data[tuple(slice(None, None, max(1, n // 96)) for n in volume.shape)]
    values = thin[np.isfinite(thin)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0


def _place(
    item: Shown, volume: Volume
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Where the planes meet and what they are centred on (voxels), and the side seen (mm)."""
    spacing, shape = np.array(volume.spacing), np.array(volume.shape)
    if not item.mask.any():
        at = np.asarray(item.clicks[0].position) if item.clicks else shape / 2
        at = np.clip(np.round(at), 0, shape - 1)
        return at, at, float(min(90.0, max(shape * spacing)))
    areas = [item.mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    # The middle one of the largest sections, not the first of them.
    meet = np.array([np.median(np.flatnonzero(a >= 0.97 * a.max())).round() for a in areas])
    ends = np.array([np.flatnonzero(a)[[0, -1]] for a in areas])
    extent = max((ends[:, 1] - ends[:, 0] + 1) * spacing)
    side = min(max(70.0, 1.6 * extent), max(shape * spacing))
    return meet, ends.mean(axis=1), float(side)
