"""How long a reader waits: clicks through the panel in a real window, with a heartbeat beside."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt, QTimer

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bench import peak_memory
from napari_sightline.evaluate.report import machine
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.viewer import robot

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_sightline.orientation import Array
    from napari_sightline.prompts import Point
    from napari_sightline.viewer.case import Case
    from napari_sightline.viewer.prompts import PromptPanel
    from napari_sightline.volume import Volume

Tell = Callable[[float, str], None]
#: Milliseconds between two beats of the heart.
_BEAT = 5
#: Clicks on one structure before it is accepted and the next begins.
_CLICKS_EACH = 5
_SIZE = (1280, 800)


class Heartbeat:
    """A timer on the main thread: gaps between its beats are times when the window was blocked."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._last = time.perf_counter()

    def __enter__(self) -> Heartbeat:
        self._last = time.perf_counter()
        self._timer.start(_BEAT)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self._last) - _BEAT)
        self._last = now


class _Painted(QObject):
    """Knows when the canvas was painted last."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__()
        self.when = 0.0
        canvas.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See `QObject.eventFilter`."""
        if event is not None and event.type() == QEvent.Type.Paint:
            QTimer.singleShot(0, self._note)  # the paint itself follows now
        return super().eventFilter(watched, event)

    def _note(self) -> None:
        self.when = time.perf_counter()


def bench_panel(
    image: Path | None = None,
    labels: Path | None = None,
    clicks: int = 100,
    device: str = "auto",
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Click through a scan in a napari window and time what a reader would notice.

    A robot user clicks where the mask is most wrong, five times a structure, with mouse events on
    the canvas; each time counts from the press until the canvas has been painted with the mask.

    Parameters
    ----------
    image, labels : Path, optional
        A scan and its true label map, which place the clicks; the phantom by default. Of a scan
        without labels the middle is clicked again and again.
    clicks : int
        How many.
    device : str
        Where the model runs.
    tell : callable, optional
        Told the share done and what is going on.

    Returns
    -------
    dict
        ``{"panel": {"click_p50_ms", "click_p95_ms", "blocked_max_ms", "blocked_p99_ms", "clicks",
        "shape", "scan_mb", "beyond_mb"}, "machine", "version", "threads"}``. ``blocked_max_ms`` is
        the longest time in which the window could not react; ``beyond_mb`` the process's peak of
        memory less the scan.

    Raises
    ------
    BadInput
        Where `clicks` is below 1, a file cannot be used, or there is no display.
    """
    import torch

    if clicks < 1:
        raise BadInput(f"{clicks} clicks measure nothing; give 1 or more.")
    volume, truth = _scan(image, labels)
    say = tell or (lambda share, word: None)
    say(0.0, "opening the window")
    import napari

    from napari_sightline.viewer.bridge import image_layer
    from napari_sightline.viewer.prompts import PromptPanel

    viewer = napari.Viewer(show_welcome_screen=False)
    try:
        viewer.window.set_geometry(0, 0, *_SIZE)
        data, options, _ = image_layer(volume)
        layer = viewer.add_image(data, **options)
        panel = PromptPanel(viewer)
        panel.controller.device = device
        panel.controller.journals = False  # nothing of this is to be brought back
        viewer.window.add_dock_widget(panel, name="Segment with prompts")
        canvas = robot.canvas_of(viewer)
        robot.live(0.5)
        robot.wait_until(lambda: not panel.controller.busy)
        with Heartbeat() as heart:
            seconds = _clicks(viewer, panel, canvas, layer, truth, clicks, say)
    finally:
        viewer.close()
    scan = volume.data.nbytes / 2**20
    found = {
        "click_p50_ms": float(np.median(seconds) * 1000),
        "click_p95_ms": float(np.percentile(seconds, 95) * 1000),
        "blocked_max_ms": max(heart.gaps),
        "blocked_p99_ms": float(np.percentile(heart.gaps, 99)),
        "scan_mb": scan,
        "beyond_mb": peak_memory() / 2**20 - scan,
    }
    return {
        "panel": {k: round(v, 1) for k, v in found.items()}
        | {"clicks": clicks, "shape": list(volume.shape)},
        "machine": machine(),
        "version": napari_sightline.__version__,
        "threads": torch.get_num_threads(),
    }


def summary(result: dict[str, Any]) -> str:
    """Two lines on a result of `bench_panel`."""
    panel = result["panel"]
    return (
        f"{panel['clicks']} clicks: {panel['click_p50_ms']:.0f} ms from press to picture "
        f"(95 %: {panel['click_p95_ms']:.0f} ms); the window was blocked for at most "
        f"{panel['blocked_max_ms']:.0f} ms; {panel['beyond_mb']:.0f} MB beyond the scan's "
        f"{panel['scan_mb']:.0f} MB.\n{result['machine']}, {result['threads']} threads, "
        f"version {result['version']}"
    )


def _scan(image: Path | None, labels: Path | None) -> tuple[Volume, list[Array]]:
    """Read the scan and the masks of its structures."""
    from napari_sightline.io import load

    if image is None:
        from napari_sightline.io.sample import phantom

        volume, drawn, names = phantom()
        return volume, [drawn == value for value in names]
    volume = load(image)
    if labels is None:
        ball = np.zeros(volume.shape, bool)
        ball[tuple(n // 2 for n in volume.shape)] = True
        return volume, [ball]
    drawn = load(labels).data
    if drawn.shape != volume.shape:
        raise BadInput(f"{labels.name} and {image.name} differ in size; give labels of the scan.")
    values = [int(v) for v in np.unique(drawn) if v]
    if not values:
        raise BadInput(f"{labels.name} holds no structure; give labels of the scan.")
    return volume, [drawn == value for value in values]


def _clicks(
    viewer: Viewer,
    panel: PromptPanel,
    canvas: QWidget,
    layer: Any,
    truth: list[Array],
    count: int,
    say: Tell,
) -> list[float]:
    painted, control = _Painted(canvas), panel.controller
    drawn_at: list[float] = []
    control.computed.connect(lambda _: drawn_at.append(time.perf_counter()))
    seconds: list[float] = []
    structures = itertools.cycle(truth)
    goal = next(structures)
    rng = np.random.default_rng(42)
    for number in range(count):
        say(number / count, f"click {number + 1} of {count}")
        found = _next_click(control.case, goal, rng)
        place = robot.pixel(viewer, canvas, layer, found.position)
        robot.live(0.05)  # the slice is drawn now: that is not the click's time
        drawn_at.clear()
        begun = time.perf_counter()
        robot.click(canvas, place, *(() if found.positive else ("Control",)))
        robot.wait_until(lambda: bool(drawn_at) and painted.when >= drawn_at[-1])
        seconds.append(painted.when - begun)
        robot.wait_until(lambda: not control.busy)
        if number % _CLICKS_EACH == _CLICKS_EACH - 1:
            panel.accept()
            robot.wait_until(lambda: not control.busy)
            goal = next(structures)
    return seconds


def _next_click(case: Case | None, goal: Array, rng: np.random.Generator) -> Point:
    """Where the mask on the screen is most wrong, or the structure's middle if it is right."""
    nothing = np.zeros_like(goal)
    drawn = nothing
    if case is not None and case.labels is not None:
        drawn = np.asarray(case.labels.data) == case.state.current
    found = simulate_click(drawn, goal, None, rng, False)
    found = found or simulate_click(nothing, goal, None, rng, False)
    assert found is not None  # structures hold voxels
    return found
