"""The dock widget: joins the viewer, the widgets and the controller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFileDialog, QSizePolicy, QVBoxLayout, QWidget

from napari_sightline.errors import SightlineError
from napari_sightline.viewer.attention.control import EMBEDDED, AttentionControl
from napari_sightline.viewer.attention.details import BIAS, HEADS, STRUCTURES, TRUST
from napari_sightline.viewer.attention.extras import Extras
from napari_sightline.viewer.attention.plots import trust_curves
from napari_sightline.viewer.attention.state import Shown
from napari_sightline.viewer.attention.view import OPEN_MODEL, AttentionView
from napari_sightline.viewer.attention.words import caption, scale_words
from napari_sightline.viewer.attention.work import colours_of
from napari_sightline.viewer.bridge import is_scan, slice_at
from napari_sightline.viewer.dock import DockPanel
from napari_sightline.viewer.keys import KeyRing, weakly
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    import napari.viewer

TOGGLE, PIN, KEEP, JUMP, RUN = "A", "Shift-A", "K", "U", "G"
#: Key and what it does. None is a key that napari binds for the viewer or for images; points and
#: shapes layers use A themselves while one of them is selected.
KEYS = {
    TOGGLE: "hide or show all attention layers",
    PIN: "ask for the voxel under the cursor from now on",
    KEEP: "keep the map as a layer",
    JUMP: "go to the most uncertain place",
    RUN: "run the model at the cursor",
}
_REST = 250


class AttentionPanel(DockPanel):
    """See where the model looked, live, on the scan.

    While the panel is shown, passes of the prompt panel are recorded and maps follow the cursor.
    Hidden or closed it records nothing, and gives mouse and keys back; maps that were kept stay.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    short = "Attention"
    naps = True

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.control = AttentionControl(self._viewer, self)
        self.extras = Extras(self._viewer, self.control)
        self.view = AttentionView(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._images: list[Any] = []
        self._fault = ""
        self._pixel: Any = None
        self._slice: Any = None
        # Weakly: what napari keeps must not keep the panel.
        self._keys = KeyRing(
            self._viewer,
            {
                TOGGLE: weakly(self.control.toggle),
                PIN: weakly(self.control.pin),
                KEEP: weakly(self.keep),
                JUMP: weakly(self.jump),
                RUN: weakly(self.control.run),
            },
        )
        self._moved = weakly(self._on_move)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST)
        self._rest.timeout.connect(self._on_rest)
        self._connect()
        self.wake()

    def _connect(self) -> None:
        view, control, extras = self.view, self.control, self.extras
        view.image_chosen.connect(self._on_image)
        view.model_chosen.connect(self._on_model)
        view.changed.connect(lambda changes: control.set(**changes))
        view.scale_changed.connect(
            lambda changes: control.set(scale=replace(control.settings.scale, **changes))
        )
        view.all_heads_asked.connect(lambda: control.set(heads=()))
        view.run_asked.connect(control.run)
        view.pin_asked.connect(control.pin)
        view.keep_asked.connect(self.keep)
        view.export_asked.connect(self.ask_and_export)
        view.strip_asked.connect(self.ask_and_save_strip)
        view.visible_asked.connect(control.toggle)
        view.cancel_asked.connect(self._cancel)
        view.details.opened.connect(lambda _: self._rest.start())
        view.details.measure_asked.connect(extras.measure)
        view.details.uncertainty_chosen.connect(extras.show_uncertainty)
        view.details.jump_asked.connect(self.jump)
        control.changed.connect(self._refresh)
        control.answered.connect(self._on_answer)
        control.told.connect(self._tell)
        control.stepped.connect(extras.follow)
        control.heavy.progressed.connect(view.show_progress)
        extras.structures.connect(view.details.show_bars)
        extras.heads.connect(view.details.show_heads)
        view.details.head_chosen.connect(
            lambda block, head: control.set(block=block, heads=(head,))
        )
        extras.trusted.connect(self._on_trust)
        extras.kernel.connect(view.details.show_kernel)
        extras.uncertain.connect(view.details.show_uncertain)

    # ---- open and closed

    def _listen(self) -> None:
        dims = self._viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.connect(self._on_slice)
        self._viewer.events.theme.connect(self._on_theme)
        self._viewer.mouse_move_callbacks.append(self._moved)
        self._keys.bind()
        self._on_theme()

    def _ignore(self) -> None:
        dims = self._viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.disconnect(self._on_slice)
        self._viewer.events.theme.disconnect(self._on_theme)
        if self._moved in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._moved)
        self._keys.unbind()
        self._rest.stop()
        self.control.leave()

    def _end(self) -> None:
        self.control.close()

    # ---- the viewer changes

    def _on_layers(self, _: Any = None) -> None:
        control = self.control
        if control.image is not None and control.image not in self._viewer.layers:
            control.choose(None)  # at once: no map may be drawn for an image that is gone
        elif control.layers is not None and control.layers.notice():
            self._refresh()
        super()._on_layers()

    def _on_settled(self) -> None:
        self._images = [layer for layer in reversed(self._viewer.layers) if is_scan(layer)]
        if self.control.image is None and self._images:
            active = self._viewer.layers.selection.active
            self.control.choose(active if active in self._images else self._images[0])
        self._refresh()

    def _on_move(self, _: Any, event: Any) -> None:
        displayed = tuple(int(axis) for axis in event.dims_displayed)
        self._pixel = displayed
        self.control.point_at(tuple(float(x) for x in event.position), displayed)

    def _on_slice(self, _: Any = None) -> None:
        control, dims = self.control, self._viewer.dims
        control.follow_frame()
        shown = None
        if control.image is not None:
            shown = slice_at(control.image, dims.point, dims.order, dims.units), dims.ndisplay
        if shown == self._slice:  # our own layers make napari say so again
            return
        self._slice = shown
        if control.cursor is not None and dims.ndisplay == 2 and self._pixel is not None:
            # The mouse rests, the slice changes: the cursor is on another voxel.
            position = list(self._viewer.cursor.position)
            for axis in dims.not_displayed:
                if axis < len(position):
                    position[axis] = dims.point[axis]
            if len(position) == dims.ndim:
                control.point_at(position, dims.displayed)
        if control.shown is not None:
            control.ask()
        self._refresh()

    def _on_theme(self, _: Any = None) -> None:
        from napari.utils.theme import get_theme

        self.view.show_ink(QColor(get_theme(self._viewer.theme).text.as_hex()))

    # ---- the user asks

    def _on_image(self, index: int) -> None:
        if 0 <= index < len(self._images):
            self._fault = ""
            self.control.choose(self._images[index])

    def _on_model(self, name: str) -> None:
        if name != OPEN_MODEL:
            self.control.model = name
            return
        chosen, _ = QFileDialog.getOpenFileName(
            self, "Open a model", "", "Sightline models (*.safetensors);;All files (*)"
        )
        self._refresh()
        if chosen:
            self.open_model(Path(chosen))

    def open_model(self, path: Path) -> None:
        """Load an automatic model, such as a Swin-UNETR, to run it at the cursor."""

        def work(_: Job[Any]) -> Any:
            from napari_sightline.models.segmenter_io import read_segmenter

            return read_segmenter(path)[0]

        def done(segmenter: Any) -> None:
            self.add_model(segmenter)

        def failed(error: Exception) -> None:
            self._tell(str(error), True)

        self.control.heavy.submit(Job(work, done, failed, "model"))

    def add_model(self, segmenter: Any) -> None:
        """Offer an automatic model that is loaded already."""
        self.control.segmenters[segmenter.spec.name] = segmenter
        self.control.model = segmenter.spec.name
        self._refresh()

    def keep(self) -> None:
        """Keep the map as a layer of its own, named after query, block and head."""
        control = self.control
        if control.layers is None or control.shown is None:
            self._tell("There is no map to keep yet; move the cursor over the scan.", True)
            return
        if control.layers.keep(control.shown, control.settings) is None:
            self._tell("This attention lies on prompts, not on the image.", True)

    def jump(self) -> None:
        """Go to the most uncertain place: the next best click."""
        self.extras.show_uncertainty(self.view.details.uncertainty.isChecked(), jump=True)

    def _cancel(self) -> None:
        for job in self.control.heavy.jobs:
            job.cancel()

    def ask_and_export(self) -> None:
        """Ask where, and write the map to NIfTI."""
        if self.control.shown is None:
            self._tell("There is no map to export yet; move the cursor over the scan.", True)
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Export the map", "attention.nii.gz", "NIfTI (*.nii.gz *.nii)"
        )
        if chosen:
            self.extras.export(Path(chosen), self._saved, lambda said: self._tell(said, True))

    def ask_and_save_strip(self) -> None:
        """Ask where, and write the heads side by side to PNG."""
        if self.control.shown is None:
            self._tell("There is no map yet; move the cursor over the scan.", True)
            return
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the heads", "heads.png", "PNG (*.png)")
        if chosen:
            self.extras.strip(Path(chosen), self._saved, lambda said: self._tell(said, True))

    def _saved(self, path: Path) -> None:
        show_info(f"Saved {path.name}.")

    # ---- what to show

    def _tell(self, sentence: str, alarm: bool) -> None:
        if sentence != self._fault:
            self._fault = sentence
            self._advise()

    def _on_answer(self, shown: Shown | None, pictures: Any) -> None:
        view, control = self.view, self.control
        if shown is None:
            view.heads.show_pictures(None)
            view.caption.setText("")
            view.bar.show_scale([], ("", "", ""))
            self._rest.start()
            return
        if pictures is None and shown.heads is not None:
            return  # words and pictures are for those who look: some times a second, and at rest
        settings = control.settings
        count = len(shown.answer.heads)
        if len(view.heads.buttons) != count:
            view.heads.show_count(count, settings.heads)
        if pictures is not None:
            view.heads.show_pictures(pictures)
        if shown.merged is not None:
            from napari_sightline.viewer.attention.layering import limits_of

            words = scale_words(shown.merged, limits_of(shown, settings), settings.scale)
            view.bar.show_scale(colours_of(settings.colormap), words)
        self._rest.start()
        self._caption(shown)

    def _caption(self, shown: Shown) -> None:
        text = caption(shown, self.control.settings)
        if self.view.caption.text() != text:
            self.view.caption.setText(text)

    def _on_trust(self, words: str, found: Any) -> None:
        curves = [] if found is None else trust_curves(found)
        self.view.details.show_trust(words, curves)

    def _on_rest(self) -> None:
        """Compute what takes longer, once the cursor rests."""
        control, page = self.control, self.view.details.currentIndex()
        if control.layers is not None:
            control.layers.name_live()
        if page == STRUCTURES:
            self.extras.count(control.shown)
        elif page == HEADS:
            self.extras.count_heads(control.shown)
        elif page == BIAS:
            self.extras.show_bias()
        elif page == TRUST:
            self.extras.show_trust()

    def _refresh(self, _: Any = None) -> None:
        """Show the state of things."""
        view, control = self.view, self.control
        current = self._images.index(control.image) if control.image in self._images else -1
        view.show_images([layer.name for layer in self._images], current)
        view.show_models([EMBEDDED, *control.segmenters], control.model)
        view.show_settings(control.settings)
        blocks, chosen = control.blocks()
        view.show_blocks(blocks, chosen)
        asked = control.settings.mode == "prompt"
        view.show_prompts(control.prompts() if asked else (), control.settings.prompt, asked)
        for head, made in enumerate(view.heads.buttons):
            made.setChecked(head in control.settings.heads)
        for made in (view.keep, view.export, view.strip):
            made.setEnabled(control.shown is not None)
        if not control.heavy.jobs:
            view.show_progress(None)
        elif view.progress.isHidden():
            view.show_progress(0.0, "working")
        self._advise()

    def _advise(self) -> None:
        control = self.control
        if self._fault:
            self.view.show_advice(self._fault, True)
        elif control.image is None:
            self.view.show_advice("Open a scan: drag a file into the window, or use a sample.")
        elif self._viewer.dims.ndisplay != 2:
            self.view.show_advice("In 3D the map stays at its voxel. Go back to slices (Ctrl+Y).")
        elif control.layers is not None and control.layers.hidden:
            self.view.show_advice("Attention layers are hidden. A shows them.")
        elif control.shown is None:
            self.view.show_advice(self._missing())
        else:
            self.view.show_advice("A hides the layers, Shift+A pins the voxel, K keeps the map.")

    def _missing(self) -> str:
        """Say what is needed before there is a map."""
        try:
            self.control.recorded()
        except SightlineError as error:
            return str(error)
        return "Move the cursor over the scan."
