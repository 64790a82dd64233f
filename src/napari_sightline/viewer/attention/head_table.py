"""Which head looks at bone: a table of all heads by structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QApplication, QTableWidget, QTableWidgetItem, QWidget

from napari_sightline.viewer.attention.state import HeadRow
from napari_sightline.viewer.attention.words import percent, place_of, short_block

#: Structures in which no head has so large a share have no column.
_LEAST = 0.01
_HEIGHT, _WIDEST = 190, 110


class HeadTable(QTableWidget):
    """One row a head, one column a structure, those looked at most first; then what is none.

    Signals
    -------
    chosen(str, int)
        Module of the block, and head, of the row that was picked.
    copy_asked
        Copies the table.
    """

    chosen = Signal(str, int)
    copy_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: tuple[HeadRow, ...] = ()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setFixedHeight(_HEIGHT)
        self._across().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        self._across().setMaximumSectionSize(_WIDEST)
        down = self.verticalHeader()
        assert down is not None
        down.hide()
        down.setDefaultSectionSize(20)
        self.setToolTip("Ctrl+C copies the table")
        self.cellClicked.connect(self._picked)
        self.copy_asked.connect(self.copy)

    def _across(self):  # type: ignore[no-untyped-def]
        across = self.horizontalHeader()
        assert across is not None
        return across

    def show_rows(self, rows: Sequence[HeadRow]) -> None:
        """Show heads; the order that the user chose stays."""
        self.rows = tuple(rows)
        across = self._across()
        before, order = self._sorted_by(), across.sortIndicatorOrder()
        largest: dict[str, float] = {}
        for row in rows:
            for name, share in row.shares.items():
                largest[name] = max(share, largest.get(name, 0.0))
        kept = [name for name, share in largest.items() if share >= _LEAST]
        known = frozenset().union(*(row.structures for row in rows))
        names = sorted(kept, key=lambda name: (name not in known, -largest[name]))
        words = ["block", "head", *names]
        self.setSortingEnabled(False)
        self.setColumnCount(len(words))
        self.setRowCount(len(self.rows))
        self.setHorizontalHeaderLabels(words)
        for column, word in enumerate(words):
            header = self.horizontalHeaderItem(column)
            assert header is not None
            header.setToolTip(word)
        # Stage and block alone, where that tells them apart.
        places = {place_of(row.block) for row in rows}
        brief = place_of if len(places) == len({row.module for row in rows}) else short_block
        for number, row in enumerate(self.rows):
            cells = [
                _Cell(brief(row.block), number, row.block),
                _Cell(str(row.head + 1), row.head),
            ]
            for name in names:
                share, even = row.shares.get(name, 0.0), row.even.get(name, float("nan"))
                tip = f"even attention: {percent(even)}" if np.isfinite(even) else ""
                cell = _Cell(percent(share), share, f"{name}: {percent(share)}\n{tip}".strip())
                font = cell.font()
                font.setBold(share == largest[name])
                cell.setFont(font)
                cells.append(cell)
            for column, cell in enumerate(cells):
                cell.setData(Qt.ItemDataRole.UserRole + 1, number)
                self.setItem(number, column, cell)
        self.resizeColumnsToContents()
        self.setSortingEnabled(True)
        if before in words:
            self.sortItems(words.index(before), order)
        else:
            self.sortItems(0, Qt.SortOrder.AscendingOrder)

    def _sorted_by(self) -> str:
        item = self.horizontalHeaderItem(self._across().sortIndicatorSection())
        return "" if item is None else item.text()

    def row_at(self, line: int) -> HeadRow:
        """Head on a line of the table, as it is sorted now."""
        item = self.item(line, 0)
        assert item is not None
        return self.rows[int(item.data(Qt.ItemDataRole.UserRole + 1))]

    def _picked(self, line: int, _: int) -> None:
        row = self.row_at(line)
        self.chosen.emit(row.module, row.head)

    def text(self) -> str:
        """Write the table as it is sorted: full words, shares 0 .. 1, tabs between columns."""
        headers = [self.horizontalHeaderItem(c) for c in range(self.columnCount())]
        names = [item.text() for item in headers if item is not None]
        lines = ["\t".join(names)]
        for line in range(self.rowCount()):
            row = self.row_at(line)
            shares = [f"{row.shares.get(name, 0.0):.5f}" for name in names[2:]]
            lines.append("\t".join([row.block, str(row.head + 1), *shares]))
        return "\n".join(lines) + "\n"

    def copy(self) -> None:
        """Put the table on the clipboard."""
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text())

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Copy on Ctrl+C."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
            return
        super().keyPressEvent(event)


class _Cell(QTableWidgetItem):
    """Sorts by a number; the largest first where a column's name is clicked for the first time."""

    def __init__(self, text: str, value: float, tip: str = "") -> None:
        super().__init__(text)
        self.value = value
        self.setToolTip(tip)

    def __lt__(self, other: object) -> bool:
        return isinstance(other, _Cell) and self.value < other.value
