"""Measures of structures as a table that is sorted, clicked and copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QIcon

from napari_sightline.anatomy import Colour
from napari_sightline.segment.measure import Measure
from napari_sightline.viewer.icons import swatch

_Read = Callable[[Measure], float]


def columns(unit: str) -> list[tuple[str, str, _Read, int]]:
    """Heading, explanation, value and decimals of each column after the name."""
    of = f" ({unit})" if unit else ""
    return [
        ("mL", "Volume, millilitres", lambda m: m.volume_ml, 2),
        ("mean", f"Mean of the image{of}", lambda m: m.mean, 1),
        ("SD", f"Standard deviation of the image{of}", lambda m: m.sd, 1),
        ("min", f"Least value of the image{of}", lambda m: m.minimum, 0),
        ("median", f"Median of the image{of}", lambda m: m.median, 1),
        ("max", f"Greatest value of the image{of}", lambda m: m.maximum, 0),
        ("mm across", "Longest diameter in one axial slice", lambda m: m.diameter_mm, 1),
        ("parts", "Parts that do not touch each other", lambda m: m.parts, 0),
        ("voxels", "Number of voxels", lambda m: m.voxels, 0),
    ]


class MeasureModel(QAbstractTableModel):
    """Rows of measures for a table view."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows: list[Measure] = []
        self._icons: dict[int, QIcon] = {}
        self._columns = columns("")

    def show(self, rows: Sequence[Measure], colours: Mapping[int, Colour], unit: str) -> None:
        """Show these measures."""
        self.beginResetModel()
        self.rows = list(rows)
        self._icons = {value: swatch(colour) for value, colour in colours.items()}
        self._columns = columns(unit)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Count structures."""
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Count the name and the measures."""
        return 1 + len(self._columns)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Headings; the left one is empty, since names explain themselves."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return "structure" if section == 0 else self._columns[section - 1][0]
        if role == Qt.ItemDataRole.ToolTipRole and section:
            return self._columns[section - 1][1]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, number to sort by, swatch, alignment of a cell."""
        one, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.UserRole:
            value = self._columns[column - 1][2](one) if column else one.name.lower()
            return -math.inf if isinstance(value, float) and math.isnan(value) else value
        if column == 0:
            if role == Qt.ItemDataRole.DecorationRole:
                return self._icons.get(one.value)
            return one.name if role == Qt.ItemDataRole.DisplayRole else None
        _, _, read, decimals = self._columns[column - 1]
        if role == Qt.ItemDataRole.DisplayRole:
            value = read(one)
            return "–" if math.isnan(value) else f"{value:.{decimals}f}"
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


def sortable(model: MeasureModel, parent: Any) -> QSortFilterProxyModel:
    """Sort by numbers, not by their digits."""
    proxy = QSortFilterProxyModel(parent)
    proxy.setSourceModel(model)
    proxy.setSortRole(Qt.ItemDataRole.UserRole)
    return proxy
