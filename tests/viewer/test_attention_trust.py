"""Relevance, Seg-Grad-CAM, faithfulness and the table of heads in the panel, on a small network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1] / "attention"))

from attention_making import promptable
from viewer_making import User, ball_scan

from napari_sightline.models.promptable import EmbeddedModel
from napari_sightline.viewer import controller
from napari_sightline.viewer.attention import judge
from napari_sightline.viewer.attention.details import HEADS, TRUST
from napari_sightline.viewer.attention.state import MODES
from napari_sightline.volume import Volume

MIDDLE, ELSEWHERE = (16, 16, 16), (16, 20, 12)


@pytest.fixture
def scan() -> Volume:
    """A ball that fills most of a small volume."""
    return Volume.from_array(ball_scan((32, 32, 32), 11), spacing=(1.0, 1.0, 1.0), name="ball")


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a small network with random weights, that finds something everywhere."""
    import torch

    network = promptable()
    with torch.no_grad():
        network.head.bias.fill_(0.3)  # type: ignore[union-attr]
    model = EmbeddedModel(network, "cpu")
    model.precision = "fp32"
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): model})


class Reader:
    """Somebody who clicked, with both panels open and the cursor over the scan."""

    def __init__(self, user: User, scan: Volume) -> None:
        self.user, self.qtbot, self.scan = user, user.qtbot, scan
        _, self.panel = user.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Attention layers"
        )
        self.control, self.view = self.panel.control, self.panel.view
        self.extras, self.details = self.panel.extras, self.view.details
        self.image = user.show(scan)
        user.click(self.image, MIDDLE)
        self.hover((16, 14, 20))

    def hover(self, voxel: tuple[int, int, int]) -> None:
        QTest.mouseMove(self.user.canvas, self.user.pixel(self.image, voxel))
        self.wait()

    def wait(self) -> None:
        self.qtbot.wait(30)
        self.qtbot.waitUntil(lambda: not self.control.busy, timeout=90_000)
        self.qtbot.wait(5)

    def ask(self, mode: str, wait: bool = True) -> None:
        """Choose a mode in the list."""
        self.view.mode.setCurrentText(MODES[mode])  # type: ignore[index]
        self.view.mode.activated.emit(list(MODES).index(mode))  # type: ignore[arg-type]
        if wait:
            self.wait()

    @property
    def live(self) -> Any:
        return self.control.layers.live


@pytest.fixture
def reader(user: User, scan: Volume) -> Iterator[Reader]:
    made = Reader(user, scan)
    yield made
    with suppress(RuntimeError):
        made.panel.shut()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], threading.Event]]:
    """Hold a function of `judge` until its event is set; tells by another that it was reached."""
    going = threading.Event()

    def hold(name: str) -> threading.Event:
        work, reached = getattr(judge, name), threading.Event()

        def slow(*args: Any) -> Any:
            reached.set()
            going.wait(60)
            return work(*args)

        monkeypatch.setattr(judge, name, slow)
        reached.go = going.set  # type: ignore[attr-defined]
        return reached

    yield hold
    going.set()


@pytest.mark.parametrize("mode", ["relevance", "gradcam"])
def test_what_the_mask_rests_on_lies_on_the_scans_grid(reader: Reader, mode: str) -> None:
    reader.ask(mode)
    answer = reader.control.shown.merged
    look = reader.control.look()
    explain = judge.relevance_of if mode == "relevance" else judge.gradcam_of
    theirs = explain(look, reader.scan)
    np.testing.assert_allclose(answer.weights, theirs.weights, rtol=1e-4, atol=1e-6)
    assert answer.weights.max() == pytest.approx(1)
    assert np.ptp(answer.weights) > 0.1
    box, values = theirs.on_volume(reader.scan.shape)
    live, image, rng = reader.live, reader.image, np.random.default_rng(0)
    for voxel in rng.integers([s.start for s in box], [s.stop for s in box], (40, 3)):
        token = np.rint(live.world_to_data(image.data_to_world(voxel))).astype(int)
        inside = tuple(voxel - [s.start for s in box])
        assert live.data[tuple(token)] == pytest.approx(values[inside], rel=1e-4, abs=1e-6)
    word = "relevance for" if mode == "relevance" else "Seg-Grad-CAM for"
    assert word in reader.view.caption.text()
    # It explains the mask, not a voxel: another colour is no reason to run the model again.
    drawn = live.data.copy()
    reader.hover(ELSEWHERE)
    assert np.array_equal(live.data, drawn)


def test_other_colours_do_not_run_the_model_again(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        work = getattr(judge, name)
        return lambda *args: (runs.append(name), work(*args))[1]  # type: ignore[func-returns-value]

    for name in ("relevance_of", "gradcam_of"):
        monkeypatch.setattr(judge, name, counted(name))
    reader.ask("relevance")
    reader.control.set(colormap="viridis")
    reader.wait()
    assert runs == ["relevance_of"] and reader.live.colormap.name == "viridis"
    reader.ask("gradcam")
    reader.control.set(opacity=0.7)
    reader.wait()
    assert runs == ["relevance_of", "gradcam_of"] and reader.live.opacity == 0.7
    assert "Seg-Grad-CAM" in reader.view.caption.text()


def test_relevance_that_comes_too_late_is_dropped(
    reader: Reader, held: Callable[[str], threading.Event]
) -> None:
    reached = held("relevance_of")
    reader.ask("relevance", wait=False)
    reader.qtbot.waitUntil(reached.is_set, timeout=20_000)
    assert np.isnan(reader.live.data).all()  # nothing old meanwhile
    reader.ask("pinned", wait=False)
    reader.qtbot.waitUntil(
        lambda: reader.control.shown is not None and not reader.control.worker.jobs, timeout=20_000
    )
    drawn, said = reader.live.data.copy(), reader.view.caption.text()
    assert np.isfinite(drawn).any() and "attends to" in said
    reached.go()  # type: ignore[attr-defined]
    reader.wait()
    np.testing.assert_array_equal(reader.live.data, drawn)
    assert reader.view.caption.text() == said


def test_faithfulness_of_the_map_on_the_screen(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "RANDOMS", 2)
    monkeypatch.setattr(judge, "STEPS", 3)
    reader.details.setCurrentIndex(TRUST)
    reader.qtbot.waitUntil(
        lambda: "not measured" in reader.details.trust_words.text(), timeout=5_000
    )
    assert reader.details.curves.isHidden()
    heard: list[Any] = []
    reader.extras.trusted.connect(lambda words, found: heard.append((words, found)))
    QTest.mouseClick(reader.details.measure, Qt.MouseButton.LeftButton)
    assert reader.control.settings.mode == "pinned"  # the cursor may go on meanwhile
    reader.hover(ELSEWHERE)
    reader.wait()
    words, found = heard[-1]
    assert words == reader.details.trust_words.text()
    for word in ("deletion", "insertion", "scattered", "moved", "Rank correlation"):
        assert word in words
    assert f"the gradient {found.agreement['map', judge.GRADIENT]:+.2f}" in words
    assert f"Seg-Grad-CAM {found.agreement['map', judge.GRADCAM]:+.2f}" in words

    # By another way: the map's own curves, and its correlation with the gradient by blocks.
    from scipy.stats import spearmanr

    from napari_sightline.attention.faithful import curves, on_blocks
    from napari_sightline.attention.relevance import run_with_gradients

    answer, look = reader.control.shown.merged, reader.control.look()
    probe = look.probe(reader.scan)
    run = run_with_gradients(probe)
    score = on_blocks(answer.values(0), run.mask.shape)
    again = curves(probe, score, run.mask, steps=3)
    for test in ("deletion", "insertion"):
        assert found.maps["map"].area(test) == pytest.approx(again.area(test), abs=1e-4)
    expected = spearmanr(score.ravel(), on_blocks(run.saliency, run.mask.shape).ravel()).statistic
    assert found.agreement["map", judge.GRADIENT] == pytest.approx(expected, abs=1e-3)
    assert len(reader.details.curves.curves) == 6 and not reader.details.curves.isHidden()

    # Another map was not measured, and says so; the measured one is remembered.
    reader.control.set(heads=(1,))
    reader.wait()
    reader.qtbot.waitUntil(lambda: reader.details.curves.isHidden(), timeout=5_000)
    assert "not measured" in reader.details.trust_words.text()
    reader.control.set(heads=())
    reader.wait()
    reader.qtbot.waitUntil(lambda: not reader.details.curves.isHidden(), timeout=5_000)
    assert reader.details.trust_words.text() == words


def test_measuring_is_cancelled(reader: Reader) -> None:
    view, details = reader.view, reader.details
    details.setCurrentIndex(TRUST)
    QTest.mouseClick(details.measure, Qt.MouseButton.LeftButton)
    reader.qtbot.waitUntil(
        lambda: view.cancel.isVisible() and view.progress.format().startswith("run "),
        timeout=60_000,
    )
    drawn = reader.live.data.copy()
    QTest.mouseClick(view.cancel, Qt.MouseButton.LeftButton)
    reader.wait()
    assert "was cancelled" in details.trust_words.text()
    assert details.curves.isHidden() and view.progress.isHidden()
    np.testing.assert_array_equal(reader.live.data, drawn)  # the map stays


def test_another_click_while_measuring_leaves_no_result_on_the_new_map(
    reader: Reader, held: Callable[[str], threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "RANDOMS", 1)
    monkeypatch.setattr(judge, "STEPS", 2)
    reader.details.setCurrentIndex(TRUST)
    reached = held("faithfulness_of")
    QTest.mouseClick(reader.details.measure, Qt.MouseButton.LeftButton)
    reader.qtbot.waitUntil(reached.is_set, timeout=20_000)
    reader.user.click(reader.image, (16, 22, 16), "Control")
    reader.qtbot.waitUntil(lambda: not reader.control.worker.jobs, timeout=20_000)
    reached.go()  # type: ignore[attr-defined]
    reader.wait()
    reader.qtbot.waitUntil(
        lambda: "not measured" in reader.details.trust_words.text(), timeout=5_000
    )
    assert reader.details.curves.isHidden()


def test_a_map_whose_measuring_was_dropped_was_not_measured(
    reader: Reader, held: Callable[[str], threading.Event]
) -> None:
    reader.details.setCurrentIndex(TRUST)
    reached = held("faithfulness_of")
    QTest.mouseClick(reader.details.measure, Qt.MouseButton.LeftButton)
    reader.qtbot.waitUntil(
        lambda: reached.is_set() and reader.control.shown is not None, timeout=20_000
    )
    reader.extras.show_trust()
    assert reader.details.trust_words.text().startswith("Measuring")
    for job in reader.control.heavy.jobs:
        job.forget()  # as when another image is shown
    reached.go()  # type: ignore[attr-defined]
    reader.wait()
    reader.extras.show_trust()
    assert "not measured" in reader.details.trust_words.text()


def test_which_head_looks_where(reader: Reader) -> None:
    from napari_sightline.attention.maps import query_voxel
    from napari_sightline.attention.structure import body_mask, by_structure
    from napari_sightline.viewer.bridge import KEY

    labels = np.zeros(reader.scan.shape, np.uint8)
    labels[:, :, :12], labels[:, :, 20:] = 1, 2
    layer = reader.user.viewer.add_labels(labels, scale=reader.image.scale, name="halves")
    layer.metadata[KEY] = {"names": {1: "right side", 2: "left side"}}
    reader.user.viewer.layers.selection.active = reader.image
    reader.ask("pinned")
    reader.details.setCurrentIndex(HEADS)
    table = reader.details.heads
    reader.qtbot.waitUntil(lambda: table.rowCount() > 0, timeout=20_000)
    one, position = reader.control.recorded(), reader.control.pinned
    body = body_mask(reader.scan)
    expected = {}
    for number in (0, 4):  # image to image, in both blocks
        answer = query_voxel(one, position, number)
        names = {1: "right side", 2: "left side"}
        found = by_structure(answer, reader.scan, labels, names, body)
        for head in range(3):
            expected[one.calls[number].module, head] = dict(
                zip(found.names, found.shares[head], strict=True)
            )
    assert table.rowCount() == len(expected) == 6
    assert "halves" in reader.details.head_words.text()

    def column(name: str) -> int:
        texts = [table.horizontalHeaderItem(c).text() for c in range(table.columnCount())]
        return texts.index(name)

    # Sorted by a click on a column's name: the head that looks there most comes first.
    header = table.horizontalHeader()
    place = column("left side")
    table.horizontalScrollBar().setValue(table.horizontalScrollBar().maximum())
    for _ in range(2):
        x = header.sectionViewportPosition(place) + 20
        QTest.mouseClick(
            header.viewport(),
            Qt.MouseButton.LeftButton,
            pos=header.viewport().rect().topLeft() + _point(x, 5),
        )
    shares = [table.row_at(line).shares["left side"] for line in range(6)]
    ordered = sorted((shares["left side"] for shares in expected.values()), reverse=True)
    ascending = shares == sorted(shares)
    np.testing.assert_allclose(shares, ordered[::-1] if ascending else ordered, rtol=1e-5)
    assert shares[0] != shares[-1]

    # Structures come before what is none.
    texts = [table.horizontalHeaderItem(c).text() for c in range(table.columnCount())]
    assert set(texts[2:4]) == {"left side", "right side"}

    # Copied as it is sorted.
    reader.details.copy.click()
    lines = QApplication.clipboard().text().strip().split("\n")
    assert lines[0].split("\t")[:2] == ["block", "head"] and len(lines) == 7
    where = lines[0].split("\t").index("left side")
    np.testing.assert_allclose([float(x.split("\t")[where]) for x in lines[1:]], shares, atol=1e-5)

    # A row that is picked shows that head.
    row = table.row_at(0)
    table.cellClicked.emit(0, 0)
    reader.wait()
    settings = reader.control.settings
    assert (settings.block, settings.heads) == (row.module, (row.head,))
    assert f"head {row.head + 1}" in reader.view.caption.text()
    # The order that was chosen stays when the numbers come anew.
    reader.qtbot.waitUntil(lambda: not reader.control.busy, timeout=20_000)
    again = [table.row_at(line).shares["left side"] for line in range(6)]
    assert again == (sorted(again) if ascending else sorted(again, reverse=True))

    # Modes without heads say so.
    reader.ask("rollout")
    words = reader.details.head_words
    reader.qtbot.waitUntil(lambda: "no heads" in words.text(), timeout=20_000)
    assert table.isHidden()


def _point(x: int, y: int) -> Any:
    from qtpy.QtCore import QPoint

    return QPoint(x, y)
