"""Less than queries and keys: the input of the first block, from which the rest is computed again.

Where a map is small, its queries and keys are not much smaller: at 96^3 `sightline-3d` has 216
image tokens, and each block's queries and keys take a quarter of its map. What the two-way blocks
were given takes a tenth of that, and running them again takes a few milliseconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sightline.errors import ModelError

#: Class of a block, and where its network keeps the chain of them.
CHAINED = {"TwoWayBlock": "blocks"}


class _Enough(Exception):
    """The last call was reached: what comes after it is not needed."""


class _Capture(TorchFunctionMode):
    """Keeps queries and keys of each call, and stops at the last."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls
        self.kept: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self.kept.append((args[0], args[1]))
            if len(self.kept) == self.calls:
                raise _Enough
        return func(*args, **(kwargs or {}))


@dataclass(eq=False)
class Chain:
    """Blocks that pass ``(image, tokens)`` on, and what the first was given.

    Attributes
    ----------
    blocks : tuple of weak references to torch.nn.Module
        In the order they ran.
    image, tokens, seen : torch.Tensor
        Copies of the first block's arguments.
    calls : int
        Calls of attention that were seen in the blocks.
    """

    blocks: tuple[weakref.ref[nn.Module], ...]
    image: Tensor
    tokens: Tensor
    seen: Tensor
    autocast: tuple[str, bool, torch.dtype]
    calls: int = 0
    _open: list[tuple[Tensor, Tensor]] | None = field(default=None)

    @classmethod
    def begin(cls, network: nn.Module, name: str, args: tuple[Any, ...]) -> Chain | None:
        """Take over the inputs of the module `name` where it begins a chain; None where not."""
        where, _, last = name.rpartition(".")
        if last != "0" or len(args) != 3 or any(not isinstance(a, Tensor) for a in args):
            return None
        blocks = tuple(weakref.ref(block) for block in network.get_submodule(where).children())
        image, tokens, seen = (a.detach().clone() for a in args)
        device = image.device.type
        state = (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        return cls(blocks, image, tokens, seen, state)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        kept = [self.image, self.tokens, self.seen]
        for pair in self._open or ():
            kept += pair
        return sum(tensor.nbytes for tensor in kept)

    def run(self) -> list[tuple[Tensor, Tensor]]:
        """Run the blocks again: queries and keys of every call, in order."""
        if self._open is not None:
            return self._open
        device, enabled, dtype = self.autocast
        image, tokens = self.image, self.tokens
        with (
            torch.inference_mode(),
            torch.autocast(device, dtype, enabled=enabled),
            _Capture(self.calls) as capture,
            suppress(_Enough),
        ):
            for reference in self.blocks:
                block = reference()
                if block is None:
                    raise ModelError("The model was unloaded after this pass; run it again.")
                image, tokens = block(image, tokens, self.seen)
        return capture.kept

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep what `run` finds until the ``with`` block ends; it counts as held."""
        if self._open is not None:
            yield
            return
        self._open = self.run()
        try:
            yield
        finally:
            self._open = None


@dataclass(frozen=True, eq=False)
class Replayed:
    """Queries and keys of one call of a chain.

    Attributes
    ----------
    chain : Chain
        The blocks.
    number : int
        Which of the chain's calls, from 0.
    charged : bool
        Whether this call answers for what the chain holds.
    """

    chain: Chain
    number: int
    charged: bool

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.chain.nbytes if self.charged else 0

    def queries(self, entry: int, tokens: Tensor | None = None) -> Tensor:
        """Return queries; see `napari_sightline.attention.calls.Store`."""
        q = self.chain.run()[self.number][0][entry]
        return (q if tokens is None else q[:, tokens]).float()

    def keys(self, entry: int) -> Tensor:
        """Return keys; see `napari_sightline.attention.calls.Store`."""
        return self.chain.run()[self.number][1][entry].float()
