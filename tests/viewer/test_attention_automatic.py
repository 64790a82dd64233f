"""An automatic run recorded window by window, then asked: headless, and in the panel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from automatic_making import SPEC, Watcher, two_tissues
from qtpy.QtTest import QTest

from napari_sightline.attention.maps import query_voxel
from napari_sightline.attention.tap import Tap
from napari_sightline.models import load_segmenter
from napari_sightline.segment.automatic import segment
from napari_sightline.viewer import robot
from napari_sightline.viewer.attention import sources
from napari_sightline.viewer.attention.judge import relevance_of
from napari_sightline.viewer.attention.state import MODES, SOURCES
from napari_sightline.volume import Volume

PLACES = [(12, 10, 14), (40, 18, 18), (84, 30, 33)]


@pytest.fixture
def scan() -> Volume:
    return Volume.from_array(two_tissues(), spacing=(1.0, 1.0, 1.0), name="scan", modality="CT")


@pytest.mark.usefixtures("folder")
def test_windows_of_a_run_are_asked_where_they_lie(scan: Volume) -> None:
    model, tap = load_segmenter("tissues"), Tap(1024, keep=1000)
    plain = segment(scan, model)
    seen = segment(scan, model, tap=tap)
    np.testing.assert_array_equal(plain.labels, seen.labels)  # looking on changes nothing
    frames = [frame for one in tap.passes for frame in one.frames]
    assert len(frames) > 2 and tap.dropped == 0
    # Every voxel was seen by a window, and the most central one answers.
    rng = np.random.default_rng(0)
    for place in rng.integers(0, scan.shape, (30, 3)):
        one = tap.at(place)
        assert one is not None
        depth = max(frame.depth(place) for frame in frames)
        frame = one.frames[one.entry(place)]
        assert frame.depth(place) == pytest.approx(depth)
        # The window at the network's entrance holds the voxel's own values.
        answer = query_voxel(one, place, 0)
        total = answer.weights.sum(1) + answer.padding
        np.testing.assert_allclose(total, 1, atol=1e-5)
        box, values = answer.on_volume(scan.shape)
        inside = tuple(place - [s.start for s in box])
        assert np.isfinite(values[inside])  # a voxel lies in its own window of tokens
    # The same window, passed through the network alone, gives the same rows.
    from napari_sightline.attention.probe import probe_window

    place = PLACES[1]
    one = tap.at(place)
    assert one is not None
    frame = one.frames[one.entry(place)]
    probe = probe_window(model, scan, place, window=frame)
    np.testing.assert_allclose(probe.frame.affine, frame.affine)
    alone = probe.record()
    for number in range(len(one.calls)):
        mine, theirs = (query_voxel(p, place, number) for p in (alone, one))
        np.testing.assert_allclose(mine.weights, theirs.weights, atol=1e-4)


class Reader(Watcher):
    """In front of a viewer with the automatic panel and the attention panel."""

    def __init__(self, viewer: Any, panel: Any, attention: Any, qtbot: Any) -> None:
        super().__init__(viewer, panel, qtbot)
        self.attention, self.asking = attention, attention.control
        self.canvas = robot.canvas_of(viewer)

    def wait(self) -> None:
        self.qtbot.wait(30)
        self.until(lambda: not self.asking.busy)
        self.qtbot.wait(5)

    def hover(self, layer: Any, voxel: tuple[int, int, int]) -> None:
        QTest.mouseMove(self.canvas, robot.pixel(self.viewer, self.canvas, layer, voxel))
        self.wait()

    def choose(self, words: dict[Any, str], box: Any, key: str) -> None:
        box.setCurrentText(words[key])
        box.activated.emit(list(words).index(key))
        self.wait()


@pytest.fixture
def reader(
    make_napari_viewer: Any, qtbot: Any, folder: Path, loaded_model: None
) -> Iterator[Reader]:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    window = viewer.window
    _, panel = window.add_plugin_dock_widget("napari-sightline", "Organs, automatic (Swin-UNETR)")
    _, attention = window.add_plugin_dock_widget("napari-sightline", "Attention layers")
    panel.choose_model("tissues")
    made = Reader(viewer, panel, attention, qtbot)
    made.settle()
    yield made
    with suppress(RuntimeError):
        attention.shut()
        panel.shut()


def test_no_map_of_an_earlier_place_hides_that_there_is_none(
    reader: Reader, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = reader.show(scan)
    control, view = reader.asking, reader.attention.view
    reader.choose(SOURCES, view.source, "automatic")  # type: ignore[arg-type]
    assert reader.segment() is not None
    reader.hover(image, PLACES[0])
    assert control.shown is not None
    draw, tap = control._draw, sources.run_on(image)
    full = SimpleNamespace(latest=tap.latest, at=lambda _: None, dropped=1)

    def late(*args: Any) -> None:
        """Draw; meanwhile the cursor went where no window is kept."""
        monkeypatch.setattr(sources, "run_on", lambda _: full)
        control.ask()
        draw(*args)

    monkeypatch.setattr(control, "_draw", late)
    reader.hover(image, PLACES[1])
    assert control.shown is None
    assert "no longer in memory" in view.advice.text()


def test_a_run_of_the_panel_is_asked_voxel_by_voxel(reader: Reader, scan: Volume) -> None:
    image = reader.show(scan)
    control, view = reader.asking, reader.attention.view
    reader.choose(SOURCES, view.source, "automatic")  # type: ignore[arg-type]
    assert "No automatic run" in view.advice.text()
    assert reader.segment() is not None
    tap = sources.run_on(image)
    assert tap is not None and len(tap.passes) > 1
    live = None
    for place in PLACES:
        reader.hover(image, place)
        one = tap.at(place)
        assert one is not None and control.recorded() is one
        blocks, chosen = control.blocks()
        assert len(blocks) == 4 and "stage" in blocks[chosen][1]
        call = next(n for n, c in enumerate(one.calls) if c.module == blocks[chosen][0])
        answer = query_voxel(one, place, call).reduce("mean")
        box, values = answer.on_volume(scan.shape)
        live = control.layers.live
        for voxel in (place, [s.start for s in box], [s.stop - 1 for s in box]):
            token = np.rint(live.world_to_data(image.data_to_world(voxel))).astype(int)
            inside = tuple(np.array(voxel) - [s.start for s in box])
            np.testing.assert_allclose(live.data[tuple(token)], values[inside], rtol=1e-5)
        assert SPEC.name in view.caption.text()

    # What the answer there rests on: the same window of the run, run again with gradients.
    reader.choose(MODES, view.mode, "relevance")  # type: ignore[arg-type]
    shown = control.shown
    assert shown is not None and shown.merged.approximate
    one = control.recorded()
    frame = one.frames[one.entry(control.pinned)]
    np.testing.assert_allclose(shown.merged.frame.affine, frame.affine)
    theirs = relevance_of(control.look(), scan)
    np.testing.assert_allclose(shown.merged.weights, theirs.weights, atol=1e-4)

    # A scan with more windows than memory: what went says so, and is run anew at the cursor.
    reader.choose(MODES, view.mode, "cursor")  # type: ignore[arg-type]
    while len(tap.passes) > 1:
        tap._passes.popleft()
        tap.dropped += 1
    gone = next(p for p in PLACES if tap.at(p) is None)
    reader.hover(image, gone)
    assert "no longer in memory" in view.advice.text()
    assert np.isnan(control.layers.live.data).all()

    # Nothing is recorded once the panel is closed.
    reader.viewer.window.remove_dock_widget(reader.attention)
    assert sources.tap_for_run(image) is None
