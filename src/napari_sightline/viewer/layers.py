"""What the panel draws: one labels layer and one layer of clicks per image. Main thread only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_sightline.orientation import Array
from napari_sightline.prompts import Point
from napari_sightline.viewer.bridge import (
    KEY,
    bare,
    grid_like,
    is_scan,
    layer_axes,
    points_on,
    slice_at,
)
from napari_sightline.viewer.case import Case, voxels
from napari_sightline.viewer.colours import NEGATIVE, POSITIVE, label_colours, unit
from napari_sightline.viewer.state import Patch
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_OPACITY = 0.5
#: Size of a click on the screen, pixels, at least and at most.
_CLICK_PIXELS = (10, 26)
#: Clicks across a shown width of the scan.
_CLICKS_ACROSS = 40
# How strongly a click is drawn so many slices away from its own; farther away not at all.
_FAINT = {0: 1.0, 1: 0.5, 2: 0.25}


def begin(viewer: Viewer, case: Case) -> None:
    """Add the layers of a case, once: making them takes napari longer than a click may take."""
    if case.begun or case.image is None or case.volume is None:
        return
    case.begun = True
    if case.labels is None and not any(row.ml for row in case.state.rows):
        _new_labels(viewer, case, None, np.dtype(np.uint8))
    if case.points is None:
        _new_points(viewer, case, case.image)


def to_front(viewer: Viewer, case: Case) -> None:
    """Put labels and clicks above images that were opened later: a click is to be seen."""
    layers = bare(viewer.layers)
    top = max((layers.index(layer) for layer in layers if is_scan(layer)), default=0)
    for layer in (case.labels, case.points):
        if layer in layers and layers.index(layer) < top:
            layers.move(layers.index(layer), len(layers))


def remove_clicks(viewer: Viewer, case: Case) -> None:
    """Take the layer of clicks away; the session keeps them."""
    points = case.points
    case.begun = False
    if points is not None:
        case.lose(points)
        if points in viewer.layers:
            viewer.layers.remove(points)


def remove_unused(viewer: Viewer, case: Case) -> None:
    """Take away layers on which nothing was drawn, by us or by hand."""
    labels = case.labels
    if labels is None or labels not in viewer.layers or any(r.ml for r in case.state.rows):
        return
    if not labels.data.any():
        case.lose(labels)
        viewer.layers.remove(labels)
        remove_clicks(viewer, case)


def draw_patch(viewer: Viewer, case: Case, patch: Patch) -> None:
    """Put a patch into the case's labels layer, which is made where there is none."""
    if case.volume is None or case.image is None:
        return
    shown = voxels(case.labels, case.volume)
    if shown is None or not np.can_cast(patch.values.dtype, shown.dtype):
        base = patch.fresh if shown is None else shown
        shown = _new_labels(viewer, case, base, patch.values.dtype)
    shown[patch.box] = patch.values
    layer = case.labels
    if layer is not None:
        layer.refresh(extent=False)


def _new_labels(viewer: Viewer, case: Case, base: Array | None, dtype: np.dtype[Any]) -> Array:
    """Add a labels layer, or widen the one there is, with what was on it."""
    volume, image = case.volume, case.image
    assert volume is not None and image is not None
    if base is None:
        data = np.zeros(volume.shape, dtype)  # pages cost nothing until they are written
    else:
        data = base.astype(np.promote_types(base.dtype, dtype))
    flat = data[0] if layer_axes(image) == 2 else data
    old = case.labels
    if old is not None and voxels(old, volume) is not None:
        old.data = flat
        return data
    label = f"labels of {image.name}"
    if case.frame:
        label += ", frame " + ", ".join(str(i + 1) for i in case.frame)
    with _selection(viewer):
        layer = bare(viewer.add_labels(flat, name=label, opacity=_OPACITY, **grid_like(image)))
    layer.metadata[KEY] = {"volume": replace(volume, data=data, modality=None), "names": {}}
    case.keep(labels=layer)
    layers, points = bare(viewer.layers), case.points
    if points in layers:  # clicks stay above labels
        layers.move(layers.index(points), len(layers))
    dress(case)
    return data


def dress(case: Case) -> None:
    """Give the labels layer the names and colours of the objects."""
    layer = case.labels
    if layer is None:
        return
    names = case.names()
    typed = dict(names)
    if case.draft:  # the colour follows the name while it is typed, before the first click too
        typed[case.state.current] = case.draft
    kept = layer.metadata.setdefault(KEY, {})
    kept["names"] = names
    if kept.get("coloured") != typed:
        kept["coloured"] = typed
        layer.colormap = label_colours(typed)
    ml = {row.id: round(row.ml, 2) for row in case.state.rows if row.ml > 0}
    layer.features = {
        "index": [0, *ml],
        "name": ["", *(names[i] for i in ml)],
        "mL": [0.0, *ml.values()],
    }


def show_outlines(case: Case, on: bool) -> None:
    """Draw outlines, opaque, instead of filling; and back to the opacity that was."""
    layer = case.labels
    if layer is None or bool(layer.contour) == on:
        return
    kept = layer.metadata.setdefault(KEY, {})
    if on:
        kept["opacity"] = layer.opacity
    layer.contour = int(on)
    layer.opacity = 1.0 if on else kept.get("opacity", _OPACITY)


def draw_clicks(viewer: Viewer, case: Case, clicks: Sequence[Point], waiting: int) -> None:
    """Show the current object's clicks: green discs inside, red crosses outside.

    A click is drawn on its own slice, and faintly on the next few, where napari would hide it.

    Parameters
    ----------
    clicks : sequence of Point
        In voxels of the volume; the last `waiting` are still being computed and drawn paler.
    """
    image, layer = case.image, case.points
    if image is None:
        return
    if layer is None:
        if not clicks:
            return
        layer = _new_points(viewer, case, image)
    positions, strength = _on_slice(viewer, image, clicks)
    strength[len(clicks) - waiting :] *= 0.5
    signs = [c.positive for c in clicks]
    look = (positions.tolist(), strength.tolist(), signs)
    if layer.metadata.get(KEY) == look:
        return
    layer.metadata[KEY] = look
    faces = [
        unit(POSITIVE if sign else NEGATIVE, alpha)
        for sign, alpha in zip(signs, strength, strict=True)
    ]
    # napari uploads the points again after each of these: once is enough.
    with layer.events.blocker_all():
        layer.data = points_on(image, positions)
        if clicks:
            layer.symbol = ["disc" if sign else "x" for sign in signs]
            layer.size = _click_size(case.volume, layer) * (0.5 + 0.5 * strength)
            layer.face_color = np.array(faces)
            # Round a cross a border is a blot.
            layer.border_width = [0.12 if sign else 0.0 for sign in signs]
            layer.border_color = np.array([(0.05, 0.05, 0.05, alpha) for alpha in strength])
        layer.selected_data = set()
    layer.refresh()


def _on_slice(
    viewer: Viewer, image: Image, clicks: Sequence[Point]
) -> tuple[Array, npt.NDArray[np.float64]]:
    """Positions (N, 3) at which clicks are drawn on the shown slice, and how strongly (N,)."""
    positions = np.array([c.position for c in clicks], float).reshape(-1, 3)
    strength = np.ones(len(positions))
    dims = viewer.dims
    if dims.ndisplay == 2 and len(positions):
        axis, shown = slice_at(image, dims.point, dims.order, dims.units)
        away = np.abs(np.rint(positions[:, axis]) - shown)
        strength = np.array([_FAINT.get(int(slices), 1.0) for slices in away])
        near = away <= max(_FAINT)
        positions[near, axis] = shown
    return positions, strength


def _new_points(viewer: Viewer, case: Case, image: Image) -> Any:
    with _selection(viewer):
        layer = bare(
            viewer.add_points(
                np.zeros((0, layer_axes(image))),
                name=f"clicks on {image.name}",
                canvas_size_limits=_CLICK_PIXELS,
                **grid_like(image),
            )
        )
    layer.editable = False
    case.keep(points=layer)
    return layer


def _click_size(volume: Volume | None, layer: Any) -> float:
    """Diameter in the layer's data units; napari multiplies it by the last scale."""
    if volume is None:
        return 3.0
    width = float(np.median(np.array(volume.shape) * np.array(volume.spacing)))
    return width / _CLICKS_ACROSS / abs(float(layer.scale[-1]))


def follow_image(case: Case) -> None:
    """Keep labels and clicks on the image after somebody moved or scaled it."""
    image = case.image
    if image is None:
        return
    for layer in (case.labels, case.points):
        if layer is not None:
            for name, value in grid_like(image).items():
                setattr(layer, name, value)


class _selection:
    """Keep what is selected in the layer list: a new layer must not take the mouse."""

    def __init__(self, viewer: Viewer) -> None:
        self._layers = bare(viewer.layers)

    def __enter__(self) -> None:
        self._active = self._layers.selection.active
        self._before = set(self._layers.selection)

    def __exit__(self, *_: object) -> None:
        self._layers.selection = {layer for layer in self._before if layer in self._layers}
        if self._active in self._layers:
            self._layers.selection.active = self._active
