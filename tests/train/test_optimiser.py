"""Muon moves matrices and kernels as its authors say, AdamW all else, and both go on as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from napari_sightline.errors import BadInput
from napari_sightline.train.loop import RunOptions
from napari_sightline.train.optimiser import Together, optimiser_of
from napari_sightline.train.state import State

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch 2.9 has Muon")


def small(layout: torch.memory_format = torch.channels_last_3d) -> Any:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1),
        nn.InstanceNorm3d(6, affine=True),
        nn.Conv3d(6, 8, 3, padding=1),
        nn.ConvTranspose3d(8, 6, 2, 2),
        nn.Conv3d(6, 3, 1),
    )
    return made.to(memory_format=layout)  # type: ignore[call-overload]


def learn(model: Any, optimiser: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=False)
        image = torch.randn(1, 1, 6, 6, 6, generator=draw)
        model(image).square().mean().backward()
        optimiser.step()


def test_a_kernel_moves_along_equal_singular_values() -> None:
    model = small()
    before = model[2].weight.detach().clone()
    learn(model, optimiser_of(model, "muon", 0.01), 1)
    step = (before - model[2].weight.detach()).flatten(1)
    values = torch.linalg.svdvals(step)
    # Newton and Schulz's iteration stops where they lie within about a third of one.
    assert values.min() > 0.5 * values.max()
    assert step.square().mean().sqrt() == pytest.approx(0.01 * 0.2, rel=0.3)  # as large as AdamW's


@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_steps_are_those_of_pytorch_on_the_matrix_alone(layout: torch.memory_format) -> None:
    model = small(layout)
    matrix = nn.Parameter(model[2].weight.detach().clone().flatten(1))
    alone = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    both = optimiser_of(model, "muon", 0.01)
    draw = torch.Generator().manual_seed(3)
    for _ in range(4):
        both.zero_grad(set_to_none=False)
        model(torch.randn(1, 1, 6, 6, 6, generator=draw)).square().mean().backward()
        matrix.grad = model[2].weight.grad.clone().flatten(1)
        both.step()
        alone.step()
    # The order of columns is the layout's, and sums are bfloat16.
    assert torch.allclose(model[2].weight.detach().flatten(1), matrix.detach(), atol=1e-3)


def test_first_and_last_layer_and_norms_are_adamws() -> None:
    model = small()
    both = optimiser_of(model, "muon", 0.01)
    assert isinstance(both, Together)
    adamw, muon = (group["params"] for group in both.param_groups)
    assert sum(w.numel() for w in muon) == model[2].weight.numel() + model[3].weight.numel()
    held = {id(weight) for weight in adamw}
    assert {id(model[0].weight), id(model[4].weight), id(model[1].weight)} <= held
    assert sum(w.numel() for w in (*adamw, *muon)) == sum(w.numel() for w in model.parameters())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_resumed_run_makes_the_steps_of_one_that_was_not_stopped(
    name: str, tmp_path: Path
) -> None:
    whole, first = small(), small()
    optimiser = optimiser_of(whole, name, 0.01)
    learn(whole, optimiser, 3)
    learn(whole, optimiser, 3, seed=2)

    optimiser = optimiser_of(first, name, 0.01)
    learn(first, optimiser, 3)
    State(first, {}, optimiser).save(tmp_path / "run.ckpt")
    second = small()
    state = State(second, {}, optimiser_of(second, name, 0.5))
    state.load(tmp_path / "run.ckpt")
    learn(second, state.optimiser, 3, seed=2)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_rate_that_is_set_counts_for_both() -> None:
    model = small()
    both = optimiser_of(model, "muon", 0.01)
    before = [weight.detach().clone() for weight in model.parameters()]
    for group in both.param_groups:
        group["lr"] = 0.0
    learn(model, both, 1)
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, old)


def test_an_optimiser_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'sgd' is not known; choose adamw or muon"):
        RunOptions(minutes=1, out=tmp_path / "w.safetensors", optimiser="sgd")


def test_muon_is_refused_where_pytorch_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(BadInput, match="needs PyTorch"):
        RunOptions(minutes=1, out=tmp_path / "w.safetensors", optimiser="muon")
