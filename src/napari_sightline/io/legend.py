"""What a label map says beside its voxels: names and colours, checked and completed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import Colour, by_name
from napari_sightline.errors import BadInput
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume

__all__ = ["as_labels", "colour_of", "named_labels", "present"]

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


def named_labels(labels: Array, names: Mapping[int, str] | None) -> dict[int, str]:
    """Name every label: those given (also where nothing is painted yet), else by number."""
    known = {int(value): str(name) for value, name in (names or {}).items() if int(value) > 0}
    return dict(sorted({**{value: f"label {value}" for value in present(labels)}, **known}.items()))


def colour_of(value: int, name: str = "") -> Colour:
    """Colour of a label: its structure's, or the next of a small palette."""
    structure = by_name(name) if name else None
    return structure.colour if structure else _OTHERS[(value - 1) % len(_OTHERS)]
