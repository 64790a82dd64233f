"""Convolutions of one voxel as products of matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_sightline.train.pointwise import multiply_pointwise

FORMATS = (torch.contiguous_format, torch.channels_last_3d)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [(1, 12), (6, 4)])
def test_it_is_the_convolution(
    channels: tuple[int, int], bias: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(*channels, 1, bias=bias)
    x = torch.randn(2, channels[0], 5, 4, 3).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(2, channels[1], 5, 4, 3)

    def learnt() -> tuple[torch.Tensor, list[torch.Tensor]]:
        found = convolution(x)
        return found, list(
            torch.autograd.grad((found * weights).sum(), [x, *convolution.parameters()])
        )

    expected, gradients = learnt()
    multiply_pointwise(convolution)
    found, others = learnt()
    # Of one channel, both layouts are one.
    assert channels[0] == 1 or found.is_contiguous(memory_format=layout)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    for a, b in zip(others, gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_bf16_stays_bf16() -> None:
    convolution = nn.Conv3d(6, 4, 1)
    multiply_pointwise(convolution)
    with torch.autocast("cpu", torch.bfloat16):
        for layout in FORMATS:
            x = torch.randn(1, 6, 4, 4, 4).contiguous(memory_format=layout)
            found = convolution(x)
            assert found.dtype == torch.bfloat16
            expected = nn.functional.conv3d(x, convolution.weight, convolution.bias)
            torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 4, 1, stride=2),
        nn.Conv3d(4, 4, 1, padding=1),
        nn.Conv3d(4, 4, 1, groups=2),
        nn.ConvTranspose3d(4, 4, 1),
    ],
)
def test_others_stay(convolution: nn.Module) -> None:
    multiply_pointwise(nn.Sequential(convolution))
    assert "forward" not in vars(convolution)
