"""Small pictures of what a first prompt may mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sightline.anatomy import Colour
from napari_sightline.orientation import Array
from napari_sightline.segment.packed import union
from napari_sightline.viewer.state import Picture
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari_sightline.segment.interactive import Session

_SIDE = 72  # pixels
_MARGIN = 0.2
_FILL = 0.45


def pictures(
    session: Session, axis: int, limits: tuple[float, float], colour: Colour
) -> tuple[Picture, ...]:
    """Draw the candidates of a session's current object on the slice of its prompt.

    Reads the session's candidates, which takes as long as showing one does: call it on a worker.

    Parameters
    ----------
    axis : int
        Across the slice.
    limits : tuple of 2 float
        Values that are black and white.
    colour : tuple of 3 int
        Of the masks.

    Returns
    -------
    tuple of Picture
        From small to large; empty where there is nothing to choose from.
    """
    found, prompts = session.candidates, session.current.prompts
    volume = session.volume
    if not found or not prompts or volume is None:
        return ()
    low, high = prompts[0].bounds
    index = round((low[axis] + high[axis]) / 2)
    box: Box3 | None = None
    for one in found:
        box = union(box, one.box)
    if box is None:
        return ()
    rows, columns = (k for k in range(3) if k != axis)
    spacing = volume.spacing
    centre = [(box[k].start + box[k].stop - 1) / 2 for k in (rows, columns)]
    size = max((box[k].stop - box[k].start) * spacing[k] for k in (rows, columns))
    half = max(size * (0.5 + _MARGIN), 8.0)
    steps = np.linspace(-half, half, _SIDE)
    r = np.rint(centre[0] + steps / spacing[rows]).astype(int)
    c = np.rint(centre[1] + steps / spacing[columns]).astype(int)
    if rows == 0:
        r = r[::-1]  # the head is up
    plane = np.take(volume.data, index, axis)
    inside = ((r >= 0) & (r < plane.shape[0]))[:, None] & ((c >= 0) & (c < plane.shape[1]))
    at = np.ix_(r.clip(0, plane.shape[0] - 1), c.clip(0, plane.shape[1] - 1))
    grey = np.nan_to_num(np.asarray(plane[at], np.float64), nan=limits[0])
    grey = ((grey - limits[0]) / max(limits[1] - limits[0], 1e-9)).clip(0, 1) * inside
    made = []
    for one in found:
        cut = [slice(0, n) for n in volume.shape]
        cut[axis] = slice(index, index + 1)
        mask = one.packed.paint((cut[0], cut[1], cut[2])).take(0, axis)[at] & inside
        made.append(Picture(one.kind, one.quality, one.volume_ml, _blend(grey, mask, colour)))
    return tuple(made)


def _blend(grey: Array, mask: Array, colour: Colour) -> Array:
    rgb = np.repeat(255 * grey[..., None], 3, -1)
    share = np.where(mask, _FILL, 0.0)[..., None]
    edge = mask & ~(
        np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    )
    share[edge] = 1.0
    return (rgb * (1 - share) + np.array(colour, float) * share).astype(np.uint8)
