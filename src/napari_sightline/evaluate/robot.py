"""A robot user that clicks where a mask is most wrong.

The protocol of the CVPR 2025 challenge on interactive 3D segmentation: the
largest 26-connected component of the error, its deepest voxel, positive where
the truth is inside the structure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.metrics import bounding_box
from napari_sightline.prompts import Box, Point

SEED = 42


def simulate_click(
    pred: npt.ArrayLike,
    truth: npt.ArrayLike,
    spacing: tuple[float, float, float] | None = None,
    rng: np.random.Generator | int = SEED,
    noisy: bool = False,
) -> Point | None:
    """Click the deepest voxel of the largest error.

    The edge of the array counts as a border: what lies beyond the picture is
    not error, so a component cut off by the edge is not deepest there.

    Parameters
    ----------
    pred, truth
        Masks of one structure, equal 3D shape; non-zero is inside.
    spacing
        None measures depth in voxels, as the challenge does. Millimetres per
        voxel measure it in mm.
    rng
        Generator or seed that breaks ties between equally deep voxels (and
        draws the click of a noisy user). A seed starts anew at every call.
    noisy
        Draw the click from the whole component, with a probability that grows
        in proportion to the distance to its border.

    Returns
    -------
    Point or None
        Voxel indices on the masks' grid; None where there is no error.

    Raises
    ------
    BadInput
        Where the masks are not 3D or their shapes differ.

    Notes
    -----
    Of components of equal size, the one met first in C order is taken.
    """
    p, t = np.asarray(pred), np.asarray(truth)
    if p.ndim != 3 or p.shape != t.shape:
        raise BadInput(
            f"The robot user needs two 3D masks on one grid, not shapes {p.shape} and {t.shape}; "
            "give prediction and truth of the same volume."
        )
    error = p.astype(bool, copy=False) != t.astype(bool, copy=False)
    found = _largest_component(error)
    if found is None:
        return None
    component, offset = found
    depth = _squared_depth(component, spacing)
    generator = np.random.default_rng(rng) if isinstance(rng, int) else rng
    if noisy:
        candidates = np.flatnonzero(component)
        weight = np.sqrt(depth.ravel()[candidates].astype(float))
        chosen = int(generator.choice(candidates, p=weight / weight.sum()))
    else:
        candidates = np.flatnonzero(depth >= depth.max() * (1 - 1e-6))
        chosen = int(generator.choice(candidates))
    inside = np.unravel_index(chosen, component.shape)
    i, j, k = (int(a) + o for a, o in zip(inside, offset, strict=True))
    return Point((float(i), float(j), float(k)), positive=bool(t[i, j, k]))


def simulate_box(
    truth: npt.ArrayLike, rng: np.random.Generator | int = SEED, jitter: float = 0.0
) -> Box | None:
    """Box round the truth, for the variant that starts with a box.

    Parameters
    ----------
    truth
        Mask of one structure, 3D; non-zero is inside.
    rng
        Generator or seed of the jitter.
    jitter
        Each face moves by up to this share of the box's side, clipped to the array.

    Returns
    -------
    Box or None
        Inclusive corners in voxel indices; None where the truth is empty.
    """
    t = np.asarray(truth)
    box = bounding_box(t)
    if box is None:
        return None
    low = np.array([s.start for s in box], dtype=float)
    high = np.array([s.stop - 1 for s in box], dtype=float)
    if jitter > 0:
        generator = np.random.default_rng(rng) if isinstance(rng, int) else rng
        reach = jitter * (high - low + 1)
        low = np.round(low + generator.uniform(-reach, reach))
        high = np.round(high + generator.uniform(-reach, reach))
        last = np.array(t.shape, dtype=float) - 1
        low, high = np.clip(np.minimum(low, high), 0, last), np.clip(np.maximum(low, high), 0, last)
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _largest_component(
    error: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], tuple[int, int, int]] | None:
    """Mask of the largest 26-connected component in its own box, and the box's corner."""
    import cc3d

    box = bounding_box(error)
    if box is None:
        return None
    labels = cc3d.connected_components(np.ascontiguousarray(error[box]), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    component = labels == int(sizes.argmax())
    inner = bounding_box(component)
    assert inner is not None  # the largest component is never empty
    i, j, k = (a.start + b.start for a, b in zip(box, inner, strict=True))
    return np.ascontiguousarray(component[inner]), (i, j, k)


def _squared_depth(
    component: npt.NDArray[np.bool_], spacing: tuple[float, float, float] | None
) -> npt.NDArray[np.float32]:
    """Squared distance of every voxel of a component to the nearest voxel outside it.

    The component fills its array's box, so the array's border is its border too.
    In voxels these are whole numbers, and ties are exact.
    """
    import edt

    squared: npt.NDArray[np.float32] = edt.edtsq(
        component,
        anisotropy=(1.0, 1.0, 1.0) if spacing is None else spacing,
        black_border=True,
        parallel=1,
    )
    return squared
