"""Which prompt lies under the pointer, how a prompt is moved, and what a ray meets in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_sightline.orientation import Array
from napari_sightline.prompts import Box, Lasso, Point, Position, Prompt, Scribble
from napari_sightline.viewer.marks import lines_on


def prompt_at(
    prompts: Sequence[Prompt],
    place: Position,
    axis: int,
    size: Sequence[float],
    reach: float,
) -> int | None:
    """Find the prompt of the shown slice under the pointer, the latest first.

    Parameters
    ----------
    prompts : sequence
        Of the current object.
    place : tuple of 3 float
        Voxel under the pointer.
    axis : int
        Across the canvas.
    size : sequence of 3 float
        Pixels on the screen per voxel, along each axis.
    reach : float
        How near, in pixels.
    """
    here, scale = np.asarray(place), np.asarray(size, float)
    for index in range(len(prompts) - 1, -1, -1):
        prompt = prompts[index]
        if isinstance(prompt, Point):
            if round(prompt.position[axis]) == round(place[axis]):
                away = (np.asarray(prompt.position) - here) * scale
                away[axis] = 0.0
                if float(np.linalg.norm(away)) <= reach:
                    return index
            continue
        for line in lines_on(prompt, axis, round(place[axis])):
            if line.strength == 1.0 and _distance(line.start, line.end, here, scale, axis) <= reach:
                return index
    return None


def _distance(start: Array, end: Array, here: Array, scale: Array, axis: int) -> float:
    """Pixels from a place to a piece of a line."""
    a, b, p = start * scale, end * scale, here * scale
    a[axis] = b[axis] = p[axis] = 0.0
    along = b - a
    length = float(along @ along)
    t = 0.0 if length == 0 else float(np.clip((p - a) @ along / length, 0.0, 1.0))
    return float(np.linalg.norm(p - a - t * along))


def moved(prompt: Prompt, by: Sequence[float], shape: Sequence[int]) -> Prompt:
    """Move a prompt by so many voxels, as far as it stays within a volume of `shape`."""
    low, high = (np.asarray(corner) for corner in prompt.bounds)
    step = np.clip(np.asarray(by, float), -low, np.asarray(shape) - 1 - high)

    def shift(position: Position) -> Position:
        a, b, c = (float(v) for v in np.asarray(position) + step)
        return a, b, c

    if isinstance(prompt, Point):
        return replace(prompt, position=shift(prompt.position))
    if isinstance(prompt, Box):
        return Box(shift(prompt.low), shift(prompt.high))
    if isinstance(prompt, Scribble | Lasso):
        return replace(prompt, path=tuple(shift(position) for position in prompt.path))
    return prompt


def within(place: Sequence[float], shape: Sequence[int]) -> Position:
    """Nearest position inside a volume."""
    a, b, c = (float(v) for v in np.clip(np.asarray(place, float), 0, np.asarray(shape) - 1))
    return a, b, c


def on_ray(
    start: Sequence[float],
    end: Sequence[float],
    voxels: Array,
    threshold: float,
    labels: Array | None = None,
    number: int = 0,
) -> Position | None:
    """Tell where a ray meets a mask, or else the first voxel above a threshold.

    Parameters
    ----------
    start, end : sequence of 3 float
        Where the ray enters and leaves the volume, voxels.
    voxels : ndarray, shape (n0, n1, n2)
        The volume.
    threshold : float
        Values above it are seen.
    labels : ndarray of int, shape (n0, n1, n2), optional
        Label image; voxels of `number` are the mask.

    Returns
    -------
    tuple of 3 float or None
        A voxel's centre; None where the ray meets nothing.
    """
    first, last = np.asarray(start, float), np.asarray(end, float)
    count = max(2, int(np.ceil(2 * np.abs(last - first).max())) + 1)
    places = first + (last - first) * np.linspace(0, 1, count)[:, None]
    indices = np.rint(places).astype(int)
    indices = indices[np.all((indices >= 0) & (indices < voxels.shape), axis=1)]
    if not len(indices):
        return None
    where = tuple(indices.T)
    found = np.zeros(len(indices), bool) if labels is None else np.asarray(labels[where]) == number
    if not found.any():
        found = np.asarray(voxels[where]) > threshold
    if not found.any():
        return None
    a, b, c = (float(v) for v in indices[int(np.argmax(found))])
    return a, b, c
