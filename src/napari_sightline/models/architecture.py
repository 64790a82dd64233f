"""The families of networks that automatic models come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from napari_sightline.errors import ModelError
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.models.swin_unetr import SwinUnetrSizes, sizes_of_network


class Sizes(Protocol):
    """What makes one network of a family differ from another."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""

    @property
    def out_channels(self) -> int:
        """Channels of the logits."""

    @property
    def stride(self) -> int:
        """Voxels that each side of an input is a multiple of."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""

    def build(self, flash: bool = True) -> nn.Module:
        """Make the network, with random weights, in evaluation mode."""


def family_of_network(network: nn.Module) -> tuple[str, Sizes]:
    """Tell a network's family and sizes.

    Raises
    ------
    ModelError
        Where it is of none of the families.
    """
    return "swin_unetr", sizes_of_network(network)


def sizes_from_dict(family: str, values: Mapping[str, Any]) -> Sizes:
    """Read what ``to_dict`` of a family's sizes gave, after a trip through JSON."""
    if family == "swin_unetr":
        return SwinUnetrSizes.from_dict(values)
    raise ModelError(
        f"The model is of the family {family!r}, which this version does not know; "
        "update napari-sightline."
    )


def check_fit(sizes: Sizes, spec: SegmenterSpec) -> None:
    """Refuse facts that do not fit a network.

    Raises
    ------
    ModelError
        Where channels, structures or window are not what the network has.
    """
    if len(spec.channels) != sizes.in_channels:
        raise ModelError(
            f"The network of {spec.name!r} takes {sizes.in_channels} channels, but "
            f"{len(spec.channels)} are named ({', '.join(spec.channels)}); name each once."
        )
    if spec.outputs != sizes.out_channels:
        raise ModelError(
            f"The network of {spec.name!r} gives {sizes.out_channels} channels, but its structures "
            f"need {spec.outputs}; name the structure of each channel"
            f"{'' if spec.overlapping else ' after the background'}."
        )
    if any(side <= 0 or side % sizes.stride for side in spec.roi):
        raise ModelError(
            f"The window of {spec.name!r}, {' x '.join(map(str, spec.roi))} voxels, does not fit "
            f"the network; choose multiples of {sizes.stride}."
        )
