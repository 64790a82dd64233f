"""How long a reader waits: clicks through the panel in a real window, with a heartbeat beside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt, QTimer

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bench import peak_memory
from napari_sightline.evaluate.report import machine
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.viewer import hits, robot
from napari_sightline.viewer.bridge import slice_at
from napari_sightline.viewer.pencil import REACH
from napari_sightline.viewer.state import Outcome

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_sightline.orientation import Array
    from napari_sightline.prompts import Point
    from napari_sightline.segment.interactive import Glimpse
    from napari_sightline.viewer.case import Case
    from napari_sightline.viewer.prompts import PromptPanel
    from napari_sightline.volume import Volume

Tell = Callable[[float, str], None]
#: Milliseconds between two beats of the heart.
_BEAT = 5
#: Clicks on one structure before it is accepted and the next begins.
_CLICKS_EACH = 5
_SIZE = (1280, 800)
#: A program that only sleeps, until its input ends: what holds it up is the machine.
_SLEEPER = """
import sys, threading, time
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
last, most = time.perf_counter(), 0.0
while not done.wait(0.005):
    now = time.perf_counter()
    most, last = max(most, now - last - 0.005), now
print(1000 * most)
"""


class Heartbeat:
    """A timer on the main thread: gaps between its beats are times when the window was blocked.

    Attributes
    ----------
    gaps, own : list of float
        Milliseconds of each gap, and of processor time that the main thread itself used in it.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.own: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._last, self._spent = time.perf_counter(), time.thread_time()

    def __enter__(self) -> Heartbeat:
        self._last, self._spent = time.perf_counter(), time.thread_time()
        self._timer.start(_BEAT)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside, the robot thinks on the main thread: that is no fault of the window's."""
        yield
        self._last, self._spent = time.perf_counter(), time.thread_time()

    def _beat(self) -> None:
        now, spent = time.perf_counter(), time.thread_time()
        self.gaps.append(1000 * (now - self._last) - _BEAT)
        self.own.append(1000 * (spent - self._spent))
        self._last, self._spent = now, spent


@contextmanager
def machine_held_up() -> Iterator[list[float]]:
    """Inside, a sleeping program runs beside; then the milliseconds that it was held up at most."""
    found: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sleeper:
        try:
            yield found
        finally:
            said, _ = sleeper.communicate()
    found.append(float(said))


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

    A robot user clicks where the mask is most wrong, up to five times a structure, with mouse
    events on the canvas; after the last structure all objects are deleted and it begins anew. Each
    time counts from the press until the canvas has been painted with a mask.

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
        ``{"panel": {"click_p50_ms", "click_p95_ms", "usual_p50_ms", "usual_p95_ms",
        "usual_clicks", "final_p50_ms", "final_p95_ms",
        "blocked_max_ms", "machine_max_ms", "blocked_p99_ms", "own_p50_ms", "own_block_max_ms",
        "clicks", "shape", "scan_mb", "beyond_mb"}, "machine", "version", "threads"}``.
        ``click`` is until a mask is seen, ``usual`` the same of those clicks alone that were
        answered from a region of at most 96 x 96 x 96 voxels (a larger organ is looked at in a
        larger one), ``final`` until the model has looked again, wider or closer, where it does.
        ``blocked_max_ms`` is the longest time in which the window could not react, and
        ``machine_max_ms`` the longest in which another program that only sleeps was not woken;
        ``own_block_max_ms`` the most processor time that the main thread used at a stretch, which
        other programs do not change, and ``own_p50_ms`` what it used for a click in all;
        ``beyond_mb`` the process's peak of memory less the scan.

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
        robot.live(0.5)
        robot.wait_until(lambda: not panel.controller.busy)
        with machine_held_up() as held, Heartbeat() as heart:
            clicker = _Clicker(viewer, panel, layer, truth, heart)
            for number in range(clicks):
                say(number / clicks, f"click {number + 1} of {clicks}")
                clicker.click()
    finally:
        viewer.close()
    scan, times = volume.data.nbytes / 2**20, clicker.times
    usual = [t for t, voxels in zip(times.seen, times.voxels, strict=True) if voxels <= 96**3]
    found = {
        "click_p50_ms": float(np.median(times.seen) * 1000),
        "click_p95_ms": float(np.percentile(times.seen, 95) * 1000),
        "final_p50_ms": float(np.median(times.settled) * 1000),
        "final_p95_ms": float(np.percentile(times.settled, 95) * 1000),
        "blocked_max_ms": max(heart.gaps),
        "machine_max_ms": held[0],
        "blocked_p99_ms": float(np.percentile(heart.gaps, 99)),
        "own_p50_ms": float(np.median(times.own) * 1000),
        "own_block_max_ms": max(heart.own),
        "scan_mb": scan,
        "beyond_mb": peak_memory() / 2**20 - scan,
    }
    if usual:
        found["usual_p50_ms"] = float(np.median(usual) * 1000)
        found["usual_p95_ms"] = float(np.percentile(usual, 95) * 1000)
    return {
        "panel": {k: round(v, 1) for k, v in found.items()}
        | {"clicks": clicks, "usual_clicks": len(usual), "shape": list(volume.shape)},
        "machine": machine(),
        "version": napari_sightline.__version__,
        "threads": torch.get_num_threads(),
    }


def summary(result: dict[str, Any]) -> str:
    """Three lines on a result of `bench_panel`."""
    panel = result["panel"]
    usual = ""
    if panel["usual_clicks"]:
        usual = (
            f"; in regions of up to 96^3 voxels {panel['usual_p50_ms']:.0f} ms "
            f"({panel['usual_p95_ms']:.0f} ms)"
        )
    return (
        f"{panel['clicks']} clicks: {panel['click_p50_ms']:.0f} ms from press to picture "
        f"(95 %: {panel['click_p95_ms']:.0f} ms){usual}, {panel['final_p50_ms']:.0f} ms "
        f"({panel['final_p95_ms']:.0f} ms) to the final one.\n"
        f"The window was blocked for at most {panel['blocked_max_ms']:.0f} ms (99 %: "
        f"{panel['blocked_p99_ms']:.0f} ms); a program beside it that only sleeps was held up for "
        f"{panel['machine_max_ms']:.0f} ms.\n"
        f"{panel['beyond_mb']:.0f} MB beyond the scan's {panel['scan_mb']:.0f} MB. "
        f"{result['machine']}, {result['threads']} threads, "
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


@dataclass
class _Times:
    """Seconds of each click, and of the main thread's own work for it.

    `voxels` is the size of the region from which the first mask came.
    """

    seen: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    voxels: list[int] = field(default_factory=list)
    own: list[float] = field(default_factory=list)


class _Clicker:
    """A robot user in front of the panel, five clicks a structure, round and round."""

    def __init__(
        self, viewer: Viewer, panel: PromptPanel, layer: Any, truth: list[Array], heart: Heartbeat
    ) -> None:
        self._viewer, self._panel, self._layer, self._truth = viewer, panel, layer, truth
        self._heart = heart
        self._control = panel.controller
        self._canvas = robot.canvas_of(viewer)
        self._painted = _Painted(self._canvas)
        self._at = self._on_it = self._size = 0
        self._drawn: list[float] = []
        self._faults: list[str] = []
        self._control.computed.connect(self._draws)
        self._control.glimpsed.connect(self._draws)
        self._control.told.connect(self._hears)
        self.times = _Times()

    def _draws(self, what: Outcome | Glimpse) -> None:
        update = what.update if isinstance(what, Outcome) else what
        if not self._drawn and update is not None and update.region is not None:
            self._size = int(np.prod(update.region.shape))
        self._drawn.append(time.perf_counter())

    def _hears(self, sentence: str, alarm: bool) -> None:
        if alarm:
            self._faults.append(sentence)

    def click(self) -> None:
        """Click where the mask is most wrong, and wait until it is right."""
        point, place = self._next()
        self._on_it += 1
        self._drawn.clear()
        control, painted, begun = self._control, self._painted, time.perf_counter()
        own = time.thread_time()
        robot.click(self._canvas, place, *(() if point.positive else ("Control",)))
        robot.wait_until(lambda: bool(self._faults) or self._seen())
        seen = painted.when
        robot.wait_until(lambda: bool(self._faults) or (not control.waiting and self._seen()))
        settled = painted.when
        robot.wait_until(lambda: not control.busy)
        if self._faults:
            raise BadInput(self._faults[0])
        self.times.voxels.append(self._size)
        self.times.seen.append(seen - begun)
        self.times.settled.append(settled - begun)
        self.times.own.append(time.thread_time() - own)

    def _next(self) -> tuple[Point, Any]:
        """Voxel and place on the canvas of the next click, on the next structure where need be."""
        for _ in range(2 * len(self._truth) + 1):
            if self._on_it < _CLICKS_EACH:
                with self._heart.resting():
                    point = _next_click(self._control.case, self._truth[self._at])
                place = None if point is None else self._free(point)
                if point is not None and place is not None:
                    return point, place
            self._next_structure()
        raise BadInput("The labels hold nothing to click on; give labels of the scan.")

    def _seen(self) -> bool:
        """Whether what was drawn last has been painted."""
        return bool(self._drawn) and self._painted.when >= self._drawn[-1]

    def _free(self, point: Point) -> Any:
        """Place of a voxel on the canvas; None on a prompt, which a click would only mark."""
        place = robot.pixel(self._viewer, self._canvas, self._layer, point.position)
        robot.live(0.05)  # the slice is drawn now: that is not the click's time
        case, dims = self._control.case, self._viewer.dims
        assert case is not None and case.image is not None
        axis, _ = slice_at(case.image, dims.point, dims.order, dims.units)
        size = [self._viewer.scene.camera.zoom * float(s) for s in np.abs(self._layer.scale)]
        taken = hits.prompt_at(case.state.prompts, point.position, axis, size, 2 * REACH)
        return place if taken is None else None

    def _next_structure(self) -> None:
        """Accept what there is and go to the next; after the last, begin anew."""
        case = self._control.case
        if case is not None and case.state.drawn:
            self._do(self._panel.accept)
        elif case is not None and case.state.prompts:
            self._do(self._control.reset)
        self._at, self._on_it = (self._at + 1) % len(self._truth), 0
        ids = [row.id for row in case.state.rows if row.accepted] if case is not None else []
        if self._at == 0 and ids:
            self._do(lambda: self._panel.desk.act("delete", ids))

    def _do(self, act: Callable[[], Any]) -> None:
        act()
        robot.wait_until(lambda: not self._control.busy)


def _next_click(case: Case | None, goal: Array) -> Point | None:
    """Where the mask on the screen is most wrong; None where it is right."""
    drawn = np.zeros_like(goal)
    if case is not None and case.labels is not None:
        drawn = np.asarray(case.labels.data) == case.state.current
    return simulate_click(drawn, goal)
