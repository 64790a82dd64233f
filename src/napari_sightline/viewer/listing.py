"""What napari's list of layers hears and selects. Main thread only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari.viewer import Viewer


def unlisted(layer: Any) -> AbstractContextManager[object]:
    """Context in which a layer's changes reach the canvas, and not the list of layers.

    napari paints its list anew, whole, at every event of any layer, which takes as long as a mask
    or a map itself. Neither name nor thumbnail must change meanwhile.
    """
    context: AbstractContextManager[object] = bare(layer).events.blocker()
    return context


@contextmanager
def selection_kept(viewer: Viewer) -> Iterator[None]:
    """Context in which new layers do not take the selection, and with it the mouse."""
    layers = bare(viewer.layers)
    active, before = layers.selection.active, set(layers.selection)
    try:
        yield
    finally:
        layers.selection = {layer for layer in before if layer in layers}
        if active in layers:
            layers.selection.active = active
