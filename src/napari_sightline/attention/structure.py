"""Attention by structure: how much of it lies in each organ, in air, on padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.maps import AttentionMap, Values, cells_of_voxels
from napari_sightline.errors import BadInput
from napari_sightline.volume import Volume

#: Names of what is no structure.
TISSUE, AIR, OUTSIDE, PADDING, TOKENS = (
    "unlabelled tissue",
    "air outside the body",
    "outside the scan",
    "padding",
    "tokens without a place",
)
#: The last names of each table.
NO_STRUCTURE = (TISSUE, AIR, OUTSIDE, PADDING, TOKENS)
#: HU below which a CT shows air, and share of the range of other modalities.
_AIR_HU, _AIR_SHARE = -400.0, 0.1


@dataclass(frozen=True, eq=False)
class StructureTable:
    """Shares of a map, each row of which sums to 1.

    Attributes
    ----------
    names : tuple of str
        Structures, then unlabelled tissue, air outside the body, outside the scan, padding, and
        tokens without a place (class tokens).
    shares : numpy.ndarray
        ``(heads, len(names))`` float32: share of the attention on each.
    volumes : numpy.ndarray
        ``(len(names),)`` float32: share of what the query could see that each takes up; the share
        that even attention would give. NaN for padding and tokens without a place.
    heads : tuple of str
        Names of the rows.
    query, block : str
        As in the map.
    """

    names: tuple[str, ...]
    shares: Values
    volumes: Values
    heads: tuple[str, ...]
    query: str
    block: str

    def best_head(self, name: str) -> tuple[int, float]:
        """Head, from 0, that looks most at a structure, and its share.

        Raises
        ------
        BadInput
            Where the table has no structure of that name.
        """
        if name not in self.names:
            raise BadInput(f"There is no {name!r} in the table; it has {', '.join(self.names)}.")
        column = self.shares[:, self.names.index(name)]
        head = int(np.argmax(column))
        return head, float(column[head])


def body_mask(volume: Volume) -> npt.NDArray[np.bool_]:
    """Find the body: the largest thing that is not air, cavities in each axial slice filled.

    Parameters
    ----------
    volume : Volume
        CT in HU, or another modality in any unit.

    Returns
    -------
    numpy.ndarray
        Bool, the volume's shape. A table under the patient that touches it counts as body.
    """
    import cc3d
    from scipy import ndimage

    data = np.nan_to_num(np.asarray(volume.data, np.float32))
    if volume.modality == "CT" or data.min() < -500:
        solid = data > _AIR_HU
    else:
        low, high = np.percentile(data, (1, 99))
        solid = data > low + _AIR_SHARE * (high - low)
    # One step of erosion in the slice parts a thin table from the patient.
    step = np.ones((1, 3, 3), bool)
    inner = ndimage.binary_erosion(solid, step, border_value=1)
    parts = cc3d.connected_components(inner.astype(np.uint8), connectivity=6)
    counts = np.bincount(parts.reshape(-1))
    counts[0] = 0
    if len(counts) < 2:
        return solid
    body = ndimage.binary_dilation(parts == int(np.argmax(counts)), step) & solid
    return np.stack([ndimage.binary_fill_holes(part) for part in body])


def by_structure(
    answer: AttentionMap,
    volume: Volume,
    labels: npt.NDArray[np.integer] | None = None,
    names: Mapping[int, str] | None = None,
    body: npt.NDArray[np.bool_] | None = None,
) -> StructureTable:
    """Say how much of a map's attention lies in each labelled structure and elsewhere.

    A token's attention is spread evenly over the voxels of the volume that it covers; what a token
    covers outside the scan goes to "outside the scan".

    Parameters
    ----------
    answer : AttentionMap
        A row or a column; each head is made to sum to 1 with its padding and class tokens.
    volume : Volume
        The scan.
    labels : numpy.ndarray, optional
        Label map on the scan's canonical grid; 0 is no structure.
    names : mapping of int to str, optional
        Of the labels.
    body : numpy.ndarray, optional
        From `body_mask`, which is slow on a large scan; computed for the map's frame if not given.

    Returns
    -------
    StructureTable
        Structures that the map's frame does not touch are left out.

    Raises
    ------
    BadInput
        Where labels or body do not have the scan's shape.
    """
    for what, array in (("The labels", labels), ("The body mask", body)):
        if array is not None and array.shape != volume.shape:
            raise BadInput(
                f"{what} of shape {array.shape} do not lie on the scan's grid {volume.shape}; "
                "give ones made on it."
            )
    where, _ = answer.on_volume(volume.shape)
    cells, inside = cells_of_voxels(answer.frame, answer.grid, where)
    inner = np.zeros(cells.shape, np.int64) if labels is None else labels[where].astype(np.int64)
    held = body_mask(volume.crop(where)) if body is None else body[where]
    known = np.unique(inner[inside & (inner > 0)])
    # 0 .. K-1 structures, K tissue, K + 1 air.
    kinds = np.where(held, len(known), len(known) + 1)
    labelled = inner > 0
    kinds[labelled] = np.searchsorted(known, inner[labelled])
    count, tokens = len(known) + 2, int(np.prod(answer.grid.shape))
    table = np.bincount(cells[inside] * count + kinds[inside], minlength=tokens * count).reshape(
        tokens, count
    )[answer.cells]
    centre, within = _tokens_in_scan(answer, volume.shape)
    # Tokens finer than the scan's voxels may hold no centre of one: they take the nearest.
    small = np.flatnonzero((table.sum(1) == 0) & (within > 0))
    ends = np.array([[s.start, s.stop - 1] for s in where])
    nearest = np.rint(centre[small]).astype(int).clip(ends[:, 0], ends[:, 1]) - ends[:, 0]
    table[small, kinds[tuple(nearest.T)]] = 1
    share = table / np.maximum(table.sum(1), 1)[:, None]
    spread = np.concatenate([share * within[:, None], (1 - within)[:, None]], 1)
    rows = answer.weights @ spread.astype(np.float32)
    total = answer.weights.sum(1)
    if answer.direction == "from":
        rows = rows / np.maximum(total, 1e-30)[:, None]
        rows *= (1 - answer.padding - answer.special)[:, None]
    shares = np.concatenate([rows, answer.padding[:, None], answer.special[:, None]], 1)
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)
    volumes = np.append(spread.mean(0) if len(spread) else np.zeros(count + 1), [np.nan, np.nan])
    called = [(names or {}).get(int(value), f"label {int(value)}") for value in known]
    return StructureTable(
        (*called, *NO_STRUCTURE),
        shares.astype(np.float32),
        volumes.astype(np.float32),
        answer.heads,
        answer.query,
        answer.block,
    )


def _tokens_in_scan(
    answer: AttentionMap, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres of the map's tokens ``(m, 3)``, voxels, and the share of each inside the scan."""
    affine = answer.affine
    cells = np.array(np.unravel_index(answer.cells, answer.grid.shape)).T
    centre = cells @ affine[:3, :3].T + affine[:3, 3]
    half = np.abs(affine[:3, :3]).sum(1) / 2
    low = np.maximum(centre - half, -0.5)
    high = np.minimum(centre + half, np.array(shape) - 0.5)
    inside = np.asarray((high - low).clip(0).prod(1) / (2 * half).prod())
    # A flat frame's one layer lies within the slice that it shows.
    return centre, np.where(inside > 1 - 1e-6, 1.0, inside)
