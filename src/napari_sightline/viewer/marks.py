"""How prompts look on the scan: clicks as discs and crosses, the rest as lines. Main thread only.

On its own slice a prompt is drawn strongly, on the next two faintly, farther away not at all.
Clicks are edged in the object's colour, positive lines have it, negative ones are red.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import Colour
from napari_sightline.orientation import Array
from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Prompt, Scribble
from napari_sightline.viewer.bridge import KEY, bare, grid_like, layer_axes, points_on, slice_at
from napari_sightline.viewer.case import Case
from napari_sightline.viewer.colours import NEGATIVE, POSITIVE, colour_of, unit
from napari_sightline.viewer.listing import selection_kept, unlisted
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

#: Size of a click on the screen, pixels, at least and at most.
_CLICK_PIXELS = (10, 26)
#: Clicks across a shown width of the scan.
_CLICKS_ACROSS = 40
#: Thickness of lines on the screen, pixels.
_LINE_PIXELS = 2.5
#: How strongly a prompt is drawn so many slices away from its own; farther away not at all.
FAINT = {0: 1.0, 1: 0.5, 2: 0.25}
_MARKED: Colour = (255, 255, 255)
#: Where a layer keeps what it was last asked to show.
_ASKED = "sightline-asked"

Path = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """Piece of a prompt on the shown slice: two ends in voxels, and how strongly it is drawn."""

    start: Array
    end: Array
    strength: float


def outline(prompt: Prompt, axis: int | None, shown: float) -> Path:
    """Corners (N, 3) of the line that stands for a prompt on a slice; the last may be the first.

    Parameters
    ----------
    axis : int or None
        Axis across the canvas; None in 3D.
    shown : float
        Slice along it. A box is cut where it lies there, or at its nearer face.
    """
    if isinstance(prompt, Scribble):
        return np.asarray(prompt.path, float)
    if isinstance(prompt, Lasso):
        return np.asarray((*prompt.path, prompt.path[0]), float)
    if isinstance(prompt, Box):
        low, high = np.asarray(prompt.low), np.asarray(prompt.high)
        across = axis if axis is not None else (prompt.flat_axis or 0)
        at = float(np.clip(shown, low[across], high[across])) if axis is not None else low[across]
        u, v = (k for k in range(3) if k != across)
        corners = np.repeat(low[None], 5, 0).astype(float)
        corners[:, across] = at
        corners[[1, 2], u] = high[u]
        corners[[2, 3], v] = high[v]
        if axis is None and prompt.flat_axis is None:
            other = corners.copy()
            other[:, across] = high[across]
            return np.concatenate([corners, other])
        return corners
    return np.zeros((0, 3))


def lines_on(prompt: Prompt, axis: int | None, shown: float) -> list[Line]:
    """Pieces of a prompt that a slice shows, laid into that slice."""
    path = outline(prompt, axis, shown)
    if len(path) == 1:
        path = np.concatenate([path, path])
    found = []
    for start, end in pairwise(path):
        strength = 1.0
        if axis is not None:
            away = abs((start[axis] + end[axis]) / 2 - shown)
            strength = FAINT.get(round(away), 0.0)
            if not strength:
                continue
            start, end = start.copy(), end.copy()
            start[axis] = end[axis] = shown
        found.append(Line(start, end, strength))
    return found


def begin(viewer: Viewer, case: Case, lines: bool = False) -> None:
    """Add the layers of prompts: making them takes longer than a click may take.

    That of lines is added once there are some.
    """
    image = case.image
    if image is None:
        return
    with selection_kept(viewer):
        if case.lines is None and lines:
            made = bare(
                viewer.add_vectors(
                    _no_lines(layer_axes(image)),
                    name=f"lines on {image.name}",
                    vector_style="line",
                    opacity=1.0,
                    **grid_like(image),
                )
            )
            made.editable = False
            case.keep(lines=made)
            layers = bare(viewer.layers)
            if case.points in layers:  # clicks stay above lines
                layers.move(layers.index(case.points), len(layers))
        if case.points is None:
            points = bare(
                viewer.add_points(
                    np.zeros((0, layer_axes(image))),
                    name=f"clicks on {image.name}",
                    canvas_size_limits=_CLICK_PIXELS,
                    **grid_like(image),
                )
            )
            points.editable = False
            case.keep(points=points)


def draw(
    viewer: Viewer,
    case: Case,
    prompts: Sequence[Prompt],
    waiting: int = 0,
    marked: int | None = None,
    sketch: Prompt | None = None,
    ghost: Sequence[Line] = (),
) -> None:
    """Show prompts as they look on the present slice.

    Parameters
    ----------
    prompts : sequence
        In voxels of the volume; of the last, `waiting` are not answered yet: the first of these
        is being computed, those behind it are drawn paler.
    marked : int, optional
        Which of them is marked.
    sketch : Prompt, optional
        What is being drawn.
    ghost : sequence of Line
        What else is drawn in the object's colour, such as the outline of a preview.
    """
    image = case.image
    if image is None:
        return
    every = [*prompts, *([sketch] if sketch is not None else [])]
    lined = bool(ghost) or any(not isinstance(p, Point | MaskPrompt) for p in every)
    if (case.points is None and every) or (case.lines is None and lined):
        begin(viewer, case, lined)
    axis, shown = _slice(viewer, image)
    queued = max(0, waiting - 1)
    strength = [1.0] * (len(prompts) - queued) + [0.5] * queued
    _draw_points(viewer, case, image, prompts, strength, marked, axis, shown)
    _draw_lines(viewer, case, image, prompts, strength, marked, sketch, ghost, axis, shown)


def _slice(viewer: Viewer, image: Image) -> tuple[int | None, int]:
    dims = viewer.dims
    if dims.ndisplay != 2:
        return None, 0
    return slice_at(image, dims.point, dims.order, dims.units)


def object_colour(case: Case) -> Colour:
    """Colour of the current object."""
    row = case.state.row(case.state.current)
    if row is not None and row.colour is not None:
        return row.colour
    name = (row.name if row is not None else "") or case.draft
    return colour_of(case.state.current, name)


def _draw_points(
    viewer: Viewer,
    case: Case,
    image: Image,
    prompts: Sequence[Prompt],
    strength: Sequence[float],
    marked: int | None,
    axis: int | None,
    shown: int,
) -> None:
    layer = case.points
    if layer is None:
        return
    edge = object_colour(case)
    asked = (*prompts, *strength, marked, axis, shown, edge, float(layer.scale[-1]))
    if layer.metadata.get(_ASKED) == asked:
        return
    layer.metadata[_ASKED] = asked
    found = [(k, p) for k, p in enumerate(prompts) if isinstance(p, Point)]
    positions = np.array([p.position for _, p in found], float).reshape(-1, 3)
    alpha = np.array([strength[k] for k, _ in found], float)
    if axis is not None and len(found):
        away = np.abs(np.rint(positions[:, axis]) - shown)
        alpha *= np.array([FAINT.get(int(slices), 1.0) for slices in away])
        near = away <= max(FAINT)
        positions[near, axis] = shown
    signs = [p.positive for _, p in found]
    edges = [_MARKED if k == marked else edge for k, _ in found]
    pairs = list(zip(signs, alpha, strict=True))
    look: dict[str, Any] = {
        "data": points_on(image, positions),
        "symbol": ["disc" if sign else "x" for sign in signs],
        "size": _click_size(case.volume, layer) * (0.5 + 0.5 * alpha),
        # Round a cross a border is a blot.
        "border_width": [
            0.2 if sign or colour == _MARKED else 0.0
            for sign, colour in zip(signs, edges, strict=True)
        ],
        "face_color": _rgba(unit(POSITIVE if s else NEGATIVE, a) for s, a in pairs),
        "border_color": _rgba(unit(e, a) for e, a in zip(edges, alpha, strict=True)),
    }
    _change(layer, look)


def _change(layer: Any, look: dict[str, Any]) -> None:
    """Give a layer what differs from what it was given last, and draw it once."""
    from napari.settings import get_settings

    before = layer.metadata.get(KEY, {})
    if before and all(_same(value, before[name]) for name, value in look.items()):
        return
    layer.metadata[KEY] = look
    shown = layer.visible
    with layer.events.blocker_all():
        # napari draws a layer again after each change: not one that is hidden.
        layer.visible = False
        if not before or not _same(look["data"], before["data"]):
            layer.data = look["data"]
        layer.symbol = look["symbol"]
        for name in ("size", "border_width", "face_color", "border_color"):
            getattr(layer, name)[:] = look[name]
        layer.visible = shown  # which slices it
    with unlisted(layer):
        if get_settings().experimental.async_:
            layer.refresh(extent=False, thumbnail=False, highlight=False)
        else:
            layer.events.set_data()


def _rgba(colours: Iterable[tuple[float, ...]]) -> Array:
    return np.array(list(colours), np.float32).reshape(-1, 4)


def _same(first: Any, second: Any) -> bool:
    return len(first) == len(second) and bool(np.array_equal(first, second))


def _draw_lines(
    viewer: Viewer,
    case: Case,
    image: Image,
    prompts: Sequence[Prompt],
    strength: Sequence[float],
    marked: int | None,
    sketch: Prompt | None,
    ghost: Sequence[Line],
    axis: int | None,
    shown: int,
) -> None:
    layer = case.lines
    if layer is None:
        return
    lines: list[Line] = []
    colours: list[tuple[float, float, float, float]] = []
    own, width = object_colour(case), line_width(viewer, layer)
    asked = (*prompts, *strength, marked, sketch, *ghost, axis, shown, own, width)
    if layer.metadata.get(_ASKED) == asked:
        return
    layer.metadata[_ASKED] = asked
    drawn = [(p, strength[k], k == marked) for k, p in enumerate(prompts)]
    if sketch is not None:
        drawn.append((sketch, 1.0, False))
    for prompt, weight, is_marked in drawn:
        colour = own if getattr(prompt, "positive", True) else NEGATIVE
        for line in lines_on(prompt, axis, shown):
            lines.append(line)
            colours.append(unit(_MARKED if is_marked else colour, weight * line.strength))
    lines += ghost
    colours += [unit(own, line.strength) for line in ghost]
    ends = [(line.start.tolist(), line.end.tolist()) for line in lines]
    look = (ends, colours, round(width, 4))
    if layer.metadata.get(KEY) == look:
        return
    layer.metadata[KEY] = look
    starts = points_on(image, np.array([e[0] for e in ends], float).reshape(-1, 3))
    stops = points_on(image, np.array([e[1] for e in ends], float).reshape(-1, 3))
    seen = layer.visible
    with layer.events.blocker_all():
        layer.visible = False
        vectors = np.stack([starts, stops - starts], axis=1)
        layer.data = vectors if len(vectors) else _no_lines(layer.ndim)
        if colours:
            layer.edge_color = np.array(colours)
        layer.edge_width = width
        layer.visible = seen
    with unlisted(layer):
        layer.refresh(extent=False, thumbnail=False)


def _no_lines(axes: int) -> Array:
    """Give vectors that show nothing.

    What napari (0.9.2) draws for no vectors has a corner too many where the layer has two axes and
    the view three; the error falls into Qt's drawing, which ends the program. One vector without
    length cannot be seen either.
    """
    return np.zeros((int(axes == 2), 2, axes))


def line_width(viewer: Viewer, layer: Any) -> float:
    """Thickness of a line in the layer's data units, so that it is the same on the screen."""
    zoom = float(viewer.scene.camera.zoom) or 1.0
    return _LINE_PIXELS / zoom / abs(float(layer.scale[-1]))


def _click_size(volume: Volume | None, layer: Any) -> float:
    """Diameter in the layer's data units; napari multiplies it by the last scale."""
    if volume is None:
        return 3.0
    width = float(np.median(np.array(volume.shape) * np.array(volume.spacing)))
    return width / _CLICKS_ACROSS / abs(float(layer.scale[-1]))
