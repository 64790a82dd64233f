"""What happens while a network runs under a `Tap`: hooks, and the mode that sees its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sightline.attention.before import mask_before
from napari_sightline.attention.bias import Bias, CausalBias, DenseBias
from napari_sightline.attention.calls import Call, KeptTensors, Pass, Store
from napari_sightline.attention.multihead import queries_keys_mask
from napari_sightline.attention.replay import CHAINED, Chain, Replayed
from napari_sightline.attention.tokens import LiveCall, Running, place

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


class Settings(NamedTuple):
    """What is recorded: by name of the module, up to so many bytes, in half precision or not."""

    wanted: Callable[[str], bool]
    budget: int
    half: bool


class _Mode(TorchFunctionMode):
    """Hands what is called to a recorder, after it was called."""

    def __init__(self, recorder: Recorder) -> None:
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


class Recorder:
    """Sees the calls of one pass; lives as long as its ``with`` block."""

    def __init__(self, settings: Settings, one: Pass, network: nn.Module) -> None:
        self.mode = _Mode(self)
        self.settings, self.one, self.network = settings, one, network
        #: Names of compiled and scripted modules: with one of them nothing is recorded, since a
        #: compiler would trace the recorder as well.
        self.hidden = [name or "the network" for name, m in network.named_modules() if _opaque(m)]
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

    def __enter__(self) -> Recorder:
        if self.hidden:
            return self
        for name, module in self.network.named_modules():
            self.hooks.append(
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True)
            )
            self.hooks.append(module.register_forward_hook(self._left, always_call=True))
        self.mode.__enter__()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if self.hidden:
            return
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
            if not torch.is_grad_enabled():
                self.one.before = mask_before(self.network, name, args) or self.one.before
                if type(module).__name__ in CHAINED:
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
        self.chain.calls = self.replayed
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
        """Take in a call of `scaled_dot_product_attention`, with its own arguments."""
        self.pending.pop(len(self.stack), None)
        name, number = (self.stack[-1].name if self.stack else ""), self._next()
        if not self.settings.wanted(name):
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
        """Take in a call of torch's own multi-head attention."""
        found = queries_keys_mask(args, kwargs)
        if found is None:
            self.unknown.add(self.stack[-1].name if self.stack else "")
            return
        q, k, mask, causal = found
        self.attention(q, k, k, mask, is_causal=causal)

    def by_hand(self, weights: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take in the result of a softmax, if it looks like a map of attention."""
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if weights.ndim not in (3, 4) or axis not in (-1, weights.ndim - 1):
            return
        if not self.stack:
            return
        # nn.Softmax is a module of its own: the call belongs to the module that owns it.
        depth = len(self.stack) - isinstance(self.stack[-1].module, nn.Softmax)
        owner = self.stack[depth - 1].name if depth else ""
        if depth < 1 or not self.settings.wanted(owner):
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
        if full.nbytes > self.settings.budget:
            call = Call(owner, found, b, h, n, m, note=_too_large(owner, full.nbytes))
        else:
            call = Call(owner, found, b, h, n, m, weights=full.clone())
        self.pending.setdefault(depth, []).append(call)

    def _copy(self, x: Tensor) -> Tensor:
        if self.settings.half and x.dtype == torch.float32 and float(x.abs().max()) < 6e4:
            return x.to(torch.float16, memory_format=torch.contiguous_format, copy=True)
        return x.clone(memory_format=torch.contiguous_format)

    def _keep(self, call: Call) -> None:
        """Add a call; where one pass alone is over the budget, its first calls give way."""
        self.one.calls.append(call)
        held = self.one.nbytes
        for place_, other in enumerate(self.one.calls[:-1]):
            if held <= self.settings.budget:
                break
            held -= other.nbytes
            self.one.calls[place_] = _emptied(other)
        if held > self.settings.budget:
            self.one.calls[-1] = _emptied(call)

    def unseen(self) -> list[str]:
        """Say what of the network could not be observed."""
        notes = []
        if self.hidden:
            notes.append(
                f"{_some(self.hidden)} of {self.one.model} is compiled and cannot be observed; "
                "load the model without compiling it."
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
