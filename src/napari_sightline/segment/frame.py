"""The axes of a network, seen from the canonical axes of a `Volume`: flips and a transpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.orientation import Array
from napari_sightline.segment.resample import Grid

# Letter of each canonical direction (superior, posterior, left), and of its opposite.
_LETTERS = {"S": (0, False), "I": (0, True), "P": (1, False), "A": (1, True)}
_LETTERS |= {"L": (2, False), "R": (2, True)}


@dataclass(frozen=True)
class Frame:
    """Where a network's axes run.

    Attributes
    ----------
    axes : tuple of 3 int
        ``axes[k]`` is the canonical axis along which the network's axis ``k`` runs.
    flips : tuple of 3 bool
        Whether the network's axis ``k`` runs against that canonical axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, orientation: str) -> Frame:
        """Read directions as nibabel writes them: ``"RAS"``, ``"SPL"``.

        Raises
        ------
        BadInput
            Where these are not three directions at right angles.
        """
        found = [_LETTERS.get(letter) for letter in orientation.upper()]
        steps = [step for step in found if step is not None]
        if len(found) != 3 or sorted(axis for axis, _ in steps) != [0, 1, 2]:
            raise BadInput(
                f"The orientation {orientation!r} does not name three directions; "
                "give one letter each of R or L, A or P, S or I, such as RAS."
            )
        (a, f), (b, g), (c, h) = steps
        return cls((a, b, c), (f, g, h))

    def from_canonical(self, array: Array) -> Array:
        """View the last three axes (superior, posterior, left) in the network's order."""
        lead = tuple(range(array.ndim - 3))
        turned = array.transpose(*lead, *(len(lead) + axis for axis in self.axes))
        return turned[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]

    def to_canonical(self, array: Array) -> Array:
        """View the last three axes, in the network's order, as superior, posterior, left."""
        lead = tuple(range(array.ndim - 3))
        turned = array[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        return turned.transpose(*lead, *(len(lead) + int(k) for k in np.argsort(self.axes)))


def working_spacing(
    own: tuple[float, float, float], spec: SegmenterSpec
) -> tuple[float, float, float]:
    """Millimetres along the canonical axes on which a model reads a scan of spacing `own`."""
    if spec.spacing is None:
        return own
    result = list(own)
    for wished, axis in zip(spec.spacing, Frame.of(spec.orientation).axes, strict=True):
        # Headers round: a thousandth is the same spacing.
        factor = max(spec.spacing_range, 1.001)
        if not 1 / factor <= own[axis] / wished <= factor:
            result[axis] = wished
    return result[0], result[1], result[2]


def window_affine(frame: Frame, grid: Grid, corner: Sequence[int]) -> npt.NDArray[np.float64]:
    """Affine from a window's voxels, as the network sees it, to the volume's canonical voxels.

    Parameters
    ----------
    frame : Frame
        The network's axes.
    grid : Grid
        Scan and working grid, in the network's axes.
    corner : sequence of 3 int
        The window's first voxel on the working grid.

    Returns
    -------
    ndarray, shape (4, 4)
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for k in range(3):
        step, first = grid.steps[k], grid.origin(k) + grid.steps[k] * corner[k]
        if frame.flips[k]:
            step, first = -step, grid.source[k] - 1 - first
        affine[frame.axes[k], k] = step
        affine[frame.axes[k], 3] = first
    return affine
