"""What the panel does: turns what a reader wants into jobs, and their outcome into layers.

Knows the viewer and the sessions, not the widgets. All methods belong on the main thread.

Results for an image that is gone, or a panel that was closed, are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_sightline.errors import BadInput, Cancelled, SightlineError
from napari_sightline.segment.interactive import Glimpse, Session
from napari_sightline.viewer import layers as draw
from napari_sightline.viewer.bridge import bare, frame, source
from napari_sightline.viewer.case import Act, Case, cases
from napari_sightline.viewer.requests import STAYS, Requests
from napari_sightline.viewer.state import Outcome
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_log = logging.getLogger(__name__)
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")
# Loaded models by name and device: images share them.
_models: dict[tuple[str, str], Any] = {}


class Controller(Requests):
    """State of the panel, without its widgets; see `Requests` for what can be asked of it."""

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(viewer, parent)
        self.worker.changed.connect(self.changed)
        self._heard: Any = None  # the labels layer whose brush is listened to
        self._loan: tuple[Callable[[], Any], ...] = ()  # what gives a layer back

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
        """Let go of the present image: what is computed for it is dropped.

        Steps such as a stroke of the brush stay, and clicks that were made before one.
        """
        case, self.case = self.case, None
        if case is not None:
            self.passing.take_back(case)
        self._give_back()
        self._marked, self._sketch, self.ghost = None, None, ()
        stays = False
        for job in reversed(self.worker.jobs):
            stays = stays or job.kind in STAYS
            if not stays or job.kind not in ("click", *STAYS):
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

    def borrow(self, layer: Any, step: Act, returned: Callable[[], None]) -> None:
        """Do a step whose objects a labels layer shows already: they are drawn there from now on.

        Parameters
        ----------
        layer : Labels
            On the grid of the present image, of which nothing is drawn yet.
        step : callable
            See `ask`.
        returned : callable
            Called where nothing came of the step, and the layer is nobody's again.
        """
        case = self.case
        if case is None:
            return
        layer = bare(layer)
        self._loan = partial(case.lose, layer), draw.look_of(layer), returned
        case.keep(labels=layer)
        job = self._submit("loan", case, partial(case.do, step))

        def done(outcome: Outcome) -> None:
            self._loan = ()
            self._on_done(case, job, outcome)

        def failed(error: Exception) -> None:
            self._give_back()
            self._fail(case, error)

        job.done, job.failed = done, failed
        self.changed.emit()

    def _give_back(self) -> None:
        loan, self._loan = self._loan, ()
        for act in loan:
            act()

    # ---- outcome

    def _submit(
        self,
        kind: str,
        case: Case,
        work: Callable[[Job[Outcome]], Outcome],
        settled: bool = False,
    ) -> Job[Outcome]:
        job: Job[Outcome] = Job(work, kind=kind, settled=settled)
        job.failed = self._failing(case)
        job.done = partial(self._on_done, case, job)
        self.worker.submit(job)
        return job

    def _on_glimpse(self, case: Case, glimpse: Glimpse) -> None:
        if case is not self.case or case.image not in self._viewer.layers:
            return
        draw.begin(self._viewer, case)
        if self.passing.show(case, glimpse):
            self.glimpsed.emit(glimpse)
            self.changed.emit()

    def _failing(self, case: Case) -> Callable[[Exception], None]:
        return partial(self._fail, case)

    def _on_done(self, case: Case, job: Job[Outcome], outcome: Outcome) -> None:
        late = job.kind == "click" and job.cancelled()
        self._draw(case, outcome)
        here = case is self.case
        if outcome.note and here:
            self.told.emit(outcome.note, False)
        if late:  # undone after it had been computed, before it was drawn
            self._submit("undo", case, partial(case.do, lambda session, _: session.undo()))
        elif outcome.update is not None:
            case.unsaved = True
            if here:
                self.computed.emit(outcome)

    def _draw(self, case: Case, outcome: Outcome) -> None:
        """Put an outcome on the screen."""
        self.passing.take_back(case)
        if case.session.model is not None:
            _models[self.model, case.device] = case.session.model
        before, case.state = case.state, outcome.state
        if case is self.case and before.prompts != case.state.prompts:
            self._marked, self.ghost = None, ()
        if case.image is None or case.image not in self._viewer.layers:
            return
        here = case is self.case  # else its labels alone are seen
        if here:
            draw.begin(self._viewer, case)
        try:
            draw.draw_patches(self._viewer, case, outcome.patches)
        except ValueError as error:  # somebody else changed the layer
            _log.warning("labels layer could not be drawn", exc_info=error)
            self.told.emit("The labels layer was changed; remove it and click again.", True)
        draw.dress(case)
        if here:
            self._listen(case)
            self.draw_prompts()
        self.changed.emit()

    def _fail(self, case: Case, error: Exception) -> None:
        """Say what went wrong; the session is as it was."""
        self.passing.take_back(case)
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
        """Stop; labels stay in the viewer, clicks leave it.

        Steps that were asked for, such as a stroke of the brush, are still done.
        """
        case = self.case
        self._leave()
        for job in self.worker.jobs:
            job.lasting |= job.kind in ("click", *STAYS) and not job.cancelled()
        self.worker.stop()
        if case is not None:
            _sweep(self._viewer, case)


def _sweep(viewer: Viewer, case: Case) -> None:
    """Leave labels only, and only where there are some."""
    draw.remove_unused(viewer, case)
    draw.remove_clicks(viewer, case)
