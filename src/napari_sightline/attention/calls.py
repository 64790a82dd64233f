"""What was recorded: calls of attention, and the pass through a network that they belong to."""

from __future__ import annotations

import itertools
import weakref
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_sightline.attention.before import Before
from napari_sightline.attention.bias import Bias
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.replay import Replayed
from napari_sightline.attention.tokens import Placement
from napari_sightline.errors import BadInput, ModelError

#: Rows of a window's map that are computed at once hold at most so many values.
BLOCK = 2**22
#: Up to so many values scores are computed in float64: large ones (over 100) need it.
EXACT = 2**20
_counter = itertools.count(1)


class Store(Protocol):
    """Queries and keys of a call, however they are kept."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""

    def queries(self, entry: int, tokens: Tensor | None = None) -> Tensor:
        """Return queries ``(heads, t, d)`` of an entry of the batch, float32; all where None."""

    def keys(self, entry: int) -> Tensor:
        """Return keys ``(heads, m, d)`` of an entry of the batch, float32."""


@dataclass(frozen=True, eq=False)
class KeptTensors:
    """Queries and keys as they were, or as fp16 copies.

    Attributes
    ----------
    q, k : torch.Tensor
        ``(B, heads, n, d)``, ``(B, heads of keys, m, d)``.
    """

    q: Tensor
    k: Tensor

    @property
    def nbytes(self) -> int:
        """See `Store.nbytes`."""
        return self.q.nbytes + self.k.nbytes

    def queries(self, entry: int, tokens: Tensor | None = None) -> Tensor:
        """See `Store.queries`."""
        q = self.q[entry]
        return (q if tokens is None else q[:, tokens]).float()

    def keys(self, entry: int) -> Tensor:
        """See `Store.keys`."""
        k = self.k[entry].float()
        groups = self.q.shape[1] // k.shape[0]
        return k if groups == 1 else k.repeat_interleave(groups, 0)


@dataclass(frozen=True, eq=False)
class Call:
    """One recorded call of attention.

    Attributes
    ----------
    module : str
        Name of the module that made it, in the network.
    placement : Placement
        What its family knows of it.
    batch, heads, queries, keys : int
        Shape of the full map; `batch` counts windows too.
    scale : float
        Factor of ``q k^T``.
    store : Store or None
        Queries and keys; None where `weights` holds the map itself (softmax by hand) or where
        nothing could be kept, as `note` says.
    bias : Bias or None
        What was added to the scores.
    weights : torch.Tensor or None
        ``(B, heads, n, m)``, the map of a softmax by hand.
    note : str
        Why nothing was kept, as a sentence; empty where it was.
    """

    module: str
    placement: Placement
    batch: int
    heads: int
    queries: int
    keys: int
    scale: float = 1.0
    store: Store | None = None
    bias: Bias | None = None
    weights: Tensor | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """Name for people."""
        return self.placement.label

    @property
    def observable(self) -> bool:
        """Whether rows can be asked for."""
        return self.store is not None or self.weights is not None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = 0 if self.store is None else self.store.nbytes
        held += 0 if self.bias is None else self.bias.nbytes
        return held + (0 if self.weights is None else self.weights.nbytes)

    @property
    def full_bytes(self) -> int:
        """Bytes of the full map in float32."""
        return 4 * self.batch * self.heads * self.queries * self.keys

    def rows(self, entry: int, tokens: npt.ArrayLike) -> Tensor:
        """Return rows of the map: ``softmax(q k^T * scale + bias)``.

        Parameters
        ----------
        entry : int
            Entry of the batch (of windows).
        tokens : array_like
            ``(t,)`` query tokens.

        Returns
        -------
        torch.Tensor
            ``(heads, t, m)`` float32; each row sums to 1.

        Raises
        ------
        BadInput
            Where nothing was kept.
        """
        if not self.observable:
            raise BadInput(self.note or f"The attention of {self.label} was not recorded.")
        with torch.inference_mode(), self.opened():
            if self.weights is not None:
                index = torch.as_tensor(np.asarray(tokens, np.int64), device=self.weights.device)
                return self.weights[entry][:, index].float()
            assert self.store is not None
            keys = self.store.keys(entry)
            index = torch.as_tensor(np.asarray(tokens, np.int64), device=keys.device)
            return self._softmax(entry, index, keys)

    def opened(self) -> AbstractContextManager[None]:
        """Context in which queries and keys that are computed again are computed once."""
        return self.store.chain.opened() if isinstance(self.store, Replayed) else nullcontext()

    def _softmax(self, entry: int, index: Tensor, keys: Tensor) -> Tensor:
        assert self.store is not None
        q = self.store.queries(entry, index)
        added = None if self.bias is None else self.bias.rows(entry, index, q)
        doubles = keys.device.type in ("cpu", "cuda")
        if doubles and keys.numel() <= EXACT and q.shape[0] * q.shape[1] * keys.shape[1] <= EXACT:
            q, keys = q.double(), keys.double()
        if q.shape[1] == 1 and keys.numel() <= EXACT:
            # One small row: a product with threads would take longer to start than to run.
            scores = (q * self.scale * keys).sum(-1)[:, None]
        else:
            scores = torch.matmul(q * self.scale, keys.transpose(-1, -2))
        if added is not None:
            scores += added
        return torch.softmax(scores, -1).float()

    def blocks(self, entry: int) -> list[slice]:
        """Cut the queries of an entry into parts whose rows are small."""
        step = max(1, BLOCK // (self.heads * self.keys))
        return [slice(i, min(i + step, self.queries)) for i in range(0, self.queries, step)]

    def column(self, entry: int, token: int) -> Tensor:
        """Return how much each query attends to one key: ``(heads, n)`` float32.

        Takes the rows a block at a time; never holds the full map of many tokens.

        Raises
        ------
        BadInput
            Where nothing was kept.
        """
        if not self.observable:
            raise BadInput(self.note or f"The attention of {self.label} was not recorded.")
        with torch.inference_mode(), self.opened():
            if self.weights is not None:
                return self.weights[entry][:, :, token].float()
            assert self.store is not None
            keys = self.store.keys(entry)
            parts = []
            for part in self.blocks(entry):
                index = torch.arange(part.start, part.stop, device=keys.device)
                parts.append(self._softmax(entry, index, keys)[..., token])
            return torch.cat(parts, -1)


def fingerprint(network: nn.Module) -> tuple[tuple[int, int], ...]:
    """Which weights a network holds: changes when any is replaced or written to."""
    marks = []
    # By hand: `parameters()` builds the names of all modules, which takes longer than a query.
    waiting = [network]
    while waiting:
        module = waiting.pop()
        for weights in (module._parameters, module._buffers):
            for weight in weights.values():
                if weight is not None:
                    version = -1 if weight.is_inference() else weight._version
                    marks.append((weight.data_ptr(), version))
        waiting += [inner for inner in module._modules.values() if inner is not None]
    return tuple(marks)


@dataclass(eq=False)
class Pass:
    """One run of a network.

    Attributes
    ----------
    model : str
        Name of the model.
    frames : tuple of Frame
        Where the network's input lies in the volume, one for each entry of the batch; empty where
        nobody said.
    points, codes : numpy.ndarray or None
        Prompts, see `LiveCall`.
    calls : list of Call
        In the order they were made.
    notes : list of str
        What could not be observed, as sentences.
    before : Before or None
        Mask that a promptable network was given with the prompts.
    number : int
        Counts all passes; the newest is the largest.
    """

    model: str
    frames: tuple[Frame, ...] = ()
    points: npt.NDArray[np.float64] | None = None
    codes: npt.NDArray[np.int64] | None = None
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    before: Before | None = None
    number: int = field(default_factory=lambda: next(_counter))
    _network: weakref.ref[nn.Module] | None = None
    _weights: tuple[tuple[int, int], ...] = ()

    def of(self, network: nn.Module) -> Pass:
        """Remember which network ran, and with which weights."""
        self._network = weakref.ref(network)
        self._weights = fingerprint(network)
        return self

    @property
    def network(self) -> nn.Module | None:
        """The network, while it lives."""
        return None if self._network is None else self._network()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(call.nbytes for call in self.calls) + (self.before.nbytes if self.before else 0)

    @property
    def full_bytes(self) -> int:
        """Bytes of the full maps in float32."""
        return sum(call.full_bytes for call in self.calls)

    def opened(self) -> ExitStack:
        """Context for several questions: what is computed again is computed once in it."""
        stack = ExitStack()
        for call in self.calls:
            stack.enter_context(call.opened())
        return stack

    def check(self) -> None:
        """Refuse to answer for other weights, or where there was no attention.

        Raises
        ------
        ModelError
            Where the network is gone or its weights were replaced since.
        BadInput
            Where the pass holds no attention that could be observed.
        """
        if not any(call.observable for call in self.calls):
            said = [*self.notes, *(call.note for call in self.calls if call.note)]
            raise BadInput(said[0] if said else self._none())
        if self._network is None:
            return
        network = self.network
        if network is None or fingerprint(network) != self._weights:
            raise ModelError(
                f"The weights of {self.model} changed after this pass; run it again to see its "
                "attention."
            )

    def _none(self) -> str:
        return (
            f"The model {self.model} has no attention that can be seen; choose one with attention "
            "layers, such as sightline-3d or a Swin-UNETR."
        )

    def call(self, block: int | str) -> Call:
        """Find a call by its number, from 0, or by its module's name or label.

        Raises
        ------
        BadInput
            Where there is none.
        """
        if isinstance(block, str) and block.lstrip("-").isdigit():
            block = int(block)
        if isinstance(block, int):
            if -len(self.calls) <= block < len(self.calls):
                return self.calls[block]
        else:
            for call in self.calls:
                if block in (call.module, call.label):
                    return call
        raise BadInput(
            f"There is no block {block!r} in this pass of {self.model}; choose 0 to "
            f"{len(self.calls) - 1}: {'; '.join(call.label for call in self.calls)}."
        )

    def entry(self, position: npt.ArrayLike) -> int:
        """Entry of the batch whose window holds a canonical position most centrally.

        Raises
        ------
        BadInput
            Where the pass has no place in a volume, or the position lies outside it.
        """
        if not self.frames:
            raise BadInput(f"This pass of {self.model} has no place in a volume; give its frame.")
        depths = [frame.depth(position) for frame in self.frames]
        best = int(np.argmax(depths))
        if not self.frames[best].contains(position):
            where = ", ".join(f"{v:g}" for v in np.asarray(position, float))
            raise BadInput(
                f"The voxel ({where}) lies outside what {self.model} saw in this pass; run the "
                "model there."
            )
        return best
