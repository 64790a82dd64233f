"""Relevance: attention weighted by how much the answer depends on it; and Seg-Grad-CAM beside it.

Chefer, Gur & Wolf, "Generic attention-model explainability for interpreting bi-modal and
encoder-decoder transformers" (2021). For each layer ``A' = mean over heads of (dy/dA * A)^+``. The
answer ``y`` is the mean logit over the mask. Attention that runs in one call of
`scaled_dot_product_attention` never shows its map ``A``; with the call's output ``o = A v`` its
gradient is ``dy/dA = (dy/do) v^T``, taken for the rows that are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_sightline.attention.calls import Call, Pass
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.probe import Probe
from napari_sightline.attention.rollout import Flow, Vector, grid_of, placed_calls
from napari_sightline.attention.tap import Tap
from napari_sightline.attention.tokens import TokenGrid, TokenList
from napari_sightline.errors import BadInput

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
Matrix = npt.NDArray[np.float64]


class _Gradients(TorchFunctionMode):
    """Keeps values and outputs of each call, so that gradients reach them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[tuple[Tensor, Tensor]] = []
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and result.requires_grad:
            value = args[2] if len(args) > 2 else kwargs["value"]
            result.retain_grad()
            self.outputs.append((value.detach(), result))
        elif func in _SOFTMAX and isinstance(result, Tensor) and result.ndim == 4:
            if result.requires_grad:
                result.retain_grad()
            self.maps.append(result)
        return result


@dataclass(frozen=True, eq=False)
class GradientPass:
    """A pass with gradients of the answer.

    Attributes
    ----------
    one : Pass
        Its calls.
    probe : Probe
        What was run.
    mask : numpy.ndarray
        ``(D, H, W)`` bool on the network's grid: over which the logit was averaged.
    logits : numpy.ndarray
        ``(D, H, W)`` float32.
    answer : float
        The mean logit.
    saliency : numpy.ndarray
        ``(D, H, W)`` float32: absolute gradient of the answer by each voxel, channels added up.
    gradients : dict
        By `Call`: values and gradient of the output, or None and the gradient of the map.
    """

    one: Pass
    probe: Probe
    mask: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]
    answer: float
    saliency: npt.NDArray[np.float32]
    gradients: dict[Call, tuple[Tensor | None, Tensor]]

    def weighted(self, call: Call, entry: int, tokens: npt.ArrayLike) -> Tensor:
        """Rows ``(t, m)`` of a call's gradient-weighted attention."""
        rows = call.rows(entry, tokens)
        index = torch.as_tensor(np.asarray(tokens, np.int64), device=rows.device)
        values, gradient = self.gradients[call]
        some = gradient[entry][:, index].float()
        slope = some if values is None else some @ values[entry].float().transpose(-1, -2)
        return (rows * slope).clamp(min=0).mean(0)

    def product(self, call: Call, entry: int, vector: Vector) -> Vector:
        """``vector @ A'``, a block of rows at a time."""
        used = np.flatnonzero(vector)
        step = max(1, call.blocks(entry)[0].stop)
        out = np.zeros(call.keys)
        for start in range(0, len(used), step):
            some = used[start : start + step]
            out += vector[some] @ self.weighted(call, entry, some).double().cpu().numpy()
        return out

    def matrix(self, call: Call) -> Matrix:
        """Whole matrix ``(n, m)`` of a small call."""
        return self.weighted(call, 0, range(call.queries)).double().cpu().numpy()


def run_with_gradients(
    probe: Probe, mask: npt.NDArray[np.bool_] | None = None, budget_mb: float = 4096
) -> GradientPass:
    """Run a network, and back from the mean logit over a mask.

    Parameters
    ----------
    probe : Probe
        What to run; in float32.
    mask : numpy.ndarray, optional
        ``(D, H, W)`` bool on the network's grid; where the logit is above 0 by default.
    budget_mb : float
        Memory for the pass; models that compute softmax by hand hold whole maps.

    Raises
    ------
    BadInput
        Where the mask is empty, or attention cannot be observed with gradients.
    """
    tap, catch = Tap(budget_mb), _Gradients()
    image = probe.image.clone().requires_grad_(True)
    with (
        torch.enable_grad(),
        tap.record(probe.network, probe.frame, probe.model, probe.points, probe.codes) as one,
        catch,
    ):
        logits = probe.logits(image)
    values = logits.detach().float().cpu().numpy()
    chosen = values > 0 if mask is None else np.asarray(mask, bool)
    if chosen.shape != values.shape or not chosen.any():
        raise BadInput(
            f"{probe.model} found nothing of {probe.structure} here to explain; place a prompt, "
            "or choose a voxel inside a structure."
        )
    answer = logits[torch.from_numpy(chosen).to(logits.device)].mean()
    answer.backward()
    one.check()
    assert image.grad is not None
    slope = image.grad.abs().sum(1)[0].float().cpu().numpy()
    found = _matched(one, catch)
    return GradientPass(one, probe, chosen, values, float(answer.detach()), slope, found)


def _matched(one: Pass, catch: _Gradients) -> dict[Call, tuple[Tensor | None, Tensor]]:
    fused = [call for call in one.calls if call.store is not None]
    by_hand = [call for call in one.calls if call.weights is not None]
    if len(fused) != len(catch.outputs) or len(by_hand) != len(catch.maps):
        raise BadInput(
            f"The attention of {one.model} cannot be matched with gradients; look at its raw maps."
        )
    found: dict[Call, tuple[Tensor | None, Tensor]] = {}
    for call, (value, output) in zip(fused, catch.outputs, strict=True):
        gradient = torch.zeros_like(output) if output.grad is None else output.grad
        found[call] = (
            value.reshape(-1, *value.shape[-3:]),
            gradient.reshape(_flat_batch(gradient)),
        )
    for call, weights in zip(by_hand, catch.maps, strict=True):
        gradient = torch.zeros_like(weights) if weights.grad is None else weights.grad
        found[call] = (None, gradient)
    return found


def _flat_batch(tensor: Tensor) -> tuple[int, ...]:
    """Give a shape with everything before heads, tokens and channels as one axis."""
    return (-1, *tensor.shape[-3:])


def relevance(run: GradientPass, identity: bool = True) -> AttentionMap:
    """Relevance of the first layer's tokens for the answer.

    Two-way networks follow the paper's bi-modal rules (eqs. 5-11) with full matrices, which are
    small there; others carry one vector back, ``r <- r + r A'``, through windows and merging (split
    evenly; approximate). Where a layer has no residual, no identity is added. The vector begins as
    the mask's share of each token.

    Parameters
    ----------
    run : GradientPass
        From `run_with_gradients`.
    identity : bool
        Whether what the residuals carry counts, as in the paper; without it the mask's own place
        is left out and only what attention brought there remains.

    Returns
    -------
    AttentionMap
        One row, at most 1; ``special`` is what falls on prompts, on the same scale.
    """
    calls = placed_calls(run.one, run.one.calls)
    grids = [s for c in reversed(calls) for s in (c.placement.queries, c.placement.keys)]
    last = next((s for s in grids if isinstance(s, TokenGrid)), None)
    if last is None:
        raise BadInput(f"This pass of {run.one.model} has no image tokens with a place.")
    start = _mask_share(run.mask, last)
    if any(isinstance(s, TokenList) for s in grids):
        image, prompts = _bimodal(run, calls, start, identity)
        grid, approximate = TokenGrid.whole(last.shape, last.stride), False
    else:
        flow = Flow(last.shape, start, {}, np.zeros(len(last.lead)), run.product, 1.0, 1.0)
        for call in reversed(calls):
            flow.back(call, 0)
        grid, approximate = grid_of(calls, flow.shape), flow.approximate
        image, prompts = flow.image, float(flow.lead.sum())
        if not identity:
            rest = Flow(last.shape, start, {}, np.zeros(0), _nothing, 1.0, 0.0)
            for call in reversed(calls):
                rest.back(call, 0)
            image = image - rest.image
    top = max(float(image.max()), 1e-30)
    return AttentionMap(
        (image / top)[None].astype(np.float32),
        np.arange(len(image)),
        grid,
        run.probe.frame,
        np.zeros(1, np.float32),
        np.array([prompts / top], np.float32),
        f"relevance for {run.probe.structure}",
        run.one.model,
        f"all {len(calls)} layers" + (", approximate" if approximate else ""),
        ("gradient-weighted mean of heads",),
        unit="relevance over its largest",
        approximate=approximate,
    )


def _nothing(call: Call, entry: int, vector: Vector) -> Vector:
    return np.zeros(call.keys)


def _mask_share(mask: npt.NDArray[np.bool_], grid: TokenGrid) -> Vector:
    """Share of a mask on the network's grid that lies in each token."""
    places = []
    for n, size, stride in zip(mask.shape, grid.shape, grid.stride, strict=True):
        places.append(np.minimum(((np.arange(n) + 0.5) / stride).astype(int), size - 1))
    index = [place[where] for place, where in zip(places, np.nonzero(mask), strict=True)]
    flat = np.ravel_multi_index(tuple(index), grid.shape)
    counts = np.bincount(flat, minlength=int(np.prod(grid.shape))).astype(float)
    return counts / counts.sum()


def _bimodal(
    run: GradientPass, calls: list[Call], start: Vector, identity: bool
) -> tuple[Vector, float]:
    """Chefer et al.'s rules for image tokens and prompt tokens."""
    kinds = {"image": len(start)}
    for call in calls:
        for side in (call.placement.queries, call.placement.keys):
            if isinstance(side, TokenList):
                kinds["prompts"] = len(side.names)
    r = {
        (a, b): np.eye(n) if a == b else np.zeros((n, m))
        for a, n in kinds.items()
        for b, m in kinds.items()
    }
    for call in calls:
        s, q = (
            "image" if isinstance(side, TokenGrid) else "prompts"
            for side in (call.placement.queries, call.placement.keys)
        )
        if call.batch != 1:
            raise BadInput(
                f"{run.one.model} has windows and prompts; their relevance is not known."
            )
        matrix, stay = run.matrix(call), float(call.placement.residual)
        if s == q:
            for other in kinds:
                r[s, other] = stay * r[s, other] + matrix @ r[s, other]
        else:
            into = _normalised(r[s, s]).T @ matrix @ _normalised(r[q, q])
            r[s, s] = r[s, s] + matrix @ r[q, s]
            r[s, q] = r[s, q] + into
    image = start @ (r["image", "image"] - (0 if identity else np.eye(len(start))))
    return image, float((start @ r["image", "prompts"]).sum()) if "prompts" in kinds else 0.0


def _normalised(r: Matrix) -> Matrix:
    """Rows of what came on top of the identity, each made to sum to 1, plus the identity."""
    rest = r - np.eye(len(r))
    total = rest.sum(1, keepdims=True)
    return np.divide(rest, total, out=np.zeros_like(rest), where=total > 0) + np.eye(len(r))
