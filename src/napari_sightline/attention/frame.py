"""Where the grid that a network sees lies in the volume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_sightline.segment.region import Region

Array = npt.NDArray[np.float64]
Shape3 = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Frame:
    """A network's input grid in a volume.

    Voxel centres lie at whole numbers on both grids. A two-dimensional network sees a grid with
    one voxel along its first axis.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels of the network's input.
    affine : numpy.ndarray
        ``(4, 4)``: network voxel to canonical voxel of the volume. Axes may be permuted, flipped
        and scaled.
    """

    shape: Shape3
    affine: Array

    @cached_property
    def _inverse(self) -> Array:
        return np.asarray(np.linalg.inv(self.affine[:3, :3]), float)

    @classmethod
    def of_region(cls, region: Region) -> Frame:
        """Return the frame of a session's working region."""
        return cls.scaled(region.origin, region.step, region.shape)

    @classmethod
    def scaled(cls, origin: npt.ArrayLike, step: npt.ArrayLike, shape: npt.ArrayLike) -> Frame:
        """Return a frame along the volume's own axes.

        Parameters
        ----------
        origin : array_like
            ``(3,)``, canonical voxel at the centre of the network's first voxel.
        step : array_like
            ``(3,)``, canonical voxels per voxel of the network.
        shape : array_like
            ``(3,)``, voxels of the network's input.
        """
        affine = np.diag([*np.asarray(step, float), 1.0])
        affine[:3, 3] = origin
        a, b, c = (int(n) for n in np.asarray(shape))
        return cls((a, b, c), affine)

    def to_volume(self, points: npt.ArrayLike) -> Array:
        """Turn voxels of the network ``(..., 3)`` into canonical voxels of the volume."""
        return np.asarray(points, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def from_volume(self, points: npt.ArrayLike) -> Array:
        """Turn canonical voxels of the volume ``(..., 3)`` into voxels of the network."""
        return (np.asarray(points, float) - self.affine[:3, 3]) @ self._inverse.T

    def contains(self, position: npt.ArrayLike) -> bool:
        """Whether a canonical position ``(3,)`` lies inside a voxel of the network's grid."""
        voxel = self.from_volume(position)
        return bool(np.all(voxel >= -0.5 - 1e-9) and np.all(voxel < np.array(self.shape) - 0.5))

    def depth(self, position: npt.ArrayLike) -> float:
        """How far inside a canonical position lies: 1 at the centre, 0 at a face, less outside."""
        half = np.array(self.shape) / 2
        centre = (np.array(self.shape) - 1) / 2
        return float(1 - (np.abs(self.from_volume(position) - centre) / half).max())
