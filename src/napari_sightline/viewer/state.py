"""What passes from the worker to the screen: plain data, never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sightline.anatomy import Colour
from napari_sightline.orientation import Array
from napari_sightline.prompts import Point, Prompt
from napari_sightline.segment.interactive import MaskUpdate
from napari_sightline.volume import Box3


@dataclass(frozen=True)
class Row:
    """An object as the list shows it."""

    id: int
    name: str
    ml: float
    accepted: bool
    locked: bool = False
    visible: bool = True
    colour: Colour | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A candidate as the panel shows it: a small picture of the slice with the mask on it."""

    kind: str
    quality: float
    ml: float
    rgb: Array


@dataclass(frozen=True)
class State:
    """What the panel shows of a session, taken on the worker."""

    current: int = 1
    prompts: tuple[Prompt, ...] = ()
    can_undo: bool = False
    can_redo: bool = False
    quality: float = float("nan")
    rows: tuple[Row, ...] = ()
    device: str = ""
    precision: str = ""
    devices: tuple[str, ...] = ("auto", "cpu")
    offered: int = 0
    chosen: int | None = None

    @property
    def clicks(self) -> list[Point]:
        """Clicks among the prompts."""
        return [p for p in self.prompts if isinstance(p, Point)]

    @property
    def drawn(self) -> bool:
        """Whether the current object has a mask."""
        return any(row.id == self.current and row.ml > 0 for row in self.rows)

    def row(self, number: int) -> Row | None:
        """Row of an object, or None."""
        return next((row for row in self.rows if row.id == number), None)


@dataclass(frozen=True)
class Patch:
    """Values to put into a box of the labels layer.

    `fresh` holds the whole label map instead where the layer has to be made anew.
    """

    box: Box3
    values: Array
    fresh: Array | None = None


@dataclass(frozen=True)
class Outcome:
    """What a job on a session brings to the screen."""

    state: State
    patches: tuple[Patch, ...] = ()
    update: MaskUpdate | None = None
    note: str = ""
