"""Layers that the attention panel draws: maps on their own token grid. Main thread only.

A map is a small image whose voxels are tokens; scale and translation put it on the scan, so that
a new map costs the upload of a few thousand numbers. Where nothing was seen the layer is
transparent (NaN); where the model could look and did not, it has the darkest colour of the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from qtpy.QtCore import QTimer

from napari_sightline.viewer.attention.state import Array, Placed, Position, Settings
from napari_sightline.viewer.bridge import OVERLAY, bare, grid_like, layer_axes
from napari_sightline.viewer.listing import selection_kept, unlisted

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

#: Colour of the box round what the network saw.
WINDOW = (0.29, 0.64, 0.87, 1.0)
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")


def add_map(
    viewer: Viewer,
    image: Image,
    values: Array,
    step: Position,
    origin: Position,
    name: str,
    limits: tuple[float, float],
    settings: Settings,
) -> Layer:
    """Add an image layer of one map; the selection of layers stays as it is.

    Parameters
    ----------
    values : numpy.ndarray
        ``(D, H, W)`` float32, NaN where not seen.
    step, origin
        See `Placed`.
    name : str
        Of the layer.
    limits : tuple of 2 float
        Of the colour scale.
    settings : Settings
        Colours and opacity.
    """
    viewer, image = bare(viewer), bare(image)
    data, grid = on_image(image, values, step, origin)
    with selection_kept(viewer):
        layer = bare(
            viewer.add_image(
                data,
                name=name,
                colormap=settings.colormap,
                opacity=settings.opacity,
                contrast_limits=limits,
                blending="translucent",
                rendering="mip",
                metadata={OVERLAY: {"step": step, "origin": origin}},
                **grid,
            )
        )
    smooth(layer, settings.smooth)
    layer.bounding_box.line_color = WINDOW
    layer.bounding_box.points = False
    layer.bounding_box.visible = True
    layer.refresh()
    # Just above the scan: labels and clicks stay in sight.
    layers = bare(viewer.layers)
    if image in layers:
        layers.move(layers.index(layer), layers.index(image) + 1)
    follow(viewer, image, layer)
    return layer


def smooth(layer: Any, on: bool) -> None:
    """Draw values between tokens linearly, or each token as a block."""
    layer.interpolation2d = layer.interpolation3d = "linear" if on else "nearest"


def on_image(
    image: Image, values: Array, step: Position, origin: Position
) -> tuple[Array, dict[str, Any]]:
    """Give data of a layer, and the attributes that put it on an image's last axes.

    Of a map over a picture with two axes the plane is taken that holds the picture.
    """
    k = layer_axes(image)
    if k == 2:
        plane = int(np.clip(round(-origin[0] / step[0]), 0, values.shape[0] - 1))
        values = values[plane]
    grid = grid_like(image)
    s, t = np.array(step)[3 - k :], np.array(origin)[3 - k :]
    scale, move = np.array(grid["scale"], float), np.array(grid["translate"], float)
    grid["scale"], grid["translate"] = scale * s, move + scale * t
    return np.array(values, np.float32), grid


def put(layer: Any, image: Image, values: Array, step: Position, origin: Position) -> None:
    """Give a layer another map; quick where its grid stays the same."""
    kept = layer.metadata[OVERLAY]
    data, grid = on_image(image, values, step, origin)
    if data.shape == layer.data.shape:
        layer.data[...] = data
    else:
        layer.data = data
    if kept["step"] != step or kept["origin"] != origin:
        kept["step"], kept["origin"] = step, origin
        for name in ("scale", "translate"):
            setattr(layer, name, grid[name])
        layer.refresh()
    else:
        with unlisted(layer):
            layer.refresh(thumbnail=False, highlight=False, extent=False)


def clear(layer: Any) -> None:
    """Show nothing: no map that is out of date stays on the screen."""
    if not np.isnan(layer.data).all():
        layer.data[...] = np.nan
        layer.refresh(extent=False)
    if layer.bounding_box.visible:
        layer.bounding_box.visible = False


def draw(layer: Any, image: Image, one: Placed, limits: tuple[float, float]) -> None:
    """Show a map in a layer, with its colour scale and the box that the network saw."""
    put(layer, image, one.values[0], one.step, one.origin)
    if tuple(layer.contrast_limits) != limits:
        low, high = layer.contrast_limits_range
        if limits[0] < low or limits[1] > high:
            layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
        with unlisted(layer):
            layer.contrast_limits = limits
    if not layer.bounding_box.visible:
        layer.bounding_box.visible = True


def draw_lines(viewer: Viewer, image: Image, layer: Any, start: Position, ends: Array) -> Any:
    """Join the query to its strongest tokens; returns the layer, which is made at first."""
    viewer, image = bare(viewer), bare(image)
    k = layer_axes(image)
    data = np.zeros((len(ends), 2, k))
    data[:, 0] = start[3 - k :]
    data[:, 1] = ends[:, 3 - k :] - data[:, 0]
    if layer is not None and layer in viewer.layers:
        layer.data = data
        return layer
    with selection_kept(viewer):
        layer = bare(
            viewer.add_vectors(
                data,
                name="strongest tokens",
                edge_color=[WINDOW],
                edge_width=0.6,
                vector_style="line",
                opacity=0.9,
                metadata={OVERLAY: {"step": (1.0,) * 3, "origin": (0.0,) * 3}},
                **grid_like(image),
            )
        )
    follow(viewer, image, layer)
    return layer


# ---- layers follow their image, also after the panel was closed


def follow(viewer: Viewer, image: Image, layer: Any) -> None:
    """Hide a layer with its image, move it along, and remove it with it, from now on."""
    _Follower(viewer, image, layer)


class _Follower:
    """Kept alive by the events it listens to, and by nothing else; keeps nobody alive itself."""

    def __init__(self, viewer: Viewer, image: Image, layer: Any) -> None:
        self._viewer, self._image, self._layer = ref(bare(viewer)), ref(bare(image)), ref(layer)
        self._was = True

        def seen(_: Any = None) -> None:
            self.seen()

        def moved(_: Any = None) -> None:
            self.moved()

        def removed(event: Any) -> None:
            self.removed(event.value)

        self._calls = (seen, moved, removed)
        image.events.visible.connect(seen)
        for name in _TRANSFORMS:
            getattr(image.events, name).connect(moved)
        bare(viewer.layers).events.removed.connect(removed)

    def seen(self) -> None:
        image, layer = self._image(), self._layer()
        if image is None or layer is None:
            return
        if not image.visible:
            self._was, layer.visible = layer.visible, False
        elif self._was:
            layer.visible = True

    def moved(self) -> None:
        image, layer = self._image(), self._layer()
        if image is None or layer is None:
            return
        kept = layer.metadata[OVERLAY]
        _, grid = on_image(image, np.zeros((1, 1, 1), np.float32), kept["step"], kept["origin"])
        for name, value in grid.items():
            setattr(layer, name, value)

    def removed(self, gone: Any) -> None:
        viewer, image, layer = self._viewer(), self._image(), self._layer()
        gone = bare(gone)
        if gone is not layer and gone is not image and image is not None and layer is not None:
            return
        if image is not None:
            image.events.visible.disconnect(self._calls[0])
            for name in _TRANSFORMS:
                getattr(image.events, name).disconnect(self._calls[1])
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._calls[2])
            if gone is not layer:
                # Not now: napari is still at removing layers.
                QTimer.singleShot(0, _remover(self._viewer, self._layer))


def _remover(viewer: Any, layer: Any) -> Any:
    def run() -> None:
        there, gone = viewer(), layer()
        if there is not None and gone is not None and gone in there.layers:
            there.layers.remove(gone)

    return run
