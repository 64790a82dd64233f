"""Instance normalisation that keeps the layout in which convolutions are fastest on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Voxels up to which sums are taken in float64: of few the variance can be next to nothing beside
#: the mean, and then float32 has no digits for it.
_FEW = 512


class ChannelsLastInstanceNorm3d(nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` without its copies, where channels lie last.

    PyTorch's own copies a channels-last tensor into the other layout and leaves it there, so that
    the next convolution copies it back: a quarter of a Swin-UNETR's time on a CPU. One sample on a
    CPU, where no gradient is wanted, is normalised by sums over its planes instead.
    """

    @classmethod
    def of(cls, norm: nn.InstanceNorm3d) -> ChannelsLastInstanceNorm3d:
        """Make one with the weights, shared, of a module of PyTorch's."""
        made = cls(norm.num_features, norm.eps, affine=norm.affine)
        made.weight, made.bias = norm.weight, norm.bias
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, D, H, W)`` over ``(D, H, W)``."""
        if (
            input.requires_grad
            or input.device.type != "cpu"
            or input.ndim != 5
            or len(input) != 1
            or input[0, 0].numel() == 1
            or not input.is_contiguous(memory_format=torch.channels_last_3d)
        ):
            return super().forward(input)
        if input.dtype != torch.float32:
            # Of one sample the same; its float32 sums err less than bf16 does.
            return torch.batch_norm(
                input, self.weight, self.bias, None, None, True, 0.0, self.eps, False
            )
        return self._by_planes(input)

    def _by_planes(self, x: Tensor) -> Tensor:
        # Products with the plane itself sum squares without a copy of it; of planes in float64,
        # so that a mean far from zero costs no digits.
        planes = x.permute(0, 2, 3, 4, 1).reshape(x.shape[2], -1, x.shape[1])
        count = planes.shape[0] * planes.shape[1]
        if count <= _FEW:
            planes = planes.double()
        ones = planes.new_ones(1, 1, 1).expand(len(planes), 1, planes.shape[1])
        mean = torch.bmm(ones, planes).double().sum(0)[0] / count
        squares = torch.bmm(planes.mT, planes).diagonal(dim1=1, dim2=2).double().sum(0) / count
        scale = ((squares - mean * mean).clamp_min_(0) + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (1, -1, 1, 1, 1)
        return torch.addcmul(shift.to(x.dtype).view(shape), x, scale.to(x.dtype).view(shape))


def keep_channels_last(network: nn.Module) -> None:
    """Put `ChannelsLastInstanceNorm3d` in place of a network's own, names and weights unchanged.

    Those that keep running statistics, or were derived from PyTorch's, stay as they are.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.InstanceNorm3d and not child.track_running_stats:
                setattr(module, name, ChannelsLastInstanceNorm3d.of(child))
