"""Keys come and go without a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.key_bindings import KeymapHandler
from napari.utils.shortcuts import default_shortcuts

from napari_sightline.viewer.keys import KEYS, UNDO, KeyRing


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
    taken = {
        str(binding)
        for name, bindings in default_shortcuts.items()
        for binding in bindings
        if not any(word in name for word in layers)
    }
    ours = {key.replace("Control", "Ctrl").replace("-", "+") for key in KEYS}
    assert not ours & taken


def test_labels_layers_share_undo_while_nothing_is_drawn() -> None:
    viewer = ViewerModel()
    calls: list[Any] = []
    ring = KeyRing(viewer, {key: lambda k=key: calls.append(k) for key in KEYS})
    ring.bind()
    labels = Labels(np.zeros((4, 4), np.uint8))
    handler = KeymapHandler()
    handler.keymap_providers = [labels, viewer]
    ring.lend(labels)
    handler.press_key(UNDO)
    assert calls == [UNDO]
    labels.mode = "paint"
    handler.press_key(UNDO)
    assert calls == [UNDO]
    labels.mode = "pan_zoom"
    handler.press_key(UNDO)
    ring.unbind()
    handler.press_key(UNDO)
    assert calls == [UNDO] * 2 and not labels.keymap
