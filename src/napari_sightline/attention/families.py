"""The families of models that the recorder knows; importing this registers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sightline.attention import (  # noqa: F401
    tokens_sam,
    tokens_sightline,
    tokens_swin,
    tokens_vit,
)

if TYPE_CHECKING:
    from torch import nn

_NAMES = {"Sightline3D": "sightline-3d"}


def model_name(network: nn.Module) -> str:
    """Name of a model for people."""
    name = type(network).__name__
    return _NAMES.get(name, name)
