"""Overlap and surface metrics of binary masks.

Both metrics are 1.0 where prediction and truth are empty (nothing was asked
for and nothing was drawn) and 0.0 where only one of them is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput

Box3 = tuple[slice, slice, slice]
BoolArray = npt.NDArray[np.bool_]

#: Bit of each corner of a 2 x 2 x 2 neighbourhood, C order, as in DeepMind's code.
_CORNER_BITS = tuple(1 << (7 - corner) for corner in range(8))


def dice(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Volumetric Dice coefficient ``2 |P n T| / (|P| + |T|)``.

    Parameters
    ----------
    pred, truth
        Masks of equal shape; anything non-zero counts as inside.

    Returns
    -------
    float
        0..1; 1.0 where both masks are empty.

    Raises
    ------
    BadInput
        Where the shapes differ.
    """
    p, t = _pair(pred, truth)
    total = int(np.count_nonzero(p)) + int(np.count_nonzero(t))
    if total == 0:
        return 1.0
    return 2.0 * int(np.count_nonzero(p & t)) / total


def surface_dice(
    pred: npt.ArrayLike,
    truth: npt.ArrayLike,
    spacing: tuple[float, float, float],
    tolerance_mm: float = 2.0,
) -> float:
    """Surface Dice (normalised surface distance, NSD) at a tolerance.

    The share of both surfaces, by area, that lies within ``tolerance_mm`` of
    the other one, in the definition of DeepMind's ``surface-distance``
    (Nikolov et al., *Deep learning to achieve clinically applicable
    segmentation of head and neck anatomy for radiotherapy*, 2018), which
    MONAI's ``SurfaceDiceMetric(use_subvoxels=True)`` follows: surface elements
    sit at the corners of voxels, wherever a 2 x 2 x 2 neighbourhood holds both
    inside and outside, and weigh what marching cubes draws there. A mask that
    reaches the edge of the array has a surface there.

    Parameters
    ----------
    pred, truth
        3D masks of equal shape; anything non-zero counts as inside.
    spacing
        Millimetres per voxel along each axis.
    tolerance_mm
        Distance up to which a surface element counts as agreeing, in mm.

    Returns
    -------
    float
        0..1; 1.0 where both masks are empty, 0.0 where only one is.

    Raises
    ------
    BadInput
        Where the masks are not 3D, the shapes differ, or a spacing is not positive.
    """
    p, t = _pair(pred, truth)
    if p.ndim != 3:
        raise BadInput(f"Surface Dice needs 3D masks and these have {p.ndim} axes; give volumes.")
    mm = tuple(float(s) for s in spacing)
    if len(mm) != 3 or not all(np.isfinite(s) and s > 0 for s in mm):
        raise BadInput(f"The spacing {spacing} is not three positive lengths; give mm per voxel.")
    if tolerance_mm < 0:
        raise BadInput(f"The tolerance of {tolerance_mm} mm is negative; give 0 mm or more.")
    box = bounding_box(p | t)
    if box is None:
        return 1.0
    # Nearest surface elements always lie in the union's bounding box: a crop changes nothing.
    areas = surface_areas(mm)
    code_p, code_t = _corner_codes(p[box]), _corner_codes(t[box])
    edge_p, edge_t = _is_surface(code_p), _is_surface(code_t)
    if not edge_p.any() or not edge_t.any():
        return 0.0
    area_p, area_t = areas[code_p[edge_p]], areas[code_t[edge_t]]
    # Squared distances of a regular grid are exact enough for "<=": 2.0 mm is within 2.0 mm.
    limit = tolerance_mm**2 * (1 + 1e-6) + 1e-9
    near_p = _squared_distance(edge_t, mm)[edge_p] <= limit
    near_t = _squared_distance(edge_p, mm)[edge_t] <= limit
    agreeing = float(area_p[near_p].sum() + area_t[near_t].sum())
    return agreeing / float(area_p.sum() + area_t.sum())


def auc(scores: list[float] | tuple[float, ...]) -> float:
    """Area under scores over clicks: trapezoid with dx = 1 (five scores: at most 4)."""
    return float(np.trapezoid(np.asarray(scores, dtype=float)))


def clicks_to_reach(scores: list[float] | tuple[float, ...], target: float, limit: int) -> int:
    """Count clicks (NoC) until the score reaches ``target``; ``limit`` where it never does.

    ``scores[k]`` is the score after ``k + 1`` clicks; only the first ``limit`` count.
    """
    for index, score in enumerate(scores[:limit]):
        if score >= target:
            return index + 1
    return limit


def bounding_box(mask: npt.NDArray[np.generic]) -> Box3 | None:
    """Smallest box of slices that holds every non-zero voxel of a 3D array, None if it is empty."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return box[0], box[1], box[2]


@lru_cache(maxsize=256)
def surface_areas(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Area in mm^2 of the surface in a 2 x 2 x 2 neighbourhood, for each of its 256 codes."""
    d0, d1, d2 = spacing
    # Areas stretch with the cofactors of the scaling, so one table serves every spacing.
    stretch = np.array([d1 * d2, d0 * d2, d0 * d1])
    return np.array(
        [np.linalg.norm(normals * stretch, axis=1).sum() for normals in _surface_normals()]
    )


@lru_cache(maxsize=1)
def _surface_normals() -> tuple[npt.NDArray[np.float64], ...]:
    """Area vectors (k, 3) of the triangles of marching cubes for each code, unit voxels.

    DeepMind's table is marching cubes as first published (Lorensen and Cline
    1987) with a code and its complement having the same surface.
    """
    from skimage.measure import marching_cubes

    table = []
    for code in range(256):
        if code in (0, 255):
            table.append(np.zeros((0, 3)))
            continue
        small = code if code.bit_count() <= 4 else 255 - code
        cube = np.array([float(bool(small & bit)) for bit in _CORNER_BITS]).reshape(2, 2, 2)
        points, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        a, b, c = (points[faces[:, k]].astype(float) for k in range(3))
        table.append(np.cross(b - a, c - a) / 2)
    return tuple(table)


def _corner_codes(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """Code of the 2 x 2 x 2 neighbourhood at every corner of voxels; shape + 1 on each axis."""
    padded = np.pad(mask, 1).view(np.uint8)
    n0, n1, n2 = (n - 1 for n in padded.shape)
    codes = np.zeros((n0, n1, n2), dtype=np.uint8)
    for corner, bit in enumerate(_CORNER_BITS):
        i, j, k = corner >> 2 & 1, corner >> 1 & 1, corner & 1
        codes |= padded[i : i + n0, j : j + n1, k : k + n2] * np.uint8(bit)
    return codes


def _is_surface(codes: npt.NDArray[np.uint8]) -> BoolArray:
    return (codes != 0) & (codes != 255)


def _squared_distance(
    surface: BoolArray, spacing: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """Squared distance in mm^2 of every corner to the nearest surface element."""
    import edt

    squared: npt.NDArray[np.float32] = edt.edtsq(
        np.ascontiguousarray(~surface), anisotropy=spacing, black_border=False, parallel=1
    )
    return squared


def _pair(pred: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    p, t = np.asarray(pred), np.asarray(truth)
    if p.shape != t.shape:
        raise BadInput(
            f"The prediction has shape {p.shape} and the truth {t.shape}; "
            "give two masks on the same grid."
        )
    return p.astype(bool, copy=False), t.astype(bool, copy=False)
