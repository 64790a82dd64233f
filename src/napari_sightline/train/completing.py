"""Structures that nobody contoured in a case, filled in by a model that knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from napari_sightline.segment.finish import Finish
from napari_sightline.train.organ_cases import OrganCase


def complete(
    case: OrganCase, logits_of: Callable[[OrganCase], Tensor], outputs: int, fragments: float
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
    logits_of : callable
        Gives a case's logits, ``(outputs, d0, d1, d2)``, on its own grid.
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
    found = logits_of(case).argmax(0).numpy().astype(np.uint8)
    found[~np.isin(found, missing) | case.blank | (case.labels > 0)] = 0
    spacing = (float(case.spacing[0]), float(case.spacing[1]), float(case.spacing[2]))
    found = Finish(fragments=fragments).apply(found, spacing)
    known = tuple(sorted({*case.source.known, *missing}))
    return replace(
        case,
        source=replace(case.source, known=known),
        labels=np.where(found > 0, found, case.labels),
    )
