"""What the panel does: turns what a reader wants into jobs, and their outcome into layers.

Knows the viewer and the sessions, not the widgets. All methods belong on the main thread.

Order of things: clicks, undo, accept and the rest are done in the order in which they were asked
for; none is lost. *Undo* takes back the last click even if it is still being computed or waits;
such a click is simply dropped (redo does not know it). *Reset* and *cancel* drop every click that
waits. Results for an image that is gone, or a panel that was closed, are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput, Cancelled, SightlineError
from napari_sightline.io import save
from napari_sightline.prompts import Point, Prompt
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.segment.state import SegmentObject
from napari_sightline.viewer import layers as draw
from napari_sightline.viewer import marks
from napari_sightline.viewer.bridge import bare, frame, source, voxel_at
from napari_sightline.viewer.case import Act, Case, cases
from napari_sightline.viewer.state import Outcome
from napari_sightline.viewer.worker import Job, Worker
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_log = logging.getLogger(__name__)
#: Kinds of jobs that only look ahead, and of those that change objects.
_AHEAD = ("prepare", "preview")
_STEPS = ("click", "step", "undo", "redo", "accept")
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")
# Loaded models by name and device: images share them.
_models: dict[tuple[str, str], Any] = {}


class Controller(QObject):
    """State of the panel, without its widgets.

    Signals
    -------
    changed
        Something that the panel shows has changed.
    computed(Outcome)
        A step of the session was computed and drawn.
    told(str, bool)
        A sentence for the user, and whether it is an error.
    saved(Path)
        A file was written.
    """

    changed = Signal()
    computed = Signal(object)
    told = Signal(str, bool)
    saved = Signal(object)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self.worker = Worker(self)
        self.worker.changed.connect(self.changed)
        self.case: Case | None = None
        self.model = "sightline-3d"
        self.device = "auto"
        self._marked: int | None = None
        self._sketch: Prompt | None = None
        self._instead: int | None = None
        self.ghost: tuple[marks.Line, ...] = ()  # outline of a preview
        self._heard: Any = None  # the labels layer whose brush is listened to
        self.journals = True  # whether sessions are kept against a crash
        self.precision = "auto"

    # ---- which image, which model

    def choose(self, image: Image | None) -> None:
        """Segment on an image layer from now on; None for no image."""
        before = self.case
        if image is None:
            self._leave()
        else:
            self._case_of(bare(image))
        if before is not None and before is not self.case:
            draw.remove_unused(self._viewer, before)
        self.changed.emit()

    def _case_of(self, image: Any) -> Case:
        """Present case if it is the image's shown frame, else that frame's, which is entered."""
        dims = self._viewer.dims
        key = frame(image, dims.point, dims.units)
        if self.case is not None and self.case.image is image and self.case.frame == key:
            return self.case
        self._leave()
        by_frame = cases.setdefault(image, {})
        case = by_frame.get(key)
        if case is None or case.fault:
            model = _models.get((self.model, self.device), self.model)
            case = by_frame[key] = Case(image, key, Session(model, self.device), self.device)
        self.case = case
        try:
            described = source(image, dims.point, dims.units)
        except BadInput as error:
            case.fault = str(error)
            self._fail(case, error)
            return case
        for transform in _TRANSFORMS:
            getattr(image.events, transform).connect(self._on_moved)
        self._submit("open", case, partial(case.open, described, self.journals))
        if case.device != self.device:
            self.choose_device(self.device)
        case.precision = self.precision
        self._submit("prepare", case, partial(case.prepare, None))
        for layer in (case.points, case.lines):
            if layer is not None:
                layer.visible = True
        return case

    def _leave(self) -> None:
        """Let go of the present image: what was asked for on it is dropped."""
        case, self.case = self.case, None
        self._marked, self._sketch, self.ghost = None, None, ()
        for job in self.worker.jobs:
            if job.kind != "save":
                job.forget()
        if case is None:
            return
        if self._heard is not None:
            self._heard.events.paint.disconnect(self._on_paint)
            self._heard = None
        image = case.image
        if image is not None:
            for transform in _TRANSFORMS:
                getattr(image.events, transform).disconnect(self._on_moved)
        for layer in (case.points, case.lines):
            if layer is not None:
                layer.visible = False

    def choose_device(self, device: str) -> None:
        """Compute on another device from now on; objects and prompts come along."""
        self.device, case = device, self.case
        if case is None or case.device == device:
            return
        model = _models.get((self.model, device), self.model)

        def failed(error: Exception) -> None:
            self.device = case.device
            self._fail(case, error)

        work = partial(case.move, model, device)
        self.worker.submit(Job(work, partial(self._draw, case), failed, "model"))

    # ---- what a reader does

    @property
    def waiting(self) -> list[Job[Outcome]]:
        """Clicks that are computed or wait."""
        jobs = self.worker.jobs
        return [job for job in jobs if job.kind == "click" and not job.cancelled()]

    @property
    def preparing(self) -> bool:
        """Whether the image or the model is being made ready."""
        return any(job.kind in ("open", "prepare", "model") for job in self.worker.jobs)

    @property
    def busy(self) -> bool:
        """Whether anything is being computed."""
        return bool(self.worker.jobs)

    def click(
        self, position: Sequence[float], displayed: Sequence[int] | None, positive: bool
    ) -> None:
        """Place a click at a world position.

        Parameters
        ----------
        position : sequence of float
            One number per axis of the viewer.
        displayed : sequence of int, optional
            Axes of the viewer on the canvas.
        positive : bool
            Whether the place belongs to the object.
        """
        if self.case is None or self.case.image is None:
            self.told.emit("There is no image to click on; open a scan first.", True)
            return
        image = self.case.image
        case = self._case_of(image)  # another frame of a series is another case
        units = self._viewer.dims.units
        point = Point(voxel_at(image, position, units, displayed), positive)
        if case.volume is not None and not case.volume.contains(point.position):
            self.told.emit("The click fell beside the scan; click on the picture.", True)
            return
        self._give(case, point)

    def prompt(self, prompt: Prompt) -> None:
        """Give a prompt in voxels of the volume; it is drawn at once and computed in its turn."""
        if self.case is not None and self.case.image is not None:
            self._give(self._case_of(self.case.image), prompt)

    def _give(self, case: Case, prompt: Prompt) -> None:
        if case.fault:
            self.told.emit(case.fault, True)
            return
        for job in self.worker.jobs:
            if job.kind in _AHEAD:  # the prompt knows better where to look
                job.cancel()

        def add(session: Session, job: Job[Outcome]) -> MaskUpdate:
            return session.add(prompt, job.progress, job.cancelled)

        job = self._submit("click", case, partial(case.do, add))
        job.prompt = prompt
        draw.to_front(self._viewer, case)
        self.draw_prompts()
        self.changed.emit()

    def replace(self, index: int, prompt: Prompt) -> None:
        """Move or change a prompt of the current object; the mask follows."""
        self.mark(None)
        self.ask(lambda s, job: s.replace_prompt(index, prompt, job.progress, job.cancelled))

    def remove_marked(self) -> None:
        """Take the marked prompt away; the mask follows."""
        index = self._marked
        if index is not None:
            self.mark(None)
            self.ask(lambda s, job: s.remove_prompt(index, job.progress, job.cancelled))

    @property
    def marked(self) -> int | None:
        """Index of the prompt that is marked."""
        return self._marked

    def mark(self, index: int | None) -> None:
        """Mark a prompt of the current object; None for none."""
        if index != self._marked:
            self._marked = index
            self.draw_prompts()
            self.changed.emit()

    def prepare(self, box: Box3) -> None:
        """Compute ahead what a part of the volume needs."""
        if self.case is not None:
            self._submit("prepare", self.case, partial(self.case.prepare, box))

    def show_ghost(self, lines: tuple[marks.Line, ...]) -> None:
        """Draw the outline of a preview; no lines take it away."""
        self.ghost = lines
        self.draw_prompts()

    def sketch(self, prompt: Prompt | None, instead: int | None = None) -> None:
        """Show what is being drawn, or moved in the place of a prompt; None ends it."""
        self._sketch, self._instead = prompt, instead if prompt is not None else None
        self.draw_prompts()

    def choose_candidate(self, index: int | None) -> None:
        """Take a candidate for the first prompt; None for the model's own answer."""
        self.ask(lambda session, _: session.choose(index))

    def undo(self) -> None:
        """Take back the last click, also one that is still being computed."""
        steps = [j for j in self.worker.jobs if j.kind in _STEPS and not j.cancelled()]
        if steps and steps[-1].kind == "click":
            steps[-1].cancel()
            self.draw_prompts()
            self.changed.emit()
        elif self.case is not None:
            self.ask(lambda session, _: session.undo(), "undo")

    def redo(self) -> None:
        """Bring back what was undone."""
        if self.case is not None:
            self.ask(lambda session, _: session.redo(), "redo")

    def reset(self) -> None:
        """Drop the current object's clicks, computed and waiting; can be undone."""
        if self.case is not None:
            self._cancel_clicks()
            self.ask(lambda session, _: session.reset())

    def accept(self, name: str) -> None:
        """Lock the current object under a name and begin another."""
        if self.case is None:
            return
        self.case.draft = ""
        self.ask(lambda session, _: session.accept(name.strip() or None), "accept")

    def begin_next(self, name: str) -> None:
        """Leave the current object open under a name, and begin another."""
        if self.case is None:
            return
        self.case.draft, typed = "", name.strip()

        def step(session: Session, _: Job[Outcome]) -> SegmentObject:
            if typed and typed != session.current.name:
                session.rename(session.current.id, typed)
            return session.new_object()

        self.ask(step)

    def rename(self, number: int, name: str) -> None:
        """Name an object."""
        if name.strip():
            self.ask(lambda session, _: session.rename(number, name.strip()))

    def ask(self, step: Act, kind: str = "step") -> None:
        """Do a step of the session once all that was asked for before is done.

        Parameters
        ----------
        step : callable
            Given the session and the job, on the worker; returns what the session said.
        kind : str
            For the queue.
        """
        if self.case is not None:
            self._submit(kind, self.case, partial(self.case.do, step))
            self.changed.emit()

    def draft(self, name: str) -> None:
        """Take the name of the current object as it is typed: its colour follows."""
        if self.case is not None and self.case.draft != name.strip():
            self.case.draft = name.strip()
            draw.dress(self.case)
            self.changed.emit()

    def cancel(self) -> None:
        """Stop what is computed and drop every click that waits."""
        self._cancel_clicks()
        for job in self.worker.jobs:
            if job.kind in ("prepare", "model"):
                job.cancel()
        self.changed.emit()

    def _cancel_clicks(self) -> None:
        for job in self.waiting:
            job.cancel()
        self.draw_prompts()

    def save(self, path: Path) -> None:
        """Write all objects as one label map on the scan's own grid, as they are drawn.

        What napari's own tools painted into the labels layer is saved too. Clicks that wait are
        computed first.
        """
        case = self.case
        if case is None:
            return

        def work(_: Job[Path]) -> Path:
            volume, session = case.volume, case.session
            if volume is None or not any(item.mask_box for item in session.objects):
                raise BadInput("There is nothing to save yet; click an organ first.")
            typed = {case.state.current: case.draft}
            names = {
                item.id: item.name or typed.get(item.id) or f"object {item.id}"
                for item in session.objects
                if item.mask_box is not None
            }
            path_of = save(path, session.label_image(), volume, names)
            session.saved()
            return path_of

        self._submit("step", case, case.gather)
        done = partial(self._on_saved, case)
        self.worker.submit(Job(work, done, self._failing(case), "save", lasting=True))

    def _on_saved(self, case: Case, path: Path) -> None:
        case.unsaved = False
        self.saved.emit(path)
        self.changed.emit()

    # ---- outcome

    def _submit(
        self, kind: str, case: Case, work: Callable[[Job[Outcome]], Outcome]
    ) -> Job[Outcome]:
        job: Job[Outcome] = Job(work, kind=kind)
        job.failed = self._failing(case)
        job.done = partial(self._on_done, case, job)
        self.worker.submit(job)
        return job

    def _failing(self, case: Case) -> Callable[[Exception], None]:
        return partial(self._fail, case)

    def _on_done(self, case: Case, job: Job[Outcome], outcome: Outcome) -> None:
        late = job.kind == "click" and job.cancelled()
        self._draw(case, outcome)
        if outcome.note:
            self.told.emit(outcome.note, False)
        if late:  # undone after it had been computed, before it was drawn
            self._submit("undo", case, partial(case.do, lambda session, _: session.undo()))
        elif outcome.update is not None:
            case.unsaved = True
            self.computed.emit(outcome)

    def _draw(self, case: Case, outcome: Outcome) -> None:
        """Put an outcome on the screen."""
        if case.session.model is not None:
            _models[self.model, case.device] = case.session.model
        before, case.state = case.state, outcome.state
        if case is self.case and before.prompts != case.state.prompts:
            self._marked, self.ghost = None, ()
        if case.image is None or case.image not in self._viewer.layers:
            return
        draw.begin(self._viewer, case)
        try:
            draw.draw_patches(self._viewer, case, outcome.patches)
        except ValueError as error:  # somebody else changed the layer
            _log.warning("labels layer could not be drawn", exc_info=error)
            self.told.emit("The labels layer was changed; remove it and click again.", True)
        self._listen(case)
        draw.dress(case)
        self.draw_prompts()
        self.changed.emit()

    def draw_prompts(self) -> None:
        """Show the prompts as they look on the present slice."""
        case = self.case
        if case is None or case.image is None:
            return
        prompts, sketch = list(case.state.prompts), self._sketch
        if self._instead is not None and sketch is not None and self._instead < len(prompts):
            prompts[self._instead], sketch = sketch, None
        waiting = [job.prompt for job in self.waiting if job.prompt is not None]
        every = [*prompts, *waiting]
        marks.draw(self._viewer, case, every, len(waiting), self._marked, sketch, self.ghost)

    def _fail(self, case: Case, error: Exception) -> None:
        """Say what went wrong; the session is as it was."""
        self.draw_prompts()
        if isinstance(error, Cancelled):
            pass
        elif isinstance(error, SightlineError):
            self.told.emit(str(error), True)
        elif isinstance(error, MemoryError):
            self.told.emit("The memory is full; close other programs, or crop the scan.", True)
        else:
            _log.error("a job failed", exc_info=error)
            what = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            self.told.emit(f"That failed ({what}); the object is as it was: try again.", True)
        self.changed.emit()

    # ---- the viewer's own changes

    def check_layers(self) -> None:
        """Notice which of our layers left the viewer."""
        case, layers = self.case, self._viewer.layers
        if case is None:
            return
        if case.image is None or case.image not in layers:
            self._leave()
            # Not now: napari is still at removing layers.
            QTimer.singleShot(0, partial(_sweep, self._viewer, case))
            self.changed.emit()
            return
        for layer in (case.points, case.lines):
            if layer is not None and layer not in layers:
                case.lose(layer)
        if case.labels is not None and case.labels not in layers:
            case.lose(case.labels)
            self._listen(case)
            if any(row.ml for row in case.state.rows):
                sentence = "The labels layer was removed; your next click brings it back."
                self.told.emit(sentence, False)

    def _listen(self, case: Case) -> None:
        """Hear of what napari's own tools draw into the labels layer."""
        labels = case.labels
        if labels is self._heard:
            return
        if self._heard is not None:
            self._heard.events.paint.disconnect(self._on_paint)
        self._heard = labels
        if labels is not None:
            labels.events.paint.connect(self._on_paint)

    def _on_paint(self, event: Any) -> None:
        case = self.case
        if case is None or case.labels is None or case.volume is None:
            return
        stroke = draw.stroke_of(case.labels, event.value, case.volume)
        if stroke is not None:
            self.ask(partial(case.adopt, stroke))

    def _on_moved(self) -> None:
        if self.case is not None:
            draw.follow_image(self.case)

    def close(self) -> None:
        """Stop; labels stay in the viewer, clicks leave it."""
        case = self.case
        self._leave()
        self.worker.stop()
        if case is not None:
            _sweep(self._viewer, case)


def _sweep(viewer: Viewer, case: Case) -> None:
    """Leave labels only, and only where there are some."""
    draw.remove_unused(viewer, case)
    draw.remove_clicks(viewer, case)
