"""Loss of an automatic model on cases that contour only some of its structures."""

from __future__ import annotations

import torch
from torch import Tensor

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
        total = total + _one(
            logits[sample].float(), labels[sample], seen[sample], known[sample].tolist()
        )
    return total / len(logits)


def _one(logits: Tensor, labels: Tensor, seen: Tensor, known: list[bool]) -> Tensor:
    logs = logits.log_softmax(0)
    background = [0, *(k for k, is_known in enumerate(known) if not is_known)]
    empty = logs[0] if len(background) == 1 else logs[background].logsumexp(0)
    truth = logs.gather(0, labels[None])[0]
    entropy = -torch.where(labels == 0, empty, truth)
    weight = torch.where(seen, 1.0, torch.where(labels == 0, BLANK_WEIGHT, 0.0))
    entropy = (entropy * weight).sum() / weight.sum().clamp(min=1)
    channels = [k for k, is_known in enumerate(known) if is_known and k]
    if not channels:
        return entropy
    axes = (1, 2, 3)
    p = logs[channels].exp() * seen
    t = (labels[None] == torch.tensor(channels).view(-1, 1, 1, 1)) & seen
    volume = t.sum(axes).float()
    dice = 1 - (2 * (p * t).sum(axes) + SMOOTH) / (p.sum(axes) + volume + SMOOTH)
    share = torch.where(volume > 0, 1.0, ABSENT_WEIGHT)
    loss = entropy + (dice * share).sum() / share.sum()
    present = [k for k, mask in enumerate(t) if bool(mask.any())]
    if present:
        missed = torch.stack([-truth[t[k]].mean() for k in present])
        loss = loss + EVEN_WEIGHT * missed.mean()
    return loss
