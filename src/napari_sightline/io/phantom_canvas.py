"""Solids painted into a grid by their distance functions, for the sample phantom.

Everything is in millimetres of the phantom's own frame, in canonical order: z to the head,
y to the back, x to the patient's left with the midline at 0. A `Solid` covers only the part
of the grid in which it lies, so that fifty of them take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_sightline.volume import Box3

__all__ = ["Canvas", "Solid", "Triple"]

Triple: TypeAlias = tuple[float, float, float]
Field: TypeAlias = npt.NDArray[np.float32]


class Solid(NamedTuple):
    """A solid on part of the grid: `depth` is about the distance in mm, negative inside."""

    box: Box3
    depth: Field


class Canvas:
    """A grid that solids are painted on.

    Parameters
    ----------
    shape : tuple of 3 int
        Voxels along superior, posterior, left.
    size : float
        Edge of the cube that the grid covers, mm.

    Attributes
    ----------
    hu : ndarray of float32, `shape`
        Hounsfield units, air to begin with.
    labels : ndarray of uint8, `shape`
    z, y, x : ndarray of float32
        Coordinates of the voxel centres, mm.
    """

    def __init__(self, shape: tuple[int, int, int], size: float) -> None:
        self.hu: Field = np.full(shape, -1000, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        steps = [size / n for n in shape]
        self.z, self.y, self.x = (
            ((np.arange(n) + 0.5) * step).astype(np.float32)
            for n, step in zip(shape, steps, strict=True)
        )
        self.x -= np.float32(size / 2)

    def window(self, low: Triple, high: Triple) -> tuple[Box3, list[Field]]:
        """Cut the grid to a box in mm; return the voxels and open coordinate arrays."""
        slices = []
        for axis, a, b in zip((self.z, self.y, self.x), low, high, strict=True):
            slices.append(slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b))))
        sz, sy, sx = slices
        return (sz, sy, sx), [self.z[sz, None, None], self.y[sy, None], self.x[sx]]

    def ellipsoid(self, centre: Triple, radii: Triple, margin: float = 0) -> Solid:
        """Make an ellipsoid with its axes along z, y, x.

        Parameters
        ----------
        centre, radii : tuple of 3 float
            Millimetres.
        margin : float
            How far beyond the surface the depth is wanted, mm.
        """
        low = [c - r - margin for c, r in zip(centre, radii, strict=True)]
        high = [c + r + margin for c, r in zip(centre, radii, strict=True)]
        box, grid = self.window((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        return Solid(box, _ellipse(grid, centre, radii))

    def tube(self, path: Sequence[tuple[float, ...]], margin: float = 0, side: int = 1) -> Solid:
        """Make a tube along z with elliptical cross-sections and flat ends.

        Parameters
        ----------
        path : sequence of (z, y, x, radius in y, radius in x)
            By rising z; in between is interpolated.
        margin : float
            As for `ellipsoid`.
        side : {1, -1}
            -1 mirrors the tube to the patient's right.
        """
        table = np.array(path, dtype=np.float32)
        table[:, 2] *= side
        reach = table[:, 3:].max(axis=0) + margin
        low = table[:, 1:3].min(axis=0) - reach
        high = table[:, 1:3].max(axis=0) + reach
        box, (z, y, x) = self.window(
            (float(table[0, 0]), float(low[0]), float(low[1])),
            (float(table[-1, 0]), float(high[0]), float(high[1])),
        )
        cy, cx, ry, rx = (
            np.interp(z, table[:, 0], column).astype(np.float32) for column in table[:, 1:].T
        )
        return Solid(box, _ellipse([y, x], [cy, cx], [ry, rx]))

    def rod(self, points: Sequence[Triple], radius: float, stretch: Triple = (1, 1, 1)) -> Solid:
        """Make a round rod along a polyline; `stretch` above 1 makes it wider on that axis."""
        joints = np.asarray(points, dtype=np.float32)
        scale = np.asarray(stretch, dtype=np.float32)
        reach = radius * scale
        low, high = joints.min(axis=0) - reach, joints.max(axis=0) + reach
        box, grid = self.window(
            (float(low[0]), float(low[1]), float(low[2])),
            (float(high[0]), float(high[1]), float(high[2])),
        )
        grid = [axis / s for axis, s in zip(grid, scale, strict=True)]
        joints = joints / scale
        shape = tuple(piece.stop - piece.start for piece in box)
        nearest = np.full(shape, np.inf, dtype=np.float32)
        for start, end in pairwise(joints):
            along = end - start
            offset = [axis - s for axis, s in zip(grid, start, strict=True)]
            dot = offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]
            t = np.clip(dot / (along @ along), 0, 1)
            squares = [(o - t * a) ** 2 for o, a in zip(offset, along, strict=True)]
            np.minimum(nearest, squares[0] + squares[1] + squares[2], out=nearest)
        return Solid(box, np.sqrt(nearest) - np.float32(radius))

    def fill(
        self, solid: Solid, hu: float | Field, label: int | None = 0, below: float = 0
    ) -> None:
        """Paint the part of a solid deeper than `below` mm.

        Parameters
        ----------
        solid : Solid
        hu : float or ndarray
            Hounsfield units; a field of the whole grid's shape is cut to the solid.
        label : int or None
            Of the structure, 0 for none; None leaves the labels alone.
        below : float
            0 is the surface, -3 what lies at least 3 mm under it.
        """
        inside = solid.depth < below
        self.hu[solid.box][inside] = hu[solid.box][inside] if isinstance(hu, np.ndarray) else hu
        if label is not None:
            self.labels[solid.box][inside] = label

    def bone(self, solid: Solid, cortex: float = 2.5, marrow: float = 330) -> None:
        """Paint bone: a dense cortex of the given thickness (mm) round what fills it (HU)."""
        self.fill(solid, 1050)
        self.fill(solid, marrow, below=-cortex)


def _ellipse(
    grid: Sequence[Field], centre: Sequence[float | Field], radii: Sequence[float | Field]
) -> Field:
    """Distance to an ellipse or ellipsoid, good to first order near its surface."""
    near: Any = np.float32(1e-3)
    steep: Any = np.float32(1e-6)
    for axis, c, r in zip(grid, centre, radii, strict=True):
        offset = axis - c
        near = near + (offset / r) ** 2
        steep = steep + (offset / r**2) ** 2
    root = np.sqrt(near)
    return np.asarray(root * (root - 1) / np.sqrt(steep), dtype=np.float32)
