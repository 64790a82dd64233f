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

import torch
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots_reader import Reader, take
from torch import Tensor, nn

from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.viewer import robot
from napari_sightline.viewer.automatic_run import offer
from napari_sightline.viewer.model_form import ModelForm

MENU = "Organs, automatic (Swin-UNETR)"
#: Slices of the phantom: one that is finished early, and one that shows most organs.
LARYNX, PAROTIDS = 26, 42


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


def questions(reader: Reader, panel: Any, folder: Path) -> None:
    """Add a checkpoint that says nothing of itself; the form asks."""
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(in_channels=1, out_channels=3, feature_size=12, window_size=7)
    path = folder / "from-a-colleague.pt"
    torch.save({"state_dict": network.state_dict()}, path)
    manager = panel.manage_models()
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


def seen(control: Any, viewer: Any) -> bool:
    """Whether an organ has appeared on the slice that is shown."""
    if control.shown is None:
        return False
    (labels,) = control.shown.layers
    return bool(labels.data[viewer.dims.current_step[0]].any())


def tour(reader: Reader, chosen: argparse.Namespace) -> None:
    viewer, scan = reader.viewer, chosen.scan
    if chosen.model == "tissues-by-intensity":
        offer(tissues())
    panel = reader.open(MENU, lambda panel: panel.control.worker.jobs)
    control = panel.control
    if scan is None:
        viewer.open_sample("napari-sightline", "head-neck-phantom")
        viewer.layers.remove("true labels")
    else:
        viewer.open(scan, plugin="napari-sightline")
    panel.choose_model(chosen.model)
    reader.idle()
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] // 4 if scan else LARYNX)
    QTest.mouseClick(panel.view.run, Qt.MouseButton.LeftButton)
    robot.wait_until(lambda: seen(control, viewer) or control.running is None)
    robot.live(0.3)
    if control.running is not None:
        reader.picture("automatic-running")
    else:
        print("The scan fits into one window along the body: no picture of a run; give a --scan.")
    reader.idle()
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] // 2 if scan else PAROTIDS)
    _, table = viewer.window.add_plugin_dock_widget("napari-sightline", "Measures of labels")
    robot.live(1)
    robot.wait_until(lambda: not table.busy)
    reader.picture("automatic-organs")
    manager = panel.manage_models()
    robot.live(0.5)
    manager.choose("swin-unetr-btcv")
    reader.picture("automatic-models", manager)
    manager.close()
    questions(reader, panel, Path(os.environ["SIGHTLINE_MODELS"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, help="Instead of the phantom.")
    parser.add_argument("--model", default="swin-unetr-headneck-ct")
    with tempfile.TemporaryDirectory() as folder:
        # Models of one's own are no business of the pictures.
        os.environ["SIGHTLINE_MODELS"] = folder
        take(parser, tour)


if __name__ == "__main__":
    main()
