"""Take the pictures of the prompt panel for the documentation, on the sample phantom.

Drives a real window with real mouse and key events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings

from napari_sightline.viewer import robot

SIZE = (1280, 800)


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
        robot.live(0.5)
        self.canvas = robot.canvas_of(self.viewer)

    def idle(self) -> None:
        """Wait until all work is done."""
        robot.live(0.2)
        robot.wait_until(lambda: not self.panel.controller.busy)

    def click(self, voxel: Sequence[float], *modifiers: str) -> None:
        """Go to the slice of a voxel of the phantom and click on it."""
        layer = self.viewer.layers["phantom"]
        robot.click(self.canvas, robot.pixel(self.viewer, self.canvas, layer, voxel), *modifiers)
        self.idle()

    def drag(self, voxels: Sequence[Sequence[float]], *modifiers: str) -> None:
        """Press at the first of some voxels of a slice, draw through them, release at the last."""
        layer = self.viewer.layers["phantom"]
        places = [robot.pixel(self.viewer, self.canvas, layer, voxel) for voxel in voxels]
        robot.drag(self.canvas, places, *modifiers)
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
            self.click(found.position, *(() if found.positive else ("Control",)))

    def accept(self, name: str) -> None:
        """Name the object and press Enter."""
        self.panel.view.name.setText(name)
        robot.key(self.canvas, "Return")
        self.idle()

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        robot.live(0.5)
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
    middle = simulate_click(np.zeros_like(parotid), parotid)
    assert middle is not None
    z, y, x = (round(v) for v in middle.position)
    rows, columns = np.nonzero(parotid[:, y])
    robot.key(reader.canvas, "B")
    reader.drag([(rows.min(), y, columns.min()), (rows.max(), y, columns.max())])
    reader.picture("panel-box")
    robot.key(reader.canvas, "S")
    reader.drag([(z - 4, y, x - 1), (z, y, x), (z + 4, y, x + 1)])
    reader.picture("panel-scribble")
    robot.key(reader.canvas, "L")
    top, right = rows.max() + 3, columns.max() + 3
    corners = [(top, y, right), (top, y, right + 8), (top + 8, y, right + 8), (top + 8, y, right)]
    reader.drag(corners, "Control")
    reader.picture("panel-lasso")
    robot.key(reader.canvas, "P")
    reader.correct(parotid, 2)
    reader.accept("left parotid gland")

    view.planes.button(2).click()
    reader.correct(truth == 7, 4)
    reader.accept("mandible")
    view.outline.setChecked(True)
    view.planes.button(0).click()
    viewer.dims.set_current_step(0, z)
    reader.picture("panel-objects")
    viewer.close()


if __name__ == "__main__":
    main()
