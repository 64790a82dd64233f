"""The loss of a model that learns from what others think, as well as from contours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

#: Voxels of a structure, in sum of chances, above which a crop has it.
_HAS = 20.0
#: Weight of a structure that a crop does not have.
_ABSENT = 0.05
#: Weight of the cross-entropy that counts each structure alike.
_EVEN = 0.2
#: Keeps the overlap of a few voxels from ruling.
_SMOOTH = 50.0


def taught_loss(logits: Tensor, chances: Tensor, seen: Tensor) -> Tensor:
    """Compare with a teacher's chances: cross-entropy and a Dice loss that is made for chances.

    A teacher's chances tell more than contours do: how sure a voxel is (Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015). The usual soft Dice loss would turn them
    into certainties; its semimetric is least where both agree (Wang et al., "Dice semimetric
    losses", MICCAI 2023).

    Parameters
    ----------
    logits : torch.Tensor, shape (B, K, D, H, W)
        Of the softmax; channel 0 is the background.
    chances : torch.Tensor, shape (B, K, D, H, W)
        Of the teacher; they add up to 1 over the channels.
    seen : torch.Tensor, shape (B, D, H, W), bool
        Voxels that count.

    Returns
    -------
    torch.Tensor
        A number; for each sample the mean cross-entropy, plus 0.2 times the mean over the
        structures of the cross-entropy weighted by the teacher's chances, plus the mean over
        structures of ``sum |p - q| / (sum p + sum q + 50)``. A structure that the teacher does not
        see in the crop has no part in the second, and a small one in the third.
    """
    total = logits.new_zeros(())
    for sample in range(len(logits)):
        one: Tensor = _One.apply(
            logits[sample].float().flatten(1),
            chances[sample].float().flatten(1),
            seen[sample].flatten(),
        )
        total = total + one
    return total / len(logits)


class _One(Function):
    """Loss of one sample, ``(K, N)``, and its gradient, at a third of autograd's memory.

    With ``p`` the softmax and ``q`` the chances, the cross-entropies have gradients ``weight * (p -
    q)``; the semimetric has ``g`` by ``p``, which the softmax turns into ``p_k * (g_k - sum_j p_j *
    g_j)``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, q: Tensor, seen: Tensor) -> Tensor:
        logs = logits.log_softmax(0)
        p, is_seen = logs.exp(), seen.float()
        mass = q @ is_seen
        has = mass > _HAS
        has[0] = False
        even = torch.where(has, _EVEN / (mass.clamp(min=1) * has.sum().clamp(min=1)), 0.0)
        share = torch.where(has, 1.0, _ABSENT)
        share[0] = 0
        share /= share.sum()

        weight = (even @ q + 1 / is_seen.sum().clamp(min=1)) * is_seen
        loss = -torch.dot(weight, (q * logs).sum(0))
        apart = p - q
        above, below = apart.abs() @ is_seen, p @ is_seen + mass + _SMOOTH
        loss = loss + torch.dot(share, above / below)

        slope = apart.sign() * (share / below)[:, None]
        slope -= (share * above / below.square())[:, None]
        slope *= is_seen
        slope -= (p * slope).sum(0)
        slope *= p
        slope += weight * apart
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0], None, None
