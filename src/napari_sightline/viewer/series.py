"""The list from which a reader chooses, where a folder holds several series."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QMainWindow,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.io.dicom_series import Series

__all__ = ["SeriesDialog", "choose_series"]

_COLUMNS = ("Series", "Modality", "Slices", "Size", "Voxel (mm)")
_MOST_ROWS = 14  # beyond them the list scrolls


class SeriesDialog(QDialog):
    """A list of series with a tick before each; the largest is ticked at first.

    Parameters
    ----------
    series : sequence of Series
        In the order to show, the largest first.
    where : str
        Name of the folder or zip.
    parent : QWidget, optional
    """

    def __init__(self, series: Sequence[Series], where: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose series")
        said = QLabel(f"{where} holds {len(series)} series. Tick those to open:")
        said.setWordWrap(True)
        self.table = QTableWidget(len(series), len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        for row, one in enumerate(series):
            for column, text in enumerate(described(one)):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                    item.setCheckState(Qt.CheckState.Unchecked if row else Qt.CheckState.Checked)
                    item.setToolTip(text)
                self.table.setItem(row, column, item)
        self._lay_out(len(series))
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.table.itemChanged.connect(self._tell)
        self.table.cellClicked.connect(self._turn)
        self.table.cellDoubleClicked.connect(self._only)
        layout = QVBoxLayout(self)
        for widget in (said, self.table, self.buttons):
            layout.addWidget(widget)
        self._tell()

    def chosen(self) -> list[int]:
        """Rows that are ticked, in order."""
        rows = range(self.table.rowCount())
        return [row for row in rows if self._first(row).checkState() == Qt.CheckState.Checked]

    def _first(self, row: int) -> QTableWidgetItem:
        item = self.table.item(row, 0)
        assert item is not None
        return item

    def _turn(self, row: int, column: int) -> None:
        """Take a click anywhere in a row for one on its tick."""
        if column:
            ticked = row in self.chosen()
            self._first(row).setCheckState(
                Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked
            )

    def _only(self, row: int) -> None:
        """Open the series that was double-clicked, and no other."""
        for other in range(self.table.rowCount()):
            ticked = Qt.CheckState.Checked if other == row else Qt.CheckState.Unchecked
            self._first(other).setCheckState(ticked)
        self.accept()

    def _tell(self, *_: object) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        assert button is not None
        count = len(self.chosen())
        button.setEnabled(count > 0)
        button.setText("Open" if count < 2 else f"Open {count}")

    def _lay_out(self, count: int) -> None:
        """Make room for the whole list, as far as that goes on a small screen."""
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None and columns is not None
        rows.setVisible(False)
        self.table.resizeColumnsToContents()
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        wide = sum(self.table.columnWidth(column) for column in range(1, len(_COLUMNS)))
        first = min(max(self.table.columnWidth(0), 220), 460)
        tall = columns.sizeHint().height() + min(count, _MOST_ROWS) * self.table.rowHeight(0)
        self.table.setMinimumWidth(wide + first + 24)
        self.table.setFixedHeight(tall + 6)


def described(series: Series) -> tuple[str, ...]:
    """Name, modality, number of slices, size and spacing of a series, as text."""
    first = series.frames[0]
    sizes = [*reversed(first.spacing[:2]), first.spacing[2]]
    spacing = " × ".join(f"{size:.3g}" for size in sizes) if all(sizes[:2]) else "not said"
    size = f"{first.picture.columns} × {first.picture.rows}"
    return series.name, series.modality, str(len(series.frames)), size, spacing


def choose_series(series: Sequence[Series], where: str) -> list[Series]:
    """Let the reader choose; call it on the main thread.

    Parameters
    ----------
    series : sequence of Series
    where : str
        Name of the folder or zip.

    Returns
    -------
    list of Series
        Empty where the reader cancelled.
    """
    windows = QApplication.topLevelWidgets()
    # A file manager's window is the active one after a drop: the dialog belongs to ours, and
    # has its colours.
    ours = [w for w in windows if isinstance(w, QMainWindow) and w.isVisible()]
    dialog = SeriesDialog(series, where, ours[0] if ours else None)
    if dialog.exec() != QDialog.DialogCode.Accepted:
        return []
    return [series[row] for row in dialog.chosen()]
