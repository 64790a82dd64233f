"""Take the pictures of the attention panel for the documentation, on the sample phantom.

Drives a real window with real mouse and key events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots_attention.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest

from napari_sightline.viewer import robot
from napari_sightline.viewer.attention.details import HEADS, STRUCTURES, TRUST, UNCERTAINTY

SIZE = (1280, 800)


class Reader:
    """Somebody in front of the window."""

    def __init__(self, theme: str, folder: Path) -> None:
        get_settings().appearance.theme = theme
        self.folder = folder
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.set_geometry(0, 0, *SIZE)
        self.viewer.open_sample("napari-sightline", "head-neck-phantom")
        self.scan = self.viewer.layers["phantom"]
        self.truth = self.viewer.layers["true labels"]
        self.truth.opacity = 0.25
        self.viewer.layers.selection.active = self.scan
        _, self.prompts = self.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Segment with prompts"
        )
        _, self.panel = self.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Attention layers"
        )
        self.control, self.view = self.panel.control, self.panel.view
        robot.live(0.5)
        self.canvas = robot.canvas_of(self.viewer)

    def idle(self) -> None:
        """Wait until all work is done."""
        robot.live(0.3)
        robot.wait_until(
            lambda: not (self.control.busy or self.prompts.controller.busy), 10 * robot.PATIENCE
        )
        robot.live(0.4)

    def place(self, voxel: Sequence[float]) -> Any:
        """Where a voxel of the phantom lies on the canvas."""
        return robot.pixel(self.viewer, self.canvas, self.scan, voxel)

    def hover(self, voxel: Sequence[float]) -> None:
        """Go to a voxel of the phantom with the mouse."""
        place = self.place(voxel)
        QTest.mouseMove(self.canvas, place + QPoint(4, 0))
        QTest.mouseMove(self.canvas, place)
        self.idle()

    def picture(self, name: str, bottom: bool = False) -> None:
        """Save what the window shows, with the panel scrolled to its top or its bottom."""
        bar = self.view.verticalScrollBar()
        bar.setValue(bar.maximum() if bottom else 0)
        robot.live(0.5)
        path = self.folder / f"attention-panel-{name}.png"
        self.viewer.window.screenshot(path, flash=False, canvas_only=False)
        # A window's greys and a few colours: a palette halves the file, and nobody sees it.
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
        print(path)


def tour(reader: Reader) -> None:
    control, view, truth = reader.control, reader.view, reader.truth.data
    places = np.argwhere(truth == 4)  # the left parotid
    middle = places[np.argmin(((places - places.mean(0)) ** 2).sum(1))]
    reader.idle()
    robot.click(reader.canvas, reader.place(middle))
    reader.idle()
    reader.picture("both-panels")
    reader.viewer.window.remove_dock_widget(reader.prompts)
    for layer in list(reader.viewer.layers):
        if layer.name.startswith("labels of"):
            layer.contour = 1
    reader.hover(middle)
    reader.picture("cursor")
    control.set(heads=(0,))
    reader.idle()
    robot.key(reader.canvas, "K")
    control.set(heads=())
    view.details.setCurrentIndex(STRUCTURES)
    reader.idle()
    reader.picture("structures", bottom=True)
    view.details.setCurrentIndex(HEADS)
    reader.idle()
    robot.wait_until(lambda: view.details.heads.rowCount() > 0)
    reader.picture("heads", bottom=True)
    view.details.setCurrentIndex(STRUCTURES)
    for layer in control.layers.kept:
        reader.viewer.layers.remove(layer)
    control.set(mode="prompt")
    reader.idle()
    reader.picture("prompt")
    control.set(mode="pinned")
    reader.idle()
    view.details.setCurrentIndex(TRUST)
    view.details.measure.click()
    reader.idle()
    reader.picture("trust", bottom=True)
    view.details.setCurrentIndex(UNCERTAINTY)
    control.layers.live.visible = False
    view.details.uncertainty.setChecked(True)
    reader.idle()
    robot.key(reader.canvas, "U")
    reader.idle()
    reader.picture("unsure", bottom=True)
    view.details.uncertainty.setChecked(False)
    control.layers.live.visible = True
    control.set(lines=6, mode="pinned")
    reader.viewer.dims.ndisplay = 3
    reader.viewer.scene.camera.angles = (8, 35, 80)
    reader.idle()
    reader.picture("3d")
    reader.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    before = get_settings().appearance.theme
    try:
        tour(Reader(chosen.theme, chosen.out))
    finally:
        get_settings().appearance.theme = before


if __name__ == "__main__":
    main()
