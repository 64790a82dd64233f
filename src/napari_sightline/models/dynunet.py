"""MONAI's DynUNet, the convolutional network of nnU-Net, built from a state dict.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation" (Nature Methods 2021), https://doi.org/10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_sightline.errors import ModelError
from napari_sightline.models.norms import NORMS, Norm, norm_of

if TYPE_CHECKING:
    from torch import Tensor, nn

#: A key that every DynUNet has; what stands before it is a wrapper's prefix.
ANCHOR = "upsamples.0.transp_conv.conv.weight"

Triple = tuple[int, int, int]
#: Second names of the same blocks, and heads that only training runs.
_UNUSED = ("skip_layers.", "deep_supervision_heads.", "heads.")
_MOST_CHANNELS, _LARGEST_KERNEL, _MOST_LEVELS = 2048, 9, 10


@dataclass(frozen=True)
class DynUnetSizes:
    """What makes one DynUNet differ from another.

    Attributes
    ----------
    in_channels, out_channels : int
        Channels of the image and of the logits.
    filters : tuple of int
        Channels by level, from the image's own grid down.
    kernels, steps : tuple of (int, int, int)
        By level: voxels of a convolution, and how many voxels of the level above become one.
    res_block, trans_bias : bool
        As in MONAI.
    norm : {"instance", "instance_affine", "batch"}
        Normalisation of the convolutional blocks.
    """

    in_channels: int
    out_channels: int
    filters: tuple[int, ...]
    kernels: tuple[Triple, ...]
    steps: tuple[Triple, ...]
    res_block: bool = False
    trans_bias: bool = False
    norm: Norm = "instance"

    @property
    def strides(self) -> Triple:
        """Voxels along each axis that a side of an input is a multiple of."""
        a, b, c = (math.prod(sides) for sides in zip(*self.steps, strict=True))
        return a, b, c

    @property
    def only_input(self) -> None:
        """It takes any size."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DynUnetSizes:
        """Read what `to_dict` gave, after a trip through JSON."""
        known = dict(values)
        known["filters"] = tuple(known["filters"])
        for key in ("kernels", "steps"):
            known[key] = tuple((int(a), int(b), int(c)) for a, b, c in known[key])
        return cls(**known)

    def build(self, flash: bool = True) -> nn.Module:
        """Make the network, with random weights, in evaluation mode.

        There is no attention that `flash` could speed up.
        """
        from napari_sightline.models.monai_parts import DynUNet

        made: nn.Module = DynUNet(
            3,
            self.in_channels,
            self.out_channels,
            kernel_size=self.kernels,
            strides=self.steps,
            upsample_kernel_size=self.steps[1:],
            filters=self.filters,
            norm_name=NORMS[self.norm],
            res_block=self.res_block,
            trans_bias=self.trans_bias,
        )
        return made.eval()


def sizes_of_state(state: Mapping[str, Tensor]) -> DynUnetSizes:
    """Read the sizes of a DynUNet from the shapes of its tensors.

    Shapes do not tell the activation, which is taken as MONAI's default (leaky ReLU, slope 0.01),
    nor group from instance normalisation with weights, which is taken.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        With MONAI's own names, no prefix.

    Raises
    ------
    ModelError
        Where it is another architecture, a tensor is missing, or a size absurd.
    """
    try:
        downs = {key.split(".")[1] for key in state if key.startswith("downsamples.")}
        levels = len(downs) + 2
        if levels > _MOST_LEVELS:
            raise ModelError(
                f"The checkpoint has {levels} levels, which no DynUNet for volumes has; give a "
                "checkpoint of MONAI's own class."
            )
        blocks = ["input_block", *(f"downsamples.{n}" for n in range(levels - 2)), "bottleneck"]
        first = [state[f"{block}.conv1.conv.weight"] for block in blocks]
        ups = [state[f"upsamples.{n}.transp_conv.conv.weight"] for n in range(levels - 1)]
        if any(weight.ndim != 5 for weight in (*first, *ups)):
            raise ModelError(
                "The checkpoint is of a DynUNet for 2D pictures; give one for 3D volumes."
            )
        sizes = DynUnetSizes(
            in_channels=int(first[0].shape[1]),
            out_channels=int(state["output_block.conv.conv.weight"].shape[0]),
            filters=tuple(int(weight.shape[0]) for weight in first),
            kernels=tuple(_sides(weight) for weight in first),
            steps=((1, 1, 1), *(_sides(weight) for weight in reversed(ups))),
            res_block=any(key.endswith(".conv3.conv.weight") for key in state),
            trans_bias="upsamples.0.transp_conv.conv.bias" in state,
            norm=norm_of(state, "input_block.norm1"),
        )
    except KeyError as missing:
        raise ModelError(
            f"The checkpoint lacks {missing.args[0]!r}, which every DynUNet has; "
            "give a whole checkpoint."
        ) from missing
    # A few shapes would blow up to fill any memory.
    channels = max(*sizes.filters, sizes.in_channels, sizes.out_channels)
    kernel = max(n for sides in (*sizes.kernels, *sizes.steps) for n in sides)
    if channels > _MOST_CHANNELS or kernel > _LARGEST_KERNEL:
        raise ModelError(
            f"The checkpoint's sizes are not those of a DynUNet: {channels} channels, kernels of "
            f"{kernel}; give a checkpoint of MONAI's own class."
        )
    return sizes


def adapted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out second names of the same weights, and heads of deep supervision."""
    return {key: value for key, value in state.items() if not key.startswith(_UNUSED)}


def check_arguments(network: Mapping[str, Any]) -> None:
    """Refuse what a bundle says of its DynUNet that is built otherwise here, though shapes fit.

    Parameters
    ----------
    network : mapping
        Literal arguments of the bundle's network.

    Raises
    ------
    ModelError
        Where normalisation, activation or first stride are others.
    """
    found = []
    norm = network.get("norm_name", "instance")
    norm = norm[0] if isinstance(norm, list | tuple) and norm else norm
    if str(norm).lower() not in ("instance", "instance_nvfuser", "batch"):
        found.append(f"the normalisation {norm!r}")
    act = network.get("act_name", "leakyrelu")
    name, settings = act if isinstance(act, list | tuple) and len(act) == 2 else (act, {})
    slope = settings.get("negative_slope", 0.01) if isinstance(settings, Mapping) else None
    if str(name).lower() != "leakyrelu" or slope != 0.01:
        found.append(f"the activation {act!r}")
    strides = network.get("strides")
    if isinstance(strides, list | tuple) and strides and strides[0] not in (1, [1, 1, 1]):
        found.append(f"the first stride {strides[0]!r}")
    if found:
        raise ModelError(
            f"The bundle's DynUNet has {' and '.join(found)}, which its weights cannot be run with "
            "here; give one with instance or batch normalisation, leaky ReLU and a first stride "
            "of 1."
        )


def _sides(weight: Tensor) -> Triple:
    a, b, c = (int(n) for n in weight.shape[2:])
    return a, b, c
