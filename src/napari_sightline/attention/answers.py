"""Answers to queries: attention on image tokens with their place, and on tokens without one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.frame import Frame, Shape3
from napari_sightline.attention.tokens import Index, TokenGrid, TokenList
from napari_sightline.errors import BadInput
from napari_sightline.volume import Box3

Values = npt.NDArray[np.float32]
Direction = Literal["to", "from"]
Reduction = Literal["mean", "max", "entropy"]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention on image tokens, and where they lie.

    Attributes
    ----------
    weights : numpy.ndarray
        ``(heads, m)`` float32, for the tokens the query reaches. A row (``direction="to"``) sums
        to 1 over tokens, `padding` and `special`.
    cells : numpy.ndarray
        ``(m,)``, flat index into ``grid.shape`` of each.
    grid : TokenGrid
        The image's tokens.
    frame : Frame
        Where the network's input lies in the volume.
    padding, special : numpy.ndarray
        ``(heads,)``: share of the attention that falls on padding, and on tokens that are no
        place (class tokens).
    query : str
        What was asked, for people.
    model, block : str
        Of which model, and where in it.
    heads : tuple of str
        Names of the rows of `weights`: ``"head 1"``, or ``"mean of 6 heads"``.
    direction : {"to", "from"}
        ``"to"``: what the query attends to; ``"from"``: what attends to it.
    unit : str
        What the values are.
    approximate : bool
        Whether a rule that does not hold exactly made the map (rollout through windows).
    entropy : numpy.ndarray or None
        ``(heads,)``, entropy of each head's row over the largest possible, 0 (one token) .. 1
        (even); None where the rows are no distribution.
    """

    weights: Values
    cells: Index
    grid: TokenGrid
    frame: Frame
    padding: Values
    special: Values
    query: str
    model: str
    block: str
    heads: tuple[str, ...]
    direction: Direction = "to"
    unit: str = "share of attention"
    approximate: bool = False
    entropy: Values | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Query, block and head, for a layer."""
        head = self.heads[0] if len(self.heads) == 1 else f"{len(self.heads)} heads"
        return f"{self.query} · {self.block} · {head}"

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Bool on the token grid: what the query could reach. Elsewhere is *not seen*, not 0."""
        out = np.zeros(int(np.prod(self.grid.shape)), bool)
        out[self.cells] = True
        return out.reshape(self.grid.shape)

    def values(self, head: int | None = None) -> Values:
        """Values on the token grid.

        Parameters
        ----------
        head : int, optional
            From 0; all where None.

        Returns
        -------
        numpy.ndarray
            ``(D, H, W)`` or ``(heads, D, H, W)`` float32, NaN where not seen.
        """
        rows = self.weights if head is None else self.weights[head : head + 1]
        out = np.full((len(rows), int(np.prod(self.grid.shape))), np.nan, np.float32)
        out[:, self.cells] = rows
        if head is not None:
            return out[0].reshape(self.grid.shape)
        return out.reshape(len(rows), *self.grid.shape)

    def reduce(self, how: Reduction) -> AttentionMap:
        """Merge the heads.

        Parameters
        ----------
        how : {"mean", "max", "entropy"}
            ``"entropy"``: how evenly heads share each token, ``-sum p log p / log(heads)`` with
            ``p`` a head's part of the token's attention; 1 where all heads look alike.
        """
        count = len(self.weights)
        if how == "mean":
            merged = self.weights.mean(0, keepdims=True)
        elif how == "max":
            merged = self.weights.max(0, keepdims=True)
        elif how == "entropy":
            merged = entropy_of_rows(self.weights.T)[None]
        else:
            raise BadInput(f"Heads cannot be merged by {how!r}; choose mean, max or entropy.")
        return replace(
            self,
            weights=merged.astype(np.float32),
            padding=self.padding.mean(keepdims=True),
            special=self.special.mean(keepdims=True),
            heads=(f"{how} of {count} heads",),
            unit=self.unit if how != "entropy" else "entropy over heads, 0 to 1",
            entropy=None if self.entropy is None else self.entropy.mean(keepdims=True),
        )

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """``(4, 4)``: token index to canonical voxel of the volume (centres)."""
        stride = np.array(self.grid.stride)
        inner = np.diag([*stride, 1.0])
        inner[:3, 3] = (stride - 1) / 2
        return self.frame.affine @ inner

    def on_volume(
        self, shape: Shape3, head: int = 0, box: Box3 | None = None
    ) -> tuple[Box3, Values]:
        """Put a head's values on the volume's own voxels: each takes its token's.

        Parameters
        ----------
        shape : tuple of 3 int
            Of the volume (canonical).
        head : int
            From 0.
        box : tuple of 3 slices, optional
            Part of the volume; the network's frame by default.

        Returns
        -------
        tuple
            The box, and its values, float32, NaN where not seen.
        """
        where = box or self._box(shape)
        cells, inside = cells_of_voxels(self.frame, self.grid, where)
        flat = np.full(int(np.prod(self.grid.shape)) + 1, np.nan, np.float32)
        flat[self.cells] = self.weights[head]
        out = flat[cells]
        out[~inside] = np.nan
        return where, out

    def _box(self, shape: Shape3) -> Box3:
        size = np.array(self.frame.shape)
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size])).reshape(3, -1).T
        places = self.frame.to_volume(corners)
        low = np.ceil(places.min(0) - 1e-6).astype(int).clip(0, shape)
        high = (np.floor(places.max(0) + 1e-6).astype(int) + 1).clip(0, shape)
        flat = (low >= high) & (np.array(shape) > 0)
        low[flat] = np.rint(places.mean(0)[flat]).astype(int).clip(0, np.array(shape)[flat] - 1)
        high[flat] = low[flat] + 1
        a, b, c = (slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
        return a, b, c


@dataclass(frozen=True, eq=False)
class TokenAttention:
    """Attention on tokens that are no grid: prompts, and a decoder's own.

    Attributes
    ----------
    weights : numpy.ndarray
        ``(heads, M)`` float32.
    tokens : TokenList
        Names and places of the tokens.
    query, model, block, heads, direction
        As in `AttentionMap`.
    """

    weights: Values
    tokens: TokenList
    query: str
    model: str
    block: str
    heads: tuple[str, ...]
    direction: Direction = "to"


Answer = AttentionMap | TokenAttention


def cells_of_voxels(
    frame: Frame, grid: TokenGrid, box: Box3
) -> tuple[Index, npt.NDArray[np.bool_]]:
    """Which token holds each voxel of a box of the volume.

    Returns
    -------
    tuple
        ``(d, h, w)`` flat index into ``grid.shape``, and whether the voxel lies in the frame.
    """
    inverse = np.linalg.inv(frame.affine)
    out = np.zeros([s.stop - s.start for s in box], np.int64)
    inside = np.ones(out.shape, bool)
    # Each network axis depends on few volume axes (one, unless the frame is oblique).
    axes = [np.arange(s.start, s.stop, dtype=float) for s in box]
    shaped = [axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]]
    for axis in range(3):
        voxel: npt.NDArray[np.float64] | float = float(inverse[axis, 3])
        for other in range(3):
            if abs(inverse[axis, other]) > 1e-12:
                voxel = voxel + inverse[axis, other] * shaped[other]
        place = (np.asarray(voxel) + 0.5) / grid.stride[axis]
        size = grid.shape[axis]
        inside &= (place > -1e-6) & (place < size + 1e-6)
        out = out * size + np.floor(place + 1e-9).astype(np.int64).clip(0, size - 1)
    return out, inside


def entropy_of_rows(rows: Values) -> Values:
    """Entropy of each row, made a distribution, over the largest possible; 0 .. 1."""
    if rows.shape[-1] < 2:
        return np.zeros(rows.shape[:-1], np.float32)
    share = rows / np.maximum(rows.sum(-1, keepdims=True), 1e-30)
    terms = -share * np.log(np.maximum(share, 1e-30))
    return (terms.sum(-1) / np.log(rows.shape[-1])).astype(np.float32)
