"""What can be asked of the panel: prompts, steps of the session, files.

Order of things: prompts, undo, accept and the rest are done in the order in which they were asked
for; none is lost. *Undo* takes back the last prompt even if it is still being computed or waits;
such a prompt is simply dropped (redo does not know it). *Reset* and *cancel* drop every prompt that
waits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput
from napari_sightline.io import save
from napari_sightline.prompts import Point, Prompt
from napari_sightline.segment.interactive import Glimpse, MaskUpdate, Session
from napari_sightline.segment.state import SegmentObject
from napari_sightline.viewer import layers as draw
from napari_sightline.viewer import marks
from napari_sightline.viewer.bridge import bare, voxel_at
from napari_sightline.viewer.case import Act, Case
from napari_sightline.viewer.passing import Passing
from napari_sightline.viewer.state import Outcome
from napari_sightline.viewer.worker import Job, Worker
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Kinds of jobs that only look ahead, and of those that change objects.
_AHEAD = ("prepare", "preview", "pictures")
#: What stays asked for when another image is chosen: it was done by hand, or is one moment's work.
STAYS = ("step", "undo", "redo", "accept", "save")
STEPS = ("click", "loan", *STAYS[:-1])


class Requests(QObject):
    """What a reader may ask for; `Controller` carries it out.

    Signals
    -------
    changed
        Something that the panel shows has changed.
    computed(Outcome)
        A step of the session was computed and drawn.
    glimpsed(Glimpse)
        A first answer was drawn, while the model looks again, wider or closer.
    told(str, bool)
        A sentence for the user, and whether it is an error.
    saved(Path)
        A file was written.
    """

    changed = Signal()
    computed = Signal(object)
    glimpsed = Signal(object)
    told = Signal(str, bool)
    saved = Signal(object)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self.worker = Worker(self)
        self.case: Case | None = None
        self.model = "sightline-3d"
        self.device = "auto"
        self._marked: int | None = None
        self._sketch: Prompt | None = None
        self._instead: int | None = None
        self.ghost: tuple[marks.Line, ...] = ()  # outline of a preview
        self.passing = Passing(self._viewer)
        self.journals = True  # whether sessions are kept against a crash
        self.precision = "auto"
        # In a turn of its own: letting a button go may share one with a painting.
        self._drawing = QTimer(self)
        self._drawing.setSingleShot(True)
        self._drawing.timeout.connect(self.draw_prompts)

    @abstractmethod
    def _case_of(self, image: Any) -> Case:
        """Case of the image's shown frame, which is entered."""

    @abstractmethod
    def _submit(
        self,
        kind: str,
        case: Case,
        work: Callable[[Job[Outcome]], Outcome],
        settled: bool = False,
    ) -> Job[Outcome]:
        """Queue work on a session; see `Job` for `settled`."""

    @abstractmethod
    def _on_glimpse(self, case: Case, glimpse: Glimpse) -> None:
        """Show a first answer while the model looks again."""

    @abstractmethod
    def _failing(self, case: Case) -> Callable[[Exception], None]:
        """Who hears that a job failed."""

    # ---- what is going on

    @property
    def waiting(self) -> list[Job[Outcome]]:
        """Clicks that are computed or wait."""
        jobs = self.worker.jobs
        return [job for job in jobs if job.kind == "click" and not job.cancelled()]

    @property
    def preparing(self) -> bool:
        """Whether the image or the model is being made ready."""
        kinds = {job.kind for job in self.worker.jobs}
        ready = self.case is not None and self.case.session.model is not None
        return bool(kinds & {"open", "model"}) or ("prepare" in kinds and not ready)

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
        """Give a prompt in voxels of the volume; it is drawn in the next turn of Qt's loop."""
        if self.case is not None and self.case.image is not None:
            self._give(self._case_of(self.case.image), prompt)

    def _give(self, case: Case, prompt: Prompt) -> None:
        if case.fault:
            self.told.emit(case.fault, True)
            return
        if case.image is not None and not case.image.visible:
            said = f"{case.image.name} is hidden; show it in the layer list to prompt on it."
            self.told.emit(said, True)
            return
        for job in self.worker.jobs:
            if job.kind in _AHEAD:  # the prompt knows better where to look
                job.cancel()

        def add(session: Session, job: Job[Outcome]) -> MaskUpdate:
            return session.add(prompt, job.progress, job.cancelled, job.tell)

        job = self._submit("click", case, partial(case.do, add))
        job.prompt, job.partly = prompt, partial(self._on_glimpse, case)
        draw.to_front(self._viewer, case)
        self._drawing.start()
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
        steps = [j for j in self.worker.jobs if j.kind in STEPS and not j.cancelled()]
        # A click that is done and not drawn yet is undone as one that is drawn: before later ones.
        if steps and steps[-1].kind == "click" and not steps[-1].computed:
            steps[-1].cancel()
            if len(steps) == 1 and self.case is not None:
                self.passing.take_back(self.case)
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
        if self.case is not None:
            self.passing.take_back(self.case)
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

        # What was asked for before must be drawn: else it would look as if it were erased by hand.
        self._submit("step", case, case.gather, settled=True)
        done = partial(self._on_saved, case)
        self.worker.submit(Job(work, done, self._failing(case), "save", lasting=True))

    def _on_saved(self, case: Case, path: Path) -> None:
        case.unsaved = False
        self.saved.emit(path)
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
