"""What the panel for automatic segmentation does: runs, layers, shapes. Main thread only.

Every run makes new layers; labels that exist are never written to. Messages of a run that was
cancelled, or whose layers are gone, reach nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput, Cancelled, SightlineError
from napari_sightline.orientation import Array
from napari_sightline.viewer.automatic_layers import AUTOMATIC, Shown, add_maps
from napari_sightline.viewer.automatic_run import Begun, Messenger, Order, run
from napari_sightline.viewer.automatic_shape import Change, Shaping, apply, shape
from napari_sightline.viewer.automatic_view import Organ
from napari_sightline.viewer.bridge import KEY, bare
from napari_sightline.viewer.case import case_of
from napari_sightline.viewer.colours import colour_of, colours_of
from napari_sightline.viewer.files import names_of
from napari_sightline.viewer.label_digest import Digest
from napari_sightline.viewer.worker import Job, Worker

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_sightline.segment.automatic import Segmentation

_log = logging.getLogger(__name__)
#: ms without an edit before organs are counted again.
_PAUSE = 400


class AutomaticControl(QObject):
    """State of the panel, without its widgets.

    Signals
    -------
    changed
        Something that the panel shows has changed.
    told(str, bool)
        A sentence for the user, and whether it is an error.
    finished(object)
        A run is over: its first labels layer.
    """

    changed = Signal()
    told = Signal(str, bool)
    finished = Signal(object)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self.worker = Worker(self)
        self.worker.changed.connect(self.changed)
        self._messenger = Messenger(self)
        self._messenger.told.connect(self._hear)
        self.running: Job[Any] | None = None
        self._image: Any = None
        self._frame: tuple[int, ...] = ()
        self.shown: Shown | None = None
        self.labels: Labels | None = None  # whose organs are listed
        self.organs: tuple[Organ, ...] = ()
        self.notes: list[str] = []
        self.empty = False  # whether the last run found nothing
        self._digest = Digest()
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self._count)
        # A worker thread must not outlive the panel by a whole scan.
        self.destroyed.connect(partial(_stop, self._jobs()))

    def _jobs(self) -> list[Job[Any]]:
        self._given: list[Job[Any]] = []
        return self._given

    # ---- runs

    def start(self, image: Image, order: Order) -> None:
        """Begin a run; one at a time."""
        if self.running is not None:
            return
        self._image, self._frame = bare(image), order.sources[0].frame
        self.shown, self.notes = None, []
        job: Job[Segmentation] = Job(partial(run, order, self._messenger), kind="run")
        job.done = partial(self._on_done, job, order)
        job.failed = partial(self._on_failed, job)
        self.running = job
        self._given[:] = [job]
        self.worker.submit(job)

    def cancel(self) -> None:
        """Stop the run before its next window, and take its layers away."""
        self._stop_run()
        self.changed.emit()

    def _stop_run(self, at_once: bool = True) -> None:
        job, self.running = self.running, None
        if job is None:
            return
        job.cancel()
        shown, self.shown = self.shown, None
        if shown is None:
            return
        if at_once:
            shown.remove(self._viewer)
        else:
            QTimer.singleShot(0, partial(shown.remove, self._viewer))

    def _hear(self, job: Job[Any], what: object) -> None:
        if job is not self.running:
            return
        if isinstance(what, str):
            self.notes.append(what)
            self.told.emit(what, False)
        elif isinstance(what, Begun):
            self.shown = Shown(self._viewer, self._image, what.volume, what.spec, self._frame)
        elif self.shown is not None:
            self.shown.draw(what)  # type: ignore[arg-type]

    def _on_done(self, job: Job[Any], order: Order, found: Segmentation) -> None:
        if job is not self.running:
            return
        self.running = None
        shown = self.shown
        if shown is None:
            return
        shown.finish()
        add_maps(self._viewer, self._image, found, order.model)
        layers = bare(self._viewer.layers)
        for layer in shown.layers:  # labels lie above the maps
            layers.move(layers.index(layer), len(layers))
        self.show_organs_of(shown.layers[0])
        self.empty = not any(data.any() for data in shown.arrays)
        if self.empty:
            self.told.emit("The model found none of its structures in this scan.", False)
        self.finished.emit(shown.layers[0])
        self.changed.emit()

    def _on_failed(self, job: Job[Any], error: Exception) -> None:
        if job is self.running:
            self._stop_run()
        if not isinstance(error, Cancelled):
            self._tell(error)
        self.changed.emit()

    def _tell(self, error: Exception) -> None:
        if isinstance(error, SightlineError):
            self.told.emit(str(error), True)
        elif isinstance(error, MemoryError):
            self.told.emit("The memory is full; close other programs, or crop the scan.", True)
        else:
            _log.error("automatic segmentation failed", exc_info=error)
            what = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            self.told.emit(f"That failed ({what}); nothing was changed: try again.", True)

    def check_layers(self) -> None:
        """Notice which layers left the viewer."""
        layers = self._viewer.layers
        if self.running is not None and self._image not in layers:
            self._stop_run(at_once=False)  # napari is still at removing layers
            self.told.emit("The scan was removed; its segmentation was stopped.", False)
        elif self.shown is not None and any(one not in layers for one in self.shown.layers):
            if self.running is not None:
                self._stop_run(at_once=False)  # napari is still at removing layers
                self.told.emit("The labels layer was removed; the segmentation was stopped.", False)
            self.shown = None
        if self.labels is not None and self.labels not in layers:
            self.show_organs_of(None)
        if self._image not in layers:
            self._image = None

    def close(self) -> None:
        """Stop everything; finished labels stay in the viewer."""
        self.cancel()
        self.show_organs_of(None)
        self.worker.stop()

    # ---- organs of a labels layer

    def show_organs_of(self, layer: Any) -> None:
        """List the organs of a labels layer from now on; None for none."""
        layer = bare(layer)
        if layer is self.labels:
            return
        if self.labels is not None:
            for event in _edits(self.labels):
                event.disconnect(self._on_edit)
        self.labels, self.organs, self._digest = layer, (), Digest()
        if layer is not None:
            for event in _edits(layer):
                event.connect(self._on_edit)
            self._count()
        self.changed.emit()

    def is_automatic(self, layer: Any) -> bool:
        """Whether an automatic model made a layer."""
        return AUTOMATIC in (getattr(layer, "metadata", {}).get(KEY) or {})

    def _on_edit(self, _: Any = None) -> None:
        self._pause.start()

    def _count(self) -> None:
        layer = self.labels
        if layer is None:
            return
        data, before, names = canonical(layer), self._digest, names_in(layer)
        colours = colours_of(layer.colormap, names)
        spacing = volume_of(layer).spacing

        def work(_: Job[Any]) -> tuple[Digest, list[Organ]]:
            digest = Digest.of(data, before)
            ml = float(np.prod(spacing)) / 1000
            return digest, [
                Organ(
                    value,
                    names.get(value, f"label {value}"),
                    n * ml,
                    colours.get(value) or colour_of(value, names.get(value, "")),
                )
                for value, n in digest.voxels.items()
            ]

        def done(found: tuple[Digest, list[Organ]]) -> None:
            if self.labels is layer:
                self._digest, self.organs = found[0], tuple(found[1])
                self.changed.emit()

        self.worker.submit(Job(work, done, self._tell, "count"))

    def shape(self, how: Shaping, values: Sequence[int], mm: float) -> None:
        """Shape organs of the listed layer, all where there are no values; napari can undo it."""
        layer = self.labels
        if layer is None or not layer.editable:
            return
        data, spacing = canonical(layer), volume_of(layer).spacing
        wanted = list(values) or [organ.value for organ in self.organs]

        def done(change: Change) -> None:
            if self.labels is layer and layer in self._viewer.layers:
                if not apply(layer, change):
                    self.told.emit("Nothing to change: it is so already.", False)
                self._count()

        work = lambda _: shape(data, wanted, how, spacing, mm)  # noqa: E731
        self.worker.submit(Job(work, done, self._tell, "shape"))

    def undo(self, back: bool = True) -> None:
        """Undo or redo the last change of the listed layer, whoever made it."""
        if self.labels is not None and self.labels.editable:
            (self.labels.undo if back else self.labels.redo)()
            self._count()

    @property
    def in_session(self) -> bool:
        """Whether the listed organs are objects of the prompt panel already."""
        image, layer = self.image_of(self.labels), self.labels
        if image is None or layer is None:
            return False
        case = case_of(image, self.frame_of(layer))
        return case is not None and case.labels is layer

    def frame_of(self, layer: Any) -> tuple[int, ...]:
        """Frame of its image that a labels layer of ours was made on."""
        found: tuple[int, ...] = (layer.metadata.get(KEY) or {}).get("frame", ())
        return found

    def image_of(self, layer: Any) -> Any:
        """Image layer that a labels layer of ours was made on; None once it is gone."""
        kept = (getattr(layer, "metadata", {}).get(KEY) or {}).get("image")
        image = kept() if kept is not None else None
        return image if image in self._viewer.layers else None

    def place_of(self, value: int) -> Array | None:
        """World position of an organ: the slice where most of it lies, and its middle there."""
        layer = self.labels
        if layer is None:
            return None
        planes = [plane.get(value, 0) for plane in self._digest.counts]
        if not any(planes):
            return None
        index = int(np.argmax(planes))
        inside = np.argwhere(canonical(layer)[index] == value)
        if not len(inside):
            return None
        middle = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
        voxel = (index, *middle.tolist())[3 - layer.data.ndim :]
        return np.asarray(layer.data_to_world(voxel))


def canonical(layer: Any) -> Array:
    """Voxels of a labels layer on three axes: a view.

    Raises
    ------
    BadInput
        Where the layer has more axes.
    """
    data = np.asarray(layer.data)
    if data.ndim > 3:
        raise BadInput(f"{layer.name} has {data.ndim} axes; choose labels with three.")
    return data.reshape((1,) * (3 - data.ndim) + data.shape)


def volume_of(layer: Any) -> Any:
    """Grid of a labels layer."""
    from napari_sightline.viewer.files import grid_of

    meta = {"metadata": layer.metadata, "scale": layer.scale, "name": layer.name}
    return grid_of(canonical(layer), meta)


def names_in(layer: Any) -> dict[int, str]:
    """Names of a layer's labels, as its table of features says or as they were opened."""
    named = names_of({"features": layer.features, "metadata": layer.metadata})
    return dict(named or {})


def _edits(layer: Any) -> list[Any]:
    events = layer.events
    return [events.paint, events.labels_update, events.data, events.set_data]


def _stop(jobs: list[Job[Any]], *_: object) -> None:
    for job in jobs:
        job.forget()
