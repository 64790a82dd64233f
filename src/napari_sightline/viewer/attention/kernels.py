"""Relative position bias of Swin's heads, as small 3D kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass


def bias_kernels(one: Pass, block: int) -> npt.NDArray[np.float32]:
    """Bias that each head adds for a key, by its offset from the query.

    Liu et al., "Swin Transformer" (2021), eq. 4: ``softmax(q k^T / sqrt(d) + B)`` with ``B`` taken
    from a table by the offset between query and key.

    Parameters
    ----------
    one : Pass
        A recorded pass.
    block : int
        Number of the call.

    Returns
    -------
    numpy.ndarray
        ``(heads, D, H, W)`` float32 along superior, posterior, left; offset 0 is the middle, and
        the value at ``middle + o`` is for a key ``o`` tokens away from the query.

    Raises
    ------
    BadInput
        Where the block has no such bias.
    ModelError
        Where the weights changed since.
    """
    one.check()
    call, network = one.call(block), one.network
    module = None if network is None else dict(network.named_modules()).get(call.module)
    table = getattr(module, "relative_position_bias_table", None)
    window = getattr(module, "window_size", None)
    if table is None or window is None:
        raise BadInput(
            f"{one.model} has no relative position bias in this block; Swin-UNETR's blocks do."
        )
    sides = [2 * int(w) - 1 for w in window]
    kernels = table.detach().float().cpu().numpy().T.reshape(-1, *sides)
    kernels = np.flip(kernels, tuple(range(1, kernels.ndim)))  # the table counts query minus key
    while kernels.ndim < 4:
        kernels = kernels[:, None]
    if not one.frames:
        return np.ascontiguousarray(kernels)
    linear = one.frames[0].affine[:3, :3]
    order = [int(np.argmax(np.abs(row))) for row in linear]
    if sorted(order) != [0, 1, 2]:
        raise BadInput(
            f"The window of {one.model} is turned against the scan; its bias has no axes."
        )
    kernels = kernels.transpose(0, *(1 + axis for axis in order))
    against = tuple(1 + axis for axis in range(3) if linear[axis, order[axis]] < 0)
    return np.ascontiguousarray(np.flip(kernels, against) if against else kernels)
