"""The window while a worker imports torch, which is held in the middle of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A program of its own, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

BEGIN = """
import faulthandler, sys, threading
from importlib.machinery import PathFinder

# Where the window waits for the import it waits for ever: this says where.
faulthandler.dump_traceback_later(540, exit=True)
held, go = threading.Event(), threading.Event()

class Holding:
    def find_spec(self, name, path=None, target=None):
        if name != "torch.autograd":
            return None
        assert threading.current_thread() is not threading.main_thread(), "the window imports torch"
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def hold(module):
            held.set()
            go.wait()
            run(module)
        spec.loader.exec_module = hold
        return spec

sys.meta_path.insert(0, Holding())

import napari
import numpy as np
from pathlib import Path
from qtpy.QtCore import QTimer
from napari_sightline.segment import journal
from napari_sightline.viewer import robot

journal.state_folder = lambda: Path(sys.argv[1])
viewer = napari.Viewer(show_welcome_screen=False)
places = np.indices((32, 32, 32)) - 15.5
ball = (places**2).sum(0) < 64
image = viewer.add_image((1000 * ball).astype(np.int16))

def dock(title):
    return viewer.window.add_plugin_dock_widget("napari-sightline", title)[1]

panel = dock("Segment with prompts")
robot.wait_until(held.is_set)
assert sys.modules["torch"].__spec__._initializing
"""

USE = """
canvas = robot.canvas_of(viewer)
robot.click(canvas, robot.pixel(viewer, canvas, image, (16, 16, 16)))
robot.wait_until(lambda: panel.controller.waiting)
dock("Attention layers")
organs = dock("Organs, automatic (Swin-UNETR)")
dock("Measures of labels")
robot.live(0.3)
robot.key(canvas, "G")
organs.manage_models()
organs.segment()
assert organs.control.running is not None
robot.live(0.3)
viewer.window.remove_dock_widget(panel)
panel = dock("Segment with prompts")
viewer.add_labels(ball.astype(np.uint8))
robot.wait_until(lambda: panel.controller.case is not None)
robot.click(canvas, robot.pixel(viewer, canvas, image, (16, 16, 16)))
robot.wait_until(lambda: panel.controller.waiting)
organs.control.cancel()
assert not go.is_set() and panel.controller.case.state.devices in ((), ("auto", "cpu"))
go.set()
robot.wait_until(lambda: any(row.ml > 0 for row in panel.controller.case.state.rows))
viewer.close()
"""

END = """
import atexit
QTimer.singleShot(0, viewer.window._qt_window.close)
napari.run()
assert sys.modules["torch"].__spec__._initializing
atexit.register(go.set)  # runs before the worker is waited for
"""


def run(code: str, tmp_path: Path) -> None:
    environment = dict(os.environ, NAPARI_CONFIG=str(tmp_path / "napari.yaml"))
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=570,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Error" not in done.stderr, done.stderr


def test_panels_open_and_close_while_torch_is_being_imported(tmp_path: Path) -> None:
    run(USE, tmp_path)


def test_the_program_ends_while_torch_is_being_imported(tmp_path: Path) -> None:
    run(END, tmp_path)
