"""A scan: its voxels in reading order, and the exact way back to the file.

The canonical order is superior, posterior, left: axis 0 runs towards the head, axis 1 towards
the back, axis 2 towards the patient's left, so that ``data[i]`` is an axial slice as a
radiologist expects it. It is reached by flips and transposes of the file's array only, never
by interpolation; an oblique rotation stays in the affine. "Voxel" means a canonical index
(centres at integers) unless "file" is said. Millimetres are the scanner's RAS: x grows to the
patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.orientation import (
    Affine,
    Array,
    Orientation,
    Points,
    Shape,
    as_points,
    canonical_affine,
    checked_affine,
    checked_spacing,
)

__all__ = ["Box3", "Orientation", "Volume", "choose_channel"]

Box3: TypeAlias = tuple[slice, slice, slice]

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_MAX_RESAMPLED = 2**33  # voxels


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Voxels in canonical order with their place in the scanner.

    Make one with `Volume.from_array` or `napari_sightline.load`.

    Attributes
    ----------
    data : ndarray, shape (n0, n1, n2)
        Canonical view of the file's voxels (superior, posterior, left); dtype as stored.
    orientation : Orientation
        The way back to the file's grid.
    name : str
        Short name for messages and layers.
    modality : {'CT', 'MR', 'PT', None}
        None when unknown.
    source : Path or None
        File it came from.
    header : object or None
        What a writer needs to know of the file; opaque to everyone else.
    notes : tuple of str
        Sentences about what was chosen on the way in, such as a channel.
    """

    data: Array
    orientation: Orientation
    name: str = ""
    modality: str | None = None
    source: Path | None = None
    header: object | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_array(
        cls,
        array: npt.ArrayLike,
        affine: npt.ArrayLike | None = None,
        spacing: tuple[float, ...] | None = None,
        name: str = "",
        modality: str | None = None,
        channel: int | None = None,
        *,
        rgb: bool = False,
    ) -> Volume:
        """Take an array in as a volume; no copy unless colour or byte order demands one.

        Parameters
        ----------
        array : array_like, 2 to 4 axes
            In file order where `affine` is given, else in canonical order. Two axes are one
            slice (rows, columns of an axial picture without an affine). A fourth axis, the
            last, holds channels or time points. Colour (fields R, G, B of a structured
            dtype, or `rgb`) becomes its luminance.
        affine : array_like, shape (4, 4), optional
            File voxel to scanner RAS millimetres.
        spacing : tuple of 3 float, optional
            Millimetres per canonical voxel where there is no affine; (1, 1, 1) by default.
            A single slice may give its two in-plane spacings.
        name, modality : str, optional
            See the class.
        channel : int, optional
            Which entry of the fourth axis; the first by default.
        rgb : bool
            The last axis holds red, green, blue (and alpha).

        Returns
        -------
        Volume

        Raises
        ------
        BadInput
            If the array is empty, has other than 2-4 axes or no real numbers, the channel
            does not exist, or the affine or spacing is not finite and invertible.
        """
        thing = name or "The array"
        try:
            values = np.asarray(array)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{thing} is not a regular array; give rows of one length.") from error
        values, notes = _grey(values, rgb, thing)
        if values.dtype == np.bool_:
            values = values.view(np.uint8)
        if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
            raise BadInput(
                f"{thing} holds {values.dtype} voxels, which are not plain real numbers; "
                "convert it to integers or float32."
            )
        if not 2 <= values.ndim <= 4:
            raise BadInput(
                f"{thing} has {values.ndim} axes; give two, three, or four (the last: channels)."
            )
        if values.size == 0:
            raise BadInput(f"{thing} is empty (shape {values.shape}); give at least one voxel.")
        values, note = _pick(values, channel, thing)
        if values.ndim == 2:
            values = values[None] if affine is None else values[..., None]
        if not values.dtype.isnative:  # torch and scipy want native bytes
            values = values.astype(values.dtype.newbyteorder("="))
        if affine is None:
            matrix = canonical_affine(spacing, values.shape, thing)
        elif spacing is None:
            matrix = checked_affine(affine, thing)
        else:
            raise BadInput(f"{thing} came with an affine and a spacing; give one of them.")
        n0, n1, n2 = values.shape
        orientation = Orientation.from_affine(matrix, (n0, n1, n2))
        data = orientation.from_file(values)
        return cls(data, orientation, name, modality, notes=notes + note)

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.shape)
        mm = " x ".join(f"{s:.3g}" for s in self.spacing)
        return f"<Volume {self.name or 'unnamed'!r} {size} {self.data.dtype}, {mm} mm>"

    @property
    def shape(self) -> Shape:
        """Number of voxels along superior, posterior, left."""
        return self.orientation.shape

    @property
    def affine(self) -> Affine:
        """Canonical voxel to scanner millimetres (x right, y anterior, z superior), (4, 4)."""
        return self.orientation.affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along superior, posterior, left."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @property
    def file_shape(self) -> Shape:
        """Shape of the file's grid."""
        return self.orientation.file_shape

    @property
    def file_affine(self) -> Affine:
        """File voxel to scanner RAS millimetres, shape (4, 4)."""
        return self.orientation.file_affine

    def from_file(self, array: Array) -> Array:
        """View an array on the file's grid in canonical order; `BadInput` on another shape."""
        return self.orientation.from_file(array)

    def to_file(self, array: Array) -> Array:
        """View a canonical array in the file's order; `BadInput` on another shape."""
        return self.orientation.to_file(array)

    def file_to_voxel(self, points: Points) -> Affine:
        """Turn file voxel indices, shape (N, 3) or (3,), into canonical ones."""
        return self.orientation.file_to_voxel(points)

    def voxel_to_file(self, points: Points) -> Affine:
        """Turn canonical voxel indices, shape (N, 3) or (3,), into file ones."""
        return self.orientation.voxel_to_file(points)

    def voxel_to_mm(self, points: Points) -> Affine:
        """Turn voxel indices, shape (N, 3) or (3,), into scanner RAS millimetres."""
        affine = self.affine
        return as_points(points) @ affine[:3, :3].T + affine[:3, 3]

    def mm_to_voxel(self, points: Points) -> Affine:
        """Turn scanner RAS millimetres, shape (N, 3) or (3,), into voxel indices."""
        affine = self.affine
        return (as_points(points) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T

    def contains(self, point: Points) -> bool:
        """Whether a position (voxel indices, shape (3,)) lies inside a voxel of the volume."""
        position = as_points(point)
        return bool(np.all((position >= -0.5) & (position < np.asarray(self.shape) - 0.5)))

    def crop(self, box: Box3) -> Volume:
        """Cut out a box; every voxel keeps its millimetre position.

        Parameters
        ----------
        box : tuple of 3 slices
            In canonical voxels, without a step; ends beyond the volume are cut.

        Returns
        -------
        Volume
            A view on the same voxels. Its file grid is the box cut out of the file's grid.

        Raises
        ------
        BadInput
            If a slice has a step or nothing is left.
        """
        ranges = [piece.indices(n) for piece, n in zip(box, self.shape, strict=True)]
        if any(step != 1 for _, _, step in ranges) or any(lo >= hi for lo, hi, _ in ranges):
            raise BadInput(
                f"The box {box} holds no voxels of the volume of shape {self.shape}; "
                "give slices inside it, without a step."
            )
        lows = np.array([low for low, _, _ in ranges])
        highs = np.array([high - 1 for _, high, _ in ranges])
        corner = np.minimum(self.voxel_to_file(lows), self.voxel_to_file(highs))
        data = self.data[tuple(slice(low, high) for low, high, _ in ranges)]
        matrix = self.file_affine.copy()
        matrix[:3, 3] += matrix[:3, :3] @ corner
        return replace(self, data=data, orientation=self._moved(matrix, data.shape))

    def resample(self, spacing: tuple[float, float, float], order: int = 1) -> Volume:
        """Put the whole volume on a grid of another spacing, centred on the same place.

        Parameters
        ----------
        spacing : tuple of 3 float
            Millimetres per canonical voxel of the result.
        order : int
            Of the spline: 0 (nearest; for labels, keeps the dtype), 1 (linear) to 5. From 1
            on the result is float32, and axes that get coarser are smoothed first, so that
            fine detail does not alias.

        Returns
        -------
        Volume

        Raises
        ------
        BadInput
            If a spacing is not above 0 or the result would have more than 2**33 voxels.
        """
        from scipy import ndimage

        target = np.asarray(checked_spacing(spacing, "The new spacing"))
        factor = target / np.asarray(self.spacing)
        shape = np.maximum(1, np.rint(np.asarray(self.shape) / factor))
        if np.prod(shape) > _MAX_RESAMPLED:
            raise BadInput(
                f"A spacing of {tuple(target.tolist())} mm needs {np.prod(shape):.1e} voxels; "
                "choose a coarser one or crop first."
            )
        # The first new centre, in old voxels, when both grids share their centre.
        start = (np.asarray(self.shape) - 1 - (shape - 1) * factor) / 2
        source = self.data if order == 0 else np.asarray(self.data, dtype=np.float32)
        if order > 0 and np.any(factor > 1):
            source = ndimage.gaussian_filter(source, np.maximum(0, (factor - 1) / 2), truncate=3)
        data = ndimage.affine_transform(
            source, factor, start, tuple(int(n) for n in shape), order=order, mode="nearest"
        )
        scale = np.diag([*factor, 1.0])
        scale[:3, 3] = start
        affine = self.affine @ scale
        # Back from canonical to file axes: the same flips, on the new shape.
        grid = self._moved(np.eye(4), data.shape)
        matrix = affine @ np.linalg.inv(grid.affine)
        return replace(self, data=data, orientation=self._moved(matrix, data.shape))

    def _moved(self, file_affine: Affine, shape: tuple[int, ...]) -> Orientation:
        """Give the same flips and transpose for another grid (`shape` is canonical)."""
        a, b, c = (shape[axis] for axis in np.argsort(self.orientation.axes))
        return replace(self.orientation, file_shape=(a, b, c), file_affine=file_affine)


def _grey(values: Array, rgb: bool, thing: str) -> tuple[Array, tuple[str, ...]]:
    """Return luminance where the array holds colours, and a note that says so."""
    fields = values.dtype.names or ()
    if {"R", "G", "B"} <= set(fields):
        parts = [values[field] for field in "RGB"]
    elif fields:
        raise BadInput(f"{thing} holds fields {fields}; give plain numbers or R, G, B.")
    elif rgb:
        if values.ndim < 3 or values.shape[-1] not in (3, 4):
            raise BadInput(
                f"{thing} of shape {values.shape} is no colour image; "
                "its last axis must hold 3 or 4 channels."
            )
        parts = [values[..., index] for index in range(3)]
    else:
        return values, ()
    grey = np.zeros(parts[0].shape, dtype=np.float32)
    for weight, part in zip(_LUMINANCE, parts, strict=True):
        grey += np.float32(weight) * part
    if parts[0].dtype.kind in "iu":
        grey = np.rint(grey).astype(parts[0].dtype)
    return grey, ("Colour shown as luminance.",)


def _pick(values: Array, channel: int | None, thing: str) -> tuple[Array, tuple[str, ...]]:
    """Choose one entry of the fourth axis."""
    index, notes = choose_channel(values.shape[3] if values.ndim == 4 else 1, channel, thing)
    return (values[..., index] if values.ndim == 4 else values), notes


def choose_channel(count: int, channel: int | None, thing: str) -> tuple[int, tuple[str, ...]]:
    """Say which of `count` channels is used, and note it; `BadInput` if there is no such."""
    index = 0 if channel is None else channel
    if not 0 <= index < count:
        raise BadInput(f"{thing} has no channel {index}; choose one of 0 to {count - 1}.")
    return index, ((f"Channel {index} of {count} used.",) if count > 1 else ())
