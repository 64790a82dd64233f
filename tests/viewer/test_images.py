"""The panel and the layers beside it: images that go, change, are odd or are several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from viewer_making import SIDE, User, ball_scan

from napari_sightline.prompts import Point
from napari_sightline.viewer.bridge import KEY
from napari_sightline.viewer.files import read
from napari_sightline.viewer.prompts import PromptPanel
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3
Told = Callable[[], list[str]]


def test_image_removed_while_a_click_is_computed(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("ball")
    user.wait()
    labels = user.case.labels
    before = labels.data.copy()
    with user.slow_model():
        user.click(ball, (24, 20, 24), wait=False)
        user.viewer.layers.remove(ball)
    user.wait()
    assert user.case is None
    assert labels in user.viewer.layers
    assert np.array_equal(labels.data, before)
    assert labels.metadata[KEY]["names"] == {1: "ball"}
    assert "Open a scan" in user.panel.view.advice.text()
    assert told() == []


def test_labels_layer_removed_comes_back(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("ball")
    user.wait()
    before = user.case.labels.data.copy()
    user.viewer.layers.remove(user.case.labels)
    user.wait()
    assert told() == ["The labels layer was removed; your next click brings it back."]
    user.click(ball, (8, 8, 8))
    assert np.array_equal(user.case.labels.data == 1, before == 1)
    assert user.mask.any()


def test_viewer_closed_while_a_click_is_computed(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    with user.slow_model():
        user.click(ball, MIDDLE, wait=False)
        user.viewer.close()
    user.qtbot.wait(300)
    assert told() == []


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_constant_and_nan_images(user: User, value: float, told: Told) -> None:
    image = user.show(np.full((16, 20, 24), value, np.float32))
    user.click(image, (8, 10, 12))
    user.click(image, (8, 5, 5), "Control")
    assert user.panel.isVisible()
    assert all(sentence.endswith(".") for sentence in told())


def test_some_nan_voxels_do_no_harm(user: User, told: Told) -> None:
    voxels = ball_scan().astype(np.float32)
    voxels[::5, ::5, ::5] = np.nan
    voxels[0, 0, 0] = np.inf
    image = user.show(voxels)
    user.click(image, MIDDLE)
    assert user.mask.any()
    assert told() == []


def test_flat_pictures_grey_and_colour(user: User) -> None:
    grey = ball_scan((1, SIDE, SIDE))[0]
    picture = user.show(grey)
    user.click(picture, (24, 24))
    assert user.case.labels.data.shape == (SIDE, SIDE)
    assert user.mask[24, 24]
    colour = np.stack([grey - grey.min()] * 3, -1).astype(np.uint8)
    image = user.viewer.add_image(colour, rgb=True)
    user.qtbot.wait(20)
    user.panel.view.image_chosen.emit(0)
    user.wait()
    assert user.case.image.name == image.name
    user.click(image, (24, 24))
    assert user.mask[24, 24]
    assert user.case.volume.notes == ("Colour shown as luminance.",)


def test_the_shown_frame_of_a_series_is_segmented(user: User) -> None:
    series = np.stack([np.zeros((SIDE,) * 3, np.int16), ball_scan()])
    image = user.show(series)
    user.viewer.dims.set_current_step(0, 1)
    user.click(image, (1, *MIDDLE))
    assert user.case.frame == (1,)
    assert np.array_equal(user.case.volume.data, series[1])
    assert user.mask[MIDDLE]
    assert "frame 2" in user.case.labels.name


def test_moved_images_are_clicked_where_they_are(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    ball.translate = (100, -20, 7)
    ball.scale = (2, 2, 0.5)
    user.viewer.reset_view()
    assert user.case.labels.translate.tolist() == [100, -20, 7]
    user.click(ball, (24, 20, 24))
    np.testing.assert_allclose(user.prompts[-1].position, (24, 20, 24), atol=0.4)


def test_click_beside_the_scan_is_told(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, (24, -6, 24))
    assert told() == ["The click fell beside the scan; click on the picture."]
    assert user.panel.view.advice.text() == told()[0]
    user.click(ball, MIDDLE)
    assert "Which is meant" in user.panel.view.advice.text()


def test_missing_weights_are_one_sentence(
    user: User, scan: Volume, told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from napari_sightline.models import promptable
    from napari_sightline.viewer import controller

    monkeypatch.setattr(controller, "_models", {})
    monkeypatch.setattr(promptable, "WEIGHTS", tmp_path / "nowhere.safetensors")
    ball = user.show(scan)
    assert len(told()) == 1 and "nowhere.safetensors" in told()[0]
    user.click(ball, MIDDLE)
    assert len(told()) == 2
    assert not user.prompts and len(user.case.points.data) == 0
    monkeypatch.undo()
    user.click(ball, MIDDLE)  # the remedy was applied: it goes on
    assert user.mask.any()


def test_unknown_faults_are_told_and_leave_all_as_it_was(
    user: User, scan: Volume, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    mask = user.mask

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(user.case.session, "add", broken)
    user.click(ball, (24, 20, 24))
    assert told() == [
        "That failed (RuntimeError: no kernel image); the object is as it was: try again."
    ]
    assert len(user.prompts) == 1 and np.array_equal(user.mask, mask)


def test_two_images_keep_their_objects(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    other = user.viewer.add_image(ball_scan((20, 30, 30)), name="other")
    user.qtbot.wait(20)
    assert user.case.image is not other  # a new image does not take the panel away
    names = [user.panel.view.image.itemText(i) for i in range(2)]
    assert sorted(names) == ["ball", "other"]
    user.panel.view.image_chosen.emit(names.index("other"))
    user.wait()
    user.click(other, (10, 15, 15))
    assert len(user.prompts) == 1
    ball.name = "renamed"
    user.qtbot.wait(20)
    assert user.panel.view.image.itemText(names.index("ball")) == "renamed"
    user.panel.view.image_chosen.emit(names.index("ball"))
    user.wait()
    user.panel.view.undo.click()
    user.wait()
    assert not user.prompts
    assert len(user.viewer.layers) == 6  # each has its labels and its clicks


def test_what_was_done_by_hand_outlives_a_change_of_image(
    user: User, scan: Volume, told: Told
) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    case, labels = user.case, user.case.labels
    user.viewer.add_image(ball_scan((20, 30, 30)), name="other")
    user.qtbot.wait(20)
    names = [user.panel.view.image.itemText(i) for i in range(2)]
    with user.slow_model():
        user.click(ball, (24, 24, 3), wait=False)
        labels.paint((2, 2, 2), 9)
        user.panel.controller.accept("ball")
        user.click(ball, (20, 3, 24), wait=False)  # nothing by hand comes after it
        user.panel.view.image_chosen.emit(names.index("other"))
    user.wait()
    assert user.case is not case and not user.prompts
    first = case.session.objects[0]
    assert first.accepted and first.name == "ball" and len(first.prompts) == 2
    assert case.session.label_image()[2, 2, 2] == 9 and not case.session.current.prompts
    assert np.array_equal(labels.data, case.session.label_image())
    drawn = labels.data.copy()
    user.panel.view.image_chosen.emit(names.index("ball"))
    user.wait()
    assert np.array_equal(user.case.labels.data, drawn)
    assert not any("failed" in sentence or "locked" in sentence for sentence in told())


def test_what_was_done_by_hand_outlives_the_panel(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    case, labels = user.case, user.case.labels
    with user.slow_model():
        user.click(ball, (24, 24, 3), wait=False)
        labels.paint((2, 2, 2), 9)
        user.panel.controller.accept("ball")
        user.click(ball, (20, 3, 24), wait=False)  # nothing by hand comes after it
        window = user.viewer.window
        window.remove_dock_widget(user.panel.parent())
        assert not user.panel.controller.busy
        _, again = window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
        user.panel = again
    user.wait()
    assert user.case is case
    first = case.session.objects[0]
    assert first.accepted and first.name == "ball" and len(first.prompts) == 2
    assert case.session.label_image()[2, 2, 2] == 9 and not case.session.current.prompts
    assert np.array_equal(user.case.labels.data, case.session.label_image())
    assert [row.name for row in case.state.rows if row.accepted] == ["ball", "label 9"]
    assert not any("failed" in sentence for sentence in told())
    user.panel.shut()


def test_masks_are_seen_above_images_opened_later(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.viewer.add_image(ball_scan(), name="later")
    user.click(ball, MIDDLE)
    assert [layer.name for layer in user.viewer.layers] == [
        "ball",
        "later",
        "labels of ball",
        "clicks on ball",
    ]


def test_accepted_objects_are_renamed_and_outlined(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("")
    user.wait()
    item = user.panel.view.objects.topLevelItem(0)
    assert item.text(0) == "object 1" and item.text(1).endswith("mL")
    item.setText(0, "larynx")
    user.wait()
    assert user.case.session.names == {1: "larynx"}
    labels = user.case.labels
    assert "larynx" in list(labels.features["name"])

    labels.opacity = 0.3
    user.panel.view.outline.setChecked(True)
    assert (labels.contour, labels.opacity) == (1, 1.0)
    user.panel.view.outline.setChecked(False)
    assert (labels.contour, labels.opacity) == (0, 0.3)


def test_layers_without_use_are_taken_away(user: User, scan: Volume) -> None:
    user.show(scan)
    other = user.viewer.add_image(ball_scan((20, 30, 30)), name="other")
    user.qtbot.wait(20)
    assert len(user.viewer.layers) == 4
    user.panel.controller.choose(other)
    user.wait()
    assert [layer.name for layer in user.viewer.layers] == [
        "ball",
        "other",
        "labels of other",
        "clicks on other",
    ]
    user.case.labels.data[3, 3, 3] = 1  # a brush was here
    user.panel.shut()
    assert [layer.name for layer in user.viewer.layers] == ["ball", "other", "labels of other"]


def test_keys_are_given_back(user: User, scan: Volume) -> None:
    viewer = user.viewer
    mine = [key for key in viewer.keymap if str(key) in ("T", "R", "Enter", "Ctrl+Z")]
    assert len(mine) == 4
    dock = user.panel.parent()
    dock.setVisible(False)
    assert not viewer.keymap
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    assert user.case is None  # hidden panels do not listen
    dock.setVisible(True)
    user.wait()
    assert {"T", "R", "Enter", "Ctrl+Z", "V", "F1"} <= {str(key) for key in viewer.keymap}
    user.click(ball, MIDDLE)
    assert len(user.prompts) == 1
    labels = user.case.labels
    assert labels.keymap  # where our labels are selected the keys are ours too
    user.panel.shut()
    assert not labels.keymap
    assert not viewer.keymap and not viewer.mouse_drag_callbacks[1:]


def test_labels_tools_keep_their_keys_while_in_use(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    labels = user.case.labels
    user.viewer.layers.selection.active = labels
    labels.mode = "paint"
    user.qtbot.wait(20)
    assert "paint" in user.panel.view.advice.text()
    before = labels.data.copy()
    user.click(ball, (24, 10, 10))
    assert len(user.prompts) == 1  # the brush had the mouse
    assert user.mask[24, 10, 10]  # and drew on the current object
    item = user.case.session.current
    assert item.mask[tuple(v - s.start for v, s in zip((24, 10, 10), item.mask_box, strict=True))]
    user.key("Z", "Control")
    assert len(user.prompts) == 1  # undo took back the stroke
    assert np.array_equal(labels.data, before)
    labels.mode = "pan_zoom"
    user.key("Z", "Control")
    assert not user.prompts


def test_panel_opened_again_finds_its_objects(user: User, scan: Volume, qtbot: Any) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("ball")
    user.wait()
    user.click(ball, (24, 10, 24))
    window = user.viewer.window
    window.remove_dock_widget(user.panel.parent())
    assert not user.panel.controller.worker.jobs
    assert [type(layer).__name__ for layer in user.viewer.layers] == ["Image", "Labels"]
    _, user.panel = window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    user.wait()
    assert len(user.prompts) == 1
    assert user.case.state.rows[0].name == "ball"
    user.key("Z", "Control")
    assert not user.prompts
    user.panel.shut()


def test_device_changes_and_objects_come_along(user: User, scan: Volume, told: Told) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("ball")
    user.wait()
    user.click(ball, (24, 10, 24))
    before = user.case.labels.data.copy()
    user.panel.view.start.device_chosen.emit("cpu")
    user.wait()
    assert user.case.device == "cpu"
    assert np.array_equal(user.case.labels.data == 1, before == 1)
    assert len(user.prompts) == 1
    assert user.case.state.rows[0].name == "ball"
    user.panel.view.start.device_chosen.emit("cuda:7")
    user.wait()
    assert len(told()) == 1 and "cuda:7" in told()[0]
    assert user.panel.view.start.device.currentText() == "cpu"


@pytest.mark.usefixtures("loaded_model")
def test_viewer_may_be_a_proxy(make_napari_viewer_proxy: Any, qtbot: Any, scan: Volume) -> None:
    viewer = make_napari_viewer_proxy()
    panel = PromptPanel(viewer)
    qtbot.addWidget(panel)
    viewer.add_image(scan.data)
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not panel.controller.busy, timeout=60_000)
    panel.controller.click(MIDDLE, (1, 2), True)
    qtbot.waitUntil(lambda: not panel.controller.busy, timeout=60_000)
    assert panel.controller.case is not None
    assert panel.controller.case.state.prompts == (Point(MIDDLE),)
    panel.shut()


def test_the_sample_opens_with_its_truth_hidden(user: User) -> None:
    user.viewer.open_sample("napari-sightline", "head-neck-phantom")
    user.wait()
    phantom, truth = list(user.viewer.layers)[:2]
    assert phantom.contrast_limits == [-160, 240] and phantom.contrast_limits_range[1] > 2000
    assert not truth.visible and "mandible" in list(truth.features["name"])
    user.panel.view.planes.button(1).click()
    assert str(user.viewer.scene.camera.orientation2d[0]) == "up"  # the head is up
    user.panel.view.planes.button(0).click()
    assert str(user.viewer.scene.camera.orientation2d[0]) == "down"


def test_damaged_files_are_one_sentence(user: User, tmp_path: Path, told: Told) -> None:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"\x1f\x8b" + b"nothing of use" * 9)
    assert user.viewer.open(path, plugin="napari-sightline") == []
    assert len(told()) == 1 and "broken.nii.gz" in told()[0]
    assert read(str(path)) == [(None,)]
