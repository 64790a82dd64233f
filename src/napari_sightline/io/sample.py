"""A scan that needs no download: a head-and-neck phantom in Hounsfield units.

It is drawn, not measured: organs are solids in plausible places, so that every part of the
program can be tried and tested against a known truth. It is no data to judge a model
on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.io.phantom_anatomy import NAMES, SIZE, paint_patient
from napari_sightline.io.phantom_canvas import Canvas, Field
from napari_sightline.volume import Volume

__all__ = ["phantom"]

_LEAST = 16  # voxels along an axis; with fewer there is nothing to see
_BEND = 6.0  # mm, typical displacement of the smooth deformation
_NOISE = 9.0  # HU, spread of the noise


def phantom(
    shape: tuple[int, int, int] = (96, 144, 144), seed: int = 0
) -> tuple[Volume, npt.NDArray[np.uint8], dict[int, str]]:
    """Make a planning CT of head, neck and shoulders with its true labels.

    Parameters
    ----------
    shape : tuple of 3 int
        Voxels along superior, posterior, left, at least 16 each. They always cover a cube of
        288 mm: the default has voxels of 3 x 2 x 2 mm.
    seed : int
        Chooses the patient; the same seed gives the same voxels.

    Returns
    -------
    volume : Volume
        int16 Hounsfield units; its file grid is that of a usual CT (left, posterior, superior).
    labels : ndarray of uint8, `shape`
        Canonical order.
    names : dict of int to str
        Names of the labels.

    Raises
    ------
    BadInput
        If a side of `shape` is below 16, or `seed` is negative.
    """
    if len(shape) != 3 or min(shape) < _LEAST:
        raise BadInput(f"The phantom's shape {shape} is too small; give three sides from 16 on.")
    if seed < 0:
        raise BadInput(f"The phantom's seed {seed} is negative; give 0 or more.")
    rng = np.random.default_rng(seed)
    canvas = Canvas(shape, SIZE)
    paint_patient(canvas, rng)
    hu, labels = _bent(canvas, rng)
    _lay_on_couch(canvas, hu)
    _scan(hu, rng)
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    step = [SIZE / n for n in shape]
    affine = np.diag([-step[2], -step[1], step[0], 1.0])
    affine[:3, 3] = (SIZE - step[2]) / 2, (SIZE - step[1]) / 2, (step[0] - SIZE) / 2
    volume = Volume.from_array(voxels.transpose(), affine, name="phantom", modality="CT")
    return volume, labels, dict(NAMES)


def _bent(canvas: Canvas, rng: np.random.Generator) -> tuple[Field, npt.NDArray[np.uint8]]:
    """Deform the patient smoothly: nobody is made of ellipsoids, and no two are alike."""
    from scipy import ndimage

    knots = rng.normal(0, _BEND, (3, 6, 6, 6))
    knots[0] *= 0.6
    weights = [_splines(n, 6) for n in canvas.hu.shape]
    places = np.stack(
        np.meshgrid(*(np.arange(n, dtype=np.float32) for n in canvas.hu.shape), indexing="ij")
    )
    for axis, (field, n) in enumerate(zip(knots, canvas.hu.shape, strict=True)):
        shift = np.einsum("abc,xa,yb,zc->xyz", field, *weights, optimize=True)
        places[axis] += shift.astype(np.float32) * np.float32(n / SIZE)
    hu = ndimage.map_coordinates(canvas.hu, places, order=1, mode="nearest")
    labels = ndimage.map_coordinates(canvas.labels, places, order=0, mode="nearest")
    return hu, labels


def _splines(count: int, knots: int) -> Field:
    """Weights of smooth bumps on evenly spaced knots, rows adding up to 1, (count, knots)."""
    distance = np.linspace(0, knots - 1, count)[:, None] - np.arange(knots)
    weights = np.exp(-(distance**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _lay_on_couch(canvas: Canvas, hu: Field) -> None:
    """Put a couch under the patient: a carbon shell filled with foam."""
    y, x = canvas.y[:, None], canvas.x
    top = 258 - 0.0009 * x**2
    depth = np.maximum(np.maximum(top - y, y - 282), np.abs(x) - 132)
    couch = np.where(depth < -4, np.float32(-930), np.float32(-50))
    empty = (hu < -600) & (depth < 0)
    hu[empty] = np.broadcast_to(couch, hu.shape)[empty]


def _scan(hu: Field, rng: np.random.Generator) -> None:
    """Add what the scanner adds: a little blur and correlated noise."""
    from scipy import ndimage

    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    hu += np.float32(_NOISE * 1.9) * noise
    ndimage.gaussian_filter(hu, (0.3, 0.5, 0.5), output=hu, truncate=3)
