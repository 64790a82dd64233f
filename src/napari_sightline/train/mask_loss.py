"""Losses of the promptable network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.models.sightline3d import Prediction


def mask_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice loss plus balanced cross-entropy of each mask.

    Parameters
    ----------
    logits : torch.Tensor
        ``(B, M, D, H, W)``.
    target, known : torch.Tensor
        ``(B, 1, D, H, W)`` bool; voxels that are not known are left out.

    Returns
    -------
    torch.Tensor
        ``(B, M)``.
    """
    axes = (2, 3, 4)
    k, t = known.float(), (target & known).float()
    p = logits.sigmoid() * k
    dice = 1 - (2 * (p * t).sum(axes) + 1) / (p.sum(axes) + t.sum(axes) + 1)
    inside = t.sum(axes, keepdim=True)
    outside = (k.sum(axes, keepdim=True) - inside).clamp(min=1)
    # The background of a small object counts at most eight times the object: no empty prediction.
    weight = torch.where(t > 0, 1.0, (8 * inside / outside).clamp(max=1.0)) * k
    entropy = F.binary_cross_entropy_with_logits(logits, t.expand_as(logits), reduction="none")
    return dice + (entropy * weight).sum(axes) / weight.sum(axes).clamp(min=1)


def overlap(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Intersection over union of each mask, ``(B, M)``; shapes as in `mask_loss`."""
    p = (logits > 0) & known
    t = target & known
    both = (p & t).sum((2, 3, 4)).float()
    either = (p | t).sum((2, 3, 4)).float()
    return both / either.clamp(min=1)


def step_loss(prediction: Prediction, target: Tensor, known: Tensor, ambiguous: Tensor) -> Tensor:
    """Loss of one step: the main mask, the best candidate where ambiguous, and the qualities.

    `ambiguous` is ``(B,)`` bool: True where a single prompt was given. Of the candidates only the
    best learns (Kirillov et al., 2023), and the others a little, so that none dies.
    """
    logits, quality = prediction
    loss = mask_loss(logits[:, :1], target, known)[:, 0].mean()
    truth = overlap(logits.detach(), target, known)
    rating = (quality.sigmoid() - truth) ** 2
    loss = loss + rating[:, 0].mean()
    if bool(ambiguous.any()):
        candidates = mask_loss(logits[ambiguous, 1:], target[ambiguous], known[ambiguous])
        share = float(ambiguous.float().mean())
        best = candidates.min(1).values.mean() + 0.05 * candidates.mean()
        loss = loss + share * (0.4 * best + rating[ambiguous, 1:].mean())
    return loss
