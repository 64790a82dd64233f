"""A volume's voxels as a network wants them: the numbers behind an `IntensityRule`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule
from napari_sightline.orientation import Array

#: Voxels looked at together where a whole volume is summed up.
_CHUNK = 2**22


@dataclass(frozen=True)
class Scaling:
    """``gain * voxel + offset``, clipped to ``low .. high``.

    Attributes
    ----------
    gain, offset : float
        Of the straight line.
    low, high : float
        Bounds of the result; infinite where nothing is clipped.
    keep_zero : bool
        Whether voxels that are zero stay zero.
    """

    gain: float = 1.0
    offset: float = 0.0
    low: float = float("-inf")
    high: float = float("inf")
    keep_zero: bool = False

    @classmethod
    def of(cls, rule: IntensityRule, data: Array) -> Scaling:
        """Work out a rule for a volume; not finite voxels do not count.

        Percentiles, mean and standard deviation are those of MONAI's
        ``ScaleIntensityRangePercentiles`` and ``NormalizeIntensity``.

        Raises
        ------
        BadInput
            Where the rule's bounds are no interval.
        """
        if rule.kind == "none":
            return cls()
        if rule.kind in ("zscore", "zscore_nonzero"):
            nonzero = rule.kind == "zscore_nonzero"
            mean, deviation = _moments(data, nonzero)
            gain = 1 / deviation if deviation > 0 else 1.0
            return cls(gain, -mean * gain, keep_zero=nonzero)
        low, high = rule.low, rule.high
        if not low < high:
            raise BadInput(
                f"The intensity window {low:g} to {high:g} is empty; give a low below a high."
            )
        if rule.kind == "percentile":
            low, high = _percentiles(data, low, high)
        gain = (rule.to_high - rule.to_low) / (high - low) if high > low else 0.0
        bounds = sorted((rule.to_low, rule.to_high))
        limits = bounds if rule.clip else [float("-inf"), float("inf")]
        return cls(gain, rule.to_low - low * gain, limits[0], limits[1])

    def apply(self, data: Array) -> npt.NDArray[np.float32]:
        """Return the voxels scaled, float32; what is not finite becomes the lowest bound or 0."""
        result = np.array(data, dtype=np.float32)
        zero = result == 0 if self.keep_zero else None
        result *= np.float32(self.gain)
        result += np.float32(self.offset)
        if result.size and not np.isfinite(result).all():
            fill = self.low if np.isfinite(self.low) else 0.0
            result[~np.isfinite(result)] = fill
        if np.isfinite(self.low) or np.isfinite(self.high):
            np.clip(result, self.low, self.high, out=result)
        if zero is not None:
            result[zero] = 0
        return result

    def without_clip(self) -> Scaling:
        """Give the same line without bounds."""
        return replace(self, low=float("-inf"), high=float("inf"))


def _chunks(data: Array) -> Iterator[npt.NDArray[Any]]:
    """Finite voxels, a part at a time."""
    step = max(1, _CHUNK // max(1, data[0].size)) if data.ndim else 1
    for start in range(0, data.shape[0], step):
        part = np.asarray(data[start : start + step]).ravel()
        yield part if part.dtype.kind in "iub" else part[np.isfinite(part)]


def _moments(data: Array, nonzero: bool) -> tuple[float, float]:
    """Mean and standard deviation."""
    count, total = 0, 0.0
    for part in _chunks(data):
        part = part[part != 0] if nonzero else part
        count, total = count + part.size, total + float(part.sum(dtype=np.float64))
    if not count:
        return 0.0, 1.0
    mean, squares = total / count, 0.0
    for part in _chunks(data):
        part = part[part != 0] if nonzero else part
        squares += float(np.square(part.astype(np.float64) - mean).sum())
    return mean, float(np.sqrt(squares / count))


def _percentiles(data: Array, low: float, high: float) -> tuple[float, float]:
    values = np.concatenate(list(_chunks(data)))
    if not values.size:
        return 0.0, 1.0
    found = np.percentile(values, (low, high), overwrite_input=True)
    return float(found[0]), float(found[1])
