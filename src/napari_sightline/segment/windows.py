"""Where the windows of a sliding window lie, and how much each voxel of one counts.

Positions and weights are those of ``monai.inferers.sliding_window_inference`` with
``mode="gaussian"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sightline.errors import BadInput
from napari_sightline.orientation import Shape

if TYPE_CHECKING:
    from torch import Tensor

#: Standard deviation of the weights, in sides of a window, and the least weight.
SIGMA, LEAST = 0.125, 1e-3


@dataclass(frozen=True)
class Windows:
    """Windows over a volume.

    Attributes
    ----------
    size : tuple of 3 int
        Voxels of the volume.
    roi : tuple of 3 int
        Voxels of a window.
    padded : tuple of 3 int
        Voxels of the volume once it is filled up to at least one window.
    before : tuple of 3 int
        Voxels filled in before the volume's first.
    starts : tuple of 3 tuples of int
        First voxels of the windows along each axis, in the padded volume, ascending.
    """

    size: Shape
    roi: Shape
    padded: Shape
    before: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def over(cls, size: Shape, roi: Shape, overlap: float) -> Windows:
        """Lay windows over a volume.

        Parameters
        ----------
        size, roi : tuple of 3 int
            Voxels of the volume and of a window.
        overlap : float
            Share of a window that the next one sees again.

        Raises
        ------
        BadInput
            Where the overlap is not in 0 .. <1.
        """
        if not 0 <= overlap < 1:
            raise BadInput(f"An overlap of {overlap:g} is not possible; give 0 to less than 1.")
        padded = tuple(max(n, r) for n, r in zip(size, roi, strict=True))
        before = tuple((p - n) // 2 for n, p in zip(size, padded, strict=True))
        starts = tuple(_starts(p, r, overlap) for p, r in zip(padded, roi, strict=True))
        a, b, c = padded
        d, e, f = before
        return cls(size, roi, (a, b, c), (d, e, f), (starts[0], starts[1], starts[2]))

    def __len__(self) -> int:
        a, b, c = self.starts
        return len(a) * len(b) * len(c)

    def sweep_axis(self) -> int:
        """Axis along which the windows sweep so that least needs to be kept."""
        a, b, c = self.padded
        kept = [n * b * c * a // m for n, m in zip(self.roi, self.padded, strict=True)]
        return kept.index(min(kept))


def _starts(size: int, roi: int, overlap: float) -> tuple[int, ...]:
    step = roi if roi == size else max(1, int(roi * (1 - overlap)))
    starts = [0]
    while starts[-1] + roi < size:
        starts.append(min(starts[-1] + step, size - roi))
    return tuple(starts)


def importance_map(roi: Shape) -> Tensor:
    """Weight of each voxel of a window, float32: a Gaussian round its centre."""
    import torch

    result = torch.ones(())
    for side in roi:
        x = torch.arange(-(side - 1) / 2, (side - 1) / 2 + 1, dtype=torch.float32)
        result = result[..., None] * torch.exp(x**2 / (-2 * (SIGMA * side) ** 2))
    return result.clamp(min=max(float(result.min()), LEAST))
