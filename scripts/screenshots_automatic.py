"""Take the pictures of automatic segmentation for the documentation, on the sample phantom.

The network is not trained: it tells tissues apart by their intensity, so that the pictures show
what the panel does without a model's weights. Drives a real window with real mouse events; run it
where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots_automatic.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import napari
import torch
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from torch import Tensor, nn

from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.viewer import robot
from napari_sightline.viewer.automatic_run import offer

SIZE = (1280, 800)


class Tissues(nn.Module):
    """Logits of air, soft tissue and bone by intensity."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 1, D, H, W)``, 0 .. 1 for -1000 .. 1000 HU, to ``(B, 3, D, H, W)``."""
        hu = 2000 * x - 1000
        centres = torch.tensor([-1000.0, 50.0, 550.0]).view(1, 3, 1, 1, 1)
        return -(hu - centres).abs() / 50


def tissues() -> Segmenter:
    """Pack the network with its facts."""
    spec = SegmenterSpec(
        name="tissues-by-intensity",
        labels={1: "soft tissue", 2: "bone"},
        roi=(48, 64, 64),
        orientation="SPL",
        intensity=IntensityRule("window", -1000, 1000),
        overlap=0.25,
        modality="CT",
    )
    return Segmenter(Tissues(), spec)


class Reader:
    """Somebody in front of the window."""

    def __init__(self, theme: str, folder: Path) -> None:
        get_settings().appearance.theme = theme
        self.folder = folder
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.set_geometry(0, 0, *SIZE)
        _, self.panel = self.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Organs, automatic (Swin-UNETR)"
        )
        robot.live(0.5)
        self.view, self.control = self.panel.view, self.panel.control

    def idle(self) -> None:
        """Wait until all work is done."""
        robot.live(0.6)
        robot.wait_until(lambda: not self.control.worker.jobs)
        robot.live(0.3)

    def press(self, button: Any) -> None:
        """Press a button with the mouse."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def picture(self, name: str, window: Any = None) -> None:
        """Save what the window, or a dialog, shows."""
        robot.live(0.5)
        path = self.folder / f"{name}.png"
        if window is not None:
            window.grab().save(str(path))
        else:
            self.viewer.window.screenshot(path, flash=False, canvas_only=False)
        print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--scan", type=Path, help="Instead of the phantom.")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    before = get_settings().appearance.theme
    offer(tissues())
    try:
        tour(Reader(chosen.theme, chosen.out), chosen.scan)
    finally:
        get_settings().appearance.theme = before


def tour(reader: Reader, scan: Path | None) -> None:
    viewer, view = reader.viewer, reader.view
    if scan is None:
        viewer.open_sample("napari-sightline", "head-neck-phantom")
        viewer.layers.remove("true labels")
    else:
        viewer.open(scan, plugin="napari-sightline")
    reader.panel.choose_model("tissues-by-intensity")
    reader.idle()
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] * 2 // 3)
    reader.press(view.run)
    robot.wait_until(lambda: reader.control.shown is not None or reader.control.running is None)
    robot.live(0.3)
    reader.picture("automatic-running")
    reader.idle()
    reader.press(view.measures)
    _, table = viewer.window.add_plugin_dock_widget("napari-sightline", "Measures of labels")
    robot.live(1)
    robot.wait_until(lambda: not table.busy)
    reader.picture("automatic-organs")
    manager = reader.panel.manage_models()
    robot.live(0.5)
    manager.choose("swin-unetr-btcv")
    reader.picture("automatic-models", manager)
    manager.close()
    viewer.close()


if __name__ == "__main__":
    main()
