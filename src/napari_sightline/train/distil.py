"""The loss of a model that learns from what others think, as well as from contours."""

from __future__ import annotations

import torch
from torch import Tensor

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
        at = seen[sample]
        if bool(at.any()):
            total = total + _one(logits[sample][:, at].float(), chances[sample][:, at].float())
    return total / len(logits)


def _one(logits: Tensor, q: Tensor) -> Tensor:
    logs = logits.log_softmax(0)
    missed = -(q * logs).sum(0)
    p, q = logs[1:].exp(), q[1:]
    mass = q.sum(1)
    has = mass > _HAS
    even = torch.where(has, _EVEN / (mass.clamp(min=1) * has.sum().clamp(min=1)), 0.0)
    apart = (p - q).abs().sum(1) / (p.sum(1) + mass + _SMOOTH)
    share = torch.where(has, 1.0, _ABSENT)
    return missed.mean() + torch.dot(even @ q, missed) + torch.dot(share, apart) / share.sum()
