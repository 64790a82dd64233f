"""The panel for automatic segmentation as a reader meets it."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from automatic_making import SPEC, Tissues, Watcher, held, install, two_tissues
from model_making import swin
from viewer_making import AFFINES

from napari_sightline.models import load_segmenter
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.automatic import segment
from napari_sightline.segment.finish import Finish
from napari_sightline.viewer import automatic_run
from napari_sightline.viewer.automatic import AutomaticPanel
from napari_sightline.viewer.automatic_shape import shape
from napari_sightline.viewer.automatic_view import AutomaticView
from napari_sightline.viewer.bridge import OVERLAY
from napari_sightline.viewer.case import case_of
from napari_sightline.viewer.measure import MeasurePanel
from napari_sightline.volume import Volume

Told = Callable[[], list[str]]
MENU = "Organs, automatic (Swin-UNETR)"


@pytest.fixture
def network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tissues:
    """Instead of the Swin-UNETR's answers, ones that can be foreseen."""
    made = Tissues()
    monkeypatch.setattr(automatic_run, "loaded", lambda _: Segmenter(made, SPEC))
    return made


@pytest.fixture
def reader(
    make_napari_viewer: Any, qtbot: Any, folder: Path, loaded_model: None
) -> Iterator[Watcher]:
    """Somebody in front of a viewer with the panel, as the menu opens it."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", MENU)
    made = Watcher(viewer, panel, qtbot)
    assert panel.view.table.isChecked()
    panel.view.table.setChecked(False)  # tests that want the table say so
    panel.choose_model("tissues")
    made.settle()
    yield made
    panel.control.close()
    made.settle()


def entries_of(menu: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Actions of a menu and those below it, as the menu bar builds them when it is opened."""
    menu.aboutToShow.emit()
    for action in menu.actions():
        if action.menu():
            yield from entries_of(action.menu(), (*path, action.text()))
        else:
            yield (*path, action.text()), action


def volume(kind: str = "usual", data: np.ndarray | None = None, **more: Any) -> Volume:
    hu = two_tissues() if data is None else data
    return Volume.from_array(hu, AFFINES[kind], **{"name": "ct", "modality": "CT", **more})


def test_a_real_swin_unetr_gives_the_labels_of_the_engine(reader: Watcher, told: Told) -> None:
    assert reader.view.model.currentText() == "tissues"
    assert "soft tissue, bone" in reader.view.facts.text()
    scan = volume(data=two_tissues((40, 36, 33)))
    image = reader.show(scan)
    labels = reader.segment()
    expected = segment(scan, load_segmenter("tissues"))
    np.testing.assert_array_equal(labels.data, expected.labels)
    assert labels.data.any()
    assert labels.scale.tolist() == image.scale.tolist()
    assert labels.translate.tolist() == image.translate.tolist()
    assert list(labels.features["name"]) == ["", "soft tissue", "bone"]
    assert labels.name == "ct: tissues"
    assert told() == []


def test_the_menus_open_the_panels(make_napari_viewer: Any, qtbot: Any, folder: Path) -> None:
    viewer = make_napari_viewer(show=True)
    found = dict(entries_of(viewer.window.layers_menu))
    wanted = {
        ("Segment", "Organs, automatic (Swin-UNETR)"): AutomaticPanel,
        ("Measure", "Measures of labels"): MeasurePanel,
    }
    for (menu, title), kind in wanted.items():
        found[menu, f"{title} (Sightline)"].trigger()
        (panel,) = [one for one in viewer.window.dock_widgets.values() if isinstance(one, kind)]
        qtbot.waitUntil(panel.isVisible)
        viewer.window.remove_dock_widget(panel)


def test_measures_open_when_organs_are_found(reader: Watcher, network: Tissues, told: Told) -> None:
    reader.show(volume())
    reader.view.table.setChecked(True)
    reader.segment()
    docks = reader.viewer.window.dock_widgets
    (table,) = [one for name, one in docks.items() if name.startswith("Measures")]
    reader.until(lambda: not table.busy)
    listed = {row.name: row.volume_ml for row in table.rows}
    assert listed == pytest.approx({organ.name: organ.ml for organ in reader.control.organs})
    assert told() == []
    table.worker.stop()


@pytest.mark.parametrize("kind", ["permuted", "oblique"])
def test_labels_lie_on_the_scan(kind: str, reader: Watcher, network: Tissues) -> None:
    scan = volume(kind)
    image = reader.show(scan)
    labels = reader.segment()
    hu = image.data
    np.testing.assert_array_equal(labels.data, np.where(hu > 300, 2, np.where(hu > -400, 1, 0)))
    np.testing.assert_allclose(image.data_to_world((3, 4, 5)), labels.data_to_world((3, 4, 5)))
    spacing = float(np.prod(scan.spacing))
    rows = [(organ.name, organ.ml) for organ in reader.control.organs]
    assert rows[1][0] == "bone"
    assert rows[1][1] == pytest.approx((hu > 300).sum() * spacing / 1000)
    reader.pick("bone")
    axis = reader.viewer.dims.point
    index = np.rint(image.world_to_data(axis)).astype(int)
    assert hu[tuple(index)] > 300
    assert labels.selected_label == 2


def test_slabs_appear_while_it_runs_and_cancel_leaves_nothing(
    reader: Watcher, network: Tissues, told: Told
) -> None:
    image = reader.show(volume())
    whole = np.count_nonzero(image.data > -400)
    before = list(reader.viewer.layers)
    with held(reader.control):
        reader.press(reader.view.run)
        reader.until(lambda: reader.control.shown is not None)
        (labels,) = reader.control.shown.layers
        reader.until(lambda: bool(labels.data.any()))
        assert np.count_nonzero(labels.data) < whole  # the rest is not there yet
        assert not labels.editable
        assert reader.view.progress.isVisible()
        reader.until(lambda: "left" in reader.view.progress.format())
        assert not reader.view.run.isEnabled()
        reader.press(reader.view.cancel)
        assert list(reader.viewer.layers) == before
    reader.settle()
    assert list(reader.viewer.layers) == before
    assert not reader.view.progress.isVisible()
    assert reader.view.run.isEnabled()
    assert told() == []
    labels = reader.segment()  # and the next run is whole
    assert np.count_nonzero(labels.data) == whole
    assert labels.editable


@pytest.mark.parametrize("which", ["image", "labels"])
def test_a_layer_is_removed_while_it_runs(
    which: str, reader: Watcher, network: Tissues, told: Told
) -> None:
    image = reader.show(volume())
    with held(reader.control):
        reader.press(reader.view.run)
        reader.until(lambda: reader.control.shown is not None)
        (labels,) = reader.control.shown.layers
        reader.viewer.layers.remove(image if which == "image" else labels)
    reader.settle()
    assert labels not in reader.viewer.layers
    assert len(reader.viewer.layers) == (0 if which == "image" else 1)
    assert reader.control.running is None
    assert any("was removed" in text for text in told())


def test_each_run_makes_a_layer_of_its_own(reader: Watcher, network: Tissues) -> None:
    reader.show(volume())
    first = reader.segment()
    first.data[0] = 2  # by hand
    kept = first.data.copy()
    second = reader.segment()
    assert second is not first
    np.testing.assert_array_equal(first.data, kept)
    assert not second.data[0].any()


def test_a_scan_that_was_segmented_is_let_go(reader: Watcher, network: Tissues) -> None:
    image = reader.show(volume())
    kept = weakref.ref(image.data)
    assert reader.segment() is not None
    reader.viewer.layers.remove(image)
    del image
    reader.settle()
    gc.collect()
    assert kept() is None


def test_nothing_found_makes_no_objects(reader: Watcher, network: Tissues, told: Told) -> None:
    reader.show(volume(data=np.full((40, 36, 36), -1000, np.int16)))
    reader.view.into_session.click()
    reader.segment()
    assert told()[-1] == "The model found none of its structures in this scan."


def test_uncertainty_and_probabilities_are_layers(reader: Watcher, network: Tissues) -> None:
    image = reader.show(volume())
    reader.view.uncertainty.click()
    reader.view.probabilities.click()
    labels = reader.segment()
    maps = [one for one in reader.viewer.layers if OVERLAY in one.metadata]
    assert [one.name for one in maps] == [
        "ct: uncertainty",
        "ct: probability of soft tissue",
        "ct: probability of bone",
    ]
    scan = Segmenter(network, SPEC)
    expected = segment(volume(), scan, probabilities=True, entropy=True)
    assert expected.probabilities is not None
    assert expected.entropy is not None
    np.testing.assert_array_equal(maps[0].data, expected.entropy.astype(np.float32))
    np.testing.assert_array_equal(maps[2].data, expected.probabilities[2].astype(np.float32))
    assert maps[0].scale.tolist() == image.scale.tolist()
    assert reader.viewer.layers[-1] is labels
    assert [reader.view.image.itemText(k) for k in range(reader.view.image.count())] == ["ct"]


def test_shapes_of_one_organ_and_undo(reader: Watcher, network: Tissues, told: Told) -> None:
    canonical = {"spacing": (1.5, 1.0, 1.0), "name": "ct", "modality": "CT"}
    reader.show(Volume.from_array(two_tissues(), **canonical))
    labels = reader.segment()
    before = labels.data.copy()
    reader.pick("bone")
    reader.press(reader.view.largest)
    reader.settle()
    speck = (slice(80, 82), slice(30, 32), slice(30, 32))
    expected = before.copy()
    expected[speck] = 0
    np.testing.assert_array_equal(labels.data, expected)
    reader.press(reader.view.fill)  # what is shut in is soft tissue: no organ takes from another
    reader.settle()
    np.testing.assert_array_equal(labels.data, expected)
    assert told() == ["Nothing to change: it is so already."]
    reader.press(reader.view.undo)
    np.testing.assert_array_equal(labels.data, before)
    reader.press(reader.view.redo)
    np.testing.assert_array_equal(labels.data, expected)
    reader.press(reader.view.undo)
    labels.data[30:34, 16:19, 16:19] = 0
    reader.press(reader.view.fill)
    reader.settle()
    assert (labels.data[30:34, 16:19, 16:19] == 2).all()
    reader.press(reader.view.smooth)
    reader.settle()
    assert labels.data[20, 12, 12] != 2  # a corner is rounded off
    reader.press(reader.view.undo)
    reader.press(reader.view.undo)
    before[30:34, 16:19, 16:19] = 0
    np.testing.assert_array_equal(labels.data, before)


def test_what_is_painted_while_organs_are_shaped_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:12, 5:12, 5:12] = 1
    labels[8, 8, 8] = 0
    finished = Finish.apply

    def painted_on(*args: Any) -> Any:
        labels[4, 4, 4] = 7
        return finished(*args)

    monkeypatch.setattr(Finish, "apply", painted_on)
    change = shape(labels, [1], "fill holes", (1.0, 1.0, 1.0))
    assert np.stack(change.places, 1).tolist() == [[8, 8, 8]]


def test_organs_become_objects_of_the_prompt_panel(
    reader: Watcher, network: Tissues, qtbot: Any
) -> None:
    image = reader.show(volume())
    labels = reader.segment()
    values = labels.data.copy()
    reader.press(reader.view.edit)
    case = case_of(image)
    assert case is not None
    panel = reader.viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    control = panel[1].controller
    reader.until(lambda: not control.busy)
    objects = {item.name: item for item in case.session.objects if item.mask_box is not None}
    assert set(objects) == {"soft tissue", "bone"}
    assert all(item.accepted for item in objects.values())
    np.testing.assert_array_equal(case.session.label_image(), values)
    assert case.labels is labels  # no second layer of the same organs
    np.testing.assert_array_equal(labels.data, values)
    assert not reader.view.largest.isEnabled()
    control.undo()
    reader.until(lambda: not control.busy)
    assert not [item for item in case.session.objects if item.mask_box is not None]
    control.redo()
    reader.until(lambda: not control.busy)
    np.testing.assert_array_equal(labels.data, values)
    panel[1].shut()


@pytest.mark.parametrize("how", ["leaves", "fails"])
def test_organs_that_became_no_objects_keep_their_layer(
    how: str, reader: Watcher, network: Tissues, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sightline.errors import BadInput
    from napari_sightline.segment.interactive import Session

    image = reader.show(volume())
    labels = reader.segment()
    other = reader.viewer.add_image(np.zeros((8, 8, 8)), name="other")
    reader.settle()
    going = threading.Event()

    def slow(self: Session, *_: Any) -> Any:
        assert going.wait(60)
        raise BadInput("There is no voxel that is free.")

    monkeypatch.setattr(Session, "import_labels", slow)
    reader.press(reader.view.edit)
    panel = reader.viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    control, case = panel[1].controller, case_of(image)
    assert case is not None and case.labels is labels
    assert not reader.view.edit.isEnabled()
    if how == "leaves":
        control.choose(other)
    going.set()
    reader.until(lambda: not control.busy)
    assert case.labels is not labels and reader.view.edit.isEnabled()
    control.choose(image)
    reader.until(lambda: not control.busy)
    control.draft("liver")  # colours and names of the session are drawn
    assert list(labels.features["name"]) == ["", "soft tissue", "bone"]
    panel[1].shut()


def test_a_run_may_go_into_free_voxels_of_the_session(reader: Watcher, network: Tissues) -> None:
    image = reader.show(volume())
    reader.segment()
    reader.press(reader.view.edit)
    case = case_of(image)
    panel = reader.viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    control = panel[1].controller
    reader.until(lambda: not control.busy)
    assert case is not None
    (soft,) = [item for item in case.session.objects if item.name == "soft tissue"]
    case.session.delete(soft.id)
    bone = case.session.label_image() == 2
    reader.view.into_session.click()
    second = reader.segment()
    reader.until(lambda: not control.busy)
    after = case.session.label_image()
    np.testing.assert_array_equal(after == 2, bone)  # as it was
    np.testing.assert_array_equal(after > 0, second.data > 0)
    assert not second.visible
    assert case.labels.data.any()
    panel[1].shut()


def test_regions_that_overlap_are_layers_of_their_own(
    reader: Watcher, folder: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    from dataclasses import replace

    channels = ("FLAIR", "T1c", "T1", "T2")
    labels = {1: "whole", 2: "core"}
    four = replace(SPEC, channels=channels, labels=labels, overlapping=True, modality=None)
    install(
        "brats",
        swin(in_channels=4, out_channels=2),
        channels=channels,
        labels=labels,
        overlapping=True,
        modality=None,
    )
    made = Tissues(overlapping=True)
    monkeypatch.setattr(automatic_run, "loaded", lambda _: Segmenter(made, four))
    reader.panel.find_models()
    reader.settle()
    reader.view.model.setCurrentIndex(reader.view.model.findData("brats"))
    reader.panel.choose_model("brats")
    reader.settle()
    layers = [reader.show(volume(name=f"patient_{one.lower()}")) for one in ("t2", "t1", "t1c")]
    assert [box.currentText() for box in reader.view.channels][1:] == [
        "patient_t1c",
        "patient_t1",
        "patient_t2",
    ]
    reader.press(reader.view.run)  # three layers for four channels
    assert "a layer of its own" in told()[-1]
    layers.append(reader.show(volume(name="patient_flair")))
    reader.panel.find_models()
    reader.settle()
    assert reader.view.channels[0].currentText() == "patient_flair"
    first = reader.segment()
    hu = layers[-1].data
    shown = [one for one in reader.viewer.layers if one.name.startswith("patient_flair:")]
    assert [one.name for one in shown] == ["patient_flair: whole", "patient_flair: core"]
    assert first is shown[0]
    np.testing.assert_array_equal(shown[0].data, (hu > -200) * 1)
    np.testing.assert_array_equal(shown[1].data, (hu > 300) * 2)


def test_what_is_odd_is_said(reader: Watcher, network: Tissues, told: Told) -> None:
    reader.show(volume(modality="PT"))
    labels = reader.segment()
    assert any("is PET and the model 'tissues' learned from CT" in text for text in told())
    assert labels.data.any()
    assert "PET" in reader.view.advice.text()


def test_one_slice_and_a_series_over_time(reader: Watcher, network: Tissues, told: Told) -> None:
    hu = two_tissues((1, 40, 44))
    hu[0, 10:20, 10:20] = 50
    picture = reader.viewer.add_image(hu[0].astype(float), name="picture")
    reader.settle()
    labels = reader.segment()
    assert labels.data.shape == picture.data.shape
    np.testing.assert_array_equal(labels.data > 0, hu[0] > -400)
    assert any("one slice" in text for text in told())
    reader.viewer.layers.clear()
    series = np.stack([np.full((34, 36, 38), -1000.0), two_tissues((34, 36, 38))])
    reader.viewer.add_image(series, name="series")
    reader.settle()
    reader.viewer.dims.set_current_step(0, 1)
    labels = reader.segment()
    assert labels.data.shape == (34, 36, 38)
    np.testing.assert_array_equal(labels.data > 0, series[1] > -400)
    reader.viewer.dims.set_current_step(0, 0)
    reader.press(reader.view.edit)  # would be edited on another picture
    assert "belong to frame 2" in told()[-1]


def test_missing_damaged_and_unsuited(
    reader: Watcher, folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.show(volume())
    from napari_sightline.models.cards import WEIGHTS

    if not (WEIGHTS / "swin-unetr-headneck-ct.safetensors").is_file():
        reader.panel.choose_model("swin-unetr-headneck-ct")
        assert "not part of this installation" in reader.view.advice.text()
        assert not reader.view.run.isEnabled()
    reader.panel.choose_model("tissues")
    reader.settle()
    (folder / "tissues" / "model.safetensors").write_bytes(b"not a model")
    assert reader.segment() is None
    assert "is damaged" in told()[-1]
    assert "is damaged" in reader.view.advice.text()
    reader.panel.choose_model("tissues")
    reader.settle()
    assert not reader.view.run.isEnabled()
    assert "is damaged" in reader.view.advice.text()


def test_a_device_that_is_not_there(reader: Watcher, network: Tissues, told: Told) -> None:
    reader.show(volume())
    reader.view.device.addItem("cuda:7")
    reader.view.device.setCurrentText("cuda:7")
    monkey = reader.panel._refresh
    reader.panel._refresh = lambda: None
    assert reader.segment() is None
    reader.panel._refresh = monkey
    assert any("not on this machine" in text for text in told())


def test_the_viewer_is_closed_while_it_runs(
    make_napari_viewer: Any, qtbot: Any, network: Tissues
) -> None:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", MENU)
    reader = Watcher(viewer, panel, qtbot)
    reader.settle()
    reader.show(volume())
    with held(reader.control):
        reader.press(reader.view.run)
        reader.until(lambda: reader.control.shown is not None)
        job = reader.control.running
        viewer.close()
        qtbot.wait(50)
        assert job.cancelled()
        calls = network.calls
    qtbot.wait(300)
    assert network.calls == calls  # not one window more


def test_a_title_too_long_for_the_list_shows_both_its_ends(qtbot: Any) -> None:
    view = AutomaticView()
    qtbot.addWidget(view)
    view.resize(view.minimumWidth(), 700)
    view.show()
    for name, cut in (("scan: organs", False), ("scan: " + "very-" * 12 + "long", True)):
        view.result.setText(f"Organs of {name}")
        shown = QLabel.text(view.result)
        assert view.result.fontMetrics().horizontalAdvance(shown) <= view.result.width()
        assert shown.startswith("Organs of scan") and shown.endswith(name[-4:])
        assert ("…" in shown) == cut
