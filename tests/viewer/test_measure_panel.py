"""The table of measures as a reader meets it."""

from __future__ import annotations

import csv
import errno
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from automatic_making import two_tissues
from viewer_making import AFFINES

from napari_sightline.segment.measure import measure
from napari_sightline.viewer.bridge import KEY, image_layer
from napari_sightline.viewer.files import labels_layer
from napari_sightline.viewer.label_digest import Digest
from napari_sightline.volume import Volume

Told = Callable[[], list[str]]
NAMES = {1: "body", 2: "bone"}


class Reader:
    """Somebody in front of a viewer with a scan, its labels and the table."""

    def __init__(self, viewer: Any, panel: Any, qtbot: Any) -> None:
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot

    def open(self, kind: str = "permuted") -> tuple[Volume, Any, Any]:
        scan = Volume.from_array(two_tissues((40, 36, 34)), AFFINES[kind], name="ct", modality="CT")
        values = np.where(scan.data > 300, 2, np.where(scan.data > -400, 1, 0)).astype(np.uint8)
        from dataclasses import replace

        drawn = replace(scan, data=values, modality=None)
        data, options, _ = image_layer(scan)
        image = self.viewer.add_image(data, **options)
        data, options, _ = labels_layer(drawn, NAMES, name="organs")
        labels = self.viewer.add_labels(data, **options)
        self.settle()
        return scan, image, labels

    def settle(self) -> None:
        self.qtbot.wait(20)
        self.qtbot.waitUntil(lambda: not self.panel.busy, timeout=60_000)

    def cell(self, row: int, column: int) -> str:
        return str(self.panel.sorted.index(row, column).data())

    def click(self, row: int) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        table = self.panel.table
        place = table.visualRect(self.panel.sorted.index(row, 0)).center()
        none = Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, none, place)


@pytest.fixture
def reader(make_napari_viewer: Any, qtbot: Any) -> Iterator[Reader]:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Measures of labels")
    made = Reader(viewer, panel, qtbot)
    made.settle()
    yield made
    panel.worker.stop()


def test_the_table_is_that_of_the_engine_and_a_row_leads_there(reader: Reader, told: Told) -> None:
    from qtpy.QtCore import Qt

    scan, image, labels = reader.open()
    expected = measure(np.asarray(labels.data), scan, NAMES)
    assert reader.panel.rows == expected
    assert [reader.cell(row, 0) for row in (0, 1)] == ["body", "bone"]
    assert reader.cell(1, 1) == f"{expected[1].volume_ml:.2f}"
    assert reader.cell(1, 2) == "600.0"
    reader.click(1)
    where = np.rint(image.world_to_data(reader.viewer.dims.point)).astype(int)
    assert where[0] == expected[1].slice
    assert (labels.data[where[0]] == 2).any()
    assert labels.selected_label == 2
    reader.panel.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert [reader.cell(row, 0) for row in (0, 1)] == ["bone", "body"]
    reader.click(0)
    assert labels.selected_label == 2
    assert told() == []


def test_the_table_follows_edits(reader: Reader) -> None:
    scan, _, labels = reader.open()
    before = reader.panel.rows
    labels.selected_label = 2
    labels.paint((20, 8, 8), 2)
    reader.settle()
    after = reader.panel.rows
    assert after == measure(np.asarray(labels.data), scan, NAMES)
    assert after[1].voxels > before[1].voxels
    labels.undo()
    reader.settle()
    assert reader.panel.rows == before
    labels.fill((20, 18, 18), 3)
    reader.settle()
    assert [row.name for row in reader.panel.rows][-1] == "label 3"
    reader.viewer.layers.remove(labels)
    reader.settle()
    assert reader.panel.rows == []
    assert "There are no labels" in reader.panel.advice.text()


def test_labels_of_a_frame_are_measured_on_that_frame(reader: Reader) -> None:
    series = np.stack([np.full((6, 20, 22), value, np.float32) for value in (10, 20, 30)])
    image = reader.viewer.add_image(series, name="series")
    drawn = np.zeros(series.shape[1:], np.uint8)
    drawn[2:4, 5:9, 5:9] = 1
    labels = reader.viewer.add_labels(drawn, metadata={KEY: {"frame": (1,)}})
    reader.viewer.dims.set_current_step(0, 2)
    reader.panel.choose(labels, image)
    reader.settle()
    assert [row.mean for row in reader.panel.rows] == [20]


def test_a_colour_picture_has_the_grid_of_its_labels(reader: Reader) -> None:
    picture = np.zeros((20, 22, 3), np.uint8)
    image = reader.viewer.add_image(picture, rgb=True)
    reader.viewer.add_labels(np.ones(picture.shape[:2], np.uint8))
    reader.settle()
    assert reader.panel.image_box.currentText() == image.name
    assert [row.voxels for row in reader.panel.rows] == [440]


def test_only_what_changed_is_measured_again(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sightline.viewer import measure as module

    _, _, labels = reader.open()
    asked: list[list[int]] = []

    def spy(*args: Any) -> Any:
        asked.append(list(args[3]))
        return measure(*args)

    monkeypatch.setattr(module, "measure", spy)
    assert 2 not in np.unique(labels.data[9])
    labels.data_setitem((np.array([9]), np.array([8]), np.array([8])), 0)
    reader.settle()
    assert asked[-1] == [1]


def test_the_table_is_saved_or_a_sentence_says_why_not(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    from qtpy.QtWidgets import QFileDialog

    reader.open()
    path = tmp_path / "organs.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "organs"), ""))
    reader.panel.save.click()
    reader.settle()
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["body", "bone"]
    assert float(rows[1]["volume_ml"]) == pytest.approx(reader.panel.rows[1].volume_ml, rel=1e-5)
    assert told() == ["Saved organs.csv."]

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = path.read_bytes()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(Path, "open", full)
    reader.panel.save.click()
    reader.settle()
    monkeypatch.undo()
    assert "No space left" in told()[-1]
    assert path.read_bytes() == kept
    assert reader.panel.rows
    assert list(tmp_path.iterdir()) == [path]


def test_digest_finds_the_values_of_slices_that_changed() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 8, 9)).astype(np.uint8)
    labels[3] = 1
    first = Digest.of(labels)
    values, voxels = np.unique(labels, return_counts=True)
    expected = {int(v): int(n) for v, n in zip(values, voxels, strict=True) if v}
    assert first.voxels == expected
    assert Digest.of(labels, first) == first
    assert not Digest.of(labels, first).changed(first)
    labels[3, 0, 0] = 300 % 256
    second = Digest.of(labels, first)
    assert second.changed(first) == {1, 44}
    assert Digest.of(labels.astype(np.int32)).voxels == second.voxels
