"""Layers that an automatic segmentation is shown in. Main thread only."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.orientation import Array
from napari_sightline.viewer.bridge import KEY, OVERLAY, bare, grid_like, layer_axes
from napari_sightline.viewer.colours import label_colours
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_sightline.models.segmenter import SegmenterSpec
    from napari_sightline.segment.automatic import Segmentation, Slab

#: Key within ``metadata["sightline"]`` of a labels layer that an automatic model made.
AUTOMATIC = "automatic"
_OPACITY = 0.5


class Shown:
    """The labels layers of one run: one, or one a structure where structures may overlap.

    Parameters
    ----------
    viewer : Viewer
        They are added to it, above everything, and what was selected stays selected.
    image : Image
        Whose grid they lie on.
    volume : Volume
        As it was read.
    spec : SegmenterSpec
        Of the model.
    frame : tuple of int
        Of the image's axes before the last three.
    """

    def __init__(
        self,
        viewer: Viewer,
        image: Image,
        volume: Volume,
        spec: SegmenterSpec,
        frame: tuple[int, ...] = (),
    ) -> None:
        self.overlapping = spec.overlapping
        self.layers: list[Any] = []
        self.arrays: list[Array] = []
        dtype = np.uint8 if spec.outputs <= 256 else np.uint16
        names: list[Mapping[int, str]] = [dict(spec.labels)]
        titles = [f"{image.name}: {spec.name}"]
        if spec.overlapping:
            names = [{value: name} for value, name in spec.labels.items()]
            titles = [f"{image.name}: {name}" for name in spec.labels.values()]
            self.values = list(spec.labels)
        for title, legend in zip(titles, names, strict=True):
            data = np.zeros(volume.shape, dtype)
            layer = _add_labels(viewer, image, data, title)
            layer.metadata[KEY] = {
                "volume": replace(volume, data=data, modality=None, notes=()),
                "names": dict(legend),
                AUTOMATIC: spec.name,
                "image": weakref.ref(bare(image)),
                "frame": frame,
            }
            layer.features = {"index": [0, *legend], "name": ["", *legend.values()]}
            layer.colormap = label_colours(legend)
            layer.editable = False  # until the run is over
            self.layers.append(layer)
            self.arrays.append(data)

    def draw(self, slab: Slab) -> None:
        """Show finished planes."""
        for number, (layer, data) in enumerate(zip(self.layers, self.arrays, strict=True)):
            if self.overlapping:
                value = self.values[number]
                data[slab.box] = slab.labels[value - 1] * np.uint8(value)
            else:
                data[slab.box] = slab.labels
            layer.refresh(extent=False)

    def finish(self) -> None:
        """Let the user edit them."""
        for layer in self.layers:
            layer.editable = True

    def remove(self, viewer: Viewer) -> None:
        """Take them away: what a stopped run left could be taken for a whole one."""
        for layer in self.layers:
            if layer in viewer.layers:
                viewer.layers.remove(layer)


def _add_labels(viewer: Viewer, image: Image, data: Array, title: str) -> Any:
    layers = bare(viewer.layers)
    selected, active = set(layers.selection), layers.selection.active
    flat = data[0] if layer_axes(image) == 2 else data
    layer = bare(viewer.add_labels(flat, name=title, opacity=_OPACITY, **grid_like(image)))
    layers.selection = {one for one in selected if one in layers}
    if active in layers:
        layers.selection.active = active
    return layer


def add_maps(viewer: Viewer, image: Image, found: Segmentation, name: str) -> list[Any]:
    """Add layers of uncertainty and of probabilities, hidden but the first, under the labels."""
    maps: list[tuple[str, Array, str]] = []
    if found.entropy is not None:
        maps.append((f"{image.name}: uncertainty", found.entropy, "inferno"))
    if found.probabilities is not None:
        shift = 0 if len(found.names) == len(found.probabilities) else 1
        for value, structure in found.names.items():
            channel = found.probabilities[value - 1 + shift]
            maps.append((f"{image.name}: probability of {structure}", channel, "viridis"))
    layers = bare(viewer.layers)
    selected, active = set(layers.selection), layers.selection.active
    made = []
    for number, (title, values, colours) in enumerate(maps):
        # The screen cannot show half precision everywhere.
        data = np.asarray(values, np.float32)
        layer = bare(
            viewer.add_image(
                data[0] if layer_axes(image) == 2 else data,
                name=title,
                colormap=colours,
                contrast_limits=(0.0, 1.0),
                blending="additive",
                visible=number == 0 and found.entropy is not None,
                metadata={OVERLAY: name},
                **grid_like(image),
            )
        )
        made.append(layer)
    layers.selection = {one for one in selected if one in layers}
    if active in layers:
        layers.selection.active = active
    return made
