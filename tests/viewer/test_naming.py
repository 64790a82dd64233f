"""The line for a name: completion and Enter."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sightline.viewer.naming import NameEdit


@pytest.fixture
def line(qtbot: Any) -> NameEdit:
    made = NameEdit()
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    made.activateWindow()
    made.setFocus()
    return made


def offered(line: NameEdit) -> list[str]:
    model = line.completer().completionModel()
    return [model.index(row, 0).data() for row in range(model.rowCount())]


def test_any_words_find_the_structure(line: NameEdit) -> None:
    QTest.keyClicks(line, "par l")
    assert offered(line)[0] == "left parotid gland"
    assert line.completer().popup().isVisible()
    line.clear()
    QTest.keyClicks(line, "zzz")
    assert offered(line) == []


def test_enter_takes_what_is_marked_then_accepts(line: NameEdit, qtbot: Any) -> None:
    heard: list[str] = []
    line.entered.connect(lambda: heard.append(line.text()))
    QTest.keyClicks(line, "parot")
    popup = line.completer().popup()
    QTest.keyClick(popup, Qt.Key.Key_Down)
    QTest.keyClick(popup, Qt.Key.Key_Down)
    QTest.keyClick(popup, Qt.Key.Key_Return)
    assert heard == []
    qtbot.waitUntil(lambda: not popup.isVisible())
    QTest.keyClick(line, Qt.Key.Key_Return)
    assert len(heard) == 1


def test_enter_accepts_any_name_of_ones_own(line: NameEdit) -> None:
    heard: list[str] = []
    line.entered.connect(lambda: heard.append(line.text()))
    QTest.keyClicks(line, "par")
    QTest.keyClick(line, Qt.Key.Key_Return)
    assert heard == ["par"] and not line.completer().popup().isVisible()
