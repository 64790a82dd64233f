"""A session without a network, for tests of what is around it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from napari_sightline.prompts import Box, Point, Prompt
from napari_sightline.volume import Box3, Volume

#: What stands in a volume made by `scan`: the background and two structures.
AIR, FIRST, SECOND = 0, 100, 200


class FakeSession:
    """Takes for the object every voxel as bright as the first click; grows by a ball at each."""

    def __init__(self, wrong: bool = False) -> None:
        self.wrong = wrong
        self.loaded = False
        self.log: list[str] = []
        self.prompts: list[Prompt] = []
        self.volume: Volume | None = None
        self.mask_box: Box3 | None = None
        self.mask: np.ndarray | None = None
        self.quality = 0.5
        self.name = ""
        self.names: dict[int, str] = {}

    @property
    def id(self) -> int:
        return len(self.names)

    @property
    def volume_ml(self) -> float:
        assert self.volume is not None
        count = 0 if self.mask is None else int(self.mask.sum())
        return count * float(np.prod(self.volume.spacing)) / 1000

    def accept(self, name: str = "") -> FakeSession:
        assert self.mask_box is not None and self.mask is not None
        self.names[len(self.names) + 1] = name
        self.labels[self.mask_box][self.mask] = len(self.names)
        return self

    @property
    def current(self) -> FakeSession:
        return self

    def load(self, progress: Callable[[float, str], None] | None = None) -> None:
        self.loaded = True

    def set_volume(self, volume: Volume) -> None:
        self.volume = volume
        self.labels = np.zeros(volume.shape, np.uint8)
        self.log.append(f"volume {volume.name}")

    def new_object(self, name: str = "") -> None:
        self.prompts, self.mask_box, self.mask, self.name = [], None, None, name
        self.log.append(f"object {name}")

    def add(self, prompt: Prompt, progress: object = None, cancel: object = None) -> object:
        assert self.volume is not None
        first = not self.prompts
        self.prompts.append(prompt)
        mask = np.zeros(self.volume.shape, bool)
        grid = np.indices(mask.shape)
        for number, item in enumerate(self.prompts):
            if isinstance(item, Box):
                low, high = (np.reshape(c, (3, 1, 1, 1)) for c in (item.low, item.high))
                mask |= ((grid >= low) & (grid <= high)).all(axis=0)
            elif isinstance(item, Point):
                away = np.sqrt(sum((g - p) ** 2 for g, p in zip(grid, item.position, strict=True)))
                same = self.volume.data == self.volume.data[tuple(int(p) for p in item.position)]
                ball = (away <= 2.5 * (number + 1)) & same
                mask = mask | ball if item.positive else mask & ~ball
        if self.wrong:
            mask[:] = False
        where = np.argwhere(mask)
        if len(where):
            low, high = where.min(0), where.max(0) + 1
            a, b, c = (slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
            self.mask_box, self.mask = (a, b, c), mask[a, b, c]
        else:
            self.mask_box, self.mask = None, None
        return SimpleNamespace(
            seconds=0.5, encode_seconds=0.3 if first else 0.0, quality=self.quality
        )


def make_fake() -> FakeSession:
    """Make a session in another process."""
    return FakeSession()


def make_wrong() -> FakeSession:
    """Make a session that never finds anything."""
    return FakeSession(wrong=True)


def scan(seed: int = 0) -> tuple[Volume, np.ndarray]:
    """Make a small volume with two bright blocks, and its labels 1 and 2 (canonical)."""
    shift = seed % 3
    labels = np.zeros((20, 24, 22), np.uint8)
    labels[3 + shift : 11 + shift, 4:12, 5:13] = 1
    labels[14:18, 13:20, 12:20] = 2
    values = np.array([AIR, FIRST, SECOND], np.int16)[labels]
    affine = np.diag([-1.5, -1.0, 2.0, 1.0])  # left, posterior, superior: a usual CT
    return Volume.from_array(values.T.copy(), affine=affine, name=f"scan{seed}"), labels
