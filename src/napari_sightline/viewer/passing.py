"""A first answer on the screen while the model looks again; taken back before the final one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_sightline.orientation import Array
from napari_sightline.segment.interactive import Glimpse
from napari_sightline.viewer import layers as draw
from napari_sightline.viewer.case import Case, voxels
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari.viewer import Viewer


class Passing:
    """Draws glimpses, and knows what they hid. Main thread only."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._hid: list[tuple[Any, Box3, Array, Array]] = []

    def __bool__(self) -> bool:
        return bool(self._hid)

    def show(self, case: Case, glimpse: Glimpse) -> bool:
        """Draw a glimpse; whether it could be drawn."""
        self.take_back(case)
        for box, values in glimpse.painted:
            shown = voxels(case.labels, case.volume)
            if shown is None or not np.can_cast(values.dtype, shown.dtype):
                return False
            self._hid.append((ref(case.labels), box, shown[box].copy(), values))
            draw.paint(self._viewer, case, box, values)
        return bool(glimpse.painted)

    def take_back(self, case: Case) -> None:
        """Bring back what a glimpse hid, but for voxels that somebody changed since."""
        hid, self._hid = self._hid, []
        for layer, box, before, values in hid:
            shown = voxels(case.labels, case.volume)
            if shown is not None and case.labels is layer():
                now = shown[box]
                draw.paint(self._viewer, case, box, np.where(now == values, before, now))
