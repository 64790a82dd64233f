"""Contour five structures of a case, from an empty viewer to a saved file, by mouse and keys.

A robot reader opens a scan, clicks where the mask is most wrong, types names, presses Enter, saves
through the dialog, and compares the file with the true labels. Run it where a display exists, or
under ``xvfb-run -s "-screen 0 1280x800x24"``: ``python scripts/session_of_five.py CT ORGANS``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QFileDialog, QLineEdit

from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.io import load_labels
from napari_sightline.viewer import robot

LEFT = Qt.MouseButton.LeftButton


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path, help="true labels, which place the clicks")
    parser.add_argument("--out", type=Path, default=Path("five.nii.gz"))
    parser.add_argument("--clicks", type=int, default=5, help="for each structure")
    parser.add_argument("--structures", type=int, default=5)
    chosen = parser.parse_args()
    for name, dice in contour(
        chosen.image, chosen.labels, chosen.out, chosen.clicks, chosen.structures
    ).items():
        print(f"{name}: Dice {dice:.2f}")


def contour(
    image: Path, labels: Path, out: Path, clicks: int = 5, structures: int = 5
) -> dict[str, float]:
    """Contour structures by mouse and keys; returns Dice of what was saved, by name."""
    truth, named = load_labels(labels)
    values = [int(value) for value in np.unique(truth.data) if value]
    names = {value: named.get(value) or f"structure {value}" for value in values}
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.set_geometry(0, 0, 1280, 800)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    try:
        robot.live(0.5)
        canvas = robot.canvas_of(viewer)
        (layer,) = viewer.open(image, plugin="napari-sightline")
        _idle(panel)
        wanted = sorted(names, key=lambda value: -int((truth.data == value).sum()))[:structures]
        for value in wanted:
            begun = time.perf_counter()
            goal = truth.data == value
            _contour_one(viewer, panel, canvas, layer, goal, clicks)
            QTest.keyClicks(panel.view.name, names[value])
            QTest.keyClick(panel.view.name, Qt.Key.Key_Return)
            _idle(panel)
            print(f"{names[value]} after {time.perf_counter() - begun:.1f} s", flush=True)
        _save(panel, out)
        _idle(panel)
    finally:
        viewer.close()
    saved, saved_names = load_labels(out)
    by_name = {name: value for value, name in saved_names.items()}
    found = {}
    for value in wanted:
        mine, theirs = saved.data == by_name[names[value]], truth.data == value
        found[names[value]] = float(2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()))
    return found


def _contour_one(
    viewer: Any, panel: Any, canvas: Any, layer: Any, goal: np.ndarray, clicks: int
) -> None:
    rng = np.random.default_rng(42)
    drawn = np.zeros_like(goal)
    for _ in range(clicks):
        click = simulate_click(drawn, goal, None, rng, False)
        if click is None:
            return
        place = robot.pixel(viewer, canvas, layer, click.position)
        robot.click(canvas, place, *(() if click.positive else ("Control",)))
        _idle(panel)
        case = panel.controller.case
        drawn = np.asarray(case.labels.data) == case.state.current


def _save(panel: Any, out: Path) -> None:
    """Press the button, and type into the dialog that opens."""
    QTimer.singleShot(300, lambda: _type_name(out))
    QTest.mouseClick(panel.view.save, LEFT)


def _type_name(out: Path, tries: int = 300) -> None:
    dialog = QApplication.activeModalWidget()
    if not isinstance(dialog, QFileDialog):
        if tries:
            QTimer.singleShot(100, lambda: _type_name(out, tries - 1))
        else:
            print("The dialog of this desktop cannot be typed into; use xvfb-run.", flush=True)
        return
    line, buttons = dialog.findChild(QLineEdit), dialog.findChild(QDialogButtonBox)
    line.selectAll()
    QTest.keyClicks(line, str(out.resolve()))
    QTest.mouseClick(buttons.button(QDialogButtonBox.StandardButton.Save), LEFT)


def _idle(panel: Any) -> None:
    robot.live(0.2)
    robot.wait_until(lambda: not panel.controller.busy)


if __name__ == "__main__":
    main()
