"""Structures that nobody contoured in a case, filled in by a model that knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from napari_sightline.segment.finish import Finish
from napari_sightline.segment.resample import Taps, resample_tensor
from napari_sightline.train.organ_cases import OrganCase


def complete(
    case: OrganCase, found_of: Callable[[OrganCase], Tensor], outputs: int, fragments: float
) -> OrganCase:
    """Fill in what a case does not contour, so that a model learns from it nevertheless.

    Self-training: a model learns, from crops that are varied, what it or another has found in
    whole scans (Xie et al., "Self-training with Noisy Student improves ImageNet classification",
    CVPR 2020). Contours are never overwritten, and crops are drawn round them as before: `points`
    stay.

    Parameters
    ----------
    case : OrganCase
        The case; not changed.
    found_of : callable
        Gives a case's logits or chances, ``(outputs, d0, d1, d2)``, on its own grid.
    outputs : int
        Channels; 0 is the background.
    fragments : float
        Parts below this share of a structure's largest are not taken.

    Returns
    -------
    OrganCase
        With every structure known; the same object where that was so.
    """
    missing = [value for value in range(1, outputs) if value not in case.source.known]
    if not missing:
        return case
    found = found_of(case).argmax(0).numpy().astype(np.uint8)
    found[~np.isin(found, missing) | case.blank | (case.labels > 0)] = 0
    spacing = (float(case.spacing[0]), float(case.spacing[1]), float(case.spacing[2]))
    found = Finish(fragments=fragments).apply(found, spacing)
    known = tuple(sorted({*case.source.known, *missing}))
    return replace(
        case,
        source=replace(case.source, known=known),
        labels=np.where(found > 0, found, case.labels),
    )


def brought(chances: Tensor, read: OrganCase, case: OrganCase) -> Tensor:
    """Bring chances from one working grid of a scan to another; both share the scan's centre.

    Parameters
    ----------
    chances : torch.Tensor, shape (outputs, d0, d1, d2), float32
        On the grid of `read`.
    read, case : OrganCase
        The same scan on two grids, along the same axes.

    Returns
    -------
    torch.Tensor, shape (outputs, e0, e1, e2)
        On the grid of `case`.
    """
    sizes = zip(read.labels.shape, read.spacing, case.labels.shape, case.spacing, strict=True)
    a, b, c = (Taps.between(n, float(mm), m, float(to)) for n, mm, m, to in sizes)
    return resample_tensor(chances, (a, b, c))
