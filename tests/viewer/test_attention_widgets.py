"""The attention panel's pictures of heads."""

from __future__ import annotations

from typing import Any


def test_pictures_of_heads_are_few_a_second_and_the_newest_wins(qtbot: Any) -> None:
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

    for grey in (10, 20, 30, 200):
        heads.show_pictures(np.full((2, 8, 8, 3), grey, np.uint8))
    assert shown() == 10  # at once; what comes meanwhile waits
    qtbot.waitUntil(lambda: shown() == 200, timeout=2_000)
    heads.show_pictures(np.full((2, 8, 8, 3), 90, np.uint8))
    heads.show_pictures(None)
    qtbot.wait(300)
    assert shown() == -1  # no picture that is out of date comes late
