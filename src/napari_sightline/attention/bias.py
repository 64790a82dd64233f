"""What is added to the scores of attention, kept small: rebuilt for the rows that are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.attention.tokens import TokenGrid

#: A bias at or below this is a mask: MONAI's and Swin's own shifted windows use -100.
MASKED = -99.0


class Bias(Protocol):
    """What is added to ``q k^T * scale``."""

    @property
    def nbytes(self) -> int:
        """Bytes held by the recorder for it (weights that the network holds anyway are free)."""

    def rows(self, entry: int, tokens: Tensor, q: Tensor) -> Tensor:
        """Return what is added to some rows.

        Parameters
        ----------
        entry : int
            Entry of the batch (of windows).
        tokens : torch.Tensor
            ``(t,)`` query tokens.
        q : torch.Tensor
            ``(heads, t, d)``, their queries, float32.

        Returns
        -------
        torch.Tensor
            Broadcasts to ``(heads, t, m)``, float32.
        """

    def hidden(self, entry: int, token: int, column: bool = False) -> Tensor | None:
        """Return which keys a query cannot see, or with `column` which queries a key: bool.

        None where every token sees every other.
        """


@dataclass(frozen=True, eq=False)
class DenseBias:
    """A bias or mask as it was given, without the axes along which it repeats itself.

    Attributes
    ----------
    values : torch.Tensor
        ``(1 or B, 1 or heads, 1 or n, 1 or m)``; bool means "may be seen".
    """

    values: Tensor

    @classmethod
    def of(cls, given: Tensor) -> DenseBias:
        """Copy a bias of any shape that broadcasts to ``(B, heads, n, m)``."""
        full = given.detach()
        while full.ndim < 4:
            full = full[None]
        # An axis of stride 0 repeats one entry: keep that one.
        for axis, stride in enumerate(full.stride()):
            if stride == 0 and full.shape[axis] > 1:
                full = full.narrow(axis, 0, 1)
        return cls(full.clone(memory_format=torch.contiguous_format))

    @property
    def nbytes(self) -> int:
        """See `Bias.nbytes`."""
        return self.values.nbytes

    def rows(self, entry: int, tokens: Tensor, q: Tensor) -> Tensor:
        """See `Bias.rows`."""
        part = self.values[entry if self.values.shape[0] > 1 else 0]
        if part.shape[1] > 1:
            part = part[:, tokens]
        if part.dtype == torch.bool:
            return torch.zeros_like(part, dtype=torch.float32).masked_fill(~part, -torch.inf)
        return part.float()

    def hidden(self, entry: int, token: int, column: bool = False) -> Tensor | None:
        """See `Bias.hidden`."""
        part = self.values[entry if self.values.shape[0] > 1 else 0]
        axis = 2 if column else 1
        line = part.select(axis, token if part.shape[axis] > 1 else 0)
        out = (~line if line.dtype == torch.bool else line <= MASKED).all(0)
        return out if len(out) > 1 else None


@dataclass(frozen=True, eq=False)
class CausalBias:
    """Each token sees itself and those before it."""

    keys: int
    nbytes: int = 0

    def rows(self, entry: int, tokens: Tensor, q: Tensor) -> Tensor:
        """See `Bias.rows`."""
        later = torch.arange(self.keys, device=tokens.device)[None] > tokens[:, None]
        return torch.zeros(later.shape, device=tokens.device).masked_fill(later, -torch.inf)[None]

    def hidden(self, entry: int, token: int, column: bool = False) -> Tensor | None:
        """See `Bias.hidden`."""
        place = torch.arange(self.keys)
        return place < token if column else place > token


@dataclass(frozen=True, eq=False)
class WindowBias:
    """Relative position bias of Swin's windows, and the mask of shifted ones.

    Tokens of a shifted window that come from opposite ends of the grid get -100, as in Liu et al.
    (2021). Where the window shrank to the grid, MONAI slices the full window's index ``[:n, :n]``;
    so does this.

    Attributes
    ----------
    table : torch.Tensor
        ``(offsets, heads)``, the network's own parameter.
    index : torch.Tensor
        ``(N, N)``, the network's own buffer.
    grid : TokenGrid
        With window and shift.
    dtype : torch.dtype
        To which the sum was rounded.
    """

    table: Tensor
    index: Tensor
    grid: TokenGrid
    dtype: torch.dtype
    nbytes: int = 0

    def rows(self, entry: int, tokens: Tensor, q: Tensor) -> Tensor:
        """See `Bias.rows`."""
        n = self.grid.tokens
        bias = self.table.detach()[self.index[tokens, :n].reshape(-1)].float()
        bias = bias.reshape(len(tokens), n, -1).permute(2, 0, 1)
        if any(self.grid.shift):
            labels = torch.from_numpy(self._labels(entry % self.grid.count)).to(bias.device)
            bias = bias - 100.0 * (labels[tokens][:, None] != labels[None])
        return bias.to(self.dtype).float()

    def hidden(self, entry: int, token: int, column: bool = False) -> Tensor | None:
        """See `Bias.hidden`."""
        if not any(self.grid.shift):
            return None
        labels = torch.from_numpy(self._labels(entry % self.grid.count))
        return labels != labels[token]

    def _labels(self, window: int) -> np.ndarray:
        """Which part of the shifted grid each token of a window belongs to."""
        parts = []
        rows = zip(
            self.grid.coordinates(window),
            self.grid.padded,
            self.grid.window,
            self.grid.shift,
            strict=True,
        )
        for place, size, side, shift in rows:
            if shift == 0:
                parts.append(np.zeros_like(place))
            else:
                parts.append((place >= size - side).astype(np.int64) + (place >= size - shift))
        a, b, c = parts
        return ((a[:, None, None] * 3 + b[:, None]) * 3 + c).reshape(-1)


@dataclass(frozen=True, eq=False)
class DecomposedBias:
    """Relative position along height and width, from the query itself (Li et al., MViTv2, 2022).

    Attributes
    ----------
    height, width : torch.Tensor
        ``(H, H, d)`` and ``(W, W, d)``: embedding for each pair of query and key coordinate.
    dtype : torch.dtype
        In which the network adds it.
    """

    height: Tensor
    width: Tensor
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """See `Bias.nbytes`."""
        return self.height.nbytes + self.width.nbytes

    def rows(self, entry: int, tokens: Tensor, q: Tensor) -> Tensor:
        """See `Bias.rows`."""
        size = self.width.shape[0]
        y, x = tokens // size, tokens % size
        along_y = torch.einsum("htd,tkd->htk", q, self.height[y].float())
        along_x = torch.einsum("htd,tkd->htk", q, self.width[x].float())
        along_y, along_x = along_y.to(self.dtype), along_x.to(self.dtype)
        return (along_y[..., :, None] + along_x[..., None, :]).flatten(-2).float()

    def hidden(self, entry: int, token: int, column: bool = False) -> Tensor | None:
        """See `Bias.hidden`."""
        return None


def relative_table(size: int, table: Tensor) -> Tensor:
    """Embeddings ``(size, size, d)`` of every pair of coordinates, as SAM reads its table.

    The table ``(L, d)`` is resampled linearly to ``2 size - 1`` offsets.
    """
    length = 2 * size - 1
    rows = table.detach().float()
    resized = F.interpolate(rows.T[None], size=length, mode="linear")[0].T
    place = torch.arange(size, device=table.device)
    return resized[place[:, None] - place[None] + size - 1]
