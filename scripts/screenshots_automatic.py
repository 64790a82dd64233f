"""Take the pictures of automatic segmentation for the documentation, on the sample phantom.

Drives a real window with real mouse events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots_automatic.py``.
``--model tissues-by-intensity`` takes a network without training instead of the shipped one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import napari
import torch
from napari.settings import get_settings
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from torch import Tensor, nn

from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.viewer import robot
from napari_sightline.viewer.automatic_run import offer
from napari_sightline.viewer.model_form import ModelForm

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
    parser.add_argument("--model", default="swin-unetr-headneck-ct")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    before = get_settings().appearance.theme
    if chosen.model == "tissues-by-intensity":
        offer(tissues())
    with tempfile.TemporaryDirectory() as folder:
        # Models of one's own are no business of the pictures.
        os.environ["SIGHTLINE_MODELS"] = folder
        try:
            reader = Reader(chosen.theme, chosen.out)
            tour(reader, chosen.scan, chosen.model)
            questions(reader, Path(folder))
            reader.viewer.close()
        finally:
            get_settings().appearance.theme = before


def questions(reader: Reader, folder: Path) -> None:
    """Add a checkpoint that says nothing of itself; the form asks."""
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(in_channels=1, out_channels=3, feature_size=12, window_size=7)
    path = folder / "from-a-colleague.pt"
    torch.save({"state_dict": network.state_dict()}, path)
    manager = reader.panel.manage_models()
    timer = QTimer()

    def look() -> None:
        for form in QApplication.topLevelWidgets():
            if isinstance(form, ModelForm) and form.isVisible():
                timer.stop()
                form.accept()  # what is missing is said
                reader.picture("automatic-questions", form)
                form.reject()

    timer.timeout.connect(look)
    timer.start(300)
    manager.add(path)
    robot.wait_until(lambda: not timer.isActive())
    robot.live(0.5)
    manager.close()


def tour(reader: Reader, scan: Path | None, model: str) -> None:
    viewer, view = reader.viewer, reader.view
    if scan is None:
        viewer.open_sample("napari-sightline", "head-neck-phantom")
        viewer.layers.remove("true labels")
    else:
        viewer.open(scan, plugin="napari-sightline")
    reader.panel.choose_model(model)
    reader.idle()
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] * 2 // 3)
    reader.press(view.run)
    robot.wait_until(lambda: reader.control.shown is not None or reader.control.running is None)
    robot.live(0.3)
    reader.picture("automatic-running")
    reader.idle()
    _, table = viewer.window.add_plugin_dock_widget("napari-sightline", "Measures of labels")
    robot.live(1)
    robot.wait_until(lambda: not table.busy)
    reader.picture("automatic-organs")
    manager = reader.panel.manage_models()
    robot.live(0.5)
    manager.choose("swin-unetr-btcv")
    reader.picture("automatic-models", manager)
    manager.close()


if __name__ == "__main__":
    main()
