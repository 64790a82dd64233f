"""The dock widget: joins the viewer, the widgets and the controller."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (  # type: ignore[attr-defined]
    QShortcut,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.errors import SightlineError
from napari_sightline.prompts import Position
from napari_sightline.segment import predict
from napari_sightline.viewer import planes
from napari_sightline.viewer.ahead import Ahead
from napari_sightline.viewer.bridge import is_scan, widen_range
from napari_sightline.viewer.comfort import Comfort
from napari_sightline.viewer.controller import Controller
from napari_sightline.viewer.desk import Desk
from napari_sightline.viewer.dock import DockPanel
from napari_sightline.viewer.gestures import Mouse
from napari_sightline.viewer.keys import ACCEPT, LIST, REDO, UNDO, KeyRing, weakly
from napari_sightline.viewer.keys_list import KeysList
from napari_sightline.viewer.offer import Offer
from napari_sightline.viewer.pencil import Pencil
from napari_sightline.viewer.preferences import Preferences, preferences
from napari_sightline.viewer.saving import ask_where
from napari_sightline.viewer.starting import Starting
from napari_sightline.viewer.state import Outcome, State
from napari_sightline.viewer.view import PromptView
from napari_sightline.viewer.wording import Situation, advice, quality, timing

if TYPE_CHECKING:
    import napari.viewer

#: Milliseconds that the model works before the panel says so: most clicks take little more.
_PATIENCE = 100


class PromptPanel(DockPanel):
    """Segment organs with clicks.

    While the panel is shown it listens to clicks and keys on the canvas; hidden or closed it
    gives them back. Labels stay in the viewer when it closes, and it finds its objects again when
    it is opened on the same image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    short = "Prompts"
    naps = True

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.controller = Controller(self._viewer, self)
        self.view = PromptView(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._images: list[Any] = []
        self._active: Any = None
        self._alarm = self._timing = ""
        self._alarming = False
        self.desk = Desk(self.view, self.controller, self._go_to)
        self.starting = Starting(self._viewer, self.view.start, self.controller)
        self.pencil = Pencil(self._viewer, self.view, self.controller)
        self.offer = Offer(self._viewer, self.view.tools, self.controller)
        self.comfort = Comfort(self._viewer, self.view.look, self.controller)
        self.ahead = Ahead(self._viewer, self.view.look, self.controller)
        self._prefer(preferences())
        self._list: KeysList | None = None
        self._ask_keys = QShortcut(QKeySequence(LIST), self)
        self._ask_keys.setContext(Qt.ShortcutContext.WindowShortcut)
        # Weakly: what napari keeps must not keep the panel.
        do = {
            "P": self.choose_point,
            "B": self.choose_box,
            "S": self.choose_scribble,
            "L": self.choose_lasso,
            "T": self.switch_sign,
            UNDO: self.controller.undo,
            REDO: self.controller.redo,
            ACCEPT: self.accept,
            "N": self.begin_next,
            "R": self.controller.reset,
            "C": self.offer.next,
            "Delete": self.controller.remove_marked,
            **self.comfort.keys,
        }
        self._keys = KeyRing(self._viewer, {key: weakly(action) for key, action in do.items()})
        self._mouse = Mouse(self._viewer, ref(self.pencil))
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.timeout.connect(self._on_due)
        self._patient = True  # the work has just begun, and the panel does not speak of it yet
        self._connect()
        self.wake()

    def _connect(self) -> None:
        view, control = self.view, self.controller
        view.image_chosen.connect(self._on_image)
        view.plane_chosen.connect(self._on_plane)
        view.name_typed.connect(control.draft)
        view.accept_asked.connect(self.accept)
        view.next_asked.connect(self.begin_next)
        view.tools.undo_asked.connect(control.undo)
        view.tools.redo_asked.connect(control.redo)
        view.tools.reset_asked.connect(control.reset)
        view.cancel_asked.connect(control.cancel)
        view.save_asked.connect(self.ask_and_save)
        view.keys_asked.connect(self.show_keys)
        self._ask_keys.activated.connect(self.show_keys)
        view.look.clicking_chosen.connect(self._on_clicking)
        control.changed.connect(self._show_soon)
        control.computed.connect(self._on_computed)
        control.told.connect(self._tell)
        control.saved.connect(self._on_saved)
        self.pencil.began.connect(self._calm)
        self.pencil.began.connect(self.ahead.clicked)
        self.pencil.refused.connect(partial(self._tell, alarm=True))
        view.tools.tool_chosen.connect(self._refresh)
        control.worker.progressed.connect(view.show_progress)

    # ---- open and closed

    def _listen(self) -> None:
        self._viewer.layers.selection.events.active.connect(self._on_active)
        self._viewer.dims.events.ndisplay.connect(self._on_order)
        self._viewer.dims.events.order.connect(self._on_order)
        self._viewer.dims.events.point.connect(self._on_slice)
        self._keys.bind()
        self._ask_keys.setEnabled(True)
        self.comfort.wake()
        self.ahead.wake()
        self._on_clicking(self.view.clicking.isChecked())
        self._on_active()
        self._on_order()

    def _ignore(self) -> None:
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._watch_tool(None)
        self._viewer.dims.events.ndisplay.disconnect(self._on_order)
        self._viewer.dims.events.order.disconnect(self._on_order)
        self._viewer.dims.events.point.disconnect(self._on_slice)
        self._keys.unbind()
        self._ask_keys.setEnabled(False)
        self.comfort.sleep()
        self.ahead.sleep()
        self._mouse.ignore()

    def _end(self) -> None:
        self.controller.close()

    # ---- the viewer changes

    def _on_layers(self, _: Any = None) -> None:
        case, layers = self.controller.case, self._viewer.layers
        if case is not None and case.image not in layers:
            self.controller.check_layers()  # at once: no result may reach an image that is gone
        super()._on_layers()

    def _on_settled(self) -> None:
        """Follow the layer list."""
        self.controller.check_layers()
        layers = self._viewer.layers
        self._images = [layer for layer in reversed(layers) if is_scan(layer)]
        for image in self._images:
            widen_range(image)
        if self.controller.case is None and self._images:
            active = layers.selection.active
            self._choose(active if active in self._images else self._images[0])
        planes.turn(self._viewer)
        self.starting.follow()
        self._refresh()

    def _on_order(self, _: Any = None) -> None:
        self._alarm = ""
        self.view.show_plane(planes.shown(self._viewer))
        self._on_slice()
        self._refresh()

    def _on_slice(self, _: Any = None) -> None:
        self.controller.draw_prompts()

    def _on_active(self, _: Any = None) -> None:
        active = self._viewer.layers.selection.active
        self._watch_tool(active)
        self._refresh()

    def _watch_tool(self, layer: Any) -> None:
        """Follow which of napari's tools the selected layer uses."""
        if self._active is not None:
            self._active.events.mode.disconnect(self._refresh)
        self._active = layer
        if layer is not None:
            layer.events.mode.connect(self._refresh)

    def _tool(self) -> str:
        """Name of the napari tool that has the mouse; empty while it only pans and zooms."""
        layer = self._active
        if layer is None or str(layer.mode) == "pan_zoom":
            return ""
        return f"The tool '{str(layer.mode).replace('_', ' ')}' of {layer.name}"

    # ---- the user asks

    def _choose(self, image: Any) -> None:
        self._alarm = ""
        try:
            self.controller.choose(image)
        except SightlineError as error:
            self._tell(str(error), True)
        planes.keep_upright(self._viewer)

    def _on_image(self, index: int) -> None:
        if 0 <= index < len(self._images):
            self._choose(self._images[index])

    def _on_plane(self, plane: int) -> None:
        planes.show(self._viewer, plane)
        self._on_order()

    def _on_clicking(self, on: bool) -> None:
        if on and self._awake:
            self._mouse.listen()
        else:
            self._mouse.ignore()
        self._refresh()

    def choose_point(self) -> None:
        """Click from now on."""
        self.view.tools.choose_tool("point")

    def choose_box(self) -> None:
        """Draw boxes from now on."""
        self.view.tools.choose_tool("box")

    def choose_scribble(self) -> None:
        """Draw strokes from now on."""
        self.view.tools.choose_tool("scribble")

    def choose_lasso(self) -> None:
        """Draw lassos from now on."""
        self.view.tools.choose_tool("lasso")

    def _calm(self) -> None:
        self._alarm = ""

    def switch_sign(self) -> None:
        """Switch between positive and negative clicks."""
        view = self.view
        (view.negative if view.positive.isChecked() else view.positive).setChecked(True)

    def accept(self) -> None:
        """Lock the current object under the typed name and begin the next."""
        self._alarm = ""
        self.controller.accept(self.view.name.text())
        self.view.name.clear()
        self.view.positive.setChecked(True)

    def begin_next(self) -> None:
        """Leave the current object open, under the typed name, and begin another."""
        self._alarm = ""
        name = self.view.name.text()
        self.controller.begin_next(name)
        self.view.name.clear()
        self.view.positive.setChecked(True)

    def _go_to(self, voxel: Position) -> None:
        case = self.controller.case
        if case is not None and case.image is not None:
            planes.go_to(self._viewer, case.image, voxel, case.frame)

    def show_keys(self) -> None:
        """Show the list of keys, or put it away."""
        if self._list is None:
            self._list = KeysList(self)
        self._list.setVisible(not self._list.isVisible())

    def _prefer(self, chosen: Preferences) -> None:
        control = self.controller
        control.device, control.precision = chosen.device, chosen.precision
        control.journals = chosen.journal
        predict.CACHED_REGIONS = chosen.regions
        self.comfort.window = "" if chosen.window == "as opened" else chosen.window
        self.view.look.hover.setChecked(chosen.preview)

    def ask_and_save(self) -> None:
        """Ask where, and write all objects as one NIfTI file."""
        case = self.controller.case
        if case is None or case.volume is None:
            self._tell("There is nothing to save yet; click an organ first.", True)
            return
        path = ask_where(self, case.volume)
        if path is not None:
            self.controller.save(path)

    # ---- what to show

    def _tell(self, sentence: str, alarm: bool) -> None:
        (show_error if alarm else show_warning)(sentence)
        self._alarm, self._alarming = sentence, alarm
        self._refresh()

    def _on_computed(self, outcome: Outcome) -> None:
        self._alarm = ""
        self._timing = timing(outcome) or self._timing
        self._show_soon()

    def _on_saved(self, path: Path) -> None:
        show_info(f"Saved {path.name}.")

    def _show_soon(self) -> None:
        """Show all that a click changes together, once; while the model works, not at once.

        Painting takes both processors where there is no graphics card, and the click waits.
        """
        if not self.controller.waiting:
            self._patient = True
            self._due.start(0)
        elif not self._due.isActive() or (self._patient and self._due.interval() == 0):
            self._due.start(_PATIENCE)

    def _on_due(self) -> None:
        self._patient = not self.controller.waiting
        self._refresh()

    def _refresh(self, _: Any = None) -> None:
        """Show the state of things."""
        view, control = self.view, self.controller
        case = control.case
        self.pencil.busy_tool = self._tool()
        current = -1
        if case is not None and case.image in self._images:
            current = self._images.index(case.image)
        view.show_images([layer.name for layer in self._images], current)
        state = case.state if case is not None else None
        view.start.show_device(control.device, (state or State()).devices)
        rows = [row for row in state.rows if row.ml > 0] if state is not None else []
        waiting = len(control.waiting)
        if case is not None and state is not None:
            view.show_rows(rows, state.current, case.draft)
            view.show_unsaved(case.unsaved and bool(rows))
            self._keys.lend((case.labels, case.points, case.lines))
            self._keys.offer(case.image if self.offer.pictures else None)
            self.comfort.apply()
        else:
            view.show_rows([], 0, "")
            view.show_unsaved(False)
            self._keys.lend(())
            self._keys.offer(None)
        lines = (self._timing, quality(state) if state is not None else "")
        view.timing.setText("; ".join(line for line in lines if line))
        situation = Situation(
            image=case is not None,
            fault=case.fault if case is not None else "",
            clicking=view.clicking.isChecked(),
            flat=self._viewer.dims.ndisplay == 2,
            tool=self.pencil.busy_tool,
            drawing=view.tools.tool,
            offered=len(self.offer.pictures),
            marked=control.marked is not None,
            waiting=0 if self._patient else waiting,
            glimpsed=bool(control.passing),
            preparing=control.preparing,
            drawn=state is not None and state.drawn,
            clicks=len(state.prompts) if state is not None else 0,
            owner=case.owner() if case is not None else "",
        )
        alarm = self._alarm if not waiting else ""
        red = self._alarming if alarm else bool(situation.fault)
        view.show_advice(alarm or advice(situation), red)
        if not control.busy:
            view.show_progress(None)
        elif view.progress.isHidden():
            view.show_progress(0.0, "" if waiting else "getting ready")
        view.undo.setEnabled(bool(waiting) or bool(state and state.can_undo))
        view.redo.setEnabled(bool(state and state.can_redo) and not waiting)
        view.reset.setEnabled(bool(waiting) or bool(state and state.prompts))
        drawn = bool(waiting) or bool(state and state.drawn)
        view.accept.setEnabled(drawn)
        view.next.setEnabled(drawn)
        view.save.setEnabled(bool(rows))
