"""Runs of the panel's own, at one place: the user's objects are not touched. On the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sightline.errors import Cancelled
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
        See `napari_sightline.attention.probe.probe_window`.
    """
    from napari_sightline.attention.probe import probe_window

    job.progress(0.1, "reading the window")
    probe = probe_window(model, volume, position)
    if job.cancelled():
        raise Cancelled("The run was cancelled.")
    job.progress(0.3, "running the model")
    probe.record(tap)
