"""Where the model is unsure: entropy of the mask's probabilities, a map of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.volume import Box3


def entropy_of_logits(logits: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Entropy of a binary mask's probabilities, in bits: 0 (sure) .. 1 (even odds).

    ``H = -p log2 p - (1 - p) log2 (1 - p)`` with ``p`` the logistic function of the logit
    (Shannon, 1948).

    Parameters
    ----------
    logits : array_like
        Any shape; such as `MaskUpdate.logits`. Minus infinity is surely outside.

    Returns
    -------
    numpy.ndarray
        float32 of that shape.
    """
    z = np.abs(np.asarray(logits, np.float32))
    z = np.where(np.isnan(z), 0, np.minimum(z, 80)).astype(np.float32)
    # In terms of z = |logit|: log2(1 + e^-z) + z e^-z / (1 + e^-z) / ln 2; no cancellation.
    small = np.exp(-z)
    return np.asarray((np.log1p(small) + z * small / (1 + small)) / np.log(2), np.float32)


def entropy_of_probabilities(probabilities: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Entropy of classes' probabilities over the largest possible: 0 (sure) .. 1 (even).

    Parameters
    ----------
    probabilities : array_like
        ``(classes, ...)``, summing to 1 along the first axis.

    Returns
    -------
    numpy.ndarray
        float32, without the first axis.
    """
    p = np.asarray(probabilities, np.float32)
    if p.ndim < 1 or p.shape[0] < 2:
        raise BadInput(f"Probabilities of shape {p.shape} hold one class; give two or more.")
    terms = -p * np.log(np.maximum(p, 1e-30))
    return np.asarray(terms.sum(0) / np.log(p.shape[0]), np.float32)


def most_uncertain(
    entropy: npt.NDArray[np.float32], box: Box3, sigma: float = 1.0
) -> tuple[float, float, float]:
    """Find the next best click: the middle of the largest smoothed entropy.

    A lone unsure voxel says little, so the entropy is smoothed first. Of equal places the one
    nearest to their mean is taken.

    Parameters
    ----------
    entropy : numpy.ndarray
        ``(d, h, w)`` at `box`.
    box : tuple of 3 slices
        Part of the volume.
    sigma : float
        Standard deviation of the smoothing, voxels.

    Returns
    -------
    tuple of 3 float
        Canonical voxel of the volume (whole numbers).

    Raises
    ------
    BadInput
        Where the model is sure everywhere.
    """
    from scipy import ndimage

    if entropy.size == 0 or float(np.nanmax(entropy)) <= 1e-3:
        raise BadInput("The model is sure of every voxel here; there is no uncertain place.")
    smooth = ndimage.gaussian_filter(np.nan_to_num(entropy), sigma, mode="nearest")
    places = np.argwhere(smooth >= smooth.max() - 1e-6)
    place = places[np.argmin(np.linalg.norm(places - places.mean(0), axis=1))]
    a, b, c = (float(v + s.start) for v, s in zip(place, box, strict=True))
    return a, b, c
