"""The list of objects: colour, name, volume, whether shown and locked, and what to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QModelIndex, QPoint, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QAction, QKeyEvent  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.viewer import icons
from napari_sightline.viewer.colours import colour_of
from napari_sightline.viewer.naming import StructureLine
from napari_sightline.viewer.state import Row
from napari_sightline.viewer.wording import millilitres

NAME, VOLUME, SHOWN, LOCKED = range(4)
_ID = Qt.ItemDataRole.UserRole
#: What can be done with the marked objects: key, button, tooltip.
ACTIONS = {
    "correct": ("Correct", "Take the marked object up again, with its prompts"),
    "merge": ("Merge", "Join the marked objects into the first of them"),
    "duplicate": ("Copy", "Copy the marked object into a new one"),
    "delete": ("Delete", "Take the marked objects away (Delete); undo brings them back"),
}


class ObjectsView(QWidget):
    """List of objects and its buttons.

    Signals
    -------
    renamed(int, str)
        A name was typed.
    shown_asked(int, bool), locked_asked(int, bool)
        An eye or a lock was clicked.
    place_asked(int)
        A row was clicked: go to the object.
    asked(str, list)
        A key of `ACTIONS`, ``"colour"`` or ``"own colour"``, and the ids of the marked objects.
    """

    renamed = Signal(int, str)
    shown_asked = Signal(int, bool)
    locked_asked = Signal(int, bool)
    place_asked = Signal(int)
    asked = Signal(str, list)

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Any, ...] = ()
        self._rows: dict[int, Row] = {}
        self.table = _Table(self)
        self.table.itemChanged.connect(self._edited)
        self.table.itemClicked.connect(self._clicked)
        self.table.itemSelectionChanged.connect(self._enable)
        self.table.customContextMenuRequested.connect(self._menu)
        self.table.delete_pressed.connect(lambda: self._ask("delete"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.table, 1)
        row = QHBoxLayout()
        row.setSpacing(2)
        self.buttons: dict[str, QPushButton] = {}
        for key, (text, tip) in ACTIONS.items():
            button = QPushButton(text)
            button.setToolTip(tip)
            button.setMinimumWidth(20)
            button.clicked.connect(lambda _=False, key=key: self._ask(key))
            self.buttons[key] = button
            row.addWidget(button, 1)
        column.addLayout(row)
        self._enable()

    # ---- what to show

    def show_rows(self, rows: Sequence[Row], current: int, draft: str) -> None:
        """List the objects that have a mask; the current one in italics."""
        shown = (tuple(rows), current, draft)
        if shown == self._shown:
            return
        self._shown = shown
        self._rows = {row.id: row for row in rows}
        table = self.table
        table.blockSignals(True)
        if [item.data(0, _ID) for item in self._items()] != [row.id for row in rows]:
            marked = set(self.marked())
            table.clear()
            for row in rows:
                item = QTreeWidgetItem()
                item.setData(0, _ID, row.id)
                table.addTopLevelItem(item)
                item.setSelected(row.id in marked)
            table.scrollToBottom()
        for item, row in zip(self._items(), rows, strict=True):
            self._fill(item, row, current, draft)
        table.blockSignals(False)
        self._enable()

    def _fill(self, item: QTreeWidgetItem, row: Row, current: int, draft: str) -> None:
        name = row.name or (draft if row.id == current else "") or f"object {row.id}"
        colour = row.colour or colour_of(row.id, name)
        open_ = "" if row.accepted else " (not accepted)"
        ink = self.palette().windowText().color()
        look = (name, colour, row, row.id == current, ink.rgb())
        if item.data(0, _ID + 1) == look:
            return
        item.setData(0, _ID + 1, look)
        item.setText(NAME, f"{name}{open_}")
        item.setData(0, _ID + 2, name)
        item.setText(VOLUME, millilitres(row.ml))
        item.setTextAlignment(VOLUME, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        item.setIcon(NAME, icons.swatch(colour))
        item.setIcon(SHOWN, icons.eye(row.visible, ink))
        item.setToolTip(SHOWN, "Click to hide it" if row.visible else "Click to show it")
        if row.accepted:
            item.setIcon(LOCKED, icons.lock(row.locked, ink))
            tip = "Locked: no object takes its voxels" if row.locked else "Unlocked: others may"
            item.setToolTip(LOCKED, tip)
        item.setToolTip(NAME, "Click to go there; double-click to name it")
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        font = item.font(NAME)
        font.setItalic(not row.accepted)
        font.setBold(row.id == current)
        item.setFont(NAME, font)

    def _items(self) -> list[QTreeWidgetItem]:
        found = (self.table.topLevelItem(i) for i in range(self.table.topLevelItemCount()))
        return [item for item in found if item is not None]

    def marked(self) -> list[int]:
        """Ids of the marked objects, from top to bottom."""
        return [int(item.data(0, _ID)) for item in self._items() if item.isSelected()]

    def dress(self) -> None:
        """Draw the icons anew in the colours of the present theme."""
        if self._shown:
            rows, current, draft = self._shown
            self._shown = ()
            self.show_rows(rows, current, draft)

    # ---- what the user does

    def _edited(self, item: QTreeWidgetItem, column: int) -> None:
        number = item.data(0, _ID)
        self._shown = ()  # what is shown is the user's now: draw it anew
        self.table.blockSignals(True)  # this is no edit of the user's
        item.setData(0, _ID + 1, None)
        self.table.blockSignals(False)
        if column == NAME and number is not None:
            self.renamed.emit(int(number), item.text(NAME))

    def _clicked(self, item: QTreeWidgetItem, column: int) -> None:
        row = self._rows.get(int(item.data(0, _ID)))
        if row is None:
            return
        if column == SHOWN:
            self.shown_asked.emit(row.id, not row.visible)
        elif column == LOCKED and row.accepted:
            self.locked_asked.emit(row.id, not row.locked)
        elif column in (NAME, VOLUME):
            self.place_asked.emit(row.id)

    def _ask(self, key: str) -> None:
        marked = self.marked()
        if marked:
            self.asked.emit(key, marked)

    def _enable(self) -> None:
        count = len(self.marked())
        for key, button in self.buttons.items():
            button.setEnabled(count > 1 if key == "merge" else count >= 1)

    def _menu(self, place: QPoint) -> None:
        if self.marked():
            self.menu().exec(self.table.mapToGlobal(place))

    def menu(self) -> QMenu:
        """Make the menu of the marked objects."""
        menu = QMenu(self)
        for key, (_, tip) in ACTIONS.items():
            action = QAction(tip.partition(";")[0], menu)
            action.setEnabled(self.buttons[key].isEnabled())
            action.triggered.connect(lambda _=False, key=key: self._ask(key))
            menu.addAction(action)
        menu.addSeparator()
        rename = QAction("Name …", menu)
        rename.triggered.connect(self._rename)
        menu.addAction(rename)
        for key, text in (("colour", "Colour …"), ("own colour", "Colour of its name")):
            action = QAction(text, menu)
            action.triggered.connect(lambda _=False, key=key: self._ask(key))
            menu.addAction(action)
        return menu

    def _rename(self) -> None:
        item = self.table.currentItem()
        if item is not None:
            self.table.editItem(item, NAME)


class _Table(QTreeWidget):
    """The list itself."""

    delete_pressed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setColumnCount(4)
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setIconSize(QSize(14, 14))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self.setItemDelegateForColumn(NAME, _NameDelegate(self))
        for column in (VOLUME, SHOWN, LOCKED):
            self.setItemDelegateForColumn(column, _Fixed(self))
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header = self.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setMinimumSectionSize(20)
            header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(VOLUME, QHeaderView.ResizeMode.ResizeToContents)
            for column in (SHOWN, LOCKED):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
                header.resizeSection(column, 24)
        self.setMinimumHeight(72)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Delete takes the marked objects away; other keys are the list's or the viewer's."""
        if event is not None and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            event.accept()
            self.delete_pressed.emit()
            return
        moves = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_F2, Qt.Key.Key_Home, Qt.Key.Key_End)
        if event is not None and event.key() not in moves:
            event.ignore()  # no search by letters: they are the panel's keys
            return
        super().keyPressEvent(event)


class _NameDelegate(QStyledItemDelegate):
    """Edits a name with the list of structures at hand."""

    def createEditor(
        self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        """See `QStyledItemDelegate.createEditor`."""
        line = StructureLine()
        line.setParent(parent)
        return line

    def setEditorData(self, editor: QWidget | None, index: QModelIndex) -> None:
        """Offer the name alone, without what stands behind it."""
        if isinstance(editor, StructureLine):
            editor.setText(str(index.data(_ID + 2) or ""))
            editor.selectAll()


class _Fixed(QStyledItemDelegate):
    """Edits nothing."""

    def createEditor(
        self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        """See `QStyledItemDelegate.createEditor`."""
        return None
