"""The families of networks that automatic models come in, told from a state dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from napari_sightline.errors import ModelError
from napari_sightline.models import dynunet, swin_unetr, unetr
from napari_sightline.models.segmenter import SegmenterSpec

#: Names by which people know the families.
FAMILIES = {"swin_unetr": "Swin-UNETR", "unetr": "UNETR", "dynunet": "DynUNet"}
_NAMED = "Swin-UNETR, UNETR or DynUNet"


class Sizes(Protocol):
    """What makes one network of a family differ from another."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""

    @property
    def out_channels(self) -> int:
        """Channels of the logits."""

    @property
    def strides(self) -> tuple[int, int, int]:
        """Voxels along each axis that a side of an input is a multiple of."""

    @property
    def only_input(self) -> tuple[int, int, int] | None:
        """The only size it takes, or None."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""

    def build(self, flash: bool = True) -> nn.Module:
        """Make the network, with random weights, in evaluation mode."""


def find_network(state: Mapping[str, Tensor], name: str) -> tuple[str, dict[str, Tensor]]:
    """Tell the family of a state dict, and take off whatever stands before its names.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        Names of a network of one of the `FAMILIES`, with any prefix; other names beside them
        (losses, metrics) are left out.
    name : str
        Of the checkpoint, for messages.

    Returns
    -------
    tuple
        One of `FAMILIES`, and the state dict under MONAI's own names.

    Raises
    ------
    ModelError
        Where it is another architecture, or several networks.
    """
    anchors = {
        "swin_unetr": swin_unetr.ANCHOR,
        "unetr": unetr.ANCHOR,
        "dynunet": dynunet.ANCHOR,
    }
    found = [
        (family, key.removesuffix(anchor))
        for family, anchor in anchors.items()
        for key in state
        if key == anchor or key.endswith("." + anchor)
    ]
    if len(found) > 1:
        raise ModelError(
            f"The checkpoint {name!r} holds {len(found)} networks "
            f"({', '.join(repr(prefix) for _, prefix in found)}); save one alone."
        )
    if not found:
        looks = ", ".join(list(state)[:2])
        encoder = "encoder alone of a " if any("patch_embed" in key for key in state) else ""
        raise ModelError(
            f"The checkpoint {name!r} is not of MONAI's {_NAMED} but of another "
            f"architecture or the {encoder}network (it begins with {looks}); give one of theirs."
            if encoder
            else f"The checkpoint {name!r} is not of MONAI's {_NAMED} but of another "
            f"architecture (it begins with {looks}); give one of theirs."
        )
    family, prefix = found[0]
    return family, {
        key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)
    }


def sizes_of(family: str, state: Mapping[str, Tensor], hints: Mapping[str, Any]) -> Sizes:
    """Read a network's sizes from a state dict under MONAI's own names.

    `hints` are what shapes do not tell: ``merging``, ``normalize``; ``heads``, ``image_size``.
    """
    if family == "unetr":
        return unetr.sizes_of_state(state, hints.get("heads"), hints.get("image_size"))
    if family == "dynunet":
        return dynunet.sizes_of_state(state)
    return swin_unetr.sizes_of_state(
        state, hints.get("merging") or "merging", hints.get("normalize", True)
    )


def filled(sizes: Sizes, state: Mapping[str, Tensor], name: str, flash: bool = True) -> nn.Module:
    """Build a network and give it its weights.

    Raises
    ------
    ModelError
        Where weights are missing, left over or of another shape.
    """
    if isinstance(sizes, unetr.UnetrSizes):
        state = unetr.adapted(state, sizes)
    if isinstance(sizes, dynunet.DynUnetSizes):
        state = dynunet.adapted(state)
    network = sizes.build(flash)
    own = network.state_dict()
    # The index of positions follows from the window; some files leave it out.
    given = {**{k: v for k, v in own.items() if k.endswith("relative_position_index")}, **state}
    given |= {again: given[key] for again, key in repeated(network).items() if key in given}
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing:
        raise ModelError(
            f"The checkpoint {name!r} lacks {_some(missing)} of the network; give a whole one."
        )
    if extra:
        raise ModelError(
            f"The checkpoint {name!r} has {_some(extra)} that MONAI's network does not have; it is "
            "of a changed architecture, so give one of the original."
        )
    for key, value in own.items():
        if given[key].shape != value.shape:
            raise ModelError(
                f"The checkpoint {name!r} has {key!r} of shape {tuple(given[key].shape)} where the "
                f"network has {tuple(value.shape)}; it is of a changed architecture, so give one "
                "of the original."
            )
    network.load_state_dict(given)
    return network.eval()


def repeated(network: nn.Module) -> dict[str, str]:
    """Names in a network's state dict of weights that have an earlier name too, with that name."""
    first: dict[int, str] = {}
    names = {k: first.setdefault(id(v), k) for k, v in network.state_dict(keep_vars=True).items()}
    return {name: earlier for name, earlier in names.items() if name != earlier}


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more tensors" if len(keys) > 1 else ""
    return f"{keys[0]!r}{more}"


def family_of_network(network: nn.Module) -> tuple[str, Sizes]:
    """Tell a network's family and sizes.

    Raises
    ------
    ModelError
        Where it is of none of the families.
    """
    if unetr.ANCHOR in network.state_dict():
        return "unetr", unetr.sizes_of_network(network)
    if dynunet.ANCHOR in network.state_dict():
        return "dynunet", dynunet.sizes_of_state(network.state_dict())
    return "swin_unetr", swin_unetr.sizes_of_network(network)


def sizes_from_dict(family: str, values: Mapping[str, Any]) -> Sizes:
    """Read what ``to_dict`` of a family's sizes gave, after a trip through JSON."""
    if family == "swin_unetr":
        return swin_unetr.SwinUnetrSizes.from_dict(values)
    if family == "unetr":
        return unetr.UnetrSizes.from_dict(values)
    if family == "dynunet":
        return dynunet.DynUnetSizes.from_dict(values)
    raise ModelError(
        f"The model is of the family {family!r}, which this version does not know; "
        "update napari-sightline."
    )


def _count(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def check_fit(sizes: Sizes, spec: SegmenterSpec) -> None:
    """Refuse facts that do not fit a network.

    Raises
    ------
    ModelError
        Where channels, structures or window are not what the network has.
    """
    if len(spec.channels) != sizes.in_channels:
        raise ModelError(
            f"The network of {spec.name!r} takes {_count(sizes.in_channels)}, but "
            f"{len(spec.channels)} are named ({', '.join(spec.channels)}); name each once."
        )
    if spec.outputs != sizes.out_channels:
        raise ModelError(
            f"The network of {spec.name!r} gives {_count(sizes.out_channels)}, but its structures "
            f"need {spec.outputs}; name the structure of each channel"
            f"{'' if spec.overlapping else ' after the background'}."
        )
    side = " x ".join(map(str, spec.roi))
    if sizes.only_input is not None and tuple(spec.roi) != sizes.only_input:
        raise ModelError(
            f"The window of {spec.name!r}, {side} voxels, does not fit the network, which takes "
            f"{' x '.join(map(str, sizes.only_input))} alone; choose that."
        )
    strides = sizes.strides
    if any(n <= 0 or n % stride for n, stride in zip(spec.roi, strides, strict=True)):
        alike = len(set(strides)) == 1
        raise ModelError(
            f"The window of {spec.name!r}, {side} voxels, does not fit the network; choose "
            f"multiples of {strides[0] if alike else ', '.join(map(str, strides))}."
        )
    deepest = math.prod(n // stride for n, stride in zip(spec.roi, strides, strict=True))
    if sizes.only_input is None and deepest < 2:
        raise ModelError(
            f"The window of {spec.name!r}, {side} voxels, leaves one token at the network's "
            f"deepest stage; choose at least {2 * strides[0]} along one axis."
        )
