"""The recorder of attention: keeps queries and keys of every attention call of a running model.

Two routes see attention, and neither changes a library or the model's output:

1. A `torch.overrides.TorchFunctionMode` sees each call of
   `torch.nn.functional.scaled_dot_product_attention` with its arguments.
2. Models that compute softmax by hand call `softmax` over a map of four axes, ``(batch, heads,
   queries, keys)``, or of three; the same mode sees it and the map itself is kept, as large as it
   is. A module that also makes a call of the first kind is not looked at this way.

Forward hooks tell which module is running. Compiled and scripted code cannot be seen, nor the
fused path of `torch.nn.MultiheadAttention`; the pass says so in its notes.
"""

from __future__ import annotations

import fnmatch
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sightline.attention.bias import Bias, CausalBias, DenseBias
from napari_sightline.attention.calls import Call, KeptTensors, Pass, Store
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.multihead import queries_keys_mask
from napari_sightline.attention.replay import CHAINED, Chain, Replayed
from napari_sightline.attention.tokens import LiveCall, Running, place

if TYPE_CHECKING:
    from napari_sightline.segment.region import Region

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


class Tap:
    """Records attention while a model runs.

    Parameters
    ----------
    budget_mb : float
        Memory for recorded passes; the oldest are dropped beyond it.
    blocks : sequence of str or callable, optional
        Which modules are recorded: patterns of their names, as in a shell (``"*layers1*"``), or a
        function of the name; all by default.
    half : bool
        Keep fp16 copies of float32 queries and keys: half the memory, and rows that differ from
        the true ones by about 1e-3 of their value. Off, rows are exact to 1e-5.
    keep : int
        Passes that are kept at most.
    """

    def __init__(
        self,
        budget_mb: float = 512,
        blocks: Sequence[str] | Callable[[str], bool] | None = None,
        half: bool = False,
        keep: int = 64,
    ) -> None:
        self.budget = int(budget_mb * 2**20)
        self.half = half
        self._wanted = _filter(blocks)
        self._passes: deque[Pass] = deque()
        self._keep = max(1, keep)
        self._lock = threading.Lock()
        self.dropped = 0

    # ---- what was recorded

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Recorded passes, oldest first."""
        with self._lock:
            return tuple(self._passes)

    @property
    def latest(self) -> Pass | None:
        """The newest pass, or None."""
        with self._lock:
            return self._passes[-1] if self._passes else None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(one.nbytes for one in self.passes)

    def at(self, position: npt.ArrayLike, model: str | None = None) -> Pass | None:
        """Pass that saw a canonical voxel ``(3,)`` most centrally; of equals the newest."""
        best, found = -np.inf, None
        for one in self.passes:
            if model is not None and one.model != model:
                continue
            for frame in one.frames:
                if frame.contains(position) and frame.depth(position) >= best:
                    best, found = frame.depth(position), one
        return found

    def for_region(self, region: Region) -> Pass | None:
        """Newest pass on a session's working region, or None."""
        frame = Frame.of_region(region)
        for one in reversed(self.passes):
            for other in one.frames:
                if other.shape == frame.shape and np.allclose(other.affine, frame.affine):
                    return one
        return None

    def clear(self) -> None:
        """Forget every pass."""
        with self._lock:
            self._passes.clear()

    # ---- recording

    @contextmanager
    def record(
        self,
        network: nn.Module,
        frames: Frame | Sequence[Frame] | None = None,
        model: str = "",
        points: npt.ArrayLike | None = None,
        codes: npt.ArrayLike | None = None,
    ) -> Iterator[Pass]:
        """Record what `network` does inside the ``with`` block, on this thread, as one pass.

        Parameters
        ----------
        network : torch.nn.Module
            The network that will run.
        frames : Frame or sequence of Frame, optional
            Where its input lies in the volume, one for each entry of the batch.
        model : str
            Its name, for people.
        points, codes : array_like, optional
            Prompts: voxels of the network ``(M, 3)``, and codes ``(M,)``.

        Yields
        ------
        Pass
            Filled while the network runs; kept by the tap if the block ends without an error.
        """
        given = (frames,) if isinstance(frames, Frame) else tuple(frames or ())
        one = Pass(
            model or type(network).__name__,
            given,
            None if points is None else np.asarray(points, float).reshape(-1, 3),
            None if codes is None else np.asarray(codes, np.int64).reshape(-1),
        ).of(network)
        recorder = _Recorder(self, one, network)
        try:
            with recorder:
                yield one
            one.notes += recorder.unseen()
        finally:
            recorder.close()
        self._add(one)

    def _add(self, one: Pass) -> None:
        with self._lock:
            self._passes.append(one)
            while len(self._passes) > self._keep or (
                len(self._passes) > 1 and sum(p.nbytes for p in self._passes) > self.budget
            ):
                self._passes.popleft()
                self.dropped += 1

    @contextmanager
    def recording(
        self, network: nn.Module | None, region: Region, points: npt.ArrayLike, codes: npt.ArrayLike
    ) -> Iterator[None]:
        """Record a click: what `napari_sightline.segment.interactive.Session` calls.

        Parameters
        ----------
        network : torch.nn.Module or None
            The promptable network; None where the model shows none, of which the pass tells.
        region : Region
            The working grid.
        points, codes : array_like
            ``(M, 3)`` voxels of the region, and the prompts' codes ``(M,)``, in token order.
        """
        from napari_sightline.attention.families import model_name

        frame = Frame.of_region(region)
        if network is None:
            yield
            note = "The model shows no network, so its attention cannot be seen; choose another."
            self._add(Pass("the model", (frame,), notes=[note]))
            return
        with self.record(network, frame, model_name(network), points, codes):
            yield

    @contextmanager
    def window(
        self, network: nn.Module, frames: Frame | Sequence[Frame], model: str = ""
    ) -> Iterator[None]:
        """Record a window of a sliding pass: what `napari_sightline.segment.automatic` calls.

        Parameters
        ----------
        network : torch.nn.Module
            The network.
        frames : Frame or sequence of Frame
            Where each window of the batch lies: its shape in voxels of the network, and the
            affine from those to canonical voxels of the volume.
        model : str
            The model's name.
        """
        with self.record(network, frames, model):
            yield

    def wants(self, name: str) -> bool:
        """Whether calls of a module of this name are recorded."""
        return self._wanted(name)


def _filter(blocks: Sequence[str] | Callable[[str], bool] | None) -> Callable[[str], bool]:
    if blocks is None:
        return lambda name: True
    if callable(blocks):
        return blocks
    patterns = tuple(blocks)
    return lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class _Mode(TorchFunctionMode):
    """Hands what is called to a recorder, after it was called."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.recorder.attention(*args, **kwargs)
        elif func in _SOFTMAX and isinstance(result, Tensor):
            self.recorder.by_hand(result, args, kwargs)
        elif func is F.multi_head_attention_forward:
            self.recorder.multi_head(args, kwargs)
        return result


class _Recorder:
    """Sees the calls of one pass; lives as long as its ``with`` block."""

    def __init__(self, tap: Tap, one: Pass, network: nn.Module) -> None:
        self.mode = _Mode(self)
        self.tap, self.one, self.network = tap, one, network
        self.stack: list[Running] = []
        self.hooks: list[Any] = []
        self.thread = threading.get_ident()
        self.counts: dict[str, int] = {}
        #: Softmax by hand, by depth of the stack: a call of the first kind cancels it.
        self.pending: dict[int, list[Call]] = {}
        self.paused: list[tuple[int, Any]] = []
        self.fused: set[str] = set()
        self.chain: Chain | None = None
        self.replayed = 0
        #: Calls of torch's own layer with keys of its own, which are not looked at.
        self.unknown: set[str] = set()

    def __enter__(self) -> _Recorder:
        for name, module in self.network.named_modules():
            self.hooks.append(
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True)
            )
            self.hooks.append(module.register_forward_hook(self._left, always_call=True))
        self.mode.__enter__()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self.mode.__exit__(kind, value, trace)
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
        self._settle(0)
        self.stack.clear()

    # ---- which module runs

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != self.thread:
                return
            self.stack.append(Running(name, module, args, kwargs))
            if type(module).__name__ in CHAINED and not torch.is_grad_enabled():
                self._chained(name, args)
            if _is_fused(module):
                # Under a mode torch would leave its fused path, and the output would change.
                guard = torch._C.DisableTorchFunction()
                guard.__enter__()
                self.paused.append((len(self.stack), guard))
                self.fused.add(name)

        return hook

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self.thread or not self.stack:
            return
        depth = len(self.stack)
        if self.paused and self.paused[-1][0] == depth:
            self.paused.pop()[1].__exit__(None, None, None)
        self._settle(depth)
        self.stack.pop()

    def _settle(self, depth: int) -> None:
        """Keep the softmax calls by hand of a module that ends."""
        for level in [key for key in self.pending if key >= depth]:
            self.one.calls += self.pending.pop(level)

    def _chained(self, name: str, args: tuple[Any, ...]) -> None:
        found = Chain.begin(self.network, name, args)
        if found is not None:
            self.chain, self.replayed = found, 0

    def _next(self) -> int | None:
        """Count a call of the chain that is running; None outside one."""
        if self.chain is None or not any(type(r.module).__name__ in CHAINED for r in self.stack):
            return None
        self.replayed += 1
        return self.replayed - 1

    def _store(self, q: Tensor, k: Tensor, number: int | None) -> Store:
        """Keep queries and keys, or where they can be computed again from less, that."""
        if self.chain is None or number is None:
            return KeptTensors(self._copy(q), self._copy(k))
        # The first of a chain's calls answers for what the chain holds.
        charged = any(
            isinstance(c.store, Replayed) and c.store.chain is self.chain for c in self.one.calls
        )
        return Replayed(self.chain, number, not charged)

    # ---- what it calls

    def _live(self, shape: tuple[int, ...], q: Tensor | None, k: Tensor | None) -> LiveCall:
        b, h, n, m = shape
        name = self.stack[-1].name if self.stack else ""
        ordinal = self.counts.get(name, 0)
        self.counts[name] = ordinal + 1
        return LiveCall(
            tuple(self.stack) or (Running("", self.network),),
            q,
            k,
            (b, h, n, m),
            self.one.frames,
            self.one.points,
            self.one.codes,
            ordinal,
        )

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        self.pending.pop(len(self.stack), None)
        name, number = (self.stack[-1].name if self.stack else ""), self._next()
        if not self.tap.wants(name):
            return
        q, k = query.detach(), key.detach()
        while q.ndim < 4:
            q, k = q[None], k[None]
        q, k = q.flatten(0, -4), k.flatten(0, -4)
        live = self._live((*q.shape[:3], k.shape[2]), q, k)
        found = place(live)
        bias: Bias | None = found.bias
        if bias is None and attn_mask is not None:
            bias = DenseBias.of(attn_mask)
        elif bias is None and is_causal:
            bias = CausalBias(k.shape[2])
        factor = q.shape[-1] ** -0.5 if scale is None else float(scale)
        kept = self._store(q, k, number)
        call = Call(name, found, q.shape[0], q.shape[1], q.shape[2], k.shape[2], factor, kept, bias)
        self._keep(call)

    def multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = queries_keys_mask(args, kwargs)
        if found is None:
            self.unknown.add(self.stack[-1].name if self.stack else "")
            return
        q, k, mask, causal = found
        self.attention(q, k, k, mask, is_causal=causal)

    def by_hand(self, weights: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if weights.ndim not in (3, 4) or axis not in (-1, weights.ndim - 1):
            return
        if not self.stack:
            return
        # nn.Softmax is a module of its own: the call belongs to the module that owns it.
        depth = len(self.stack) - isinstance(self.stack[-1].module, nn.Softmax)
        owner = self.stack[depth - 1].name if depth else ""
        if depth < 1 or not self.tap.wants(owner):
            return
        full = weights.detach()
        if full.ndim == 3:  # heads folded into the batch, as far as the module tells
            module = self.stack[depth - 1].module
            heads = getattr(module, "num_heads", getattr(module, "num_attention_heads", None))
            folded = isinstance(heads, int) and full.shape[0] % heads == 0
            full = full.unflatten(0, (-1, heads)) if folded else full[None]
        saved, self.stack = self.stack, self.stack[:depth]
        try:
            b, h, n, m = full.shape
            found = place(self._live((b, h, n, m), None, None))
        finally:
            self.stack = saved
        if full.nbytes > self.tap.budget:
            call = Call(owner, found, b, h, n, m, note=_too_large(owner, full.nbytes))
        else:
            call = Call(owner, found, b, h, n, m, weights=full.clone())
        self.pending.setdefault(depth, []).append(call)

    def _copy(self, x: Tensor) -> Tensor:
        if self.tap.half and x.dtype == torch.float32 and float(x.abs().max()) < 6e4:
            return x.to(torch.float16, memory_format=torch.contiguous_format, copy=True)
        return x.clone(memory_format=torch.contiguous_format)

    def _keep(self, call: Call) -> None:
        """Add a call; where one pass alone is over the budget, its first calls give way."""
        self.one.calls.append(call)
        held = self.one.nbytes
        for place_, other in enumerate(self.one.calls[:-1]):
            if held <= self.tap.budget:
                break
            held -= other.nbytes
            self.one.calls[place_] = _emptied(other)
        if held > self.tap.budget:
            self.one.calls[-1] = _emptied(call)

    def unseen(self) -> list[str]:
        """Say what of the network could not be observed."""
        hidden = [name or "the network" for name, m in self.network.named_modules() if _opaque(m)]
        notes = []
        if hidden:
            notes.append(
                f"{_some(hidden)} of {self.one.model} is compiled and cannot be observed; load "
                "the model without compiling it."
            )
        if self.fused:
            notes.append(
                f"{_some(sorted(self.fused))} of {self.one.model} ran on torch's fused path and "
                "was not observable; torch.backends.mha.set_fastpath_enabled(False) opens it."
            )
        if self.unknown:
            notes.append(
                f"{_some(sorted(self.unknown))} of {self.one.model} appends keys of its own and "
                "is not observable."
            )
        return notes

    def close(self) -> None:
        """Let go of the network: a pass must not keep it alive."""
        del self.network, self.mode


def _emptied(call: Call) -> Call:
    if not call.observable:
        return call
    note = _too_large(call.label, call.nbytes)
    return Call(
        call.module, call.placement, call.batch, call.heads, call.queries, call.keys, note=note
    )


def _too_large(name: str, size: int) -> str:
    return (
        f"The attention of {name} needs {size / 2**20:.0f} MB and did not fit the recorder's "
        "memory; raise its budget or record fewer blocks."
    )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _opaque(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return True
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or type(module).__name__ == "OptimizedModule"


def _is_fused(module: nn.Module) -> bool:
    fusible = isinstance(module, nn.TransformerEncoderLayer | nn.MultiheadAttention)
    return (
        fusible
        and not module.training
        and not torch.is_grad_enabled()
        and torch.backends.mha.get_fastpath_enabled()
    )
