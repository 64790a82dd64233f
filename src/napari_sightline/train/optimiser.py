"""Optimisers of the recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: Names that `optimiser_of` knows.
OPTIMISERS = ("adamw", "muon")


class Together(torch.optim.Optimizer):
    """Several optimisers, each with weights of its own, that step as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([g for part in parts for g in part.param_groups], {})
        # One's own group of each part: a rate that is set is set for both.
        self.param_groups = [g for part in parts for g in part.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Let each make its step."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what each keeps."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        for part, kept in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(kept)
        self.param_groups = [g for part in self.parts for g in part.param_groups]


def optimiser_of(model: nn.Module, name: str, rate: float) -> torch.optim.Optimizer:
    """Make the optimiser of a network; every weight gets a gradient, zeros at first.

    ``"muon"`` (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024)
    moves the matrices of linear layers and the kernels of convolutions, as matrices of outputs by
    all the rest, along steps with equal singular values, as large as AdamW's (Liu et al., "Muon is
    scalable for LLM training", 2025); first and last layer, norms, offsets and tables of position
    stay with AdamW. It needs PyTorch 2.9.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in the memory layout that it keeps.
    name : str
        ``"adamw"`` or ``"muon"``.
    rate : float
        Learning rate.
    """
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    inner = [m.weight for m in _inner(model)] if name == "muon" else []
    apart = {id(weight) for weight in inner}
    adamw = torch.optim.AdamW(
        [weight for weight in model.parameters() if id(weight) not in apart],
        lr=rate,
        weight_decay=0.02,
        betas=(0.9, 0.98),
        fused=True,
    )
    if not inner:
        return adamw
    muon = torch.optim.Muon(
        [_matrix(weight) for weight in inner],
        lr=rate,
        weight_decay=0.02,
        adjust_lr_fn="match_rms_adamw",
    )
    return Together([adamw, muon])


def _inner(model: nn.Module) -> list[Any]:
    """Linear layers and convolutions, but those that meet the image or give the result."""
    kinds = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)
    found = [m for m in model.modules() if isinstance(m, kinds)]
    first = min((m.weight.shape[1] for m in found), default=0)
    return [m for m in found if m.weight.shape[1] > first][:-1]


def _matrix(weight: Tensor) -> Tensor:
    """Return a weight as a matrix that shares its memory, gradient included."""
    assert weight.grad is not None

    def flat(x: Tensor) -> Tensor:
        order = (0, *range(2, x.ndim), 1)  # the layout with channels last
        return x.detach().permute(order).flatten(1) if x.ndim > 2 else x.detach()

    matrix, gradient = flat(weight), flat(weight.grad)
    if matrix.data_ptr() != weight.data_ptr() or gradient.data_ptr() != weight.grad.data_ptr():
        matrix, gradient = weight.detach().flatten(1), weight.grad.flatten(1)
    matrix.grad = gradient
    return matrix
