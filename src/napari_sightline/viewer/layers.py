"""What the panel draws: one labels layer and one layer of clicks per image. Main thread only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.orientation import Array
from napari_sightline.segment.packed import union, within
from napari_sightline.viewer import marks
from napari_sightline.viewer.bridge import (
    KEY,
    bare,
    grid_like,
    is_scan,
    layer_axes,
    slice_at,
)
from napari_sightline.viewer.case import Case, Stroke, voxels
from napari_sightline.viewer.colours import colour_map, colour_table
from napari_sightline.viewer.listing import selection_kept, unlisted
from napari_sightline.viewer.state import Patch
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

_OPACITY = 0.5


def begin(viewer: Viewer, case: Case) -> None:
    """Add the layers of a case, once: making them takes napari longer than a click may take."""
    if case.begun or case.image is None or case.volume is None:
        return
    case.begun = True
    if case.labels is None and not any(row.ml for row in case.state.rows):
        # Pages cost nothing until they are written.
        _new_labels(viewer, case, np.zeros(case.volume.shape, np.uint8))
    marks.begin(viewer, case)


def to_front(viewer: Viewer, case: Case) -> None:
    """Put labels and clicks above images that were opened later: a click is to be seen."""
    layers = bare(viewer.layers)
    top = max((layers.index(layer) for layer in layers if is_scan(layer)), default=0)
    for layer in (case.labels, case.lines, case.points):
        if layer in layers and layers.index(layer) < top:
            layers.move(layers.index(layer), len(layers))


def remove_clicks(viewer: Viewer, case: Case) -> None:
    """Take the layers of prompts away; the session keeps them."""
    case.begun = False
    for layer in (case.points, case.lines):
        if layer is not None:
            case.lose(layer)
            if layer in viewer.layers:
                viewer.layers.remove(layer)


def remove_unused(viewer: Viewer, case: Case) -> None:
    """Take away layers on which nothing was drawn, by us or by hand."""
    labels = case.labels
    if labels is None or labels not in viewer.layers or any(r.ml for r in case.state.rows):
        return
    if not labels.data.any():
        case.lose(labels)
        viewer.layers.remove(labels)
        remove_clicks(viewer, case)


def draw_patches(viewer: Viewer, case: Case, patches: Sequence[Patch]) -> None:
    """Put patches into the case's labels layer, which is made where there is none."""
    volume, image = case.volume, case.image
    if volume is None or image is None:
        return
    for patch in patches:
        if patch.fresh is not None:
            _new_labels(viewer, case, patch.fresh)
            continue
        paint(viewer, case, patch.box, patch.values)


def paint(viewer: Viewer, case: Case, box: Box3, values: Array) -> None:
    """Put values into a box of the labels layer, if there is one that fits."""
    shown = voxels(case.labels, case.volume)
    if shown is not None and case.labels is not None and case.image is not None:
        shown[box] = values
        _repaint(viewer, case.image, case.labels, shown, box)


def _repaint(viewer: Viewer, image: Image, layer: Labels, shown: Array, box: Box3) -> None:
    """Bring a box of the labels to the screen: what of it is seen, and nothing else.

    Parameters
    ----------
    shown : numpy.ndarray
        The layer's voxels on three axes.
    """
    dims = viewer.dims
    part, flat = list(box), dims.ndisplay == 2
    if flat:
        axis, at = slice_at(image, dims.point, dims.order, dims.units)
        if not box[axis].start <= at < box[axis].stop:
            return
        part[axis] = slice(at, at + 1)
    axes = [a - (dims.ndim - 3) for a in dims.displayed]
    outlined = flat and layer.contour  # an outline depends on what lies beside the box
    odd = layer_axes(image) == 2 or min(axes) < 0
    # Of wider numbers the screen has others in their place.
    if outlined or odd or not layer.loaded or shown.itemsize > 2:
        # The slice alone: bounds stay, and nobody waits for a new thumbnail.
        with unlisted(layer):
            layer.refresh(extent=False, thumbnail=False, highlight=False)
    elif layer.visible:
        # As napari's brush does it; of a rendered volume all would be sent anew otherwise.
        rest = [a for a in range(3) if a not in axes]
        values = shown[tuple(part)].transpose(*rest, *axes)
        values = values.reshape(values.shape[len(rest) :])
        with unlisted(layer):
            layer.events.labels_update(data=values, offset=[part[a].start for a in axes])


def stroke_of(layer: Any, atoms: Sequence[Any], volume: Volume) -> Stroke | None:
    """Read what one of napari's own tools drew from what the layer says of it.

    Parameters
    ----------
    layer : Labels
        On the grid of the volume.
    atoms : sequence
        Value of the layer's ``paint`` event: index arrays, old and new values; or, of newer tools,
        an object with a place (``slice_key``), a mask and the new value.
    volume : Volume
        Whose grid it is.
    """
    shown = voxels(layer, volume)
    if shown is None:
        return None
    places = [_place(atom, shown.shape) for atom in atoms]
    box: Box3 | None = None
    for place, _, _ in places:
        box = union(box, place)
    if box is None:
        return None
    mask, values = np.zeros([s.stop - s.start for s in box], bool), shown[box].copy()
    # Told by scripts and other plugins, napari says so before it writes: the layer is no witness.
    for place, drawn, new in places:
        mask[within(place, box)] |= drawn
        values[within(place, box)][drawn] = new[drawn]
    return Stroke(box, mask, values)


def _place(atom: Any, shape: tuple[int, ...]) -> tuple[Box3, Array, Array]:
    """Box of what an atom of napari's history changed, the voxels in it, and their new values."""
    if hasattr(atom, "slice_key"):
        key = tuple(atom.slice_key)
        key = (*(0 for _ in range(3 - len(key))), *key)
        parts = []
        for part, n in zip(key, shape, strict=True):
            low, high, _ = part.indices(n) if isinstance(part, slice) else (part, part + 1, 1)
            parts.append(slice(int(low), int(high)))
        box: Box3 = (parts[0], parts[1], parts[2])
        size = [s.stop - s.start for s in box]
        mask = np.ones(size, bool) if atom.mask is None else np.asarray(atom.mask).reshape(size)
        return box, mask, np.full(size, atom.new_value)
    indices = [np.asarray(line, int).ravel() for line in atom[0]]
    while len(indices) < 3:
        indices.insert(0, np.zeros_like(indices[0]))
    a, b, c = (slice(int(line.min()), int(line.max()) + 1) for line in indices)
    mask = np.zeros([s.stop - s.start for s in (a, b, c)], bool)
    at = tuple(line - s.start for line, s in zip(indices, (a, b, c), strict=True))
    mask[at] = True
    new = np.zeros(mask.shape, np.asarray(atom[2]).dtype)
    new[at] = np.asarray(atom[2]).ravel() if np.ndim(atom[2]) else atom[2]
    return (a, b, c), mask, new


def _new_labels(viewer: Viewer, case: Case, data: Array) -> None:
    """Add a labels layer, or give the one there is other voxels, as wide as they need."""
    volume, image = case.volume, case.image
    assert volume is not None and image is not None
    flat = data[0] if layer_axes(image) == 2 else data
    old = case.labels
    if old is not None and voxels(old, volume) is not None:
        old.data = flat
        return
    label = f"labels of {image.name}"
    if case.frame:
        label += ", frame " + ", ".join(str(i + 1) for i in case.frame)
    with selection_kept(viewer):
        layer = bare(viewer.add_labels(flat, name=label, opacity=_OPACITY, **grid_like(image)))
    drawn = replace(volume, data=data, modality=None)
    layer.metadata[KEY] = {"volume": drawn, "names": {}, "frame": case.frame}
    case.keep(labels=layer)
    layers = bare(viewer.layers)
    for marked in (case.lines, case.points):  # prompts stay above labels
        if marked in layers:
            layers.move(layers.index(marked), len(layers))
    dress(case)


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
    hidden = tuple(row.id for row in case.state.rows if not row.visible)
    own = {row.id: row.colour for row in case.state.rows if row.colour is not None}
    table = colour_table(typed, own, hidden)
    if kept.get("coloured") != table:  # to set it costs ten milliseconds
        kept["coloured"] = table
        layer.colormap = colour_map(table)
    if layer.selected_label != case.state.current:
        layer.selected_label = case.state.current  # what a brush draws is the current object's
    ml = {row.id: round(row.ml, 2) for row in case.state.rows if row.ml > 0}
    features = {
        "index": [0, *ml],
        "name": ["", *(names[i] for i in ml)],
        "mL": [0.0, *ml.values()],
    }
    if kept.get("table") != features:
        kept["table"] = features
        with unlisted(layer):
            layer.features = features


def look_of(layer: Any) -> Callable[[], None]:
    """Take down what `dress` and drawing change; what is returned brings it back."""
    data, table, colours = layer.data, layer.features.copy(), layer.colormap
    kept, chosen = dict(layer.metadata.get(KEY, {})), layer.selected_label

    def restore() -> None:
        if layer.data is not data:
            layer.data = data
        layer.features, layer.colormap, layer.selected_label = table, colours, chosen
        layer.metadata[KEY] = kept

    return restore


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


def follow_image(case: Case) -> None:
    """Keep labels and clicks on the image after somebody moved or scaled it."""
    image = case.image
    if image is None:
        return
    for layer in (case.labels, case.lines, case.points):
        if layer is not None:
            for name, value in grid_like(image).items():
                setattr(layer, name, value)
