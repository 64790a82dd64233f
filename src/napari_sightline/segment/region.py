"""The working grid: an isotropic region of a volume on which a network looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_sightline.volume import Box3

#: Native slices that are resampled at once, about: bounds the memory of a large region.
_CHUNK = 16
#: Samples of the result that are made by one product.
_BAND = 16


@dataclass(frozen=True)
class Region:
    """A grid of cubic voxels, axes along the volume's own.

    Parameters
    ----------
    origin : tuple of 3 float
        Where the centre of the region's first voxel lies, in voxels of the volume.
    step : tuple of 3 float
        Voxels of the volume per voxel of the region, along each axis.
    shape : tuple of 3 int
        Voxels of the region.
    spacing : float
        Millimetres per voxel of the region.
    """

    origin: tuple[float, float, float]
    step: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing: float

    def to_region(self, points: np.ndarray) -> np.ndarray:
        """Turn voxels of the volume ``(..., 3)`` into voxels of the region."""
        return (np.asarray(points, float) - self.origin) / self.step

    def to_volume(self, points: np.ndarray) -> np.ndarray:
        """Turn voxels of the region ``(..., 3)`` into voxels of the volume."""
        return np.asarray(points, float) * self.step + self.origin

    def holds(self, points: np.ndarray, volume_shape: tuple[int, ...], margin: float = 0) -> bool:
        """Whether points ``(N, 3)`` of the volume lie inside, `margin` region voxels off its faces.

        Faces at or beyond the volume's own need no margin.
        """
        low, high = self._bounds(volume_shape, margin)
        return bool(np.all((points >= low) & (points <= high)))

    def _bounds(
        self, volume_shape: tuple[int, ...], margin: float
    ) -> tuple[np.ndarray, np.ndarray]:
        last = np.array(volume_shape) - 1
        low = self.to_volume(np.full(3, margin - 0.5))
        high = self.to_volume(np.array(self.shape) - 0.5 - margin)
        low = np.where(self.to_volume(np.zeros(3)) <= 0.5, -0.5, low)
        return low, np.where(
            self.to_volume(np.array(self.shape) - 1) >= last - 0.5, last + 0.5, high
        )

    def open_faces(self, volume_shape: tuple[int, ...]) -> np.ndarray:
        """Which faces ``(3, 2)`` (low, high) have volume beyond them."""
        low, high = self._bounds(volume_shape, 0)
        last = np.array(volume_shape) - 1
        return np.stack([low > -0.5, high < last + 0.5], 1)

    def box(self, volume_shape: tuple[int, ...]) -> Box3:
        """Voxels of the volume whose centres lie inside the region."""
        low = np.ceil(self.to_volume(np.full(3, -0.5)) - 1e-6).astype(int)
        high = np.floor(self.to_volume(np.array(self.shape) - 0.5) + 1e-6).astype(int) + 1
        low, high = np.maximum(low, 0), np.minimum(high, volume_shape)
        a, b, c = (slice(int(i), max(int(i), int(j))) for i, j in zip(low, high, strict=True))
        return a, b, c

    def extract(self, data: np.ndarray, fill: float) -> np.ndarray:
        """Resample a volume onto the region, linearly; where it gets coarser, averaging.

        Parameters
        ----------
        data : numpy.ndarray
            ``(d0, d1, d2)``, any real dtype; may be memory-mapped or a view.
        fill : float
            Value outside the volume and of voxels that are not finite.

        Returns
        -------
        numpy.ndarray
            Region's shape, float32.
        """
        weights = [
            _weights(n, m, o, s)
            for n, m, o, s in zip(self.shape, data.shape, self.origin, self.step, strict=True)
        ]
        used = [np.flatnonzero(w.any(0)) for w in weights]
        out = np.zeros(self.shape, np.float32)
        if all(len(u) for u in used):
            inner = tuple(slice(int(u[0]), int(u[-1]) + 1) for u in used)
            w0, w1, w2 = (w[:, s] for w, s in zip(weights, inner, strict=True))
            for slices, span in _bands(w0, max(1, round(_CHUNK / self.step[0]))):
                first = inner[0].start
                source = slice(span.start + first, span.stop + first)
                chunk = np.array(data[source, inner[1], inner[2]], dtype=np.float32, order="C")
                if data.dtype.kind == "f":
                    np.nan_to_num(chunk, copy=False, nan=fill, posinf=fill, neginf=fill)
                out[slices] = _resampled(chunk, w0[slices, span], w1, w2)
        inside = [w.any(1) for w in weights]
        for axis, mask in enumerate(inside):
            if not mask.all():
                np.moveaxis(out, axis, 0)[~mask] = fill
        return out

    def restore(self, grid: np.ndarray, box: Box3) -> Iterator[tuple[slice, np.ndarray]]:
        """Resample a grid of the region back onto voxels of the volume, linearly, in slabs.

        Parameters
        ----------
        grid : numpy.ndarray
            Region's shape.
        box : tuple of slice
            Voxels of the volume that are wanted.

        Yields
        ------
        tuple
            Slices along the box's first axis (counted from the box), and their float32 values.
        """
        import torch

        weights = []
        for axis, part in enumerate(box):
            n = self.shape[axis]
            start = (part.start - self.origin[axis]) / self.step[axis]
            step = 1 / self.step[axis]
            weights.append(_weights(part.stop - part.start, n, start, step, clamp=True))
        w0, w1, w2 = (torch.from_numpy(w) for w in weights)
        planes = w1 @ (torch.from_numpy(np.ascontiguousarray(grid, np.float32)) @ w2.T)
        for rows, near in _bands(weights[0], _CHUNK):
            values = (w0[rows, near] @ planes[near].flatten(1)).view(-1, *planes.shape[1:])
            yield rows, values.numpy()


def _resampled(chunk: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    """Apply a matrix ``(out, in)`` along each axis of some slices.

    By torch: numpy's products wait actively for threads of their own, and take ten times as long
    while a network or the window has the cores.
    """
    import torch

    w0, w1, w2 = (torch.from_numpy(np.ascontiguousarray(w)) for w in weights)
    x = torch.from_numpy(np.ascontiguousarray(chunk))
    planes = (w0 @ x.flatten(1)).view(len(w0), *x.shape[1:])
    lines = planes.new_zeros(len(w0), len(w1), x.shape[2])
    for rows, near in _bands(weights[1], _BAND):
        lines[:, rows] = w1[rows, near] @ planes[:, near]
    out = planes.new_zeros(len(w0), len(w1), len(w2))
    for columns, near in _bands(weights[2], _BAND):
        out[..., columns] = lines[..., near] @ w2[columns, near].T
    return out.numpy()


def _bands(weights: np.ndarray, count: int) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix of weights into bands of rows, each with the columns it needs.

    A row is zero but for a few columns that follow each other; the products leave the zeros out.
    """
    for start in range(0, len(weights), count):
        rows = slice(start, min(start + count, len(weights)))
        near = np.flatnonzero(weights[rows].any(0))
        if len(near):
            yield rows, slice(int(near[0]), int(near[-1]) + 1)


def _weights(
    count: int, length: int, origin: float, step: float, clamp: bool = False
) -> np.ndarray:
    """Rows ``(count, length)`` that interpolate at ``origin + step * i``; zero outside.

    Linear, and a tent as wide as the step where that is over one sample (no aliasing). With
    `clamp`, positions outside take the nearest sample.
    """
    position = origin + step * np.arange(count)
    outside = (position < -0.5 - 1e-6) | (position > length - 0.5 + 1e-6)
    position = position.clip(0, length - 1)
    width = max(1.0, step)
    weights = 1 - np.abs(np.arange(length)[None] - position[:, None]) / width
    weights = np.maximum(weights, 0)
    weights /= weights.sum(1, keepdims=True)
    if not clamp:
        weights[outside] = 0
    return weights.astype(np.float32)


def plan(
    volume_shape: tuple[int, ...],
    volume_spacing: tuple[float, ...],
    spacing: float,
    centre: np.ndarray,
    budget: int,
    stride: int = 16,
) -> Region:
    """Lay a region of a working spacing round a place.

    Its sides are multiples of `stride`, as long as the volume or until `budget` voxels are used
    up, longer axes shortened first; shifted so that little of it lies outside the volume, and
    snapped to a lattice, so that neighbouring clicks share one region.

    Parameters
    ----------
    volume_shape, volume_spacing : tuple
        Voxels, and mm per voxel.
    spacing : float
        Working spacing, mm.
    centre : numpy.ndarray
        ``(3,)``, voxels of the volume.
    budget : int
        Voxels that the region may have.
    stride : int
        Whole number of which each side is a multiple.
    """
    extent = np.array(volume_shape) * np.array(volume_spacing)
    step = spacing / np.array(volume_spacing)
    wanted = np.ceil(np.ceil(extent / spacing - 1e-6) / stride).astype(int).clip(1)
    shape = wanted.copy()
    while np.prod(shape * stride) > budget and shape.max() > 1:
        shape[np.argmax(shape)] -= 1
    size = shape * stride
    # First voxel's centre so that the region is centred on the place, on a lattice of one stride.
    first = centre / step - (size - 1) / 2
    first = np.round(first / stride) * stride
    # Lattice of the volume's own first face, in voxels of the region.
    face = -0.5 / step + 0.5
    top = (np.array(volume_shape) - 0.5) / step - 0.5 - (size - 1)
    first = face + first
    whole = shape >= wanted
    first = np.where(whole, (face + top) / 2, np.clip(first, face, np.maximum(face, top)))
    origin = first * step
    return Region(
        (float(origin[0]), float(origin[1]), float(origin[2])),
        (float(step[0]), float(step[1]), float(step[2])),
        (int(size[0]), int(size[1]), int(size[2])),
        float(spacing),
    )
