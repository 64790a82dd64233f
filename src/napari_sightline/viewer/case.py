"""One image and what was segmented on it: a session, and what of it is drawn.

Everything here but the constructor runs on the worker; results are plain data that the main
thread puts on the screen. A case outlives the panel: closed and opened again on the same image,
the panel finds its objects, their prompts and what could be undone.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.orientation import Array
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.viewer.bridge import Source, bare
from napari_sightline.viewer.state import Outcome, Patch, Row, State
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Points, Vectors

    from napari_sightline.models.promptable import Promptable
    from napari_sightline.viewer.worker import Job

#: A step of a session, run on the worker: returns what the session said of it, or None.
Act: TypeAlias = "Callable[[Session, Job[Outcome]], Any]"


@dataclass(frozen=True)
class Stroke:
    """What one of napari's own tools drew: new `values` where `mask`, in a box of the volume."""

    box: Box3
    mask: Array
    values: Array


# Cases outlive the panel, not their image: see `Case`.
cases: WeakKeyDictionary[Any, dict[tuple[int, ...], Case]] = WeakKeyDictionary()


def case_of(image: Image, frame: tuple[int, ...] = ()) -> Case | None:
    """Find what was segmented with prompts on an image, or one frame of it; None before."""
    return cases.get(bare(image), {}).get(frame)


class Case:
    """An image layer, or one frame of it, with its session.

    Parameters
    ----------
    image : Image
        Kept weakly.
    frame : tuple of int
        Of the axes before the last three.
    session : Session
        Without a volume yet.
    device : str
        The session was made for.
    """

    def __init__(self, image: Image, frame: tuple[int, ...], session: Session, device: str) -> None:
        self._image = weakref.ref(bare(image))
        self._labels: weakref.ref[Labels] | None = None
        self._points: weakref.ref[Points] | None = None
        self._lines: weakref.ref[Vectors] | None = None
        self.frame = frame
        self.session = session
        self.device = device
        self.volume: Volume | None = None
        self.fault = ""  # why the image cannot be segmented
        self.state = State()
        self.precision = "auto"  # of the model's numbers, as the user wants them
        self.draft = ""  # name of the current object, as typed
        self.unsaved = False
        self.begun = False  # its layers were added

    @property
    def image(self) -> Image | None:
        """The image layer; None once it is gone."""
        return self._image()

    @property
    def labels(self) -> Labels | None:
        """The labels layer; None before the first mask, or once it is gone."""
        return self._labels() if self._labels else None

    @property
    def points(self) -> Points | None:
        """The layer of clicks; None before the first click, or once it is gone."""
        return self._points() if self._points else None

    @property
    def lines(self) -> Vectors | None:
        """The layer of boxes, strokes and lassos; None before, or once it is gone."""
        return self._lines() if self._lines else None

    def keep(
        self,
        labels: Labels | None = None,
        points: Points | None = None,
        lines: Vectors | None = None,
    ) -> None:
        """Remember, weakly, the layers in which the case is drawn."""
        if labels is not None:
            self._labels = weakref.ref(bare(labels))
        if points is not None:
            self._points = weakref.ref(bare(points))
        if lines is not None:
            self._lines = weakref.ref(bare(lines))

    def lose(self, layer: Layer) -> bool:
        """Forget a layer that left the viewer; whether it was one of ours."""
        ours = False
        for name in ("labels", "points", "lines"):
            if getattr(self, name) is layer:
                setattr(self, f"_{name}", None)
                ours = True
        return ours

    def names(self) -> dict[int, str]:
        """Names of all objects that have a mask, by label value."""
        rows = self.state.rows
        typed = {self.state.current: self.draft}
        return {r.id: r.name or typed.get(r.id) or f"object {r.id}" for r in rows if r.ml > 0}

    def owner(self) -> str:
        """Name of the locked object that has the place of the last prompt; empty without one."""
        shown = voxels(self.labels, self.volume)
        if shown is None or not self.state.prompts:
            return ""
        low, high = self.state.prompts[-1].bounds
        middle = tuple(round((a + b) / 2) for a, b in zip(low, high, strict=True))
        row = self.state.row(int(shown[middle]))
        return self.names()[row.id] if row is not None and row.locked and row.ml > 0 else ""

    # ---- jobs, run on the worker

    def open(self, source: Source, journal: bool, job: Job[Outcome]) -> Outcome:
        """Read the image, once, and begin; on a case that was open, draw it as it is.

        What a crash left of a session on this scan comes back, unless `journal` is off.
        """
        note = ""
        warm_up()
        if self.volume is None:
            try:
                self.volume = source.read()
            except BadInput as error:
                self.fault = str(error)
                raise
            self.session.set_volume(self.volume)
            if source.known is None:  # our readers said it when they opened the file
                note = " ".join(self.volume.notes)
            if journal:
                found = self.session.recover()
                self.session.keep_journal()
                self.unsaved, note = bool(found), f"{note} {found}".strip()
        if any(item.mask_box is not None for item in self.session.objects):
            return Outcome(self._state(), self._whole(), None, note)
        return Outcome(self._state(), (), None, note)

    def prepare(self, box: Box3 | None, job: Job[Outcome]) -> Outcome:
        """Load the model and compute what does not wait for a click, in what is visible."""
        if self.volume is not None and not self.fault:
            self.session.load(job.progress)
            model: Any = self.session.model
            if self.precision != "auto" and hasattr(model, "precision"):
                model.precision = self.precision
            self.session.prepare(None, job.progress, job.cancelled, box)
        return Outcome(self._state())

    def do(self, step: Act, job: Job[Outcome]) -> Outcome:
        """Do a step of the session, and say what to paint anew.

        A job that is cancelled in its last moment leaves nothing behind either.
        """
        if self.fault:
            raise BadInput(self.fault)
        if job.cancelled():
            raise Cancelled
        found = step(self.session, job)
        if found is None:
            return Outcome(self._state())
        update = found if isinstance(found, MaskUpdate) else self.session.last_update
        if update is None:
            return Outcome(self._state())
        patches = tuple(patch for box in update.changed for patch in self._patches(box))
        return Outcome(self._state(), patches, update, update.note)

    def adopt(self, stroke: Stroke, session: Session, job: Job[Outcome]) -> MaskUpdate:
        """Take over what one of napari's own tools drew."""
        values = session.paint(stroke.box)
        dtype = np.result_type(values.dtype, stroke.values.dtype)
        values = values.astype(dtype)
        values[stroke.mask] = stroke.values[stroke.mask]
        return session.adopt(values, stroke.box)

    def gather(self, job: Job[Outcome]) -> Outcome:
        """Take over whatever else was written into the labels layer, by scripts for example."""
        shown = voxels(self.labels, self.volume)
        if shown is None or np.array_equal(shown, self.session.label_image()):
            return Outcome(self._state())
        self.session.adopt(shown.copy(), force=True)
        return Outcome(self._state())

    def move(self, model: str | Promptable, device: str, job: Job[Outcome]) -> Outcome:
        """Go on with another model or device; objects and prompts come along.

        Masks and history stay to the voxel; the next click is answered by the new model. Where that
        fails the case stays as it was.
        """
        self.session.set_model(model, device, job.progress)
        self.device = device
        return Outcome(self._state())

    # ---- what they share

    def _whole(self) -> tuple[Patch, ...]:
        """Make a patch of the whole label image, for a layer that is made or drawn anew."""
        none: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))
        whole = self.session.label_image()
        return (Patch(none, whole[none], whole),)

    def _patches(self, box: Box3) -> tuple[Patch, ...]:
        """Paint a box; all of the image where the layer is gone or too narrow."""
        values = self.session.paint(box)
        shown = voxels(self.labels, self.volume)
        if shown is None or not np.can_cast(values.dtype, shown.dtype):
            return self._whole()
        return (Patch(box, values),)

    def _state(self) -> State:
        session = self.session
        model: Any = session.model
        device = str(getattr(model, "device", ""))
        precision = str(getattr(model, "precision", ""))
        if session.volume is None:
            return State(device=device, precision=precision, devices=devices())
        current = session.current
        rows = []
        for item in session.objects:
            rows.append(
                Row(
                    item.id,
                    item.name,
                    item.volume_ml,
                    item.accepted,
                    item.locked,
                    item.visible,
                    item.colour,
                )
            )
        return State(
            current.id,
            current.prompts,
            session.can_undo,
            session.can_redo,
            current.quality,
            tuple(rows),
            device,
            precision,
            devices(),
            max(0, len(current.step.options) - 1),
            current.step.chosen,
        )


def warm_up() -> None:
    """Import on the worker what napari's first labels layer needs: it would stop the window."""
    import_module("pandas")
    assert import_module("skimage.color").rgb2lab  # which is loaded only once it is named


def devices() -> tuple[str, ...]:
    """Devices to choose from; what torch finds only once it is loaded, which takes seconds."""
    torch = sys.modules.get("torch")
    # While the worker imports it, the module is there, but half of it is missing.
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        return "auto", "cpu"
    if not torch.accelerator.is_available():
        return "auto", "cpu"
    kind = torch.accelerator.current_accelerator().type
    count = torch.accelerator.device_count()
    return ("auto", "cpu", *(f"{kind}:{i}" if count > 1 else kind for i in range(count)))


def voxels(layer: Labels | None, volume: Volume | None) -> Array | None:
    """Writable view of a labels layer on the volume's three axes; None where it does not fit."""
    if layer is None or volume is None:
        return None
    data = layer.data
    if not isinstance(data, np.ndarray) or not data.flags.writeable:
        return None
    shape = (1,) * (3 - data.ndim) + data.shape
    return data.reshape(shape) if shape == volume.shape else None
