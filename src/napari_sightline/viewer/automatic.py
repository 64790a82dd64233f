"""The dock widget for automatic segmentation: joins the viewer, the widgets and the control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMainWindow, QSizePolicy, QVBoxLayout, QWidget

from napari_sightline.errors import SightlineError
from napari_sightline.models.catalog import DEFAULT_SEGMENTER, Entry, entries
from napari_sightline.viewer.attention.sources import tap_for_run
from napari_sightline.viewer.automatic_control import AutomaticControl, canonical, names_in
from napari_sightline.viewer.automatic_handing import hand_over
from napari_sightline.viewer.automatic_run import Order, offered, spec_of
from napari_sightline.viewer.automatic_view import AutomaticView
from napari_sightline.viewer.bridge import frame, is_scan, source, widen_range
from napari_sightline.viewer.case import devices
from napari_sightline.viewer.colours import colours_of
from napari_sightline.viewer.dock import DockPanel
from napari_sightline.viewer.planes import step_to
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    import napari.viewer

    from napari_sightline.models.segmenter import SegmenterSpec
    from napari_sightline.viewer.model_manager import ModelManager


class AutomaticPanel(DockPanel):
    """Segment the organs of a whole scan.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    short = "Automatic"

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.control = AutomaticControl(self._viewer, self)
        self.view = AutomaticView(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._images: list[Any] = []
        self._image: Any = None
        self._models: list[Entry] = []
        self.model = DEFAULT_SEGMENTER
        self.spec: SegmenterSpec | None = None
        self._fault, self._alarm = "", ""
        self._grave = False
        self._into = False
        self._connect()
        self.find_models()
        self.wake()

    def _connect(self) -> None:
        view, control = self.view, self.control
        view.image_chosen.connect(self._on_image)
        view.model_chosen.connect(self.choose_model)
        view.models_asked.connect(self.manage_models)
        view.run_asked.connect(self.segment)
        view.cancel_asked.connect(control.cancel)
        view.shape_asked.connect(lambda how: control.shape(how, view.chosen, view.mm.value()))
        view.undo_asked.connect(control.undo)
        view.redo_asked.connect(lambda: control.undo(back=False))
        view.edit_asked.connect(self.edit)
        view.measure_asked.connect(self.measure)
        view.place_asked.connect(self._go)
        control.changed.connect(self._refresh)
        control.told.connect(self._tell)
        control.finished.connect(self._on_finished)
        control.worker.progressed.connect(self._on_progress)

    def _listen(self) -> None:
        self._viewer.layers.selection.events.active.connect(self._on_active)

    def _ignore(self) -> None:
        self._viewer.layers.selection.events.active.disconnect(self._on_active)

    def _end(self) -> None:
        self.control.close()

    # ---- models

    def find_models(self) -> None:
        """List the models that are on this machine."""
        found = [entry for entry in entries() if entry.card.task == "automatic"]
        self._models = [entry for entry in found if entry.state != "to download"]
        names = [*offered(), *(entry.card.name for entry in self._models)]
        missing = {entry.card.name for entry in self._models if entry.state == "missing"}
        usable = [name for name in names if name not in missing]
        if self.model not in names or (self.model not in usable and usable):
            self.model = (usable or names or [DEFAULT_SEGMENTER])[0]
        self.choose_model(self.model)

    def choose_model(self, name: str) -> None:
        """Segment with a model from now on; its facts are read."""
        self.model, self.spec, self._fault, self._alarm = name, None, "", ""
        entry = next((e for e in self._models if e.card.name == name), None)
        if entry is not None and entry.state == "missing":
            self._fault = (
                f"The weights of {name} are not part of this installation; get another model "
                "under 'Models …'."
            )
            self._refresh()
            return

        def done(spec: SegmenterSpec) -> None:
            if self.model == name:
                self.spec = spec
                self._refresh()

        def failed(error: Exception) -> None:
            if self.model == name:
                self._fault = str(error)
                self._refresh()

        self.control.worker.submit(Job(lambda _: spec_of(name), done, failed, "facts"))
        self._refresh()

    def manage_models(self) -> ModelManager:
        """Open the model manager, and return it; what changes there is listed here."""
        from napari_sightline.viewer.model_manager import ModelManager

        manager = ModelManager(self)
        manager.changed.connect(self.find_models)
        manager.setModal(False)
        manager.show()
        return manager

    # ---- the user asks

    def segment(self) -> None:
        """Begin a run on the chosen scan."""
        self._alarm = ""
        image, dims = self._image, self._viewer.dims
        if image is None or image not in self._viewer.layers:
            self._tell("There is no scan; open one first.", True)
            return
        if self._fault:
            self._tell(self._fault, True)
            return
        chosen = [image]
        if self.view.channels:
            indices = [box.currentIndex() for box in self.view.channels]
            chosen = [self._images[k] for k in indices if 0 <= k < len(self._images)]
            if len({id(layer) for layer in chosen}) < len(self.view.channels):
                channels = ", ".join(self.spec.channels) if self.spec else ""
                self._tell(
                    f"The model {self.model!r} needs a layer of its own for each of {channels}; "
                    "choose them above.",
                    True,
                )
                return
        try:
            sources = tuple(source(layer, dims.point, dims.units) for layer in chosen)
        except SightlineError as error:
            self._tell(str(error), True)
            return
        view = self.view
        self._into = view.into_session.isChecked()
        self.control.start(
            chosen[0],
            Order(
                self.model,
                sources,
                view.device.currentText() or "auto",
                view.probabilities.isChecked(),
                view.uncertainty.isChecked(),
                tap_for_run(chosen[0]),
            ),
        )
        self._on_progress(0.0, "")
        self._refresh()

    def edit(self) -> None:
        """Make every organ an object of the prompt panel."""
        self._hand(free_only=False)

    def _hand(self, free_only: bool) -> None:
        layer = self.control.labels
        image = self.control.image_of(layer)
        if layer is None or image is None:
            self._tell("The scan of these organs is gone; open it and segment again.", True)
            return
        dims, made_on = self._viewer.dims, self.control.frame_of(layer)
        if frame(image, dims.point, dims.units) != made_on:
            where = ", ".join(str(index + 1) for index in made_on)
            self._tell(f"These organs belong to frame {where}; go back there, then edit.", True)
            return
        names = names_in(layer)
        colours = colours_of(layer.colormap, names)
        hand_over(
            self._viewer,
            image,
            layer,
            canonical(layer),
            names,
            colours,
            self._on_returned,
            free_only=free_only,
        )
        self._refresh()

    def _on_returned(self) -> None:
        if self._awake:
            self._refresh()

    def measure(self) -> None:
        """Open the table of measures for the listed organs."""
        dock, panel = self._viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Measures of labels"
        )
        _below_the_scan(dock)
        dock.show()
        panel.choose(self.control.labels, self.control.image_of(self.control.labels))

    def _go(self, value: int) -> None:
        place = self.control.place_of(value)
        if place is not None:
            ndim = self._viewer.dims.ndim
            step_to(self._viewer, range(ndim - len(place), ndim), place)
            if self.control.labels is not None:
                self.control.labels.selected_label = value

    def _on_image(self, index: int) -> None:
        if 0 <= index < len(self._images):
            self._image, self._alarm = self._images[index], ""
            self._refresh()

    # ---- what changed

    def _on_layers(self, _: Any = None) -> None:
        self.control.check_layers()  # at once: no slab may reach a layer that is gone
        super()._on_layers()

    def _on_settled(self) -> None:
        layers = self._viewer.layers
        self._images = [layer for layer in reversed(layers) if is_scan(layer)]
        for image in self._images:
            widen_range(image)
        if self._image not in self._images:
            active = layers.selection.active
            first = self._images[0] if self._images else None
            self._image = active if active in self._images else first
        self._refresh()

    def _on_active(self, _: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if self.control.is_automatic(active) and self.control.running is None:
            self.control.show_organs_of(active)

    def _on_finished(self, layer: Any) -> None:
        if self._into and canonical(layer).any():
            self._hand(free_only=True)
        if self.view.table.isChecked() and not self.control.empty:
            self.measure()

    def _on_progress(self, share: float, word: str) -> None:
        if self.control.running is not None:
            self.view.show_progress(share, word)

    def _tell(self, sentence: str, alarm: bool) -> None:
        (show_error if alarm else show_warning)(sentence)
        self._alarm, self._grave = sentence, alarm
        self._refresh()

    def _refresh(self) -> None:
        """Show the state of things."""
        view, control = self.view, self.control
        names = [layer.name for layer in self._images]
        current = self._images.index(self._image) if self._image in self._images else -1
        view.show_images(names, current)
        listed = [(name, name) for name in offered()]
        listed += [
            (e.card.name, e.card.name + (" (not here)" if e.state == "missing" else ""))
            for e in self._models
        ]
        view.show_models(listed, self.model)
        view.show_channels(self.spec.channels if self.spec else (), names)
        view.image.setEnabled(bool(names) and not view.channels)
        choices = list(devices())
        if [view.device.itemText(i) for i in range(view.device.count())] != choices:
            before = view.device.currentText()
            view.device.clear()
            view.device.addItems(choices)
            view.device.setCurrentText(before if before in choices else "auto")
        view.facts.setText(_facts(self.spec) if self.spec else "")
        running = control.running is not None
        if not running:
            view.show_progress(None)
        for widget in (view.model, view.manage, view.device, view.uncertainty, view.probabilities):
            widget.setEnabled(not running)
        view.run.setEnabled(not running and bool(names) and self.spec is not None)
        organs = control.organs
        view.show_organs(organs)
        layer = control.labels
        title = f"Organs of {layer.name}" if layer is not None else ""
        view.result.setText(title)
        view.result.setToolTip(title)
        taken = control.in_session
        ready = bool(organs) and not running
        for shaping in (view.largest, view.fill, view.smooth, view.mm, view.undo, view.redo):
            shaping.setEnabled(ready and not taken)
        view.edit.setEnabled(ready and not taken)
        view.measures.setEnabled(ready)
        advice, alarm = self._advice(running, taken)
        view.show_advice(advice, alarm)

    def _advice(self, running: bool, taken: bool) -> tuple[str, bool]:
        if self._alarm:
            return self._alarm, self._grave
        if running:
            return "Organs appear as slabs of the scan are finished. You may look around.", False
        if self._fault:
            return self._fault, True
        if not self._images:
            return "Open a scan: drag a file into the window, or File › Open Sample.", False
        if taken:
            return (
                "These organs are objects of the prompt panel: shape and correct them there.",
                False,
            )
        if self.control.organs:
            return (
                "Look through the slices. Shape organs here, or correct them with clicks: "
                "Edit with prompts.",
                False,
            )
        return "Choose a model and press Segment.", False


def _below_the_scan(dock: Any) -> None:
    """Give a wide table a wide place, once; a small screen has no room for it at the side."""
    window = dock.parentWidget()
    if isinstance(window, QMainWindow) and not dock.property("sightline-placed"):
        dock.setProperty("sightline-placed", True)
        bottom = Qt.DockWidgetArea.BottomDockWidgetArea
        window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
        window.addDockWidget(bottom, dock)
        window.resizeDocks([dock], [220], Qt.Orientation.Vertical)


def _facts(spec: SegmenterSpec) -> str:
    """Say in a line or two what a model does."""
    names = list(spec.labels.values())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    where = {"CT": "CT", "MR": "MR", "PT": "PET"}.get(spec.modality or "", "")
    terms = f" Licence: {spec.licence}." if spec.licence else ""
    return f"{where + ': ' if where else ''}{listed}.{terms}"
