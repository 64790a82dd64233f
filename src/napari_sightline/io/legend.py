"""What a label map says beside its voxels: names and colours, checked and completed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import Colour, by_name
from napari_sightline.errors import BadInput
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume

__all__ = [
    "Legend",
    "as_labels",
    "as_legend",
    "colour_of",
    "named_labels",
    "plain_voxels",
    "present",
    "whole_numbers",
]

# Told apart by people who do not see red and green (after Okabe and Ito).
_OTHERS: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 190, 140),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (90, 130, 255),
    (190, 150, 255),
)
_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "i8")


class Legend(dict[int, str]):
    """Names of labels, and the colours that go with them.

    A dictionary of names that remembers colours: what takes names takes a legend, and colours
    that a file or a user chose are kept from one format to the next.

    Parameters
    ----------
    names : mapping of int to str, optional
        By label.
    colours : mapping of int to (int, int, int), optional
        Red, green, blue, 0 to 255, by label.

    Attributes
    ----------
    colours : dict of int to (int, int, int)
        As stored or chosen; `colour` completes them.
    """

    def __init__(
        self,
        names: Mapping[int, str] | None = None,
        colours: Mapping[int, Colour] | None = None,
    ) -> None:
        super().__init__({int(value): str(name) for value, name in (names or {}).items()})
        self.colours: dict[int, Colour] = dict(colours or {})

    def colour(self, value: int) -> Colour:
        """Colour of a label: as chosen, else its structure's, else the next of a palette."""
        chosen = self.colours.get(value)
        return chosen if chosen is not None else colour_of(value, self.get(value, ""))


def as_legend(names: Mapping[int, str] | None) -> Legend:
    """Return names as a legend, with their colours where they have any."""
    return names if isinstance(names, Legend) else Legend(names)


def as_labels(labels: npt.ArrayLike, volume: Volume, kinds: tuple[str, ...] = _TYPES) -> Array:
    """Return labels in the smallest of some integer types that holds them.

    Parameters
    ----------
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        The grid they must have.
    kinds : tuple of str
        Types to choose from.

    Returns
    -------
    ndarray
        Canonical order.

    Raises
    ------
    BadInput
        If they are no whole numbers, lie on another grid, or fit none of the types.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise BadInput(f"The labels are {array.dtype}; convert them to whole numbers.")
    if array.shape != volume.shape:
        raise BadInput(
            f"The labels have shape {array.shape} but the scan has {volume.shape}; "
            "give labels made on this scan."
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in kinds:
        limits = np.iinfo(kind)
        if int(limits.min) <= low and high <= int(limits.max):
            return array.astype(kind, copy=False)
    raise BadInput(f"Labels from {low} to {high} do not fit this format; renumber them from 1 on.")


def present(labels: Array) -> list[int]:
    """List the label values that occur, without background, rising."""
    return [int(value) for value in np.unique(labels) if value > 0]


def named_labels(labels: Array, names: Mapping[int, str] | None) -> Legend:
    """Name every label: those given (also where nothing is painted yet), else by number."""
    given = as_legend(names)
    whole = {value: f"label {value}" for value in present(labels)}
    whole |= {value: name for value, name in given.items() if value > 0}
    return Legend(dict(sorted(whole.items())), given.colours)


def whole_numbers(array: Array, name: str) -> Array:
    """Return voxels of a label map as whole numbers.

    Parameters
    ----------
    array : ndarray
        Integers are given back as they are.
    name : str
        Of the file, for the message.

    Returns
    -------
    ndarray of int

    Raises
    ------
    BadInput
        If they are not whole.
    """
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int32)
    if not np.array_equal(whole, array):
        raise BadInput(
            f"{name} is not a label map (its values are not whole numbers); "
            "give a mask or a label file."
        )
    return whole


def plain_voxels(volume: Volume) -> Array:
    """Return a volume's voxels in a type that every format knows: float16 becomes float32."""
    data = volume.data
    return data.astype(np.float32) if data.dtype == np.float16 else data


def colour_of(value: int, name: str = "") -> Colour:
    """Colour of a label: its structure's, or the next of a small palette."""
    structure = by_name(name) if name else None
    return structure.colour if structure else _OTHERS[(value - 1) % len(_OTHERS)]
