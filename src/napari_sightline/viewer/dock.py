"""The life of a panel in napari's window: opened, hidden, taken out of its dock, closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QHideEvent, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from napari_sightline.viewer import garbage
from napari_sightline.viewer.bridge import bare
from napari_sightline.viewer.docking import heights, home, make_room, name, too_high
from napari_sightline.viewer.pace import Pace

#: Pixels of height below which a panel looks for more room.
LOW = 300
#: Bytes of a layer that is looked for at once when it is removed, and milliseconds until then.
_LARGE, _LET_GO = 2**24, 200


class DockPanel(QWidget):
    """A panel that follows the viewer's layers while it is awake.

    It wakes when `wake` is called, as its builder does last, and sleeps when napari takes it out
    of its dock; with `naps` also while it is hidden. Opened, it finds a place among other panels
    and is in front; it gives way to one that opens later.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    #: On its tab among other panels, where there is little room.
    short = ""
    #: Whether the panel sleeps while it is hidden.
    naps = False

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self._awake = self._docked = False
        # Layers come and go in groups (a sample, a viewer that closes): look once they are done.
        self._settled = self._timer(self._on_settled)
        self._settled.timeout.connect(self._look_for_garbage)
        # Qt lays docks out after they are shown: look for a place once they have theirs.
        self._opened, self._squeezed = self._timer(self._take_place), self._timer(self._give_way)
        self._before = heights()  # napari makes its window higher before a new panel is shown
        self._placed = False
        self._pace: Pace | None = None

    def _timer(self, act: Callable[[], None]) -> QTimer:
        made = QTimer(self)
        made.setSingleShot(True)
        made.setInterval(0)
        made.timeout.connect(act)
        return made

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

    def _on_removed(self, event: Any) -> None:
        if getattr(event.value.data, "nbytes", _LARGE) >= _LARGE:
            garbage.thaw()

    def _look_for_garbage(self) -> None:
        # Once everybody who listens has let go of the layer.
        QTimer.singleShot(_LET_GO, garbage.search)

    def _on_settled(self) -> None:
        """They are done."""

    # ---- open and closed

    def wake(self) -> None:
        """Listen to the viewer."""
        if self._awake:
            return
        self._awake = True
        garbage.begin()
        for event in self._layer_events():
            event.connect(self._on_layers)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._listen()
        self._on_layers()

    def sleep(self) -> None:
        """Listen no more; mouse and keys are given back."""
        if not self._awake:
            return
        self._awake = False
        for event in self._layer_events():
            event.disconnect(self._on_layers)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        garbage.end()
        if self._pace is not None:
            self._pace.end()
            self._pace = None
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
        _, main = home(self)
        if main is not None and self._pace is None:
            self._pace = Pace(self._viewer, main, self)
        if main is not None and not self._placed:
            self._placed = True
            self._before.setdefault(main, main.height())
            self._opened.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Do nothing that the user cannot see."""
        super().hideEvent(event)
        dock, _ = home(self)
        if dock is not None and dock.isHidden():  # closed, not just minimised with its window
            self._placed = False
        if self.naps and (event is None or not event.spontaneous()):
            self.sleep()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Make room again where another panel opened above or below and took it."""
        super().resizeEvent(event)
        if self._placed and event is not None and event.size().height() < event.oldSize().height():
            self._squeezed.start()

    @property
    def opening(self) -> bool:
        """Whether it was opened just now and will look for its place."""
        return self._opened.isActive()

    def _take_place(self) -> None:
        dock, main = home(self)
        if dock is not None and main is not None:
            name(dock, self.short)
            make_room(self, height=self._before.get(main))
        self._before.clear()

    def _give_way(self) -> None:
        _, main = home(self)
        if main is not None and not self.opening and (self.height() < LOW or too_high(main)):
            make_room(self, in_front=False)

    def event(self, event: QEvent | None) -> bool:
        """Notice that napari took the panel out of its dock."""
        done = bool(super().event(event))
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._docked = True
            elif self._docked:
                self.shut()
        return done
