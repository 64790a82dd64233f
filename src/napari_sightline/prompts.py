"""What a reader gives the engine: points, boxes, scribbles, lassos, masks, and their history.

Every coordinate is a canonical voxel index (axis 0 superior, 1 posterior, 2 left); voxel
centres lie at integers. Prompts are immutable, so they may be shared between threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput

__all__ = ["Box", "History", "Lasso", "MaskPrompt", "Point", "Position", "Prompt", "Scribble"]

Position: TypeAlias = tuple[float, float, float]
T = TypeVar("T")


def _position(values: Iterable[Any], thing: str) -> Position:
    """Return three finite floats, or raise `BadInput` naming `thing`."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{thing} is not made of numbers; give three voxel indices.") from error
    if len(numbers) != 3:
        raise BadInput(f"{thing} has {len(numbers)} coordinates; give three voxel indices.")
    if not all(math.isfinite(number) for number in numbers):
        raise BadInput(f"{thing} {numbers} is not finite; give three voxel indices.")
    return numbers


@dataclass(frozen=True)
class Point:
    """A click.

    Parameters
    ----------
    position : tuple of 3 float
        Canonical voxel indices.
    positive : bool
        True: "this belongs to the object", False: "this does not".

    Raises
    ------
    BadInput
        If `position` is not three finite numbers.
    """

    position: Position
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _position(self.position, "The click"))
        object.__setattr__(self, "positive", bool(self.positive))

    @property
    def bounds(self) -> tuple[Position, Position]:
        """Lowest and highest corner (voxels, inclusive) of what the prompt touches."""
        return self.position, self.position


@dataclass(frozen=True)
class Box:
    """A box round the object, from any two opposite corners.

    A box that is one voxel thick along one axis was drawn on a slice: it says how far the object
    reaches within that slice and leaves its extent along the third axis open.

    Parameters
    ----------
    low, high : tuple of 3 float
        Corner voxels, both inside the box; sorted on construction, so that
        ``low <= high`` along every axis.

    Raises
    ------
    BadInput
        If a corner is not three finite numbers.
    """

    low: Position
    high: Position

    def __post_init__(self) -> None:
        first = _position(self.low, "The first corner of the box")
        second = _position(self.high, "The second corner of the box")
        pairs = list(zip(first, second, strict=True))
        object.__setattr__(self, "low", tuple(min(pair) for pair in pairs))
        object.__setattr__(self, "high", tuple(max(pair) for pair in pairs))

    @property
    def bounds(self) -> tuple[Position, Position]:
        """Lowest and highest corner (voxels, inclusive)."""
        return self.low, self.high

    @property
    def flat_axis(self) -> int | None:
        """The only axis along which the box is one voxel thick; None for a box in 3D."""
        flat = [k for k in range(3) if round(self.low[k]) == round(self.high[k])]
        return flat[0] if len(flat) == 1 else None


@dataclass(frozen=True)
class Scribble:
    """A stroke: a polyline through voxels with a thickness.

    Parameters
    ----------
    path : tuple of positions
        One or more canonical voxel positions, in drawing order.
    positive : bool
        As for `Point`.
    radius : float
        Radius of the stroke in voxels, above 0.

    Raises
    ------
    BadInput
        If the path is empty, a position is not three finite numbers, or the radius is not
        a finite number above 0.
    """

    path: tuple[Position, ...]
    positive: bool = True
    radius: float = 1.0

    def __post_init__(self) -> None:
        path = tuple(_position(point, "A position of the scribble") for point in self.path)
        if not path:
            raise BadInput("The scribble has no positions; draw through at least one voxel.")
        radius = float(self.radius)
        if not (math.isfinite(radius) and radius > 0):
            raise BadInput(f"The scribble's radius {radius} is not above 0; give it in voxels.")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "positive", bool(self.positive))
        object.__setattr__(self, "radius", radius)

    @property
    def bounds(self) -> tuple[Position, Position]:
        """Lowest and highest corner (voxels, inclusive) of the path, without its radius."""
        path = np.asarray(self.path)
        return _position(path.min(axis=0), "Low"), _position(path.max(axis=0), "High")

    def sample(self, step: float = 0.5) -> npt.NDArray[np.float64]:
        """Walk along the path.

        Parameters
        ----------
        step : float
            Largest distance between two neighbours, in voxels, above 0.

        Returns
        -------
        ndarray, shape (N, 3), float64
            Positions on the polyline, every given position among them.

        Raises
        ------
        BadInput
            If `step` is not above 0.
        """
        if not step > 0:
            raise BadInput(f"The step {step} along a scribble is not above 0; give it in voxels.")
        path = np.asarray(self.path, dtype=np.float64)
        pieces = [path[:1]]
        for start, end in pairwise(path):
            count = max(1, math.ceil(float(np.linalg.norm(end - start)) / step))
            pieces.append(start + (end - start) * (np.arange(1, count + 1) / count)[:, None])
        return np.concatenate(pieces)


@dataclass(frozen=True)
class Lasso:
    """A closed line drawn freehand on a slice; what it encloses is meant.

    Parameters
    ----------
    path : tuple of positions
        Three or more canonical voxel positions on one slice, in drawing order; the last is joined
        to the first. They share their coordinate along the axis that the slice lies across.
    positive : bool
        As for `Point`, for every voxel inside.

    Raises
    ------
    BadInput
        If fewer than three positions are given, one is not three finite numbers, they lie on no
        slice, or they enclose nothing.
    """

    path: tuple[Position, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        path = tuple(_position(point, "A position of the lasso") for point in self.path)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "positive", bool(self.positive))
        if len(set(path)) < 3:
            raise BadInput("The lasso has fewer than three positions; draw round the structure.")
        if np.ptp(np.asarray(path), axis=0).min() > 1e-3:
            raise BadInput("The lasso does not lie on one slice; draw it on a slice.")
        y, x = (line - line[0] for line in np.delete(np.asarray(path), self.axis, 1).T)
        if abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) < 1e-6:
            raise BadInput("The lasso encloses nothing; draw round the structure.")

    @property
    def axis(self) -> int:
        """Axis that the slice lies across."""
        return int(np.argmin(np.ptp(np.asarray(self.path), axis=0)))

    @property
    def slice_index(self) -> int:
        """Index of the slice along `axis`."""
        return round(self.path[0][self.axis])

    @property
    def bounds(self) -> tuple[Position, Position]:
        """Lowest and highest corner (voxels, inclusive) of the line."""
        path = np.asarray(self.path)
        return _position(path.min(axis=0), "Low"), _position(path.max(axis=0), "High")

    def filled(self) -> tuple[npt.NDArray[np.bool_], tuple[int, int, int]]:
        """Voxels whose centres lie inside; where none does, the one nearest to the middle.

        Returns
        -------
        mask : ndarray of bool, shape (n0, n1, n2)
            One voxel thick along `axis`.
        origin : tuple of 3 int
            Voxel of the volume at which ``mask[0, 0, 0]`` lies.
        """
        from skimage.draw import polygon2mask

        path = np.delete(np.asarray(self.path), self.axis, 1)
        corner = np.rint(path.min(axis=0)).astype(int)
        shape = np.rint(path.max(axis=0)).astype(int) - corner + 1
        flat = np.asarray(polygon2mask(tuple(shape), path - corner), bool)
        if not flat.any():
            flat[tuple(np.rint(path.mean(axis=0)).astype(int) - corner)] = True
        a, b, c = (int(i) for i in np.insert(corner, self.axis, self.slice_index))
        return np.expand_dims(flat, self.axis), (a, b, c)

    def sample(self, count: int) -> npt.NDArray[np.float64]:
        """Spread positions over the inside, the deepest first, each as far from those before.

        Parameters
        ----------
        count : int
            How many at most.

        Returns
        -------
        ndarray, shape (N, 3), float64
            Voxel centres, away from the line where the inside is thick enough; N >= 1.
        """
        from scipy import ndimage

        mask, origin = self.filled()
        depth = ndimage.distance_transform_edt(np.pad(mask.any(axis=self.axis), 1))[1:-1, 1:-1]
        places = np.argwhere(depth >= min(2.0, float(depth.max())))
        first = int(np.argmax(depth[tuple(places.T)]))
        chosen = [first]
        away = np.linalg.norm(places - places[first], axis=1)
        while len(chosen) < count and away.max() > 0:
            chosen.append(int(np.argmax(away)))
            away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
        return np.insert(places[chosen], self.axis, 0, axis=1).astype(np.float64) + origin


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask to start from, for example one drawn by hand or made by another tool.

    Parameters
    ----------
    mask : ndarray of bool, shape (n0, n1, n2)
        Canonical axis order; copied, and read-only from then on.
    origin : tuple of 3 int
        Voxel of the volume at which ``mask[0, 0, 0]`` lies.

    Raises
    ------
    BadInput
        If the mask is not three-dimensional, not boolean or holds no voxel, or the origin
        is not three whole numbers.
    """

    mask: npt.NDArray[np.bool_]
    origin: tuple[int, int, int] = field(default=(0, 0, 0))

    def __post_init__(self) -> None:
        mask = np.array(self.mask)
        if mask.ndim != 3:
            raise BadInput(f"The mask has {mask.ndim} axes; give a mask with three.")
        if mask.dtype != np.bool_:
            raise BadInput(f"The mask holds {mask.dtype}; give true and false, as in labels == 3.")
        if not mask.any():
            raise BadInput("The mask is empty; give a mask with at least one voxel.")
        origin = _position(self.origin, "The origin of the mask")
        if any(value != round(value) for value in origin):
            raise BadInput(f"The mask's origin {origin} is not a voxel; give three whole numbers.")
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "origin", tuple(int(value) for value in origin))

    @classmethod
    def from_labels(cls, labels: npt.NDArray[Any], value: int) -> MaskPrompt:
        """Take one label of a label map that another tool made, cut to where it lies.

        Parameters
        ----------
        labels : ndarray of int, shape (n0, n1, n2)
            Canonical axis order, on the volume's grid.
        value : int
            The label that is wanted.

        Raises
        ------
        BadInput
            If the labels are not three-dimensional, or the value does not occur.
        """
        if np.ndim(labels) != 3:
            raise BadInput(f"The labels have {np.ndim(labels)} axes; give labels with three.")
        found = np.asarray(labels) == value
        if not found.any():
            raise BadInput(f"The labels hold no voxel of label {value}; choose another label.")
        return cls(found).cropped()

    def cropped(self) -> MaskPrompt:
        """Return the same mask without empty margins."""
        low, high = (np.array(corner, int) - self.origin for corner in self.bounds)
        if np.all(low == 0) and np.all(high + 1 == self.mask.shape):
            return self
        a, b, c = (int(n) for n in low + self.origin)
        inner = tuple(slice(int(i), int(j) + 1) for i, j in zip(low, high, strict=True))
        return MaskPrompt(self.mask[inner], (a, b, c))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskPrompt):
            return NotImplemented
        return self.origin == other.origin and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.origin, self.mask.shape, self.mask.tobytes()))

    @property
    def bounds(self) -> tuple[Position, Position]:
        """Lowest and highest voxel (inclusive) of the true voxels, in the volume."""
        low, high = [], []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            inside = np.flatnonzero(self.mask.any(axis=others)) + self.origin[axis]
            low.append(float(inside[0]))
            high.append(float(inside[-1]))
        return _position(low, "Low"), _position(high, "High")


Prompt: TypeAlias = Point | Box | Scribble | Lasso | MaskPrompt


class History(Generic[T]):
    """States in the order in which they were reached, without a limit on their number.

    Push the first state too: `undo` then leads back to it. Pushing after an undo forgets
    the states that had been undone.

    Parameters
    ----------
    states : sequence
        States to begin with, oldest first.
    """

    def __init__(self, states: Sequence[T] = ()) -> None:
        self._states: list[T] = list(states)
        self._index = len(self._states) - 1

    def __len__(self) -> int:
        return len(self._states)

    @property
    def states(self) -> tuple[T, ...]:
        """Every state, the oldest first, those undone last."""
        return tuple(self._states)

    @property
    def index(self) -> int:
        """Which of the states we are in; -1 before the first push."""
        return self._index

    @property
    def current(self) -> T | None:
        """The state we are in, or None before the first push."""
        return self._states[self._index] if self._states else None

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return self._index > 0

    @property
    def can_redo(self) -> bool:
        """Whether a state was undone and nothing pushed since."""
        return self._index + 1 < len(self._states)

    def push(self, state: T) -> None:
        """Enter a new state and forget those that had been undone."""
        del self._states[self._index + 1 :]
        self._states.append(state)
        self._index += 1

    def undo(self) -> T | None:
        """Step back; return the state now current, or None (and stay) at the first one."""
        if not self.can_undo:
            return None
        self._index -= 1
        return self._states[self._index]

    def redo(self) -> T | None:
        """Step forward; return the state now current, or None (and stay) at the last one."""
        if not self.can_redo:
            return None
        self._index += 1
        return self._states[self._index]

    def clear(self) -> None:
        """Forget every state."""
        self._states.clear()
        self._index = -1
