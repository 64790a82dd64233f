"""Take the pictures of the prompt panel for the documentation, on the sample phantom.

Drives a real window with real mouse and key events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

SIZE = (1280, 800)
PATIENCE = 300  # seconds for a click, on any machine
NONE = Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier


class Reader:
    """Somebody in front of the window."""

    def __init__(self, theme: str, folder: Path) -> None:
        get_settings().appearance.theme = theme
        self.folder = folder
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.set_geometry(0, 0, *SIZE)
        _, self.panel = self.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Segment with prompts"
        )
        self.wait(0.5)
        kind = "CanvasBackendDesktop"
        self.canvas = next(w for w in QApplication.allWidgets() if type(w).__name__ == kind)

    def wait(self, seconds: float) -> None:
        """Let the window live for a while."""
        loop = QEventLoop()
        QTimer.singleShot(int(1000 * seconds), loop.quit)
        loop.exec()

    def idle(self) -> None:
        """Wait until all work is done."""
        begun = time.monotonic()
        self.wait(0.2)
        while self.panel.controller.busy:
            if time.monotonic() - begun > PATIENCE:
                raise SystemExit("The panel did not finish; is the machine busy?")
            self.wait(0.2)

    def click(self, voxel: Sequence[float], modifier: Qt.KeyboardModifier = NONE) -> None:
        """Go to the slice of a voxel of the phantom and click on it."""
        viewer = self.viewer
        world = np.array(viewer.layers["phantom"].data_to_world(voxel))
        for axis in viewer.dims.not_displayed:
            viewer.dims.set_point(axis, world[axis])
        self.wait(0.2)
        camera = viewer.scene.camera
        signs = np.array([-1 if str(s) in ("up", "left") else 1 for s in camera.orientation2d])
        shown = world[list(viewer.dims.displayed)]
        offset = (shown - np.array(camera.center[-2:])) * camera.zoom * signs
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        y, x = np.rint(middle + offset).astype(int)
        place = QPoint(int(x), int(y))
        QTest.mouseMove(self.canvas, place)
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, modifier, place)
        self.idle()

    def correct(self, truth: Any, clicks: int) -> None:
        """Click in the middle of the largest error, as a reader would."""
        from napari_sightline.evaluate.robot import simulate_click

        case = self.panel.controller.case
        for _ in range(clicks):
            drawn = case.labels.data == case.state.current
            found = simulate_click(drawn, truth)
            if found is None:
                return
            self.click(found.position, NONE if found.positive else CONTROL)

    def accept(self, name: str) -> None:
        """Name the object and press Enter."""
        self.panel.view.name.setText(name)
        QTest.keyClick(self.canvas, Qt.Key.Key_Return)
        self.idle()

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        self.wait(0.5)
        path = self.folder / f"{name}.png"
        self.viewer.window.screenshot(path, flash=False, canvas_only=False)
        print(path)


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


def tour(reader: Reader) -> None:
    viewer, view = reader.viewer, reader.panel.view
    viewer.open_sample("napari-sightline", "head-neck-phantom")
    reader.idle()
    viewer.layers.selection.active = viewer.layers["phantom"]
    truth = viewer.layers["true labels"].data
    reader.picture("panel-ready")

    from napari_sightline.evaluate.robot import simulate_click

    stem = truth == 1
    reader.correct(stem, 1)
    reader.picture("panel-first-click")
    reader.correct(stem, 3)
    reader.accept("brainstem")

    view.planes.button(1).click()
    parotid = truth == 4
    reader.correct(parotid, 3)
    reader.picture("panel-coronal")
    reader.accept("left parotid gland")

    view.planes.button(2).click()
    reader.correct(truth == 7, 4)
    reader.accept("mandible")
    view.outline.setChecked(True)
    view.planes.button(0).click()
    middle = simulate_click(np.zeros_like(parotid), parotid)
    if middle is not None:
        viewer.dims.set_current_step(0, round(middle.position[0]))
    reader.picture("panel-objects")
    viewer.close()


if __name__ == "__main__":
    main()
