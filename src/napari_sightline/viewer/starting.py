"""Starting from labels of another layer: one of them, or all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Array
from napari_sightline.prompts import MaskPrompt
from napari_sightline.viewer.bridge import KEY, bare, to_world
from napari_sightline.viewer.colours import colours_of
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sightline.segment.interactive import Session
    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.options_view import StartTab

_MOST = 1000  # labels that are listed


class Starting(QObject):
    """Joins the tab *Start* to the viewer's labels layers and the controller."""

    def __init__(self, viewer: Viewer, tab: StartTab, controller: Controller) -> None:
        super().__init__(controller)
        self._viewer, self._tab, self._control = bare(viewer), tab, controller
        self._layers: list[Any] = []
        self._listed: Any = None
        tab.layer_chosen.connect(self._list)
        tab.start_asked.connect(self.start)
        tab.import_asked.connect(self.take_all)
        tab.device_chosen.connect(controller.choose_device)

    def follow(self) -> None:
        """List the labels layers that are not the panel's own."""
        case = self._control.case
        own = case.labels if case is not None else None
        self._layers = [
            layer
            for layer in reversed(self._viewer.layers)
            if isinstance(layer, Labels) and layer is not own
        ]
        self._tab.show_layers([layer.name for layer in self._layers])
        if self._listed not in self._layers:
            self._listed = None
            self._tab.show_labels({})
            if self._layers and case is not None:
                self._list(0)

    def _list(self, index: int) -> None:
        if not 0 <= index < len(self._layers):
            return
        layer = self._listed = self._layers[index]
        data = layer.data[0] if layer.multiscale else layer.data

        def look(_: Job[list[int]]) -> list[int]:
            return [int(value) for value in np.unique(np.asarray(data)) if value][:_MOST]

        def show(values: list[int]) -> None:
            if layer is self._listed:
                names = names_of(layer)
                self._tab.show_labels({value: names.get(value, "") for value in values})

        self._control.worker.submit(Job(look, show, kind="look"))

    def start(self, index: int, value: int) -> None:
        """Join a label of a layer to the current object."""
        case = self._control.case
        if case is None or not 0 <= index < len(self._layers):
            return
        layer = self._layers[index]
        data, fits = layer.data, same_grid(layer, case.image)

        def add(session: Session, job: Job[Any]) -> Any:
            labels = _on_grid(layer.name, data, fits, session)
            return session.add(MaskPrompt.from_labels(labels, value), job.progress, job.cancelled)

        self._control.ask(add)

    def take_all(self, index: int) -> None:
        """Make an accepted object of each label of a layer."""
        case = self._control.case
        if case is None or not 0 <= index < len(self._layers):
            return
        layer = self._layers[index]
        names = names_of(layer)
        colours = colours_of(layer.colormap, names)
        data, fits = layer.data, same_grid(layer, case.image)

        def take(session: Session, job: Job[Any]) -> Any:
            labels = _on_grid(layer.name, data, fits, session)
            return session.import_labels(labels, names, colours, job.cancelled)

        self._control.ask(partial(take))


def names_of(layer: Labels) -> dict[int, str]:
    """Names of a layer's labels, as its table or our own files say."""
    kept = layer.metadata.get(KEY, {}).get("names")
    if kept:
        return {int(value): str(name) for value, name in kept.items()}
    table = layer.features
    if "index" in table and "name" in table:
        pairs = zip(table["index"], table["name"], strict=True)
        return {int(value): str(name) for value, name in pairs if value}
    return {}


def same_grid(layer: Any, image: Any) -> bool:
    """Whether voxels of two layers lie on each other, to a hundredth of one."""
    if image is None:
        return False
    first, second = to_world(layer), to_world(image)
    size = np.abs(second[:3, :3]).max()
    return bool(np.allclose(first, second, atol=0.01 * size))


def _on_grid(name: str, data: Any, fits: bool, session: Session) -> Array:
    """Read labels; `BadInput` where they lie on another grid than the scan."""
    volume = session.volume
    labels = np.asarray(data[0] if isinstance(data, list | tuple) else data)
    if labels.ndim == 2:
        labels = labels[None]
    if volume is None or labels.shape != volume.shape or not fits:
        raise BadInput(
            f"{name} lies on another grid than the scan; bring it onto the scan's grid first."
        )
    return labels
