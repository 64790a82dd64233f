"""The attention panel's pictures of heads."""

from __future__ import annotations

from typing import Any


def test_pictures_come_and_go_at_once(qtbot: Any) -> None:
    import numpy as np

    from napari_sightline.viewer.attention.parts import Heads

    heads = Heads()
    qtbot.addWidget(heads)
    heads.show_count(2, ())

    def shown() -> int:
        icon = heads.buttons[0].icon()
        if icon.isNull():
            return -1
        return int(icon.pixmap(8, 8).toImage().pixelColor(4, 4).red())

    for grey in (10, 200):
        heads.show_pictures(np.full((2, 8, 8, 3), grey, np.uint8))
        assert shown() == grey
    heads.show_pictures(None)
    assert shown() == -1
