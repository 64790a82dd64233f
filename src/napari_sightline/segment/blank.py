"""Places of a scan that were never reconstructed: nothing can be found there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def leave_out_blank(labels: npt.NDArray[Any], image: npt.NDArray[Any], value: float) -> int:
    """Clear labels, in place, where a scan is blank; how many voxels that were.

    A voxel is blank where it lies in a cube of 3 x 3 x 3 voxels, cut off at the scan's border, that
    has its centre in the scan and is at or below `value` all over: an opening, which leaves single
    voxels of noisy air alone. Only the boxes of structures are looked at.

    Parameters
    ----------
    labels : ndarray
        Label values ``(d0, d1, d2)``, or masks that may overlap ``(k, d0, d1, d2)``.
    image : ndarray, shape (d0, d1, d2)
        The scan.
    value : float
        Such as -1024 HU.
    """
    from scipy import ndimage

    count = 0
    for layer in [labels] if labels.ndim == 3 else list(labels):
        whole = layer.view(np.uint8) if layer.dtype == bool else layer
        for k, box in enumerate(ndimage.find_objects(whole)):
            if box is None:
                continue
            blank = _blank(image, box, value)
            if blank is None:
                continue
            lost = blank & (whole[box] == k + 1)
            layer[box][lost] = 0
            count += int(np.count_nonzero(lost))
    return count


def _blank(
    image: npt.NDArray[Any], box: tuple[slice, ...], value: float
) -> npt.NDArray[np.bool_] | None:
    """Blank voxels of a box; None where there are none."""
    from scipy import ndimage

    # What an opening within the box depends on: two voxels around it.
    wide = tuple(
        slice(max(0, s.start - 2), min(n, s.stop + 2))
        for s, n in zip(box, image.shape, strict=True)
    )
    low = image[wide] <= value
    if not low.any():
        return None
    cube = np.ones((3, 3, 3), bool)
    centres = ndimage.binary_erosion(low, cube, border_value=1)
    inner = tuple(
        slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True)
    )
    opened = ndimage.binary_dilation(centres, cube)
    return np.asarray(opened[inner])
