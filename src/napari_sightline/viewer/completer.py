"""Completion of structure names by any of their words, synonyms and abbreviations."""

from __future__ import annotations

from qtpy.QtCore import QStringListModel, Qt
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
            self.complete()
