"""Queries on the worker: holds the scan and the pass that is being asked."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.viewer.attention.state import Array, Position, Settings, Shown
from napari_sightline.viewer.attention.thumbnails import Look, Pictures, pictures
from napari_sightline.viewer.bridge import Source
from napari_sightline.viewer.worker import Job
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.maps import AttentionMap
    from napari_sightline.viewer.attention.judge import Look as Again


class Asker:
    """Asks recorded passes, and draws the heads' pictures.

    Parameters
    ----------
    described : Source
        The image, from which the volume is read when it is needed first.
    """

    def __init__(self, described: Source) -> None:
        self._source = described
        self._lock = threading.Lock()
        self._volume: Volume | None = None
        self._open: tuple[Pass, ExitStack] | None = None
        self._explained: tuple[tuple[Any, ...], AttentionMap] | None = None

    def volume(self) -> Volume:
        """Read the scan, once; any thread but the main one."""
        with self._lock:
            if self._volume is None:
                self._volume = self._source.read()
            return self._volume

    def ask(
        self,
        one: Pass,
        settings: Settings,
        position: Position | None,
        view: tuple[Look, str] | None,
        again: Again | None,
        job: Job[Any],
    ) -> tuple[Shown, Pictures | None]:
        """Answer, and draw the heads where a view is given.

        `again` runs the model once more, for its relevance.
        """
        from napari_sightline.viewer.attention.asking import ask, show

        if again is not None:
            from napari_sightline.viewer.attention.judge import gradcam_of, relevance_of

            explain = gradcam_of if settings.mode == "gradcam" else relevance_of
            again.one.check()
            # Of a click's mask the same wherever the cursor is; other colours change nothing.
            asked = (
                settings.mode,
                again.one.number,
                again.position if again.region is None else None,
            )
            if self._explained is None or self._explained[0] != asked:
                job.progress(0.1, "running the model with gradients")
                self._explained = asked, explain(again, self.volume())
            shown = show(self._explained[1], settings, position)
            return shown, self._pictures(shown, settings, view)
        if self._open is None or self._open[0] is not one:
            self.close(job)
            self._open = one, one.opened()
        shown = ask(one, settings, position, job.cancelled)
        return shown, self._pictures(shown, settings, view)

    def _pictures(
        self, shown: Shown, settings: Settings, view: tuple[Look, str] | None
    ) -> Pictures | None:
        if shown.heads is None or view is None:
            return None
        look, colormap = view
        drawn = shown.heads
        if settings.scale.normalise:
            values = np.stack([settings.scale.drawn(v) for v in shown.heads.values])
            drawn = type(drawn)(values, drawn.step, drawn.origin)
        limits = settings.scale.limits_each(drawn.values)
        return pictures(self.volume().data, drawn, look, limits, colours_of(colormap))

    def close(self, job: Job[Any] | None = None) -> None:
        """Let go of the pass that was asked."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def colours_of(name: str) -> Array:
    """Colours of a colour map, ``(256, 3)`` 0 .. 1."""
    from napari.utils.colormaps import ensure_colormap

    return np.asarray(ensure_colormap(name).map(np.linspace(0, 1, 256))[:, :3], np.float32)
