"""Which way a file's axes lie in the patient, and the flips and transpose that follow.

Geometry without voxels: `napari_sightline.volume` builds on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput

__all__ = [
    "Affine",
    "Array",
    "Orientation",
    "Points",
    "Shape",
    "as_points",
    "canonical_affine",
    "checked_affine",
    "checked_spacing",
]

Array: TypeAlias = npt.NDArray[Any]
Affine: TypeAlias = npt.NDArray[np.float64]
Points: TypeAlias = npt.ArrayLike
Shape: TypeAlias = tuple[int, int, int]

# Scanner axis (R, A, S = 0, 1, 2) and sense of each canonical axis: +S, -A (P), -R (L).
_CANONICAL = ((2, 1), (1, -1), (0, -1))
_SPACING_LIMITS = (1e-6, 1e6)  # mm; outside, a header is damaged rather than unusual


@dataclass(frozen=True, eq=False)
class Orientation:
    """How the file's axes and the canonical axes belong together.

    Parameters
    ----------
    axes : tuple of 3 int
        ``axes[a]`` is the file axis along which canonical axis ``a`` runs.
    flips : tuple of 3 bool
        Whether canonical axis ``a`` runs against its file axis.
    file_shape : tuple of 3 int
        Shape of the file's grid.
    file_affine : ndarray, shape (4, 4), float64
        File voxel to scanner RAS millimetres.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    file_shape: Shape
    file_affine: Affine

    @classmethod
    def from_affine(cls, affine: Affine, shape: Shape) -> Orientation:
        """Find the flips and the transpose that bring a file closest to canonical order.

        The choice is that of nibabel's ``io_orientation``: the rotation nearest to the affine
        (polar decomposition) is read axis by axis, the clearest first.

        Parameters
        ----------
        affine : ndarray, shape (4, 4)
            File voxel to RAS millimetres, invertible.
        shape : tuple of 3 int
            Shape of the file's grid.

        Returns
        -------
        Orientation
        """
        columns = affine[:3, :3]
        left, _, right = np.linalg.svd(columns / np.linalg.norm(columns, axis=0))
        rotation = left @ right
        file_axis = [0, 0, 0]  # by scanner axis
        sense = [1, 1, 1]
        for axis in np.argsort(-np.max(rotation**2, axis=0), kind="stable"):
            scanner = int(np.argmax(np.abs(rotation[:, axis])))
            file_axis[scanner] = int(axis)
            sense[scanner] = 1 if rotation[scanner, axis] > 0 else -1
            rotation[scanner] = 0  # taken
        (a0, s0), (a1, s1), (a2, s2) = _CANONICAL
        axes = (file_axis[a0], file_axis[a1], file_axis[a2])
        flips = (sense[a0] != s0, sense[a1] != s1, sense[a2] != s2)
        return cls(axes, flips, shape, affine)

    @property
    def shape(self) -> Shape:
        """Shape of the canonical grid."""
        a, b, c = (self.file_shape[axis] for axis in self.axes)
        return a, b, c

    @property
    def affine(self) -> Affine:
        """Canonical voxel to RAS millimetres, shape (4, 4)."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for canonical, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[axis, canonical] = -1 if flip else 1
            matrix[axis, 3] = self.file_shape[axis] - 1 if flip else 0
        return self.file_affine @ matrix

    def _flip(self, array: Array) -> Array:
        return array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def from_file(self, array: Array) -> Array:
        """View an array of the file's shape in canonical order; `BadInput` on another shape."""
        _check_shape(array, self.file_shape, "the file's grid")
        return self._flip(array.transpose(self.axes))

    def to_file(self, array: Array) -> Array:
        """View an array of the canonical shape in file order; `BadInput` on another shape."""
        _check_shape(array, self.shape, "the volume's grid")
        return self._flip(array).transpose(np.argsort(self.axes))

    def file_to_voxel(self, points: Points) -> Affine:
        """Turn file voxel indices, shape (N, 3) or (3,), into canonical ones."""
        canonical = as_points(points)[..., list(self.axes)]
        return np.where(self.flips, np.asarray(self.shape) - 1 - canonical, canonical)

    def voxel_to_file(self, points: Points) -> Affine:
        """Turn canonical voxel indices, shape (N, 3) or (3,), into file ones."""
        canonical = as_points(points)
        canonical = np.where(self.flips, np.asarray(self.shape) - 1 - canonical, canonical)
        return canonical[..., np.argsort(self.axes)]


def as_points(points: Points) -> Affine:
    """Return positions as float64, shape (..., 3); `BadInput` on another shape."""
    values = np.asarray(points, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] != 3:
        raise BadInput(f"Positions of shape {values.shape} came; give (3,) or (N, 3).")
    return values


def _check_shape(array: Array, shape: Shape, grid: str) -> None:
    if array.shape != shape:
        raise BadInput(
            f"The array has shape {array.shape} but {grid} has {shape}; "
            "give an array made on this volume."
        )


def checked_spacing(spacing: Iterable[float], thing: str) -> tuple[float, ...]:
    """Return three millimetres, or raise `BadInput` naming `thing`."""
    low, high = _SPACING_LIMITS
    numbers = tuple(float(value) for value in spacing)
    if len(numbers) != 3 or not all(low <= number <= high for number in numbers):
        raise BadInput(f"{thing} {numbers} is not three millimetres above 0; correct it.")
    return numbers


def canonical_affine(spacing: Iterable[float] | None, shape: tuple[int, ...], thing: str) -> Affine:
    """Affine of an array that is canonical already: superior, posterior, left."""
    numbers: tuple[float, ...] = (1.0, 1.0, 1.0) if spacing is None else tuple(spacing)
    if len(numbers) == 2 and shape[0] == 1:
        numbers = (1.0, *numbers)
    numbers = checked_spacing(numbers, f"{thing}'s spacing")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for canonical, (scanner, sense) in enumerate(_CANONICAL):
        affine[scanner, canonical] = sense * numbers[canonical]
    return affine


def checked_affine(affine: npt.ArrayLike, thing: str) -> Affine:
    """Copy an affine as float64, or raise `BadInput`."""
    remedy = "correct it, or give a spacing instead."
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{thing}'s affine is not made of numbers; {remedy}") from error
    if matrix.shape != (4, 4):
        raise BadInput(f"{thing}'s affine has shape {matrix.shape}, not (4, 4); {remedy}")
    if not np.isfinite(matrix).all():
        raise BadInput(f"{thing}'s affine holds numbers that are not finite; {remedy}")
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise BadInput(f"{thing}'s affine does not end in the row 0 0 0 1; {remedy}")
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    low, high = _SPACING_LIMITS
    if not ((lengths >= low) & (lengths <= high)).all():
        raise BadInput(f"{thing}'s affine has voxels of {lengths.tolist()} mm; {remedy}")
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-4:
        raise BadInput(f"{thing}'s affine is not invertible (two axes coincide); {remedy}")
    return matrix
