"""Normalisation of MONAI's convolutional blocks, told from their tensors."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

Norm = Literal["instance", "instance_affine", "batch"]

#: MONAI's argument for each.
NORMS: dict[str, Any] = {
    "instance": "instance",
    "instance_affine": ("instance", {"affine": True}),
    "batch": "batch",
}


def norm_of(names: Container[str], layer: str) -> Norm:
    """Tell a layer's normalisation from the names of a state dict.

    Group normalisation has the same two tensors as instance normalisation with weights; the
    latter is taken.
    """
    if f"{layer}.running_mean" in names:
        return "batch"
    return "instance_affine" if f"{layer}.weight" in names else "instance"
