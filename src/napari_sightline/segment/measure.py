"""Measures of labelled structures: volume, intensities, place, extent."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.volume import Box3, Volume


@dataclass(frozen=True)
class Measure:
    """Measures of one structure.

    Attributes
    ----------
    value, name : int, str
        Its label.
    voxels, parts : int
        Voxels, and parts that hang together by faces, edges or corners.
    volume_ml : float
        Millilitres.
    mean, sd, minimum, maximum, median : float
        Of the image's finite voxels in it, in the image's unit; NaN where there are none. The
        standard deviation is that of these voxels (divided by their number).
    centroid : tuple of 3 float
        Mean position, canonical voxels.
    centroid_mm : tuple of 3 float
        The same in scanner millimetres (right, anterior, superior).
    diameter_mm : float
        Greatest distance between two voxel corners within one slice across the body's axis
        (canonical axis 0), as a reader measures in axial slices.
    slice : int
        Slice of that diameter.
    """

    value: int
    name: str
    voxels: int
    parts: int
    volume_ml: float
    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float
    centroid: tuple[float, float, float]
    centroid_mm: tuple[float, float, float]
    diameter_mm: float
    slice: int


def measure(
    labels: npt.NDArray[Any],
    image: Volume,
    names: Mapping[int, str] | None = None,
    values: Sequence[int] | None = None,
) -> list[Measure]:
    """Measure every structure of a label map.

    Parameters
    ----------
    labels : ndarray of int, shape of `image`; or of bool with a leading axis
        Label values, canonical order; or masks that may overlap, value ``k`` at ``labels[k - 1]``.
    image : Volume
        The scan.
    names : mapping of int to str, optional
        Structure by label value.
    values : sequence of int, optional
        Only these, such as those that an edit touched; by default all that occur.

    Returns
    -------
    list of Measure
        In the order of values; values that do not occur are left out.

    Raises
    ------
    BadInput
        Where labels and image do not have one shape.
    """
    if labels.shape[-3:] != image.shape or labels.ndim not in (3, 4):
        raise BadInput(
            f"The labels have shape {labels.shape} and the image {image.shape}; "
            "give labels on the image's grid."
        )
    found = []
    for value, box, mask in _masks(labels, values):
        name = (names or {}).get(value, f"label {value}")
        found.append(_one(value, name, mask, box, image))
    return found


def write_csv(path: str | os.PathLike[str], measures: Sequence[Measure]) -> Path:
    """Write measures as a table for spreadsheets, one structure a row.

    Raises
    ------
    BadInput
        Where the file cannot be written.
    """
    from napari_sightline.io.atomic import replacing

    file = Path(path)
    with (
        replacing(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(columns())
        writer.writerows([_plain(cell) for cell in row_of(one)] for one in measures)
    return file


def columns() -> list[str]:
    """Headings of the table, in the order of `row_of`."""
    heads: list[str] = []
    for one in fields(Measure):
        if one.name == "centroid":
            heads += ["centroid_superior", "centroid_posterior", "centroid_left"]
        elif one.name == "centroid_mm":
            heads += ["x_mm", "y_mm", "z_mm"]
        else:
            heads.append(one.name)
    return heads


def row_of(one: Measure) -> list[int | float | str]:
    """Cells of a row: triples become three cells."""
    cells: list[int | float | str] = []
    for value in asdict(one).values():
        cells += list(value) if isinstance(value, tuple) else [value]
    return cells


def _plain(cell: int | float | str) -> str:
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:.6g}"
    # A spreadsheet would run a name that begins so as a formula.
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text[:1] in "=+-@\t\r" else text


def _masks(
    labels: npt.NDArray[Any], values: Sequence[int] | None
) -> list[tuple[int, Box3, npt.NDArray[np.bool_]]]:
    from scipy import ndimage

    found = []
    if labels.ndim == 4:
        for k, mask in enumerate(labels):
            if values is not None and k + 1 not in values:
                continue
            boxes = ndimage.find_objects(mask.astype(np.uint8))
            if boxes:
                found.append((k + 1, boxes[0], mask[boxes[0]].astype(bool)))
        return found
    whole = labels.astype(np.uint8) if labels.dtype == bool else labels
    if whole.dtype.kind not in "iu":
        raise BadInput(f"The labels hold numbers of type {labels.dtype}; give whole numbers.")
    if whole.size and int(whole.min()) < 0:
        raise BadInput("The labels hold numbers below 0; give values from 1.")
    for k, box in enumerate(ndimage.find_objects(whole)):
        if box is not None and (values is None or k + 1 in values):
            found.append((k + 1, (box[0], box[1], box[2]), whole[box] == k + 1))
    return found


def _one(value: int, name: str, mask: npt.NDArray[np.bool_], box: Box3, image: Volume) -> Measure:
    import cc3d

    low = np.array([piece.start for piece in box])
    count = int(np.count_nonzero(mask))
    inside = np.asarray(image.data[box])[mask].astype(np.float64)
    inside = inside[np.isfinite(inside)]
    stats = [np.nan] * 5
    if inside.size:
        stats = [inside.mean(), inside.std(), inside.min(), inside.max(), float(np.median(inside))]
    centre = low + [
        float((mask.sum(tuple(b for b in range(3) if b != a)) * np.arange(mask.shape[a])).sum())
        / count
        for a in range(3)
    ]
    _, parts = cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)
    longest, at = _diameter(mask, image.spacing[1:])
    mm = image.voxel_to_mm(centre)
    mean, sd, minimum, maximum, median = (float(v) for v in stats)
    return Measure(
        value,
        name,
        count,
        int(parts),
        count * float(np.prod(image.spacing)) / 1000,
        mean,
        sd,
        minimum,
        maximum,
        median,
        (float(centre[0]), float(centre[1]), float(centre[2])),
        (float(mm[0]), float(mm[1]), float(mm[2])),
        longest,
        int(low[0]) + at,
    )


def _diameter(mask: npt.NDArray[np.bool_], spacing: tuple[float, ...]) -> tuple[float, int]:
    """Greatest distance of two voxel corners in one slice, mm, and that slice."""
    best, at = 0.0, 0
    mm = np.array(spacing)
    for k, plane in enumerate(mask):
        rows = np.flatnonzero(plane.any(1))
        if not rows.size:
            continue
        # The farthest corners are ends of rows.
        first = plane[rows].argmax(1)
        last = plane.shape[1] - plane[rows, ::-1].argmax(1)
        cols = np.flatnonzero(plane.any(0))
        limit = np.hypot((rows[-1] + 1 - rows[0]) * mm[0], (cols[-1] + 1 - cols[0]) * mm[1])
        if limit <= best:
            continue
        ends = (
            np.concatenate(
                [np.stack([rows + up, side], 1) for up in (0, 1) for side in (first, last)]
            )
            * mm
        )
        hull = _hull(ends)
        distance = np.sqrt(((hull[:, None] - hull[None]) ** 2).sum(-1)).max()
        if distance > best:
            best, at = float(distance), k
    return best, at


def _hull(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.spatial import ConvexHull

    # Corners of voxels never lie on one line.
    return np.asarray(points[ConvexHull(points).vertices])
