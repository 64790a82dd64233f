"""What is computed before a click: the region in view or under the pointer, and a preview.

Neither is ever waited for: a prompt cancels both, and what comes too late is dropped.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_sightline.orientation import Array
from napari_sightline.prompts import Point, Position, Prompt
from napari_sightline.segment import scale
from napari_sightline.viewer.bridge import bare, slice_at, voxel_at
from napari_sightline.viewer.marks import Line
from napari_sightline.viewer.worker import Job
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sightline.segment.interactive import Session
    from napari_sightline.viewer.case import Case
    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.options_view import LookTab

#: Milliseconds for which the view, or the pointer, must rest.
_VIEW_RESTS, _POINTER_RESTS = 350, 120
_STRENGTH = 0.7


class Ahead(QObject):
    """Looks ahead while nothing else is to be done."""

    def __init__(self, viewer: Viewer, tab: LookTab, controller: Controller) -> None:
        super().__init__(controller)
        self._viewer, self._tab, self._control = bare(viewer), tab, controller
        self._view, self._pointer = QTimer(self), QTimer(self)
        for timer, rest, look in (
            (self._view, _VIEW_RESTS, self.prepare),
            (self._pointer, _POINTER_RESTS, self.rested),
        ):
            timer.setSingleShot(True)
            timer.setInterval(rest)
            timer.timeout.connect(look)
        self._done: tuple[Any, ...] = ()  # what was prepared last
        self._under: tuple[Any, ...] = ()  # and under the pointer
        self._move = _Move(self.moved)
        tab.hover_chosen.connect(self._clear)

    def wake(self) -> None:
        """Follow view and pointer."""
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        for event in (dims.point, dims.order, camera.center, camera.zoom):
            event.connect(self.seen)
        self._viewer.mouse_move_callbacks.append(self._move)
        self.seen()

    def sleep(self) -> None:
        """Follow them no longer."""
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        for event in (dims.point, dims.order, camera.center, camera.zoom):
            event.disconnect(self.seen)
        if self._move in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._move)
        self._view.stop()
        self._pointer.stop()

    def seen(self, _: Any = None) -> None:
        """Hear that the view changed: what lies under the pointer changed too."""
        self._view.start()
        self._pointer.start()
        self._clear()

    def moved(self) -> None:
        """Hear that the pointer moved."""
        self._pointer.start()

    def clicked(self) -> None:
        """Hear that a prompt was begun: a preview would be of what was before it."""
        self._pointer.stop()
        self._clear()

    def _clear(self, _: Any = None) -> None:
        if self._control.ghost:
            self._control.show_ghost(())

    # ---- what is in view

    def prepare(self) -> None:
        """Compute what the visible region needs, where a first click may follow."""
        control, case = self._control, self._control.case
        if case is None or case.volume is None or case.image is None or case.fault:
            return
        control.draw_prompts()  # lines are as thick as before at every zoom
        if case.state.prompts or self._viewer.dims.ndisplay != 2:
            return
        if case.session.model is None and not control.busy:
            return  # it could not be loaded, and that was said
        if control.busy:
            self._view.start()  # once that is done
            return
        box = self._visible()
        seen = (id(case), case.device, box)
        if box is not None and seen != self._done:
            self._done = seen
            control.prepare(box)

    def _visible(self) -> Box3 | None:
        """Part of the volume on the canvas: the shown slice, as far as the canvas shows it."""
        case, dims = self._control.case, self._viewer.dims
        if case is None or case.image is None or case.volume is None:
            return None
        axis, shown = slice_at(case.image, dims.point, dims.order, dims.units)
        corners = np.sort(np.asarray(case.image.corner_pixels, float), axis=0)
        low, high = (np.concatenate([np.zeros(3), c])[-3:] for c in corners)
        parts = []
        for k, n in enumerate(case.volume.shape):
            first, last = (shown, shown) if k == axis else (round(low[k]), round(high[k]))
            first, last = max(0, min(first, n - 1)), max(0, min(last, n - 1))
            parts.append(slice(first, last + 1))
        return parts[0], parts[1], parts[2]

    # ---- under the pointer

    def rested(self) -> None:
        """Compute what a first click there needs; show what it would give, if that is wanted."""
        control, case, viewer = self._control, self._control.case, self._viewer
        dims = viewer.dims
        if case is None or case.image is None or case.volume is None or case.fault:
            return
        if dims.ndisplay != 2 or case.session.model is None:
            return
        if control.waiting:
            return  # it was clicked: what comes of it is seen soon
        if control.busy:
            self._pointer.start()  # once that is done
            return
        place = voxel_at(case.image, viewer.cursor.position, dims.units, dims.displayed)
        if not case.volume.contains(place):
            self._clear()
            return
        if not case.state.prompts:
            self._prepare_at(case, place)
        if self._tab.hover.isChecked():
            self._preview(case, place)

    def _prepare_at(self, case: Case, place: Position) -> None:
        """Read the image round a place, once; neighbouring places share a region."""
        assert case.volume is not None
        under = (id(case), case.device, scale.start(case.volume, np.array(place)))
        if under != self._under:
            self._under = under
            a, b, c = (slice(round(v), round(v) + 1) for v in place)
            self._control.prepare((a, b, c))

    def _preview(self, case: Case, place: Position) -> None:
        """Show what a click at a place would give."""
        control, dims = self._control, self._viewer.dims
        assert case.image is not None
        axis, shown = slice_at(case.image, dims.point, dims.order, dims.units)

        def look(job: Job[tuple[Line, ...]]) -> tuple[Line, ...]:
            return _outline(case.session, place, axis, shown, job)

        job = Job(look, None, None, "preview")
        job.done = partial(self._show, job, case, case.state.prompts)
        control.worker.submit(job)

    def _show(
        self, job: Job[Any], case: Case, prompts: tuple[Prompt, ...], lines: tuple[Line, ...]
    ) -> None:
        # Of what was before a click, or of another image, nothing is shown.
        same = self._control.case is case and case.state.prompts == prompts
        if same and not job.cancelled() and self._tab.hover.isChecked():
            self._control.show_ghost(lines)


def _outline(
    session: Session, place: Position, axis: int, shown: int, job: Job[Any]
) -> tuple[Line, ...]:
    """Outline, on a slice, of the mask that a click would give; empty where that is not known."""
    from napari_sightline.errors import Cancelled

    try:
        found = session.preview(Point(place), job.cancelled)
    except Cancelled:
        return ()
    if found is None or not found.box[axis].start <= shown < found.box[axis].stop:
        return ()
    mask = np.take(found.mask, shown - found.box[axis].start, axis)
    corner = [s.start for k, s in enumerate(found.box) if k != axis]
    return tuple(_edges(mask, corner, axis, shown))


def _edges(mask: Array, corner: list[int], axis: int, shown: int) -> list[Line]:
    """Sides of the pixels along a mask's outline, joined where they go straight on."""
    from skimage.measure import find_contours

    lines = []
    for path in find_contours(np.pad(mask.astype(float), 1), 0.5):
        whole = np.insert(path - 1 + corner, axis, shown, axis=1)
        lines += [Line(a, b, _STRENGTH) for a, b in pairwise(whole)]
    return lines


class _Move:
    """Hears the pointer; napari keeps this, and it does not keep the panel."""

    def __init__(self, moved: Any) -> None:
        self._moved = WeakMethod(moved)

    def __call__(self, _: Any, event: Any) -> None:
        moved = self._moved()
        if moved is not None:
            moved()
