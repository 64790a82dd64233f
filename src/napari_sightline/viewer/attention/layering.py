"""The attention layers of one image: the live map, kept maps, uncertainty, lines. Main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.viewer.attention import layers as draw
from napari_sightline.viewer.attention.state import Array, Placed, Position, Settings, Shown
from napari_sightline.viewer.attention.words import layer_name
from napari_sightline.viewer.bridge import bare
from napari_sightline.volume import Box3

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

LIVE = "attention"


class Layers:
    """What is drawn over one image.

    Parameters
    ----------
    viewer : Viewer
        Whose layers they are.
    image : Image
        The scan.
    frame : tuple of int
        Of the axes before the last three.
    """

    def __init__(self, viewer: Viewer, image: Image, frame: tuple[int, ...] = ()) -> None:
        self._viewer, self._image = bare(viewer), bare(image)
        self._frame = "".join(f" · frame {i + 1}" for i in frame)
        self.live: Any = None
        self.lines: Any = None
        self.uncertainty: Any = None
        self.kept: list[Any] = []
        self.hidden = False
        self._before: list[Any] = []
        self._name = ""

    @property
    def all(self) -> list[Any]:
        """Every attention layer that is in the viewer."""
        layers = [self.live, self.lines, self.uncertainty, *self.kept]
        return [layer for layer in layers if layer is not None and layer in self._viewer.layers]

    def _there(self, layer: Any) -> bool:
        return layer is not None and layer in self._viewer.layers

    def draw(self, shown: Shown, settings: Settings) -> None:
        """Show an answer in the live layer."""
        if shown.layer is None:
            self.blank()
            return
        one = _drawn(shown.layer, settings)
        limits = limits_of(shown, settings)
        self._name = layer_name(shown)
        if not self._there(self.live):
            if self.hidden:
                return
            self.live = draw.add_map(
                self._viewer,
                self._image,
                one.values[0],
                one.step,
                one.origin,
                LIVE,
                limits,
                settings,
            )
            self.live.visible = self._image.visible and not self.hidden
        draw.draw(self.live, self._image, one, limits)

    def name_live(self) -> None:
        """Bring the live layer's name and thumbnail up to date; slow, for when the cursor rests."""
        if not self._there(self.live) or not self._name:
            return
        self.live.refresh(data_displayed=False, highlight=False, extent=False)
        if self.live.name != self._name:
            self.live.name = self._name

    def blank(self) -> None:
        """Show nothing in the layers that follow the query."""
        self._name = ""
        if self._there(self.live):
            draw.clear(self.live)
            if self.live.name != LIVE:
                self.live.name = LIVE
        self.unjoin()

    def keep(self, shown: Shown, settings: Settings) -> Any:
        """Keep a map as a layer of its own; None where there is none."""
        if shown.layer is None:
            return None
        one = _drawn(shown.layer, settings)
        layer = draw.add_map(
            self._viewer,
            self._image,
            one.values[0],
            one.step,
            one.origin,
            layer_name(shown) + self._frame,
            limits_of(shown, settings),
            settings,
        )
        layer.visible = self._image.visible and not self.hidden
        self.kept.append(layer)
        return layer

    def dress(self, settings: Settings) -> None:
        """Give the live layer the chosen colours."""
        if self._there(self.live):
            if self.live.colormap.name != settings.colormap:
                self.live.colormap = settings.colormap
            self.live.opacity = settings.opacity
            draw.smooth(self.live, settings.smooth)

    def join(self, start: Position, ends: Array) -> None:
        """Draw lines from the query to its strongest tokens; no layer where there are none."""
        if not len(ends):
            self.unjoin()
            return
        self.lines = draw.draw_lines(self._viewer, self._image, self.lines, start, ends)
        self.lines.visible = self._image.visible and not self.hidden

    def unjoin(self) -> None:
        """Take the lines away."""
        if self._there(self.lines):
            self._viewer.layers.remove(self.lines)
        self.lines = None

    def show_uncertainty(self, entropy: Array, box: Box3, settings: Settings) -> None:
        """Show a mask's entropy, on the scan's own voxels."""
        origin = (float(box[0].start), float(box[1].start), float(box[2].start))
        step = (1.0, 1.0, 1.0)
        if not self._there(self.uncertainty):
            self.uncertainty = draw.add_map(
                self._viewer,
                self._image,
                entropy,
                step,
                origin,
                f"uncertainty of the mask on {self._image.name}",
                (0.0, 1.0),
                settings,
            )
            self.uncertainty.colormap = "cyan"
            self.uncertainty.blending = "additive"
            self.uncertainty.bounding_box.visible = False
            self.uncertainty.visible = self._image.visible and not self.hidden
        else:
            draw.put(self.uncertainty, self._image, entropy, step, origin)

    def clear_uncertainty(self) -> None:
        """Take the uncertainty away."""
        if self._there(self.uncertainty):
            self._viewer.layers.remove(self.uncertainty)
        self.uncertainty = None

    def toggle(self) -> None:
        """Hide all attention layers, or show those that were visible before."""
        self.hidden = not self.hidden
        if self.hidden:
            self._before = [layer for layer in self.all if layer.visible]
            for layer in self._before:
                layer.visible = False
            return
        shown = [layer for layer in self._before if layer in self.all]
        if self.live is not None and self.live not in shown:
            shown.append(self.live)
        for layer in shown or self.all:
            if self._there(layer):
                layer.visible = self._image.visible

    def notice(self) -> bool:
        """Take the user at his word where he removed the live layer: none comes until A is pressed.

        Returns whether that is so.
        """
        gone = self.live is not None and self.live not in self._viewer.layers
        if gone:
            self.live = None
            self.hidden = True
            self._before = [layer for layer in self.all if layer.visible]
        return gone

    def leave(self) -> None:
        """Take away what follows the query; what the user kept stays."""
        for layer in (self.live, self.lines, self.uncertainty):
            if self._there(layer):
                self._viewer.layers.remove(layer)
        self.live = self.lines = self.uncertainty = None


def _drawn(one: Placed, settings: Settings) -> Placed:
    return Placed(
        np.stack([settings.scale.drawn(values) for values in one.values]), one.step, one.origin
    )


def limits_of(shown: Shown, settings: Settings) -> tuple[float, float]:
    """Colour scale of a map."""
    if shown.layer is None or shown.merged is None:
        return 0.0, 1.0
    values = settings.scale.drawn(shown.layer.values[0])
    return settings.scale.limits(values, shown.merged.unit)
