"""The line for a structure's name, completed by any of its words, synonyms, abbreviations."""

from __future__ import annotations

from qtpy.QtCore import QStringListModel, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent, QPalette
from qtpy.QtWidgets import QCompleter, QLineEdit

from napari_sightline.anatomy import search

_MOST = 12


class StructureCompleter(QCompleter):
    """Offers the structures that a half-typed name may mean, the likeliest first.

    Parameters
    ----------
    line : QLineEdit
        Where the name is typed.
    """

    def __init__(self, line: QLineEdit) -> None:
        super().__init__(line)
        self._names = QStringListModel([], self)
        self.setModel(self._names)
        # We do the finding: "par r" means the right parotid gland.
        self.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
        self.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setMaxVisibleItems(_MOST)
        line.setCompleter(self)
        line.textEdited.connect(self.offer)

    def offer(self, text: str) -> None:
        """List what `text` may mean; nothing for no text."""
        found = [s.name for s in search(text)[:_MOST]] if text.strip() else []
        self._names.setStringList([] if found == [text] else found)
        if found:
            self._dress()
            self.complete()

    def _dress(self) -> None:
        """Give the list the colours of the line: it is a window of its own, without a theme."""
        popup, line = self.popup(), self.widget()
        if popup is None or line is None:
            return
        colours, role = line.palette(), QPalette.ColorRole
        ground, text, mark, marked = (
            colours.color(r).name()
            for r in (role.Base, role.Text, role.Highlight, role.HighlightedText)
        )
        popup.setStyleSheet(
            f"QAbstractItemView {{ background: {ground}; color: {text}; border: 1px solid {mark};"
            f" selection-background-color: {mark}; selection-color: {marked}; }}"
        )

    def choosing(self) -> bool:
        """Whether a name in the open list is marked."""
        popup = self.popup()
        return popup is not None and popup.isVisible() and popup.currentIndex().isValid()

    def close(self) -> None:
        """Close the list."""
        popup = self.popup()
        if popup is not None:
            popup.hide()


class StructureLine(QLineEdit):
    """Line for a structure's name, completed from the list of structures."""

    def __init__(self) -> None:
        super().__init__()
        self._completer = StructureCompleter(self)


class NameEdit(StructureLine):
    """Line for the name of the current object; Enter accepts it."""

    entered = Signal()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Keep Enter to ourselves: the viewer's own Enter would accept a second time."""
        if event is None or event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            super().keyPressEvent(event)
            return
        if self._completer.choosing():
            event.ignore()  # the list of names takes the one that is marked
            return
        self._completer.close()
        event.accept()
        self.entered.emit()
