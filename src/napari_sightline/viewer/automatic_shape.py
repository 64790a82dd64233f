"""Shaping organs of a labels layer: largest part, holes, smoothness; napari's own undo knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Array

if TYPE_CHECKING:
    from napari.layers import Labels

Shaping = Literal["largest part", "fill holes", "smooth"]


@dataclass(frozen=True, eq=False)
class Change:
    """Voxels that take other values.

    Attributes
    ----------
    places : tuple of 3 ndarray
        Canonical voxels.
    old, new : ndarray
        Their values.
    """

    places: tuple[npt.NDArray[np.intp], ...]
    old: Array
    new: Array


def shape(
    labels: Array,
    values: Sequence[int],
    how: Shaping,
    spacing: tuple[float, float, float],
    mm: float = 1.0,
) -> Change:
    """Work out what shaping some organs changes; no organ takes voxels of another.

    Parameters
    ----------
    labels : ndarray
        Canonical; is left as it is, and may be painted on meanwhile.
    values : sequence of int
        Organs to shape, each by itself.
    how : str
        What to do.
    spacing : tuple of 3 float
        Millimetres.
    mm : float
        Standard deviation of the Gaussian, for ``"smooth"``.

    Raises
    ------
    BadInput
        Where nothing would be left of an organ.
    """
    from scipy import ndimage

    from napari_sightline.segment.finish import Finish

    finish = Finish(how == "largest part", how == "fill holes", mm if how == "smooth" else 0.0)
    margin = 2 + int(np.ceil(3 * finish.smooth_mm / min(spacing)))
    wanted, places, old, new = set(values), [], [], []
    taken: list[tuple[slice, ...]] = []
    # What is painted from now on is no change of ours.
    begun = labels.copy()
    work = begun.copy()
    for number, box in enumerate(ndimage.find_objects(work), 1):
        if box is None or number not in wanted:
            continue
        wide = tuple(
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(box, labels.shape, strict=True)
        )
        part = work[wide]
        mask = part == number
        after = finish.apply(mask.astype(np.uint8), spacing) > 0
        if not after.any():
            raise BadInput(f"Nothing would be left of label {number}; smooth by less.")
        part[mask & ~after] = 0
        part[after & (part == 0)] = number
        taken.append(wide)
    for wide in taken:
        before, now = begun[wide], work[wide]
        at = np.nonzero(before != now)
        offset = [s.start for s in wide]
        places.append(np.stack([a + o for a, o in zip(at, offset, strict=True)]))
        old.append(before[at])
        new.append(now[at])
    if not places:
        empty = np.zeros(0, np.intp)
        return Change((empty, empty, empty), labels[:0].ravel(), labels[:0].ravel())
    where = np.concatenate(places, 1)
    flat = np.ravel_multi_index(tuple(where), labels.shape)
    _, first = np.unique(flat, return_index=True)  # boxes of neighbours overlap
    return Change(tuple(where[:, first]), np.concatenate(old)[first], np.concatenate(new)[first])


def apply(layer: Labels, change: Change) -> int:
    """Write a change into a labels layer as one step of its own undo; voxels written.

    Voxels that the user painted in the meantime stay as they are.
    """
    places = change.places[3 - layer.data.ndim :]
    same = np.asarray(layer.data[places]) == change.old
    if not same.any():
        return 0
    kept: Any = tuple(axis[same] for axis in places)
    layer.data_setitem(kept, change.new[same])
    return int(np.count_nonzero(same))
