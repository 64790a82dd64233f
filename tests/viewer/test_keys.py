"""Keys come and go without a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.key_bindings import KeymapHandler
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtWidgets import QLabel
from viewer_making import User

from napari_sightline.viewer import robot
from napari_sightline.viewer.keys import CANDIDATE, KEYS, SHARED, UNDO, KeyRing


def test_keys_of_the_viewer_come_back() -> None:
    viewer = ViewerModel()
    theirs: list[str] = []
    viewer.bind_key("T", lambda _: theirs.append("T"))
    pressed: list[str] = []
    ring = KeyRing(viewer, {key: lambda k=key: pressed.append(k) for key in KEYS})
    handler = KeymapHandler()
    handler.keymap_providers = [viewer]
    ring.bind()
    for key in KEYS:
        handler.press_key(key)
    assert pressed == list(KEYS) and not theirs
    ring.unbind()
    assert len(viewer.keymap) == 1
    handler.press_key("T")
    assert theirs == ["T"] and len(pressed) == len(KEYS)


def test_no_key_is_one_of_napari_for_viewers_images_or_points() -> None:
    layers = ("shape", "polygon", "path", "rectangle", "ellipse", "line", "labels", "label")
    drawing = (*layers, "points", "select_", "vertex", "direct_mode", "copy", "paste", "brush")
    taken = {
        str(binding)
        for name, bindings in default_shortcuts.items()
        for binding in bindings
        if not any(word in name for word in drawing)
    }
    ours = {key.replace("Control", "Ctrl").replace("-", "+") for key in KEYS}
    assert ours & taken == set(SHARED)


def test_window_keys_are_no_menu_shortcuts_of_napari(make_napari_viewer: Any) -> None:
    from qtpy.QtGui import QKeySequence

    viewer = make_napari_viewer()
    window = viewer.window._qt_window
    menus = {
        action.shortcut().toString(QKeySequence.SequenceFormat.PortableText)
        for bar in window.menuBar().actions()
        for action in (bar.menu().actions() if bar.menu() else ())
    }
    assert not {key.replace("Control", "Ctrl").replace("-", "+") for key in KEYS} & menus


def test_our_layers_share_keys_while_nothing_is_drawn() -> None:
    viewer = ViewerModel()
    calls: list[Any] = []
    ring = KeyRing(viewer, {key: lambda k=key: calls.append(k) for key in KEYS})
    ring.bind()
    labels = Labels(np.zeros((4, 4), np.uint8))
    handler = KeymapHandler()
    handler.keymap_providers = [labels, viewer]
    ring.lend((labels, None))
    handler.press_key("P")
    assert calls == ["P"] and labels.mode == "pan_zoom"
    labels.mode = "paint"
    handler.press_key("L")  # the picker of napari
    assert calls == ["P"] and labels.mode == "pick"
    handler.press_key(UNDO)  # what is drawn on our labels is a step like any other
    assert calls == ["P", UNDO]
    labels.mode = "pan_zoom"
    ring.lend(())
    assert not labels.keymap
    ring.lend((labels,))
    ring.unbind()
    handler.press_key(UNDO)
    assert calls == ["P", UNDO] and not labels.keymap


def test_an_image_lends_its_key_while_candidates_are_offered() -> None:
    viewer = ViewerModel()
    calls: list[Any] = []
    ring = KeyRing(viewer, {key: lambda k=key: calls.append(k) for key in KEYS})
    ring.bind()
    image = Image(np.random.default_rng(0).normal(size=(4, 4)), contrast_limits=(0, 1))
    handler = KeymapHandler()
    handler.keymap_providers = [image, viewer]
    ring.offer(image)
    handler.press_key(CANDIDATE)
    assert calls == [CANDIDATE] and image.contrast_limits == [0, 1]
    ring.offer(None)
    handler.press_key(CANDIDATE)
    assert calls == [CANDIDATE] and not image.keymap


def test_the_list_of_keys_comes_and_goes(user: User) -> None:
    window = user.viewer.window._qt_window
    window.activateWindow()
    user.canvas.setFocus()
    user.qtbot.waitUntil(window.isActiveWindow)
    robot.key(user.canvas, "Question")
    user.qtbot.waitUntil(lambda: user.panel._list is not None and user.panel._list.isVisible())
    text = user.panel._list.findChild(QLabel).text()
    for key, what in KEYS.items():
        assert f">{key.replace('Control', 'Ctrl').replace('-', '+')}<" in text and what in text
    user.panel.view.keys.click()
    assert not user.panel._list.isVisible()
    user.panel.view.keys.click()
    assert user.panel._list.isVisible()
    user.panel.sleep()
    user.panel._list.hide()
    robot.key(user.canvas, "Question")  # a panel that sleeps hears nothing
    assert not user.panel._list.isVisible()
