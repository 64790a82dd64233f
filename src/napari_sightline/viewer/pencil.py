"""What gestures mean: which prompt a reader gives, moves or marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.prompts import Box, Lasso, Point, Position, Prompt, Scribble
from napari_sightline.viewer import hits
from napari_sightline.viewer.bridge import bare, slice_at, voxel_at
from napari_sightline.viewer.gestures import Gesture

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sightline.viewer.case import Case
    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.view import PromptView

#: How near to a prompt the pointer must be to take it, pixels.
REACH = 7.0
#: Radius of a stroke on the screen, pixels.
_STROKE = 4.0


class Pencil(QObject):
    """Turns gestures into prompts.

    Signals
    -------
    refused(str)
        Why a gesture gave no prompt.
    began
        A gesture was taken: earlier alarms are over.
    """

    refused = Signal(str)
    began = Signal()

    def __init__(self, viewer: Viewer, view: PromptView, controller: Controller) -> None:
        super().__init__(controller)
        self._viewer, self._view, self._control = bare(viewer), view, controller
        self._grabbed: int | None = None
        self.busy_tool = ""  # the tool of napari that has the mouse

    # ---- gestures

    def press(self, gesture: Gesture) -> bool:
        """See `gestures.Listener`."""
        self._grabbed = None
        case = self._control.case
        if case is None or self.busy_tool or self._viewer.dims.ndisplay != 2:
            return False
        if self._view.tools.tool != "point":
            return True
        self._grabbed = self._under(case, gesture)
        return self._grabbed is not None

    def drag(self, gesture: Gesture) -> None:
        """See `gestures.Listener`."""
        case = self._control.case
        if case is None or case.volume is None:
            return
        try:
            self._control.sketch(self._meant(case, gesture), self._grabbed)
        except BadInput:  # too short to enclose anything yet
            self._control.sketch(None, self._grabbed)

    def release(self, gesture: Gesture) -> None:
        """See `gestures.Listener`."""
        control, case, grabbed = self._control, self._control.case, self._grabbed
        control.sketch(None)
        if case is None or case.volume is None:
            return
        self.began.emit()
        try:
            prompt = self._meant(case, gesture)
            if prompt is None:
                return
            if grabbed is not None:
                control.replace(grabbed, prompt)
                return
            index = self._box_to_extend(case) if gesture.extending else None
            if index is not None and isinstance(prompt, Box):
                control.replace(index, _joined(case.state.prompts[index], prompt))
            else:
                control.prompt(prompt)
        except SightlineError as error:
            self.refused.emit(str(error))

    def click(self, gesture: Gesture) -> None:
        """See `gestures.Listener`."""
        control, case = self._control, self._control.case
        if case is None or self.busy_tool:
            return
        self.began.emit()
        negative = gesture.negative or gesture.extending
        positive = self._view.positive.isChecked() and not negative
        try:
            if self._viewer.dims.ndisplay != 2:
                self._click_in_3d(case, gesture, positive)
                return
            if self._grabbed is not None:
                control.mark(self._grabbed)
                return
            control.mark(None)
            control.click(gesture.position, gesture.displayed, positive)
        except SightlineError as error:
            self.refused.emit(str(error))

    # ---- what they mean

    def _voxel(self, case: Case, gesture: Gesture, position: tuple[float, ...]) -> Position:
        assert case.image is not None and case.volume is not None
        units = self._viewer.dims.units
        place = voxel_at(case.image, position, units, gesture.displayed)
        return hits.within(place, case.volume.shape)

    def _meant(self, case: Case, gesture: Gesture) -> Prompt | None:
        """Prompt that a drag gives so far."""
        assert case.volume is not None
        if self._grabbed is not None:
            old = case.state.prompts
            if self._grabbed >= len(old):
                return None
            start = np.array(self._voxel(case, gesture, gesture.begun))
            end = np.array(self._voxel(case, gesture, gesture.position))
            return hits.moved(old[self._grabbed], end - start, case.volume.shape)
        places = [self._voxel(case, gesture, position) for position in gesture.trail]
        positive = self._view.positive.isChecked() and not gesture.negative
        tool = self._view.tools.tool
        if tool == "box":
            return Box(places[0], places[-1])
        if tool == "lasso":
            return Lasso(tuple(places), positive)
        radius = float(np.clip(_STROKE / max(self._pixels(case)), 0.5, 8.0))
        return Scribble(tuple(places), positive, radius)

    def _box_to_extend(self, case: Case) -> int | None:
        boxes = [k for k, p in enumerate(case.state.prompts) if isinstance(p, Box)]
        return boxes[-1] if boxes else None

    def _pixels(self, case: Case) -> list[float]:
        """Pixels on the screen per voxel, along each axis of the volume."""
        image = case.image
        scale = [1.0] * 3 if image is None else [1.0, *np.abs(image.scale)][-3:]
        return [float(self._viewer.scene.camera.zoom * s) for s in scale]

    def _under(self, case: Case, gesture: Gesture) -> int | None:
        image, dims = case.image, self._viewer.dims
        if image is None or case.volume is None or not case.state.prompts:
            return None
        axis, _ = slice_at(image, dims.point, dims.order, dims.units)
        place = self._voxel(case, gesture, gesture.position)
        return hits.prompt_at(case.state.prompts, place, axis, self._pixels(case), REACH)

    def _click_in_3d(self, case: Case, gesture: Gesture, positive: bool) -> None:
        image, volume = case.image, case.volume
        if image is None or volume is None or gesture.ray is None:
            return
        start, end = image.get_ray_intersections(
            list(gesture.position), np.asarray(gesture.ray), list(gesture.displayed)
        )
        place = None
        if start is not None and end is not None:
            labels = voxels_of(case)
            threshold = float(np.mean(image.contrast_limits))
            place = hits.on_ray(
                start[-3:], end[-3:], volume.data, threshold, labels, case.state.current
            )
        if place is None:
            raise BadInput("The ray met nothing bright there; click on what you see.")
        self._control.prompt(Point(place, positive))


def voxels_of(case: Case) -> Any:
    """Label image of a case on three axes; None without a layer."""
    from napari_sightline.viewer.case import voxels

    return voxels(case.labels, case.volume)


def _joined(first: Prompt, second: Box) -> Box:
    """Box in 3D from two boxes, such as those on the first and the last slice."""
    low, high = first.bounds
    a, b, c = (min(x, y) for x, y in zip(low, second.low, strict=True))
    d, e, f = (max(x, y) for x, y in zip(high, second.high, strict=True))
    return Box((a, b, c), (d, e, f))
