"""Robust intensity normalisation of one volume, whatever its modality and unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Voxels looked at when a volume's statistics are taken.
SAMPLE = 1_000_000
_BINS = 512


@dataclass(frozen=True)
class Intensity:
    """Two views of a volume's intensities that a network can read.

    Channel 0 is linear between the 0.5th and 99.5th percentile. Channel 1 follows the
    contrast-limited cumulative histogram (Pizer et al., "Adaptive histogram equalization and its
    variations", 1987, without tiles), so that soft tissue keeps its contrast on CT although air and
    bone span most of the range. Both lie about -1 .. 1.

    Parameters
    ----------
    low, high : float
        0.5th and 99.5th percentile in the volume's own unit.
    knots, levels : numpy.ndarray
        Shape ``(k,)``: intensity and its place, -1 .. 1, in the limited histogram.
    """

    low: float
    high: float
    knots: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray, limit: float = 4.0) -> Intensity:
        """Take the statistics of a volume.

        Parameters
        ----------
        data : numpy.ndarray
            Any shape and real dtype; voxels that are not finite are left out.
        limit : float
            A histogram bin counts at most `limit` times the mean of the bins.
        """
        # A step per axis, not over a flat copy: the scan may be memory-mapped.
        step = max(1, int(np.ceil((data.size / SAMPLE) ** (1 / max(data.ndim, 1)))))
        sample = np.asarray(data[(slice(None, None, step),) * data.ndim], dtype=np.float32).ravel()
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            sample = np.zeros(1, np.float32)
        low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
        if high <= low:
            low, high = float(sample.min()), float(sample.max())
        if high <= low:
            high = low + 1.0
        counts, edges = np.histogram(sample.clip(low, high), bins=_BINS, range=(low, high))
        counts = np.minimum(counts, limit * counts.mean()) + 1e-3 * counts.mean()
        cumulative = np.concatenate([[0.0], np.cumsum(counts)])
        levels = (2 * cumulative / cumulative[-1] - 1).astype(np.float32)
        return cls(low, high, edges.astype(np.float32), levels)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Normalise voxels.

        Parameters
        ----------
        data : numpy.ndarray
            Shape ``(...)``, in the volume's unit. Voxels that are not finite count as `low`.

        Returns
        -------
        numpy.ndarray
            Shape ``(2, ...)``, float32: linear (clipped to -1.5 .. 1.5) and equalised (-1 .. 1).
        """
        values = np.asarray(data, dtype=np.float32)
        values = np.nan_to_num(values, nan=self.low, posinf=self.high, neginf=self.low)
        out = np.empty((2, *values.shape), np.float32)
        out[0] = np.clip((values - self.low) * (2 / (self.high - self.low)) - 1, -1.5, 1.5)
        out[1] = np.interp(values.ravel(), self.knots, self.levels).reshape(values.shape)
        return out
