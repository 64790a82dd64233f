"""What a reader gives the engine: points, boxes, scribbles, masks, and their history.

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

__all__ = ["Box", "History", "MaskPrompt", "Point", "Position", "Prompt", "Scribble"]

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


Prompt: TypeAlias = Point | Box | Scribble | MaskPrompt


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
