"""Models whose answers are known, and sessions on scans made on the spot."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sightline.models.intensity import Intensity
from napari_sightline.models.promptable import Decoded
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.volume import Volume


class Bright:
    """Answers with the bright voxels of the region; notes what it was asked.

    Its candidates, in no order, are voxels above 90, 10 and 50.
    """

    name = "bright"
    stride = 16
    device: Any = "cpu"
    precision = "fp32"

    def __init__(self, quality: float = 0.9) -> None:
        self.encoded: list[tuple[tuple[int, ...], float]] = []
        self.decoded: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self.quality = quality

    def encode(self, region: np.ndarray, intensity: Intensity, spacing: float) -> np.ndarray:
        self.encoded.append((region.shape, spacing))
        return region

    def decode(
        self,
        encoded: np.ndarray,
        points: np.ndarray,
        codes: np.ndarray,
        previous: np.ndarray | None,
    ) -> Decoded:
        self.decoded.append((points, codes, previous))
        levels = (50, 90, 10, 50) if previous is None else (50,)
        logits = np.stack([((encoded - level) / 10).clip(-8, 8) for level in levels])
        return Decoded(logits, self.quality - 0.1 * np.arange(len(levels)))


class Growing(Bright):
    """Answers with balls round positive clicks, a voxel larger with every answer; keeps the rest.

    So each mask depends on the one before, and on the order of prompts.
    """

    def decode(
        self,
        encoded: np.ndarray,
        points: np.ndarray,
        codes: np.ndarray,
        previous: np.ndarray | None,
    ) -> Decoded:
        self.decoded.append((points, codes, previous))
        out = np.full(encoded.shape, -4.0) if previous is None else previous - 0.3
        grid = np.stack(np.meshgrid(*map(np.arange, encoded.shape), indexing="ij"), -1)
        for point, code in zip(points, codes, strict=True):
            away = np.linalg.norm(grid - point, axis=-1)
            if code in (1, 3):
                out = np.maximum(out, 3 + len(points) / 2 - away)
            elif code in (0, 2):
                out = np.minimum(out, away - 2)
        out = out.clip(-8, 8)
        if previous is not None:
            return Decoded(out[None], np.array([0.8]))
        return Decoded(np.stack([out, out + 2, out - 1, out]), np.array([0.8, 0.5, 0.6, 0.7]))


def brick(
    shape: tuple[int, int, int], low: tuple[int, ...], high: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    data = np.zeros(shape, np.int16)
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    data[mask] = 100
    return data, mask


def begin(
    data: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1), model: Any = None
) -> Session:
    session = Session(model or Bright())
    session.set_volume(Volume.from_array(data, spacing=spacing))
    return session


def whole(session: Session, update: MaskUpdate) -> np.ndarray:
    assert session.volume is not None
    out = np.zeros(session.volume.shape, bool)
    out[update.box] = update.mask
    return out
