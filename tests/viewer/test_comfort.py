"""What makes reading comfortable: windows, planes, jumps, outlines, opacity by the wheel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from viewer_fakes import Balls
from viewer_making import SIDE, User

from napari_sightline.viewer import controller, planes, windows
from napari_sightline.viewer.bridge import slice_at
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3


@pytest.fixture
def loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find a model that answers at once."""
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): Balls()})


def shown(user: User, layer: Any) -> tuple[int, int]:
    """Axis across the canvas, and the slice along it."""
    dims = user.viewer.dims
    return slice_at(layer, dims.point, dims.order, dims.units)


def wheel(user: User, turn: int, held: Qt.KeyboardModifier) -> None:
    """Turn the wheel over the middle of the canvas."""
    middle = QPointF(user.canvas.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(user.canvas.mapToGlobal(middle.toPoint())),
        QPoint(),
        QPoint(0, turn),
        Qt.MouseButton.NoButton,
        held,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(user.canvas, event)
    user.qtbot.wait(20)


def test_windows_by_menu_and_key(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    menu = user.panel.view.look.window_
    for index in range(1, menu.count()):
        name = menu.itemData(index)
        menu.setCurrentIndex(index)
        menu.activated.emit(index)
        assert tuple(ball.contrast_limits) == windows.PRESETS[name].limits
        assert ball.contrast_limits_range[0] <= ball.contrast_limits[0]
        assert ball.contrast_limits_range[1] >= ball.contrast_limits[1]
    for name, preset in windows.PRESETS.items():
        user.key(preset.key)
        assert tuple(ball.contrast_limits) == preset.limits
        assert menu.currentData() == name
    ball.contrast_limits = (-3, 55)  # by napari's own slider
    assert menu.currentIndex() == 0


def test_windows_leave_colour_pictures_alone(user: User) -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[20:30, 20:30] = 200
    image = user.viewer.add_image(picture, rgb=True)
    user.wait()
    limits = list(image.contrast_limits)
    user.key("F2")
    assert list(image.contrast_limits) == limits


def test_the_next_plane_goes_through_the_place_under_the_pointer(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    QTest.mouseMove(user.canvas, user.pixel(ball, (20, 30, 14)))
    user.qtbot.wait(50)
    assert shown(user, ball) == (0, 20)
    user.key("D")
    assert planes.shown(user.viewer) == 1 and shown(user, ball) == (1, 30)
    QTest.mouseMove(user.canvas, user.pixel(ball, (20, 30, 14)))
    user.qtbot.wait(50)
    user.key("D")
    assert planes.shown(user.viewer) == 2 and shown(user, ball) == (2, 14)
    assert user.panel.view.planes.checkedId() == 2


def test_jumps_go_round_the_prompts(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.key("J")  # nowhere to go yet
    user.click(ball, (20, 24, 24))
    user.click(ball, (29, 26, 24))
    user.viewer.dims.set_current_step(0, 5)
    slices = []
    for _ in range(3):
        user.key("J")
        slices.append(shown(user, ball)[1])
    assert slices == [20, 29, 20]


def test_the_wheel_with_shift_changes_opacity_and_not_the_slice(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    labels, tab = user.case.labels, user.panel.view.look
    before, place, zoom = labels.opacity, shown(user, ball), user.viewer.scene.camera.zoom
    wheel(user, -120, Qt.KeyboardModifier.ShiftModifier)
    assert labels.opacity == pytest.approx(before - 0.05)
    assert tab.opacity.value() == round(100 * labels.opacity)
    wheel(user, 120, Qt.KeyboardModifier.ShiftModifier)
    assert labels.opacity == pytest.approx(before)
    assert shown(user, ball) == place and user.viewer.scene.camera.zoom == zoom
    wheel(user, 120, Qt.KeyboardModifier.NoModifier)
    assert labels.opacity == pytest.approx(before)
    assert user.viewer.scene.camera.zoom != zoom  # the wheel alone is napari's
    tab.opacity.setValue(30)
    assert labels.opacity == pytest.approx(0.3)


def test_masks_are_hidden_and_outlined_by_key(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    labels = user.case.labels
    user.key("V")
    assert not labels.visible and ball.visible
    user.click(ball, (24, 24, 40))  # prompts are answered all the same
    assert user.mask[24, 24, 40] and not labels.visible
    user.key("V")
    assert labels.visible
    user.key("W")
    assert labels.contour == 1
    user.key("W")
    assert labels.contour == 0
