"""What may be done to automatic labels: no fragments, no holes, smoothness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.segment.morphology import (
    FARTHEST,
    drop_fragments,
    fill_holes,
    largest_part,
    smooth,
)


@dataclass(frozen=True)
class Finish:
    """Operations on every structure, in this order; none by default.

    Attributes
    ----------
    largest : bool
        Keep the largest connected part only.
    holes : bool
        Fill what a structure shuts in on all sides.
    smooth_mm : float
        Standard deviation of a Gaussian that evens out the surface; 0 leaves it.
    fragments : float
        Leave out parts smaller than this share, 0 .. 1, of a structure's largest; 0 leaves all.
    """

    largest: bool = False
    holes: bool = False
    smooth_mm: float = 0.0
    fragments: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fragments <= 1:
            raise BadInput(f"A share of {self.fragments:g} is none; give 0 to 1.")
        if not 0 <= self.smooth_mm <= FARTHEST:
            raise BadInput(
                f"Smoothing by {self.smooth_mm:g} mm is not possible; give 0 to {FARTHEST:g} mm."
            )

    def __bool__(self) -> bool:
        return self.largest or self.holes or self.smooth_mm > 0 or self.fragments > 0

    def apply(
        self, labels: npt.NDArray[Any], spacing: tuple[float, float, float]
    ) -> npt.NDArray[Any]:
        """Return finished labels; no structure takes voxels from another.

        Parameters
        ----------
        labels : ndarray
            Label values ``(d0, d1, d2)``, or masks that may overlap ``(k, d0, d1, d2)``.
        spacing : tuple of 3 float
            Millimetres.
        """
        from scipy import ndimage

        if not self:
            return labels
        result = labels.copy()
        margin = 2 + int(np.ceil(3 * self.smooth_mm / min(spacing)))
        layers = [result] if labels.ndim == 3 else list(result)
        for layer in layers:
            whole = layer.astype(np.uint8) if layer.dtype == bool else layer
            for k, box in enumerate(ndimage.find_objects(whole)):
                if box is None:
                    continue
                wide = tuple(
                    slice(max(0, s.start - margin), min(n, s.stop + margin))
                    for s, n in zip(box, layer.shape, strict=True)
                )
                part = layer[wide]
                before = whole[wide] == k + 1
                after = self._shape(before, spacing)
                part[before & ~after] = 0
                part[after & (part == 0)] = k + 1
        return result

    def _shape(
        self, mask: npt.NDArray[np.bool_], spacing: tuple[float, float, float]
    ) -> npt.NDArray[np.bool_]:
        if self.largest:
            mask = largest_part(mask)
        elif self.fragments:
            mask = drop_fragments(mask, self.fragments)
        if self.holes:
            mask = fill_holes(mask)
        if self.smooth_mm:
            mask = smooth(mask, spacing, self.smooth_mm)
        return mask
