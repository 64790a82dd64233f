"""Runs of the panel's own, at one place: the user's objects are not touched. On the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.attention.frame import Frame
from napari_sightline.errors import BadInput
from napari_sightline.prompts import Point
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.viewer.attention.state import Position
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.attention.tap import Tap
    from napari_sightline.models.promptable import Promptable
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.viewer.worker import Job


def run_prompt(
    volume: Volume, model: str | Promptable, position: Position, tap: Tap, job: Job[Any]
) -> tuple[Promptable, MaskUpdate]:
    """Click once, positively, in a session that is thrown away; recorded by `tap`.

    Returns
    -------
    tuple
        The model, which may serve again, and the mask.

    Raises
    ------
    BadInput, ModelError, Cancelled
        See `Session.add`.
    """
    session = Session(model, tap=tap)
    session.set_volume(volume)
    update = session.add(Point(position), job.progress, job.cancelled)
    assert session.model is not None
    return session.model, update


def run_window(
    volume: Volume, model: Segmenter, position: Position, tap: Tap, job: Job[Any]
) -> None:
    """Pass the window round a place through an automatic model; recorded by `tap`.

    Raises
    ------
    BadInput, ModelError, Cancelled
        See `napari_sightline.segment.automatic.segment`.
    """
    from napari_sightline.segment.automatic import segment
    from napari_sightline.segment.frame import Frame as Order
    from napari_sightline.segment.frame import working_spacing

    if not volume.contains(position):
        raise BadInput("The place lies outside the scan; move the cursor over the scan.")
    spec = model.spec
    order = Order.of(spec.orientation)
    wished = working_spacing(volume.spacing, spec)
    low, size = np.zeros(3, int), np.array(volume.shape)
    for axis, roi in zip(order.axes, spec.roi, strict=True):
        voxels = max(1, int(roi * wished[axis] / volume.spacing[axis]))
        start = round(position[axis]) - voxels // 2
        start = int(np.clip(start, 0, max(0, volume.shape[axis] - voxels)))
        low[axis], size[axis] = start, min(voxels, volume.shape[axis] - start)
    a, b, c = (slice(int(i), int(i + n)) for i, n in zip(low, size, strict=True))
    shifted: Any = _Shifted(tap, low)
    segment(
        volume.crop((a, b, c)),
        model,
        overlap=0.0,
        tap=shifted,
        progress=job.progress,
        cancel=job.cancelled,
    )


class _Shifted:
    """Tap for a part of a volume: places what it hears in the whole one."""

    def __init__(self, tap: Tap, corner: np.ndarray) -> None:
        self._tap, self._corner = tap, corner

    def window(self, network: Any, frames: Any, model: str = "") -> AbstractContextManager[None]:
        """See `Tap.window`."""
        moved = []
        for frame in [frames] if isinstance(frames, Frame) else frames:
            affine = frame.affine.copy()
            affine[:3, 3] += self._corner
            moved.append(Frame(frame.shape, affine))
        return self._heard(network, moved, model)

    @contextmanager
    def _heard(self, network: Any, frames: list[Frame], model: str) -> Iterator[None]:
        with self._tap.window(network, frames, model):
            yield
