"""The life of a panel in napari's window: opened, hidden, taken out of its dock, closed."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from napari_sightline.viewer.bridge import bare


class DockPanel(QWidget):
    """A panel that follows the viewer's layers while it is awake.

    It wakes when `wake` is called, as its builder does last, and sleeps when napari takes it out
    of its dock; with `naps` also while it is hidden.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    #: Whether the panel sleeps while it is hidden.
    naps = False

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self._awake = self._docked = False
        # Layers come and go in groups (a sample, a viewer that closes): look once they are done.
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(0)
        self._settled.timeout.connect(self._on_settled)

    # ---- what a panel does

    def _listen(self) -> None:
        """Connect what the panel follows beside the list of layers."""

    def _ignore(self) -> None:
        """Disconnect it."""

    def _end(self) -> None:
        """Stop all work for good."""

    def _on_layers(self, _: Any = None) -> None:
        """Layers were added, removed, moved or renamed."""
        self._settled.start()

    def _on_settled(self) -> None:
        """They are done."""

    # ---- open and closed

    def wake(self) -> None:
        """Listen to the viewer."""
        if self._awake:
            return
        self._awake = True
        for event in self._layer_events():
            event.connect(self._on_layers)
        self._listen()
        self._on_layers()

    def sleep(self) -> None:
        """Listen no more; mouse and keys are given back."""
        if not self._awake:
            return
        self._awake = False
        for event in self._layer_events():
            event.disconnect(self._on_layers)
        self._settled.stop()
        self._ignore()

    def shut(self) -> None:
        """Stop all work and leave the viewer as a user wants to find it."""
        self._docked = False
        self.sleep()
        self._end()

    def _layer_events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

    def showEvent(self, event: QShowEvent | None) -> None:
        """Listen again."""
        super().showEvent(event)
        self._docked = True
        self.wake()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Do nothing that the user cannot see."""
        super().hideEvent(event)
        if self.naps and (event is None or not event.spontaneous()):
            self.sleep()

    def event(self, event: QEvent | None) -> bool:
        """Notice that napari took the panel out of its dock."""
        done = bool(super().event(event))
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._docked = True
            elif self._docked:
                self.shut()
        return done
