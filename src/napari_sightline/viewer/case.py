"""One image and what was segmented on it: a session, and what of it is drawn.

Everything here but the constructor runs on the worker; results are plain data that the main
thread puts on the screen. A case outlives the panel: closed and opened again on the same image,
the panel finds its objects, their prompts and what could be undone.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.orientation import Array
from napari_sightline.prompts import Prompt
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.segment.packed import union
from napari_sightline.viewer.bridge import Source, bare
from napari_sightline.viewer.state import Outcome, Patch, Row, State
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Points

    from napari_sightline.models.promptable import Promptable
    from napari_sightline.viewer.worker import Job

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
        self.frame = frame
        self.session = session
        self.device = device
        self.volume: Volume | None = None
        self.fault = ""  # why the image cannot be segmented
        self.state = State()
        self.draft = ""  # name of the current object, as typed
        self.unsaved = False
        self.begun = False  # its layers were added
        self._known: set[int] = set()  # ids of the session's objects, also of those gone

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

    def keep(self, labels: Labels | None = None, points: Points | None = None) -> None:
        """Remember, weakly, the layers in which the case is drawn."""
        if labels is not None:
            self._labels = weakref.ref(bare(labels))
        if points is not None:
            self._points = weakref.ref(bare(points))

    def lose(self, layer: Layer) -> bool:
        """Forget a layer that left the viewer; whether it was one of ours."""
        labels, points = self.labels is layer, self.points is layer
        if labels:
            self._labels = None
        if points:
            self._points = None
        return labels or points

    def names(self) -> dict[int, str]:
        """Names of all objects that have a mask, by label value."""
        rows = self.state.rows
        typed = {self.state.current: self.draft}
        return {r.id: r.name or typed.get(r.id) or f"object {r.id}" for r in rows if r.ml > 0}

    # ---- jobs, run on the worker

    def open(self, source: Source, job: Job[Outcome]) -> Outcome:
        """Read the image, once, and begin; on a case that was open, draw it as it is."""
        if self.volume is None:
            try:
                self.volume = source.read()
            except BadInput as error:
                self.fault = str(error)
                raise
            self.session.set_volume(self.volume)
            return Outcome(self._state())
        item, names = self.session.current, self.session.names
        if self.labels is None and (names or item.mask is not None):
            none = (slice(0, 0),) * 3
            whole = self.session.label_image()
            self._known.update(o.id for o in self.session.objects)
            return Outcome(self._state(), Patch(none, whole[none], whole))
        if item.mask_box is None or item.mask is None:
            return Outcome(self._state())
        return Outcome(self._state(), self._patch(item.mask_box))

    def prepare(self, job: Job[Outcome]) -> Outcome:
        """Load the model and compute what does not wait for a click."""
        if self.volume is not None and not self.fault:
            self.session.prepare(None, job.progress, job.cancelled)
        return Outcome(self._state())

    def add(self, prompt: Prompt, job: Job[Outcome]) -> Outcome:
        """Add a prompt; a job cancelled in its last moment leaves nothing behind either."""
        self._check()
        if job.cancelled():
            raise Cancelled
        update = self.session.add(prompt, job.progress, job.cancelled)
        if job.cancelled():
            self.session.undo()
            raise Cancelled
        return self._outcome(update)

    def undo(self, job: Job[Outcome]) -> Outcome:
        """Take back a step."""
        return self._outcome(self.session.undo())

    def redo(self, job: Job[Outcome]) -> Outcome:
        """Bring a step back."""
        return self._outcome(self.session.redo())

    def reset(self, job: Job[Outcome]) -> Outcome:
        """Drop the current object's prompts; can be undone."""
        self._check()
        return self._outcome(self.session.reset())

    def accept(self, name: str, job: Job[Outcome]) -> Outcome:
        """Lock the current object and begin another."""
        self._check()
        self.session.accept(name or None)
        return self._outcome(self.session.last_update)

    def rename(self, number: int, name: str, job: Job[Outcome]) -> Outcome:
        """Name an object."""
        self._check()
        self.session.rename(number, name)
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

    def _check(self) -> None:
        if self.fault:
            raise BadInput(self.fault)

    def _outcome(self, update: MaskUpdate | None) -> Outcome:
        if update is None:
            return Outcome(self._state())
        box: Box3 | None = None
        for part in update.changed:
            box = union(box, part)
        if box is None:
            return Outcome(self._state(), None, update)
        return Outcome(self._state(), self._patch(box, update.objects), update)

    def _patch(self, box: Box3, numbers: Sequence[int] = ()) -> Patch:
        """Lay the session's objects into what the labels layer shows; other labels stay."""
        values = self.session.paint(box)
        self._known.update(item.id for item in self.session.objects)
        self._known.update(numbers)
        shown, fresh = voxels(self.labels, self.volume), None
        if shown is None:
            if not self.session.names:
                return Patch(box, values)
            shown = fresh = self.session.label_image(include_current=False)
        theirs = shown[box]
        foreign = (theirs != 0) & ~np.isin(theirs, list(self._known))
        dtype = np.result_type(shown.dtype, values.dtype)
        return Patch(box, np.where(foreign, theirs, values).astype(dtype), fresh)

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
            rows.append(Row(item.id, item.name, item.volume_ml, item.accepted))
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
        )


def devices() -> tuple[str, ...]:
    """Devices to choose from; what torch finds only once it is loaded, which takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.accelerator.is_available():
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
