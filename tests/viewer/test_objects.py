"""The list of objects, by real clicks on its rows: whatever is done there can be undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from viewer_fakes import Balls
from viewer_making import SIDE, User, ball_scan

from napari_sightline.io import load_labels
from napari_sightline.viewer import controller, objects_view
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a model that answers at once."""
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): Balls()})


Told = Callable[[], list[str]]


def press(user: User, row: int, column: int = 0, held: Any = None) -> None:
    """Click on a cell of the list."""
    table = user.panel.view.objects
    place = table.visualItemRect(table.topLevelItem(row)).center()
    place.setX(table.columnViewportPosition(column) + 6)
    held = held or Qt.KeyboardModifier.NoModifier
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, held, place)
    user.wait()


def two_objects(user: User, scan: Volume) -> Any:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.view.name.setText("ball")
    user.key("Return")
    user.click(ball, (24, 8, 8))
    user.panel.view.name.setText("corner")
    user.key("Return")
    return ball


def test_rows_show_hide_lock_and_lead_to_objects(user: User, scan: Volume) -> None:
    two_objects(user, scan)
    table = user.panel.view.objects
    assert [table.topLevelItem(i).text(0) for i in range(2)] == ["ball", "corner"]
    user.viewer.dims.set_current_step(0, 3)
    press(user, 0)
    step = user.viewer.dims.current_step[0]
    assert (user.case.labels.data[step] == 1).any()
    press(user, 0, objects_view.SHOWN)
    assert not user.case.state.row(1).visible
    assert user.case.labels.colormap.color_dict[1][3] == 0
    press(user, 0, objects_view.LOCKED)
    assert not user.case.state.row(1).locked
    user.key("Z", "Control")
    user.key("Z", "Control")
    assert user.case.state.row(1).locked and user.case.state.row(1).visible
    assert user.case.labels.colormap.color_dict[1][3] == 1


def test_merge_copy_delete_correct_and_undo(user: User, scan: Volume) -> None:
    two_objects(user, scan)
    view = user.panel.view
    before = user.case.labels.data.copy()
    press(user, 0)
    assert not view.list.buttons["merge"].isEnabled()
    press(user, 1, held=Qt.KeyboardModifier.ControlModifier)
    view.list.buttons["merge"].click()
    user.wait()
    assert np.array_equal(user.case.labels.data == 1, before > 0)
    user.key("Z", "Control")
    assert np.array_equal(user.case.labels.data, before)

    press(user, 1)
    QTest.keyClick(view.objects, Qt.Key.Key_Delete)
    user.wait()
    assert [row.name for row in user.case.state.rows if row.ml] == ["ball"]
    assert np.array_equal(user.case.labels.data, np.where(before == 1, 1, 0))
    user.key("Z", "Control")
    assert np.array_equal(user.case.labels.data, before)

    press(user, 0)
    view.list.buttons["correct"].click()
    user.wait()
    assert user.case.state.current == 1 and len(user.prompts) == 1
    assert len(user.case.points.data) == 1  # its clicks are seen again
    view.list.buttons["duplicate"].click()
    user.wait()
    assert user.case.state.row(user.case.state.current).name == "ball copy"
    menu = [action.text() for action in view.list.menu().actions()]
    assert "Colour …" in menu and "Name …" in menu


def test_operations_are_steps(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    before, shape = user.mask, user.panel.view.shape
    shape.mm.setValue(2.0)
    shape.buttons["grow"].click()
    user.wait()
    assert user.mask.sum() > before.sum() and user.mask[before].all()
    user.key("Z", "Control")
    assert np.array_equal(user.mask, before)
    user.key("Return")
    press(user, 0)
    told = len(user.panel.view.advice.text())
    shape.buttons["shrink"].click()
    user.wait()
    assert "locked" in user.panel.view.advice.text() and told


def test_a_brush_does_not_change_locked_objects(user: User, scan: Volume, told: Told) -> None:
    ball = two_objects(user, scan)
    labels = user.case.labels
    before = labels.data.copy()
    user.viewer.layers.selection.active = labels
    labels.brush_size = 5
    labels.mode = "erase"
    user.click(ball, MIDDLE)
    assert np.array_equal(labels.data, before)
    assert len(told()) == 1 and "ball is locked" in told()[0]
    labels.mode = "pan_zoom"


def test_what_a_script_draws_is_taken_over(user: User, scan: Volume) -> None:
    user.click(user.show(scan), MIDDLE)
    labels, session = user.case.labels, user.case.session
    labels.paint((2, 2, 2), 9)
    labels.data_setitem(tuple(np.array([[4, 4], [4, 5], [4, 4]])), np.array([1, 7]))
    labels.fill((30, 2, 2), 8)
    with labels.block_history():  # as a drag of the mouse does: later wins
        labels.paint((6, 20, 2), 1)
        labels.paint((6, 20, 2), 0)
    user.wait()
    assert {2, 4, 30} <= set(np.argwhere(np.isin(labels.data, (1, 7, 8, 9)))[:, 0])
    np.testing.assert_array_equal(session.label_image(), labels.data)
    assert labels.data[4, 4, 4] == 1 and labels.data[4, 5, 4] == 7 and labels.data[6, 20, 2] == 0


def test_a_session_that_ended_without_saving_is_brought_back(
    user: User, scan: Volume, told: Told, journals: Path, tmp_path: Path
) -> None:
    ball = two_objects(user, scan)
    before = user.case.labels.data.copy()
    user.case.session.close()  # as a crash leaves it
    assert len(list(journals.glob("*.journal"))) == 1
    user.viewer.layers.clear()
    user.wait()
    del ball
    again = Volume.from_array(ball_scan(), spacing=(1.5, 1.0, 1.0), name="ball")
    user.show(again)
    assert any("brought back" in sentence for sentence in told())
    assert np.array_equal(user.case.labels.data, before)
    assert [row.name for row in user.case.state.rows if row.ml] == ["ball", "corner"]
    user.panel.controller.save(tmp_path / "out.nii.gz")
    user.wait()
    assert not list(journals.glob("*.journal"))  # it is safe now
    assert np.array_equal(load_labels(tmp_path / "out.nii.gz")[0].data, before)


def test_another_layers_labels_are_a_start(user: User, scan: Volume, told: Told) -> None:
    user.show(scan)
    theirs = np.zeros((SIDE,) * 3, np.uint8)
    theirs[20:28, 20:28, 20:28] = 3
    theirs[2:6, 2:6, 2:6] = 7
    layer = user.viewer.add_labels(theirs, name="other tool")
    user.qtbot.wait(20)
    start = user.panel.view.start
    assert start.layer.currentText() == "other tool"
    user.wait()
    start.start.click()
    user.wait()
    assert "another grid" in told()[-1]  # it lies elsewhere: 1 mm voxels at the origin
    image = user.case.image
    layer.scale, layer.translate = image.scale, image.translate
    start.start.click()
    user.wait()
    assert np.array_equal(user.mask, theirs == 3)
    user.panel.view.undo.click()
    user.wait()
    start.take.click()
    user.wait()
    rows = [row for row in user.case.state.rows if row.ml]
    assert [row.id for row in rows] == [3, 7] and all(row.accepted for row in rows)


def test_a_click_on_a_locked_object_is_explained(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.panel.controller.accept("larynx")
    user.wait()
    user.click(ball, MIDDLE)
    assert not user.case.state.drawn
    assert "belongs to larynx, which is locked" in user.panel.view.advice.text()
    user.key("Z", "Control")
    user.click(ball, (24, 24, 40))
    assert user.case.state.drawn and "locked" not in user.panel.view.advice.text()
