"""What else a first prompt may mean: three pictures, and a key that goes through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_sightline.viewer.bridge import bare, slice_at
from napari_sightline.viewer.candidates import pictures
from napari_sightline.viewer.marks import object_colour
from napari_sightline.viewer.state import Picture
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.tools_view import ToolsView


#: Seconds that painting the mask takes, at most.
_FIRST = 0.06


class Offer(QObject):
    """Joins the row of candidates to the controller."""

    def __init__(self, viewer: Viewer, view: ToolsView, controller: Controller) -> None:
        super().__init__(controller)
        self._viewer, self._view, self._control = bare(viewer), view, controller
        self._of: tuple[Any, ...] = ()  # the prompts that the pictures answer
        self.pictures: tuple[Picture, ...] = ()
        controller.changed.connect(self.follow)
        view.candidate_chosen.connect(self.choose)

    def choose(self, index: int) -> None:
        """Take a candidate; below zero, the model's own answer."""
        self._control.choose_candidate(index if index >= 0 else None)

    def next(self) -> None:
        """Take the next candidate; after the last, the model's own answer."""
        case = self._control.case
        if case is None or not self.pictures:
            return
        chosen = case.state.chosen
        following = 0 if chosen is None else chosen + 1
        self._control.choose_candidate(following if following < len(self.pictures) else None)

    def follow(self) -> None:
        """Show what is offered now; pictures are made on the worker, once for a prompt."""
        case = self._control.case
        state = case.state if case is not None else None
        if case is None or state is None or not state.offered or self._control.waiting:
            self._of, self.pictures = (), ()
            self._view.show_candidates((), None)
            return
        prompts = (id(case), *state.prompts)
        if self._of != prompts:
            self._of, self.pictures = prompts, ()
            self._ask(prompts)
        self._view.show_candidates(self.pictures, state.chosen)

    def _ask(self, prompts: tuple[Any, ...]) -> None:
        case, dims = self._control.case, self._viewer.dims
        if case is None or case.image is None:
            return
        axis = 0
        if dims.ndisplay == 2:
            axis, _ = slice_at(case.image, dims.point, dims.order, dims.units)
        low, high = (float(v) for v in case.image.contrast_limits) if not case.image.rgb else (0, 1)
        colour, session = object_colour(case), case.session

        def make(job: Job[tuple[Picture, ...]]) -> tuple[Picture, ...]:
            # The mask is painted first; a further prompt makes pictures pointless.
            if job.pause(_FIRST):
                return ()
            return pictures(session, axis, (low, high), colour)

        def show(made: tuple[Picture, ...]) -> None:
            if self._of == prompts and made:
                self.pictures = made
                self._control.changed.emit()

        self._control.worker.submit(Job(make, show, kind="pictures"))
