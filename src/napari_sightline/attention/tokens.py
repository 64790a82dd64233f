"""Where tokens lie: from a recorded call of attention to voxels, and back.

A family of models is one function that looks at a call while it happens and returns a
`Placement`; see `family`. A call that no family knows still lists heads and raw rows, marked "no
geometry".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_sightline.attention.frame import Frame, Shape3

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_sightline.attention.bias import Bias

Index = npt.NDArray[np.int64]
Kind = Literal["global", "windowed", "shifted", "cross", "unknown"]

#: In `TokenGrid.cells`: a token that pads the grid, and one that is no place (class token).
PADDING, SPECIAL = -1, -2


@dataclass(frozen=True)
class TokenGrid:
    """Image tokens on a regular grid, cut into windows after a cyclic shift.

    Token ``t`` of window ``w`` sits at ``(w * window + t + shift) mod padded``, in tokens, where
    the grid is padded at its end to a multiple of the window (Liu et al., "Swin Transformer",
    2021). Global attention is one window as large as the grid.

    Attributes
    ----------
    shape : tuple of 3 int
        Tokens of the image along each axis of the network's input.
    stride : tuple of 3 float
        Voxels of the network's input per token.
    window : tuple of 3 int
        Tokens of a window.
    shift : tuple of 3 int
        Cyclic shift, tokens.
    lead : tuple of str
        Names of tokens that come before the image's in each window and lie nowhere.
    """

    shape: Shape3
    stride: tuple[float, float, float]
    window: Shape3
    shift: Shape3 = (0, 0, 0)
    lead: tuple[str, ...] = ()

    @classmethod
    def whole(
        cls, shape: Shape3, stride: tuple[float, float, float], lead: tuple[str, ...] = ()
    ) -> TokenGrid:
        """Return a grid of which every token sees every other."""
        return cls(shape, stride, shape, lead=lead)

    @property
    def windows(self) -> Shape3:
        """Windows along each axis."""
        a, b, c = (-(-n // w) for n, w in zip(self.shape, self.window, strict=True))
        return a, b, c

    @property
    def padded(self) -> Shape3:
        """Tokens along each axis, with padding."""
        a, b, c = (n * w for n, w in zip(self.windows, self.window, strict=True))
        return a, b, c

    @property
    def count(self) -> int:
        """Number of windows."""
        return int(np.prod(self.windows))

    @property
    def tokens(self) -> int:
        """Tokens in a window, leading ones included."""
        return len(self.lead) + int(np.prod(self.window))

    def cell(self, voxel: npt.ArrayLike) -> Shape3 | None:
        """Token that holds a position ``(3,)`` in voxels of the network; None outside."""
        place = (np.asarray(voxel, float) + 0.5 + 1e-9) / self.stride
        a, b, c = (int(v) for v in np.floor(place))
        if min(a, b, c) < 0 or any(i >= n for i, n in zip((a, b, c), self.shape, strict=True)):
            return None
        return a, b, c

    def locate(self, cell: Shape3) -> tuple[int, int]:
        """Window and token within it, of a cell of the grid."""
        place = (np.array(cell) - self.shift) % self.padded
        window, token = place // self.window, place % self.window
        return (
            int(np.ravel_multi_index(tuple(window), self.windows)),
            len(self.lead) + int(np.ravel_multi_index(tuple(token), self.window)),
        )

    def coordinates(self, window: int) -> list[Index]:
        """Return padded token coordinates of a window along each axis, before the shift."""
        corner = np.unravel_index(window, self.windows)
        return [
            np.arange(w, dtype=np.int64) + int(c) * w
            for c, w in zip(corner, self.window, strict=True)
        ]

    def cells(self, window: int) -> Index:
        """Flat index into `shape` of each token of a window; `PADDING` or `SPECIAL` elsewhere."""
        axes = [
            (place + shift) % size
            for place, shift, size in zip(
                self.coordinates(window), self.shift, self.padded, strict=True
            )
        ]
        d, h, w = self.shape
        a, b, c = axes[0][:, None, None], axes[1][:, None], axes[2]
        flat = (a * h + b) * w + c
        flat = np.where((a < d) & (b < h) & (c < w), flat, PADDING).reshape(-1)
        if self.lead:
            flat = np.concatenate([np.full(len(self.lead), SPECIAL), flat])
        return flat


@dataclass(frozen=True, eq=False)
class TokenList:
    """Tokens that are no grid: prompts, and a decoder's own.

    Attributes
    ----------
    names : tuple of str
        One a token.
    prompts : tuple of int
        For each token the number of the prompt it stands for, from 0; -1 for a decoder's own.
    voxels : numpy.ndarray or None
        ``(M, 3)``, voxels of the network's input; NaN for a token that lies nowhere.
    """

    names: tuple[str, ...]
    prompts: tuple[int, ...]
    voxels: npt.NDArray[np.float64] | None = None

    def token_of(self, prompt: int) -> int | None:
        """Index of the token of a prompt, or None."""
        return self.prompts.index(prompt) if prompt in self.prompts else None


Side = TokenGrid | TokenList


@dataclass(frozen=True, eq=False)
class Placement:
    """What a family knows of a call.

    Attributes
    ----------
    label : str
        For people, such as ``"stage 1, block 2, shifted windows of 7 x 7 x 7"``.
    kind : {"global", "windowed", "shifted", "cross", "unknown"}
        Reach of the call.
    queries, keys : TokenGrid, TokenList or None
        Where they lie; None means "no geometry".
    bias : Bias or None
        Rebuilds what was added to the scores; None where the call's own is to be kept.
    stage, block : int
        From 1; 0 where there is none.
    residual : bool
        Whether the call's output is added to its input (rules that add the identity hold).
    """

    label: str
    kind: Kind = "unknown"
    queries: Side | None = None
    keys: Side | None = None
    bias: Bias | None = None
    stage: int = 0
    block: int = 0
    residual: bool = True


@dataclass(frozen=True, eq=False)
class Running:
    """A module that runs: its name in the network, itself, and what it was called with."""

    name: str
    module: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LiveCall:
    """A call of attention while it happens.

    Attributes
    ----------
    stack : tuple of Running
        Modules that run, outermost first; the last made the call.
    q, k : torch.Tensor or None
        ``(B, heads, n, d)`` and ``(B, heads, m, d)``; None for softmax by hand.
    weights_shape : tuple of int
        ``(B, heads, n, m)``.
    frames : tuple of Frame
        One for each entry of the batch; empty where the caller gave none.
    points, codes : numpy.ndarray or None
        Prompts of the pass in voxels of the network ``(M, 3)``, and their codes ``(M,)``.
    ordinal : int
        How many calls the same module made before in this pass.
    """

    stack: tuple[Running, ...]
    q: Tensor | None
    k: Tensor | None
    weights_shape: tuple[int, int, int, int]
    frames: tuple[Frame, ...] = ()
    points: npt.NDArray[np.float64] | None = None
    codes: npt.NDArray[np.int64] | None = None
    ordinal: int = 0

    @property
    def running(self) -> Running:
        """The module that made the call."""
        return self.stack[-1]

    @property
    def grid(self) -> Shape3 | None:
        """Voxels of the network's input, where known."""
        return self.frames[0].shape if self.frames else None

    def above(self, *classes: str) -> Running | None:
        """Nearest running module whose class (or a base of it) has one of these names."""
        for running in reversed(self.stack):
            if class_names(running.module) & set(classes):
                return running
        return None


Family = Callable[[LiveCall], "Placement | None"]
_FAMILIES: dict[str, Family] = {}


def class_names(module: nn.Module) -> set[str]:
    """Names of a module's class and its bases."""
    return {cls.__name__ for cls in type(module).__mro__}


def family(*classes: str) -> Callable[[Family], Family]:
    """Register a function that places the calls made by modules of these classes.

    Parameters
    ----------
    *classes : str
        Names of the classes that call attention, such as ``"WindowAttention"``. The function gets
        a `LiveCall` and returns a `Placement`, or None where the module is not of its family
        after all.
    """

    def add(function: Family) -> Family:
        for name in classes:
            _FAMILIES[name] = function
        return function

    return add


def place(call: LiveCall) -> Placement:
    """Find out where a call's tokens lie; "no geometry" where no family knows."""
    from napari_sightline.attention import families  # noqa: F401  (registers the built-in ones)

    for cls in type(call.running.module).__mro__:
        function = _FAMILIES.get(cls.__name__)
        found = None if function is None else function(call)
        if found is not None:
            return found
    name = call.running.name or type(call.running.module).__name__
    _, _, n, m = call.weights_shape
    return Placement(f"{name}, {n} x {m} tokens, no geometry")


def sides(shape: tuple[int, ...]) -> str:
    """Write a grid's sides, such as ``"6 x 6 x 6"``; a flat grid's first side is left out."""
    return " x ".join(str(n) for n in (shape[1:] if shape[0] == 1 else shape))
