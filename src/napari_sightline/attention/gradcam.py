"""Seg-Grad-CAM: the reference that needs no attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.probe import Probe
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.errors import BadInput

#: Convolutional layers that end where attention begins (or would), by the network's class.
LAYERS = {
    "Sightline3D": "down.2",
    "SwinUNETR": "encoder10",
    "UNETR": "encoder4",
    "DynUNet": "bottleneck",
}


def seg_grad_cam(
    probe: Probe, mask: npt.NDArray[np.bool_] | None = None, layer: str | None = None
) -> AttentionMap:
    """Weight a layer's channels by the gradient of the mask's logits.

    Vinogradova, Dibrov & Myers, "Towards interpretable semantic segmentation via gradient-weighted
    class activation mapping" (2020): ``relu(sum_k a_k F_k)`` with ``a_k`` the mean over the
    layer of the gradient of the logits, summed over the mask, by the channel ``F_k``.

    Parameters
    ----------
    probe : Probe
        What to run.
    mask : numpy.ndarray, optional
        ``(D, H, W)`` bool on the network's grid; where the logit is above 0 by default.
    layer : str, optional
        Name of a module that gives ``(1, K, d, h, w)``; see `LAYERS`.

    Returns
    -------
    AttentionMap
        One row, over its largest, on the layer's own grid.

    Raises
    ------
    BadInput
        Where the layer is not there, or the mask is empty.
    """
    name = layer or LAYERS.get(type(probe.network).__name__, "")
    try:
        module = probe.network.get_submodule(name) if name else None
    except AttributeError:
        module = None
    if module is None:
        raise BadInput(f"{probe.model} has no layer {name!r}; name one that gives feature maps.")
    kept: list[Tensor] = []

    def keep(_: Any, __: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = module.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = probe.logits(probe.image.clone().requires_grad_(True))
            positive = logits.detach() > 0
            chosen = positive if mask is None else torch.from_numpy(mask).to(logits.device)
            if not bool(chosen.any()):
                raise BadInput(
                    f"{probe.model} found nothing of {probe.structure} here to explain; "
                    "place a prompt, or choose a voxel inside a structure."
                )
            logits[chosen].sum().backward()
    finally:
        hook.remove()
    features = kept[-1]
    if features.ndim != 5 or features.grad is None:
        raise BadInput(f"The layer {name!r} of {probe.model} gives no feature maps; name another.")
    weights = features.grad.mean((2, 3, 4), keepdim=True)
    values = (weights * features.detach()).sum(1)[0].clamp(min=0).float().cpu().numpy()
    a, b, c = values.shape
    d, e, f = (n / m for n, m in zip(probe.frame.shape, values.shape, strict=True))
    flat = values.reshape(1, -1) / max(float(values.max()), 1e-30)
    return AttentionMap(
        flat.astype(np.float32),
        np.arange(flat.shape[1]),
        TokenGrid.whole((a, b, c), (d, e, f)),
        probe.frame,
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
        f"Seg-Grad-CAM for {probe.structure}",
        probe.model,
        f"layer {name}",
        ("no heads",),
        unit="weighted activation over its largest",
    )
