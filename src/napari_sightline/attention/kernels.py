"""Swin's relative position bias as small kernels: where a head looks whatever the picture shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput

if TYPE_CHECKING:
    from torch import nn


def position_kernels(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Read the relative position bias of each head of each block.

    Parameters
    ----------
    network : torch.nn.Module
        With MONAI's window attention somewhere in it.

    Returns
    -------
    dict of str to numpy.ndarray
        By the module's name: ``(heads, 2 d - 1, 2 h - 1, 2 w - 1)`` float32 for a window of
        ``d x h x w`` tokens. The middle is the query itself; ``[..., +k]`` from there is a key that
        lies ``k`` tokens further along the axis. It is added to the scores before softmax (Liu et
        al., "Swin Transformer", 2021).

    Raises
    ------
    BadInput
        Where the network has no such bias.
    """
    found = {}
    for name, module in network.named_modules():
        table = getattr(module, "relative_position_bias_table", None)
        window = getattr(module, "window_size", None)
        if table is None or window is None:
            continue
        sides = [2 * int(n) - 1 for n in window]
        kernel = table.detach().float().cpu().numpy().T.reshape(-1, *sides)
        # The table counts query minus key.
        found[name] = np.ascontiguousarray(np.flip(kernel, tuple(range(1, kernel.ndim))))
    if not found:
        raise BadInput("The model has no relative position bias; only Swin-UNETR has one.")
    return found
