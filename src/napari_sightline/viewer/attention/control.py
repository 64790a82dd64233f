"""What the attention panel does: turns the cursor into queries, and answers into layers.

Knows the viewer, not the widgets. All methods belong on the main thread. One query is computed at a
time; while it is, only the newest wish is kept, so that the map follows the cursor as quickly as
the machine can and never lags behind. An answer that no longer fits what is asked for (another
image, mode or source, an image that is gone) is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput, Cancelled, SightlineError
from napari_sightline.viewer.attention.layering import Layers
from napari_sightline.viewer.attention.passes import Passes
from napari_sightline.viewer.attention.runs import run_prompt, run_window
from napari_sightline.viewer.attention.sources import new_tap
from napari_sightline.viewer.attention.state import AGAIN, STILL, Position, Settings, Shown
from napari_sightline.viewer.attention.thumbnails import Look as Slice
from napari_sightline.viewer.attention.thumbnails import Pictures
from napari_sightline.viewer.attention.work import Asker
from napari_sightline.viewer.bridge import bare, frame, slice_at, source, voxel_at
from napari_sightline.viewer.case import Case
from napari_sightline.viewer.worker import Job, Worker

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_sightline.attention.calls import Pass
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.interactive import MaskUpdate
    from napari_sightline.viewer.attention.judge import Look

_log = logging.getLogger(__name__)
#: Milliseconds from a wish to its query: moves of the mouse that arrive together count as one.
DEBOUNCE = 5
#: Milliseconds between two sets of the heads' pictures: to draw one costs as much as half a map.
_PICTURES = 200
#: Milliseconds between two looks at what the prompt panel did.
_WATCH = 150
#: The embedded model's name in the list of models.
EMBEDDED = "sightline-3d"


class AttentionControl(QObject):
    """State of the panel, without its widgets.

    Signals
    -------
    changed
        Something that the panel shows has changed.
    stepped
        The prompt panel's session went a step on: its mask may be another.
    answered(Shown, Pictures or None)
        A map was drawn.
    told(str, bool)
        A sentence for the panel, and whether it is a fault; empty when all is well.
    """

    changed = Signal()
    stepped = Signal()
    answered = Signal(object, object)
    told = Signal(str, bool)
    _heard = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = bare(viewer)
        self.worker, self.heavy = Worker(self), Worker(self)
        self.heavy.changed.connect(self.changed)
        self.settings = Settings()
        self.image: Any = None
        self.frame: tuple[int, ...] = ()
        self.layers: Layers | None = None
        self.pinned: Position | None = None
        self.cursor: Position | None = None
        self.shown: Shown | None = None
        self.segmenters: dict[str, Segmenter] = {}
        self.model = EMBEDDED
        self._embedded: Any = None
        self.passes: Passes | None = None
        self._asker: Asker | None = None
        self._context = 0
        self._wish = False
        self._debounce = self._timer(DEBOUNCE, self._submit)
        self._pace = self._timer(_PICTURES, self._catch_up)
        self._owed = False  # a map was drawn without its heads' pictures
        self._watch = self._timer(_WATCH, self._look)
        self._watch.setSingleShot(False)
        self._heard.connect(self._look)

    def _timer(self, milliseconds: int, call: Callable[[], object]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(call)
        return timer

    # ---- which image

    def choose(self, image: Image | None) -> None:
        """Show attention on an image layer from now on; None for none."""
        image = None if image is None else bare(image)
        dims = self._viewer.dims
        key = () if image is None else frame(image, dims.point, dims.units)
        if image is self.image and key == self.frame:
            return
        self.leave()
        self.image, self.frame = image, key
        if image is None:
            self.changed.emit()
            return
        self.layers = Layers(self._viewer, image, key)
        self.passes = Passes(image, key, self._heard.emit)
        try:
            self._asker = Asker(source(image, dims.point, dims.units))
        except BadInput as error:
            self._fault(error)
        self._watch.start()
        self._look()
        self.changed.emit()

    def leave(self) -> None:
        """Let go of the image: nothing is recorded any more, maps that follow the cursor go."""
        self._context += 1
        self._watch.stop()
        self._debounce.stop()
        for worker in (self.worker, self.heavy):
            for job in worker.jobs:
                job.forget()
        if self.passes is not None:
            self.passes.close()
        if self.layers is not None:
            self.layers.leave()
        if self._asker is not None:
            self.worker.submit(Job(self._asker.close, lasting=True))
        self.passes = self.layers = self._asker = None
        self.image, self.frame = None, ()
        self.pinned = self.cursor = self.shown = None
        self._owed = False

    def close(self) -> None:
        """Stop all work; maps that were kept stay in the viewer."""
        self.leave()
        self.worker.stop()
        self.heavy.stop()

    @property
    def case(self) -> Case | None:
        """What the prompt panel knows of the image."""
        return None if self.passes is None else self.passes.case

    def follow_frame(self) -> None:
        """Go to the frame of a series that the viewer shows."""
        if self.image is not None:
            self.choose(self.image)

    def _look(self) -> None:
        """Notice what the prompt panel did since."""
        if self.passes is not None and self.passes.look():
            self.changed.emit()
            if self.settings.source == "click":
                self.ask()
                self.stepped.emit()

    # ---- what the user sets

    def set(self, **changes: Any) -> None:
        """Change settings (see `Settings`) and draw anew."""
        before, self.settings = self.settings, replace(self.settings, **changes)
        if before == self.settings:
            return
        self._pace.stop()  # what was changed is seen at once
        asked = {"source", "mode", "direction"} & set(changes)
        if asked:
            self._context += 1
            self.blank()
        if self.settings.mode in STILL and self.pinned is None:
            self.pinned = self.cursor
        if self.layers is not None:
            self.layers.dress(self.settings)
        self.changed.emit()
        if "source" in changes:
            self.stepped.emit()
        self.ask()

    def toggle(self) -> None:
        """Hide all attention layers, or show those that were visible before."""
        if self.layers is not None:
            self.layers.toggle()
            self.changed.emit()
            self.ask()

    def point_at(self, position: Sequence[float], displayed: Sequence[int] | None) -> None:
        """Take the place of the cursor, in the viewer's world."""
        if self.image is None or self._viewer.dims.ndisplay != 2:
            return
        place = voxel_at(self.image, position, self._viewer.dims.units, displayed)
        a, b, c = (float(v) for v in np.rint(place))
        moved, self.cursor = (a, b, c) != self.cursor, (a, b, c)
        if moved and self.settings.mode == "cursor":
            self.ask()

    def pin(self) -> None:
        """Ask for the voxel under the cursor from now on, wherever the cursor goes."""
        if self.cursor is None:
            self.told.emit("Move the cursor over the scan, then pin its voxel.", True)
            return
        self.pinned = self.cursor
        if self.settings.mode in ("cursor", "prompt"):
            self.set(mode="pinned")
        else:
            self.ask()
            self.changed.emit()

    @property
    def position(self) -> Position | None:
        """Voxel that is asked for."""
        return self.cursor if self.settings.mode == "cursor" else self.pinned

    # ---- which pass

    def recorded(self) -> Pass:
        """Pass that answers; see `Passes.recorded`."""
        if self.passes is None:
            raise BadInput("There is no scan; open one first.")
        return self.passes.recorded(self.settings, self.position)

    def blocks(self) -> tuple[list[tuple[str, str]], int]:
        """Blocks that fit, as module and name for people, and which one is chosen; -1 for none."""
        try:
            one = self.recorded()
            from napari_sightline.viewer.attention.asking import block_number, blocks_for

            numbers = blocks_for(one, self.settings)
            chosen = block_number(one, self.settings)
        except SightlineError:
            return [], -1
        listed = [(one.calls[n].module, one.calls[n].label) for n in numbers]
        return listed, numbers.index(chosen)

    def prompts(self) -> tuple[str, ...]:
        """Prompt tokens of the pass."""
        try:
            return _prompts(self.recorded())
        except SightlineError:
            return ()

    # ---- asking

    def ask(self) -> None:
        """Ask for the present voxel or prompt, soon."""
        self._wish = True
        if not self._debounce.isActive():
            self._debounce.start()

    @property
    def busy(self) -> bool:
        """Whether anything is being computed or waits."""
        return bool(self.worker.jobs or self.heavy.jobs or self._debounce.isActive() or self._owed)

    def _submit(self) -> bool:
        """Compute what is wished for; False where there is no answer, which is said."""
        if not self._wish or self.image is None or self._asker is None:
            return True
        if any(job.kind == "ask" for job in self.worker.jobs):
            return True  # asked again when that one is done
        self._wish = False
        settings, position = self.settings, self.position
        worker, look = self.worker, None
        try:
            one = self.recorded()
            if settings.mode in AGAIN:
                # Runs the model, with gradients: never before the queries.
                worker, look = self.heavy, self.look()
                for job in worker.jobs:
                    if job.kind == "relevance":
                        job.forget()
            if settings.mode == "prompt":
                names = _prompts(one)
                if names and settings.prompt not in names:
                    self.settings = settings = replace(settings, prompt=names[-1])
                    self.changed.emit()
        except SightlineError as error:
            self._fault(error)
            return False
        kind = "ask" if look is None else "relevance"
        view = None if self._pace.isActive() else self._view()
        if view is not None:
            self._pace.start()
        job = Job(partial(self._asker.ask, one, settings, position, view, look), kind=kind)
        job.done = partial(self._draw, self._context)
        job.failed = partial(self._failed, self._context)
        worker.submit(job)
        return True

    def _view(self) -> tuple[Slice, Any]:
        """Take what the thumbnails need from the viewer."""
        dims, image = self._viewer.dims, self.image
        axis, index = slice_at(image, dims.point, dims.order, dims.units)
        rows, columns = (a - (dims.ndim - 3) for a in dims.order[-2:])
        if image.ndim < 3 or min(rows, columns) < 0:
            axis, rows, columns = 0, 1, 2
        low, high = (float(v) for v in image.contrast_limits)
        up = str(self._viewer.scene.camera.orientation2d[0]) == "up"
        look = Slice(axis, index, rows, columns, up, (low, high), self.settings.opacity)
        return look, self.settings.colormap

    def _draw(self, context: int, result: tuple[Shown, Pictures | None]) -> None:
        if not self._go_on():
            return
        if context != self._context or self.layers is None or self.image is None:
            return
        if self.image not in self._viewer.layers:
            return
        shown, pictures = result
        self.shown, self._owed = shown, pictures is None and shown.heads is not None
        if self._owed and not self._pace.isActive():
            self.ask()
        self.layers.draw(shown, self.settings)
        if self.settings.lines and shown.layer is not None and shown.position is not None:
            from napari_sightline.viewer.attention.asking import strongest

            ends, _ = strongest(shown.layer, self.settings.lines)
            self.layers.join(shown.position, np.asarray(ends, np.float32))
        else:
            self.layers.unjoin()
        self.told.emit("", False)
        self.answered.emit(shown, pictures)

    def _go_on(self) -> bool:
        """Ask what was wished for meanwhile: it is computed while the window is drawn.

        False where that has no answer: what was computed before is no longer asked for either.
        """
        if not self._wish:
            return True
        self._debounce.stop()
        return self._submit()

    def _catch_up(self) -> None:
        """Ask once more for a map whose heads have no pictures yet."""
        if self._owed:
            self.ask()

    def _failed(self, context: int, error: Exception) -> None:
        if self._go_on() and context == self._context:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        """Show a sentence instead of a map."""
        self.blank()
        if isinstance(error, Cancelled):
            return
        if isinstance(error, SightlineError):
            self.told.emit(str(error), True)
            return
        _log.error("a query failed", exc_info=error)
        what = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        self.told.emit(f"That failed ({what}); choose another block or run the model again.", True)

    def blank(self) -> None:
        """Leave no map on the screen that is out of date; those that were kept stay."""
        self.shown, self._owed = None, False
        if self.layers is not None:
            self.layers.blank()
        self.answered.emit(None, None)

    def look(self) -> Look:
        """All that is needed to run the source's model again; see `Passes.again`."""
        if self.passes is None:
            raise BadInput("There is no scan; open one first.")
        models = self.segmenters.values()
        return self.passes.again(self.settings, self.position, models, self._embedded)

    # ---- runs of its own

    def run(self) -> None:
        """Run the chosen model at the cursor; the user's objects are not touched."""
        position = self.cursor if self.cursor is not None else self.pinned
        if self.image is None or self._asker is None:
            self.told.emit("There is no scan to run on; open one first.", True)
            return
        if position is None:
            self.told.emit("Move the cursor to the place of interest, then press G.", True)
            return
        for job in self.heavy.jobs:
            job.cancel()
        known = None if self.passes is None else self.passes.own
        asker, segmenter = self._asker, self.segmenters.get(self.model)
        model = self._model()

        def work(job: Job[Any]) -> Any:
            tap, volume = known or new_tap(), asker.volume()
            if segmenter is not None:
                run_window(volume, segmenter, position, tap, job)
                return tap, None
            return tap, run_prompt(volume, model, position, tap, job)

        job = Job(work, partial(self._ran, self.image, position), kind="run")
        job.failed = partial(self._failed_run, self.image)
        self.heavy.submit(job)

    def _model(self) -> Any:
        """Promptable model that is loaded already, else its name."""
        case = self.case
        if self._embedded is None and case is not None:
            self._embedded = case.session.model
        return self._embedded or EMBEDDED

    def _ran(self, image: Any, position: Position, result: Any) -> None:
        tap, found = result
        if found is not None:
            self._embedded = found[0]
        if self.passes is None or self.image is not image:
            return
        self.passes.keep(tap, None if found is None else found[1])
        self.pinned = position
        before = self.settings
        self.set(source="own")
        if before.source == "own":
            self.ask()
            self.changed.emit()

    def _failed_run(self, image: Any, error: Exception) -> None:
        if self.image is not None and self.image is image:
            self._fault(error)

    def update(self) -> MaskUpdate:
        """Mask that the source's model gave; see `Passes.update`."""
        if self.passes is None:
            raise BadInput("There is no scan; open one first.")
        return self.passes.update(self.settings)


def _prompts(one: Pass) -> tuple[str, ...]:
    from napari_sightline.attention.maps import prompts_of

    return prompts_of(one)
