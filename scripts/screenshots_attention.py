"""Take the pictures of the attention panel for the documentation, on the sample phantom.

Drives a real window with real mouse and key events; run it where a display exists, or under
``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots_attention.py``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from screenshots_reader import PHANTOM, Reader, take

from napari_sightline.viewer import robot
from napari_sightline.viewer.attention.details import HEADS, STRUCTURES, TRUST, UNCERTAINTY


def tour(reader: Reader, _: argparse.Namespace) -> None:
    viewer = reader.viewer
    viewer.open_sample("napari-sightline", "head-neck-phantom")
    viewer.layers["true labels"].opacity = 0.25
    truth = viewer.layers["true labels"].data
    viewer.layers.selection.active = viewer.layers[PHANTOM]
    prompts = reader.open("Segment with prompts", lambda panel: panel.controller.busy)
    panel = reader.open("Attention layers", lambda panel: panel.control.busy)
    control, view = panel.control, panel.view

    def picture(name: str, bottom: bool = False) -> None:
        """Save what the window shows, with the panel scrolled to its top or its bottom."""
        bar: Any = view.verticalScrollBar()
        bar.setValue(bar.maximum() if bottom else 0)
        reader.picture(f"attention-panel-{name}")

    places = np.argwhere(truth == 4)  # the left parotid
    middle = places[np.argmin(((places - places.mean(0)) ** 2).sum(1))]
    reader.idle()
    reader.click(middle)
    viewer.window.remove_dock_widget(prompts)
    for layer in list(viewer.layers):
        if layer.name.startswith("labels of"):
            layer.contour = 1
    reader.hover(middle)
    picture("cursor")
    control.set(heads=(0,))
    reader.idle()
    robot.key(reader.canvas, "K")
    control.set(heads=())
    view.details.setCurrentIndex(STRUCTURES)
    reader.idle()
    picture("structures", bottom=True)
    view.details.setCurrentIndex(HEADS)
    reader.idle()
    robot.wait_until(lambda: view.details.heads.rowCount() > 0)
    picture("heads", bottom=True)
    view.details.setCurrentIndex(STRUCTURES)
    for layer in control.layers.kept:
        viewer.layers.remove(layer)
    control.set(mode="prompt")
    reader.idle()
    picture("prompt")
    control.set(mode="pinned")
    reader.idle()
    view.details.setCurrentIndex(TRUST)
    view.details.measure.click()
    reader.idle()
    picture("trust", bottom=True)
    view.details.setCurrentIndex(UNCERTAINTY)
    control.layers.live.visible = False
    view.details.uncertainty.setChecked(True)
    reader.idle()
    robot.key(reader.canvas, "U")
    reader.idle()
    picture("unsure", bottom=True)
    view.details.uncertainty.setChecked(False)
    control.layers.live.visible = True
    control.set(lines=6, mode="pinned")
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (8, 35, 80)
    reader.idle()
    picture("3d")


if __name__ == "__main__":
    take(argparse.ArgumentParser(description=__doc__), tour)
