"""Models for the panel's tests: a small Swin-UNETR in a folder, and a network one can foresee."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sightline.models import store
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.segment.automatic import Slab
from napari_sightline.viewer import automatic_run, robot

SPEC = SegmenterSpec(
    name="tissues",
    labels={1: "soft tissue", 2: "bone"},
    roi=(32, 32, 32),
    orientation="SPL",
    intensity=IntensityRule("window", -1000.0, 1000.0),
    overlap=0.25,
    modality="CT",
    licence="BSD-3-Clause",
)


class Tissues(nn.Module):
    """Logits of air, soft tissue and bone by intensity.

    Parameters
    ----------
    overlapping : bool
        Two outputs, soft tissue and all tissue, instead of three.
    """

    def __init__(self, overlapping: bool = False) -> None:
        super().__init__()
        self.overlapping = overlapping
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hu = 2000 * x[:, :1] - 1000
        if self.overlapping:
            return torch.cat([hu + 200, hu - 300], 1)
        centres = torch.tensor([-1000.0, 50.0, 550.0]).view(1, 3, 1, 1, 1)
        return -(hu - centres).abs() / 50


def two_tissues(shape: tuple[int, int, int] = (96, 40, 44)) -> np.ndarray:
    """HU: air, a block of soft tissue, a bone in it with a hole, and a speck of bone apart."""
    hu = np.full(shape, -1000, np.int16)
    hu[8:-8, 6:-6, 6:-6] = 50
    hu[20:60, 12:24, 12:24] = 600
    hu[30:34, 16:19, 16:19] = 50  # shut in by bone
    hu[80:82, 30:32, 30:32] = 600
    return hu


def install(name: str, network: nn.Module, **changes: Any) -> Path:
    """Put a network into the user's folder of models, as an import does."""
    from dataclasses import replace

    spec = replace(SPEC, name=name, roi=(64, 32, 32), **changes)
    return store.install(Segmenter(network, spec), spec, f"{name}.pt", name, False).path


class Watcher:
    """In front of a viewer with the panel for automatic segmentation."""

    def __init__(self, viewer: Any, panel: Any, qtbot: Any) -> None:
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.view, self.control = panel.view, panel.control

    def show(self, volume: Any) -> Any:
        """Open a volume as files are opened."""
        from napari_sightline.viewer.bridge import image_layer

        data, options, _ = image_layer(volume)
        layer = self.viewer.add_image(data, **options)
        self.settle()
        return layer

    def settle(self) -> None:
        """Wait until nothing is computed."""
        self.qtbot.wait(20)
        self.until(lambda: not self.control.worker.jobs and not self.control._pause.isActive())

    def until(self, holds: Any) -> None:
        self.qtbot.waitUntil(holds, timeout=90_000)

    def press(self, button: Any) -> None:
        """Press a button with the mouse."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        assert button.isEnabled(), button.text()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def segment(self) -> Any:
        """Press Segment, wait; the first labels layer that came."""
        before = set(self.viewer.layers)
        self.press(self.view.run)
        self.settle()
        from napari.layers import Labels

        new = [one for one in self.viewer.layers if one not in before and isinstance(one, Labels)]
        return new[0] if new else None

    def pick(self, name: str) -> None:
        """Click an organ in the list."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        tree = self.view.organs
        (item,) = tree.findItems(name, Qt.MatchFlag.MatchExactly)
        place = tree.visualItemRect(item).center()
        QTest.mouseClick(
            tree.viewport(),
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
            place,
        )
        robot.live(0.02)


@contextmanager
def held(control: Any) -> Iterator[None]:
    """Inside, a run stops when its first slab is finished and told; outside, it goes on."""
    going, messenger = threading.Event(), control._messenger
    tell = messenger.tell

    def slow(job: Any, what: object) -> None:
        tell(job, what)
        if isinstance(what, Slab):
            going.wait(300)

    messenger.tell = slow
    try:
        yield
    finally:
        going.set()
        messenger.tell = tell


def forget_models() -> None:
    """Let go of the network that ran last."""
    automatic_run._kept.clear()
