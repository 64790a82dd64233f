"""A reader in front of a real window, with mouse and keys, who takes pictures of it."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest

from napari_sightline.viewer import robot

SIZE = (1280, 800)
PHANTOM = "phantom"


class Reader:
    """Somebody in front of the window.

    Parameters
    ----------
    folder : Path
        Where pictures go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.set_geometry(0, 0, *SIZE)
        self.canvas = robot.canvas_of(self.viewer)
        self.busy: list[Callable[[], Any]] = []

    def open(self, name: str, busy: Callable[[Any], Any]) -> Any:
        """Open a panel, and return it; `idle` waits while `busy` says so of it."""
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-sightline", name)
        self.busy.append(lambda: busy(panel))
        robot.live(0.5)
        return panel

    def idle(self) -> None:
        """Wait until all work is done."""
        robot.live(0.3)
        robot.wait_until(lambda: not any(busy() for busy in self.busy), 10 * robot.PATIENCE)
        robot.live(0.3)

    def place(self, voxel: Sequence[float]) -> Any:
        """Go to the slice of a voxel of the phantom; where it lies on the canvas."""
        return robot.pixel(self.viewer, self.canvas, self.viewer.layers[PHANTOM], voxel)

    def click(self, voxel: Sequence[float], *modifiers: str) -> None:
        """Click on a voxel of the phantom."""
        robot.click(self.canvas, self.place(voxel), *modifiers)
        self.idle()

    def drag(self, voxels: Sequence[Sequence[float]], *modifiers: str) -> None:
        """Press at the first of some voxels of a slice, draw through them, release at the last."""
        robot.drag(self.canvas, [self.place(voxel) for voxel in voxels], *modifiers)
        self.idle()

    def hover(self, voxel: Sequence[float]) -> None:
        """Go to a voxel of the phantom with the mouse."""
        place = self.place(voxel)
        QTest.mouseMove(self.canvas, place + QPoint(4, 0))
        QTest.mouseMove(self.canvas, place)
        self.idle()

    def picture(self, name: str, window: Any = None) -> None:
        """Save what the window, or a dialog, shows."""
        robot.live(0.5)
        path = self.folder / f"{name}.png"
        if window is not None:
            window.grab().save(str(path))
        else:
            self.viewer.window.screenshot(path, flash=False, canvas_only=False)
        # A palette halves the file. The usual one forgets a colour of few pixels; this does not.
        full, way = Image.open(path).convert("RGB"), Image.Quantize.MAXCOVERAGE
        full.quantize(256, way, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


def take(
    parser: argparse.ArgumentParser, tour: Callable[[Reader, argparse.Namespace], None]
) -> None:
    """Ask the command line for theme and folder, and lead a reader through a tour."""
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    appearance = get_settings().appearance
    before, appearance.theme = appearance.theme, chosen.theme
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # no session of before is brought back
        try:
            reader = Reader(chosen.out)
            tour(reader, chosen)
            reader.viewer.close()
        finally:
            appearance.theme = before
