"""Take the pictures of the prompt panel for the documentation, on the sample phantom.

Drives a real window with real mouse and key events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots.py``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from screenshots_reader import PHANTOM, Reader, take

from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.viewer import robot


def correct(reader: Reader, panel: Any, truth: Any, clicks: int) -> None:
    """Click in the middle of the largest error, as a reader would."""
    case = panel.controller.case
    for _ in range(clicks):
        found = simulate_click(case.labels.data == case.state.current, truth)
        if found is None:
            return
        reader.click(found.position, *(() if found.positive else ("Control",)))


def accept(reader: Reader, panel: Any, name: str) -> None:
    """Name the object and press Enter."""
    panel.view.name.setText(name)
    robot.key(reader.canvas, "Return")
    reader.idle()


def tour(reader: Reader, _: argparse.Namespace) -> None:
    viewer = reader.viewer
    panel = reader.open("Segment with prompts", lambda panel: panel.controller.busy)
    view = panel.view
    viewer.open_sample("napari-sightline", "head-neck-phantom")
    reader.idle()
    viewer.layers.selection.active = viewer.layers[PHANTOM]
    truth = viewer.layers["true labels"].data
    reader.picture("panel-ready")

    stem = truth == 1
    correct(reader, panel, stem, 1)
    reader.picture("panel-first-click")
    correct(reader, panel, stem, 3)
    accept(reader, panel, "brainstem")

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
    correct(reader, panel, parotid, 2)
    accept(reader, panel, "left parotid gland")

    view.planes.button(2).click()
    correct(reader, panel, truth == 7, 4)
    accept(reader, panel, "mandible")
    view.outline.setChecked(True)
    view.planes.button(0).click()
    viewer.dims.set_current_step(0, z)
    reader.picture("panel-objects")
    viewer.theme = "light"
    reader.idle()
    reader.picture("panel-light")


if __name__ == "__main__":
    take(argparse.ArgumentParser(description=__doc__), tour)
