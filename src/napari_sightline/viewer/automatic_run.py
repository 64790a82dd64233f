"""One automatic segmentation off the main thread: what is asked for, and what is told on the way.

Nothing here knows a viewer: layers are made by whoever hears the messages, on the main thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import ModelError
from napari_sightline.viewer.bridge import Source
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.models.segmenter import Segmenter, SegmenterSpec
    from napari_sightline.segment.automatic import Segmentation, Slab
    from napari_sightline.segment.runner import WindowTap
    from napari_sightline.viewer.worker import Job

_log = logging.getLogger(__name__)
#: The network that ran last stays in memory: the next scan need not load it again.
_kept: dict[tuple[str, int], Segmenter] = {}
_offered: dict[str, Segmenter] = {}


def offer(model: Segmenter) -> None:
    """Let the panel list a model that only this process has, such as a network under work.

    Call it before the panel is opened, or open the panel's list of models anew.
    """
    _offered[model.spec.name] = model


def offered() -> dict[str, Segmenter]:
    """Models that `offer` was given, by name."""
    return dict(_offered)


def remembered() -> tuple[Segmenter, ...]:
    """Models whose networks are in memory."""
    return (*_kept.values(), *_offered.values())


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes
    ----------
    model : str
        As in the catalog.
    sources : tuple of Source
        One layer a channel of the model.
    device : str
        ``"auto"`` or a torch device.
    probabilities, entropy : bool
        Whether these are wanted too.
    tap : callable, optional
        Makes, on the worker, what sees every window that is computed.
    """

    model: str
    sources: tuple[Source, ...]
    device: str = "auto"
    probabilities: bool = False
    entropy: bool = False
    tap: Callable[[], WindowTap] | None = None


@dataclass(frozen=True, eq=False)
class Begun:
    """The scan was read and the model loaded; slabs follow."""

    volume: Volume
    spec: SegmenterSpec


class Messenger(QObject):
    """Carries what a run tells to the main thread: `Begun`, `Slab` or a sentence, with its job."""

    told = Signal(object, object)

    def tell(self, job: Job[Any], what: Begun | Slab | str) -> None:
        """Send, from the worker thread, after the latest progress."""
        job.catch_up()
        try:
            self.told.emit(job, what)
        except RuntimeError:  # Qt took the object away with the viewer
            _log.debug("nobody is left to hear of a run")


def run(order: Order, messenger: Messenger, job: Job[Segmentation]) -> Segmentation:
    """Load, read and segment; for a worker thread."""
    from napari_sightline.errors import Cancelled
    from napari_sightline.segment.automatic import segment

    job.progress(0.0, "loading the model")
    model = loaded(order.model)
    if job.cancelled():
        raise Cancelled
    job.progress(0.0, "reading the scan")
    volumes = [source.read() for source in order.sources]
    for volume in volumes:
        for note in volume.notes:
            messenger.tell(job, note)
    tell: Callable[[Any], None] = lambda what: messenger.tell(job, what)  # noqa: E731
    # Volumes that do not fit are refused by the engine before its first note or slab.
    begun = [Begun(volumes[0], model.spec)]

    def on_slab(slab: Slab) -> None:
        while begun:
            tell(begun.pop())
        tell(slab)

    return segment(
        volumes,
        model,
        device=order.device,
        probabilities=order.probabilities,
        entropy=order.entropy,
        on_slab=on_slab,
        on_note=tell,
        progress=job.progress,
        cancel=job.cancelled,
        tap=None if order.tap is None else order.tap(),
    )


def loaded(name: str) -> Segmenter:
    """Load a model, or find the one that ran last; for a worker thread.

    Raises
    ------
    BadInput, ModelError
        As `models.load_segmenter` does.
    """
    from napari_sightline.models import load_segmenter

    if name in _offered:
        return _offered[name]
    key = name, _stamp(name)
    if key not in _kept:
        _kept.clear()
        _kept[key] = load_segmenter(name)
    return _kept[key]


def spec_of(name: str) -> SegmenterSpec:
    """Read the facts of a model without its weights; for a worker thread.

    Raises
    ------
    ModelError
        Where it is missing or damaged.
    """
    import json

    from napari_sightline.models.segmenter_io import segmenter_metadata, spec_from_dict

    if name in _offered:
        return _offered[name].spec
    path = _path(name)
    if path is None:
        raise ModelError(f"The model {name!r} is not on this machine; get it under 'Models ...'.")
    try:
        return spec_from_dict(json.loads(segmenter_metadata(path)["spec"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"The model file {path.name!r} is damaged; copy or download the file again."
        ) from error


def _path(name: str) -> Path | None:
    from napari_sightline.models.catalog import entries

    return next((e.path for e in entries() if e.card.name == name), None)


def _stamp(name: str) -> int:
    """Tell a model from another that took its name."""
    path = _path(name)
    try:
        return path.stat().st_mtime_ns if path is not None else 0
    except OSError:
        return 0
