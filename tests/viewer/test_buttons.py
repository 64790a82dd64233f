"""Texts of boxes and buttons where there is little room."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QPushButton, QToolTip

from napari_sightline.viewer.buttons import Chooser

LONG = "swin-unetr-of-a-colleague-head-and-neck-ct-1.5mm"


def tip_of(box: Chooser, qtbot: Any) -> str:
    place = QPoint(5, 5)
    event = QHelpEvent(QEvent.Type.ToolTip, place, box.mapToGlobal(place))
    QApplication.sendEvent(box, event)
    qtbot.waitUntil(QToolTip.isVisible)
    return QToolTip.text()


def test_a_long_text_is_cut_in_the_middle_and_told_as_a_whole(qtbot: Any) -> None:
    box = Chooser("The model", [LONG, "small"])
    qtbot.addWidget(box)
    box.resize(160, 26)
    box.show()
    assert box.shown.startswith("swin") and box.shown.endswith("mm") and "…" in box.shown
    assert tip_of(box, qtbot) == f"{LONG}\nThe model"
    drawn = box.grab().toImage()
    box.setCurrentIndex(1)
    assert box.shown == "small" and tip_of(box, qtbot) == "The model"
    assert box.grab().toImage() != drawn
    box.resize(600, 26)
    box.setCurrentIndex(0)
    assert box.shown == LONG
    QToolTip.hideText()


@pytest.mark.parametrize(
    "name",
    [
        "Segment with prompts",
        "Attention layers",
        "Organs, automatic (Swin-UNETR)",
        "Measures of labels",
    ],
)
def test_a_panel_as_narrow_as_can_be_cuts_no_word(
    make_napari_viewer: Any, qtbot: Any, loaded_model: None, name: str
) -> None:
    viewer = make_napari_viewer(show=True)
    dock, panel = viewer.window.add_plugin_dock_widget("napari-sightline", name)
    dock.setFloating(True)
    dock.resize(10, 700)
    qtbot.waitUntil(lambda: panel.width() <= 320 and panel.isVisible())
    words = [*panel.findChildren(QPushButton), *panel.findChildren(QCheckBox)]
    cut = [
        one.text()
        for one in words
        if one.isVisible()
        and one.width()
        < one.fontMetrics().horizontalAdvance(one.text())
        + (0 if one.icon().isNull() else one.iconSize().width())
        + (20 if isinstance(one, QCheckBox) else 0)
    ]
    assert len(words) > 0 and cut == []
    panel.shut()
