"""Normalisation without copies gives what PyTorch's gives, and leaves the rest alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from napari_sightline.models.instance_norm import (
    ChannelsLastInstanceNorm3d,
    keep_channels_last,
)


def _pair(features: int, affine: bool) -> tuple[nn.InstanceNorm3d, ChannelsLastInstanceNorm3d]:
    theirs = nn.InstanceNorm3d(features, affine=affine)
    if affine:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    return theirs, ChannelsLastInstanceNorm3d.of(theirs)


@settings(max_examples=40, deadline=None)
@example(1, 12, (1, 1, 2), True, True, 1.0, 1)  # two voxels that are nearly alike
@given(
    st.integers(1, 2),
    st.integers(1, 20),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 9)),
    st.booleans(),
    st.booleans(),
    st.floats(-20, 20),
    st.integers(0, 2**16),
)
def test_equals_pytorch(
    batch: int,
    features: int,
    size: tuple[int, int, int],
    affine: bool,
    last: bool,
    offset: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    theirs, ours = _pair(features, affine)
    x = torch.randn(batch, features, *size) + offset
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        found = ours(x)
        exact = theirs.double()(x.double()).float()
    assert torch.allclose(found, exact, atol=2e-4 * (1 + abs(offset)))


def test_is_as_exact_as_pytorch_where_it_matters() -> None:
    torch.manual_seed(0)
    theirs, ours = _pair(24, True)
    x = (torch.randn(1, 24, 48, 48, 48) * 3 + 5).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        found = ours(x)
        exact = theirs.double()(x.double())
    assert float((found - exact).abs().max()) < 1e-5
    # The next convolution need not copy it.
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradients_are_pytorchs() -> None:
    torch.manual_seed(0)
    theirs, ours = _pair(4, True)
    x = torch.randn(1, 4, 6, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    grads = []
    for norm in (theirs, ours):
        leaf = x.clone().requires_grad_()
        norm(leaf).square().mean().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_bf16_stays_bf16() -> None:
    _, ours = _pair(4, True)
    x = torch.randn(1, 4, 6, 6, 6).to(torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        found = ours(x)
    assert found.dtype == torch.bfloat16
    exact = nn.functional.instance_norm(
        x.double(), weight=ours.weight.double(), bias=ours.bias.double()
    )
    assert torch.allclose(found.double(), exact, atol=0.05)


def test_one_voxel_is_refused_as_by_pytorch() -> None:
    _, ours = _pair(4, True)
    x = torch.randn(1, 4, 1, 1, 1).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), pytest.raises(ValueError, match="spatial"):
        ours(x)


def test_names_and_weights_of_a_network_stay() -> None:
    class Own(nn.InstanceNorm3d):
        pass

    network = nn.ModuleDict(
        {
            "deep": nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True)),
            "running": nn.InstanceNorm3d(4, track_running_stats=True),
            "own": Own(4),
        }
    )
    before = dict(network.named_parameters())
    names = [name for name, _ in network.named_modules()]
    state = list(network.state_dict())
    keep_channels_last(network)
    keep_channels_last(network)
    assert [name for name, _ in network.named_modules()] == names
    assert list(network.state_dict()) == state
    assert all(weight is before[name] for name, weight in network.named_parameters())
    kinds = {name: type(module) for name, module in network.named_modules()}
    assert kinds["deep.1"] is ChannelsLastInstanceNorm3d
    assert kinds["running"] is nn.InstanceNorm3d
    assert kinds["own"] is Own
