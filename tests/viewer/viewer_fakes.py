"""A model that answers at once, and an array that knows how much of it the main thread touches."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from napari_sightline.models.intensity import Intensity
from napari_sightline.models.promptable import Decoded


class Balls:
    """Answers with balls round positive clicks and in boxes, less balls round negative clicks."""

    name = "sightline-3d"
    stride = 16
    device: Any = "cpu"
    precision = "fp32"

    def encode(self, region: np.ndarray, intensity: Intensity, spacing: float) -> np.ndarray:
        return region

    def decode(
        self,
        encoded: np.ndarray,
        points: np.ndarray,
        codes: np.ndarray,
        previous: np.ndarray | None,
    ) -> Decoded:
        out = np.full(encoded.shape, -4.0, np.float32)
        corners = np.isin(codes, (4, 5))
        if corners.any():  # a box counts as its middle
            points = np.concatenate([points[~corners], points[corners].mean(0)[None]])
            codes = np.concatenate([codes[~corners], [1]])
        grid = [np.arange(n, dtype=np.float32) for n in encoded.shape]
        for inside in (True, False):
            for point, code in zip(points, codes, strict=True):
                if (code in (1, 3)) != inside:
                    continue
                d, h, w = (line - p for line, p in zip(grid, point, strict=True))
                away = np.sqrt(d[:, None, None] ** 2 + h[None, :, None] ** 2 + w**2)
                out = np.maximum(out, 6 - away) if inside else np.minimum(out, away - 2)
        out = out.clip(-8, 8)
        if previous is not None:
            return Decoded(out[None], np.array([0.8]))
        return Decoded(np.stack([out, out - 2, out, out + 2]), np.array([0.8, 0.5, 0.7, 0.6]))


class Watched(np.ndarray):
    """Array that notes how many voxels each access of the main thread touches."""

    touched: list[int]

    @classmethod
    def of(cls, array: np.ndarray) -> Watched:
        made = array.view(cls)
        made.touched = []
        return made

    def __array_finalize__(self, other: Any) -> None:
        self.touched = getattr(other, "touched", [])

    def _note(self, size: int) -> None:
        if threading.current_thread() is threading.main_thread():
            self.touched.append(int(size))

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        advanced = not isinstance(found, np.ndarray) or found.base is None
        if advanced:  # a view costs nothing until it is read
            self._note(np.size(found))
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        self._note(np.size(value))
        super().__setitem__(key, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        self._note(max(np.size(one) for one in inputs))
        plain = [np.asarray(one) if isinstance(one, Watched) else one for one in inputs]
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = tuple(np.asarray(o) if isinstance(o, Watched) else o for o in out)
        return getattr(ufunc, method)(*plain, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._note(max([np.size(a) for a in args if isinstance(a, np.ndarray)], default=0))
        return super().__array_function__(func, types, args, kwargs)

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        self._note(self.size)
        return super().astype(*args, **kwargs)

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        self._note(self.size)
        return super().copy(*args, **kwargs)
