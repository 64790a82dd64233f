"""How often a second the attention panel's map follows the cursor, in a real window.

Moves the mouse over the sample phantom in small steps, for some seconds, and counts the maps that
were drawn and the times when the window was blocked. Run it on an idle machine, where a display
exists, or under ``xvfb-run -s "-screen 0 1280x800x24" python scripts/bench_attention_panel.py``.
"""

from __future__ import annotations

import argparse
import json
import time

import napari
import numpy as np
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest

from napari_sightline.evaluate.report import machine
from napari_sightline.viewer import robot
from napari_sightline.viewer.bench import Heartbeat

#: Seconds between two moves of the mouse: a hand moves about so often.
STEP = 0.008


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.set_geometry(0, 0, 1280, 800)
    viewer.open_sample("napari-sightline", "head-neck-phantom")
    scan = viewer.layers["phantom"]
    middle = np.argwhere(viewer.layers["true labels"].data == 4).mean(0).round()
    viewer.layers.selection.active = scan
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Attention layers")
    canvas = robot.canvas_of(viewer)
    robot.live(0.5)
    place = robot.pixel(viewer, canvas, scan, middle)
    QTest.mouseMove(canvas, place)
    robot.live(0.2)
    robot.key(canvas, "G")
    robot.wait_until(lambda: panel.control.shown is not None)
    panel.control.set(mode="cursor")
    robot.live(1.0)
    drawn: list[float] = []
    panel.control.answered.connect(lambda *_: drawn.append(time.perf_counter()))
    moves, begun = 0, time.perf_counter()
    with Heartbeat() as heart:
        while time.perf_counter() - begun < chosen.seconds:
            angle = moves / 15
            away = QPoint(int(60 * np.cos(angle)), int(45 * np.sin(angle)))
            QTest.mouseMove(canvas, place + away)
            moves += 1
            robot.live(STEP)
        seconds = time.perf_counter() - begun
    viewer.close()
    found = {
        "maps_per_second": round(len(drawn) / seconds, 1),
        "moves_per_second": round(moves / seconds, 1),
        "blocked_p99_ms": round(float(np.percentile(heart.gaps, 99)), 1),
        "blocked_max_ms": round(max(heart.gaps), 1),
        "machine": machine(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
