"""Loss of an automatic model on cases that contour only some of its structures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

#: Weight, in the cross-entropy, of voxels that the scanner did not see, as background.
BLANK_WEIGHT = 0.05
#: Voxels added to both sides of a Dice: what an absent structure may take before it hurts.
SMOOTH = 20.0
#: Weight, in the Dice loss, of a structure that is known and not in the crop.
ABSENT_WEIGHT = 0.25
#: Weight of the cross-entropy in which each structure counts alike, however small. Without it a
#: small organ can die out: where its probability nears zero, so does the slope of its Dice.
EVEN_WEIGHT = 0.1


def partial_loss(logits: Tensor, labels: Tensor, seen: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy plus Dice loss over the structures that are known in each case.

    A part of the cross-entropy is a mean of means, one over the voxels of each structure.

    A structure that nobody contoured in a case may lie in what its labels call background: there
    its probability is added to the background's (the marginal loss of Shi et al., "Marginal loss
    and exclusion loss for partially supervised multi-organ segmentation", Medical Image Analysis
    2021), and it has no Dice.

    Parameters
    ----------
    logits : torch.Tensor, shape (B, K, D, H, W)
        Of the softmax; channel 0 is the background.
    labels : torch.Tensor, shape (B, D, H, W), int64
        Channel that is true; never one that is unknown.
    seen : torch.Tensor, shape (B, D, H, W), bool
        Voxels where truth exists.
    known : torch.Tensor, shape (B, K), bool
        Which channels are known; channel 0 is.

    Returns
    -------
    torch.Tensor
        A number.
    """
    total = logits.new_zeros(())
    for sample in range(len(logits)):
        one: Tensor = _One.apply(
            logits[sample].float().flatten(1),
            labels[sample].flatten(),
            seen[sample].flatten(),
            known[sample].tolist(),
        )
        total = total + one
    return total / len(logits)


class _One(Function):
    """Loss of one case, ``(K, N)``, and its gradient, which costs a third of what autograd takes.

    With ``p`` the softmax, both cross-entropies have gradients ``weight * (p - target)``. The Dice
    loss has ``c`` everywhere and ``d`` more where the structure is, which the softmax turns into
    ``p_k * (g_k - sum_j p_j * g_j)``.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, seen: Tensor, known: list[bool]
    ) -> Tensor:
        logs = logits.log_softmax(0)
        p = logs.exp()
        background = [0, *(k for k, is_known in enumerate(known) if not is_known)]
        channels = [k for k, is_known in enumerate(known) if is_known and k]
        empty = logs[0] if len(background) == 1 else logs[background].logsumexp(0)
        is_empty = labels == 0
        (where,) = (~is_empty).nonzero(as_tuple=True)
        truth = labels[where]

        weight = torch.where(seen, 1.0, torch.where(is_empty, BLANK_WEIGHT, 0.0))
        weight = weight / weight.sum().clamp(min=1)
        at_truth = -logs[truth, where]
        loss = (weight[where] * at_truth).sum() - torch.dot(weight * is_empty, empty)

        # Of voxels that were seen, for each structure: count, and sums of p over them and it.
        is_seen, told = seen.float(), seen[where]
        volume = torch.bincount(truth[told], minlength=len(logs)).float()
        inside = p.new_zeros(len(logs)).index_add_(0, truth[told], p[truth[told], where[told]])
        taken = p @ is_seen
        share = p.new_zeros(len(logs))
        share[channels] = torch.where(volume[channels] > 0, 1.0, ABSENT_WEIGHT)
        share /= share.sum().clamp(min=ABSENT_WEIGHT)
        above, below = 2 * inside + SMOOTH, taken + volume + SMOOTH
        loss = loss + (share * (1 - above / below)).sum()

        even = torch.where(share > 0, volume, 0.0)
        even = torch.where(even > 0, EVEN_WEIGHT / (even * (even > 0).sum()), 0.0)
        extra = even[truth] * told
        loss = loss + (extra * at_truth).sum()

        c, d = share * above / below.square(), -2 * share / below
        slope = torch.outer(c, is_seen)
        slope += weight - (c @ p) * is_seen
        slope *= p
        if len(background) == 1:
            slope[0] -= weight * is_empty
        else:
            for k in background:
                slope[k] -= weight * is_empty * (logs[k] - empty).exp()
        p_truth, pull = p[:, where], d[truth] * told * p[truth, where]
        slope[:, where] += p_truth * (extra - pull)
        slope[truth, where] += pull - weight[where] - extra
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0], None, None, None
