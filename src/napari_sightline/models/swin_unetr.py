"""MONAI's Swin-UNETR, built from a state dict: sizes are read from the shapes of its tensors.

Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI
Images" (2022), https://arxiv.org/abs/2201.01266.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from napari_sightline.errors import ModelError
from napari_sightline.models.norms import NORMS, Norm, norm_of

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Which of the eight neighbours each block of channels comes from where two by two by two tokens
#: become one. Shapes do not tell; see `SwinUnetrSizes.merging`.
Merging = Literal["merging", "merging_before_1_5", "mergingv2"]
MERGINGS: tuple[Merging, ...] = get_args(Merging)

#: A key that every Swin-UNETR has; what stands before it is a wrapper's prefix.
ANCHOR = "swinViT.patch_embed.proj.weight"

_STAGES = 4
#: The index of positions grows with its sixth power: 16 needs 134 MB for each block.
_LARGEST_WINDOW = 16
_BIAS_TABLE = "swinViT.layers{}.0.blocks.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class SwinUnetrSizes:
    """What makes one Swin-UNETR differ from another.

    Attributes
    ----------
    in_channels, out_channels : int
        Channels of the image and of the logits.
    feature_size : int
        Channels of a token in the first stage.
    depths, heads : tuple of 4 int
        Blocks, and attention heads, of each stage.
    window : tuple of 3 int
        Tokens of an attention window.
    patch : int
        Voxels of a token along each axis.
    mlp_ratio : float
        Width of the hidden layer in units of the token's.
    qkv_bias, patch_norm, use_v2 : bool
        As in MONAI.
    norm : {"instance", "instance_affine", "batch"}
        Normalisation of the convolutional blocks.
    normalize : bool
        Whether a stage's output is normalised before the decoder; MONAI's default is to do so.
        Shapes do not tell.
    merging : {"merging", "merging_before_1_5", "mergingv2"}
        ``"merging"`` is MONAI's default as of 1.5; ``"merging_before_1_5"`` is the default before,
        which took two of the eight neighbours twice and left two out
        (https://github.com/Project-MONAI/MONAI/issues/8284); ``"mergingv2"`` counts through the
        neighbours and is the same in every version. Shapes do not tell.
    """

    in_channels: int
    out_channels: int
    feature_size: int
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: tuple[int, int, int] = (7, 7, 7)
    patch: int = 2
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    patch_norm: bool = False
    use_v2: bool = False
    norm: Norm = "instance"
    normalize: bool = True
    merging: Merging = "merging"

    @property
    def strides(self) -> tuple[int, int, int]:
        """Voxels along each axis that a side of an input is a multiple of."""
        return (int(self.patch**5),) * 3

    @property
    def only_input(self) -> tuple[int, int, int] | None:
        """The only size it takes; None, since it takes any multiple of `strides`."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SwinUnetrSizes:
        """Read what `to_dict` gave, after a trip through JSON."""
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        if tuples.get("merging", "merging") not in MERGINGS:
            raise ValueError(f"unknown order of merging {tuples['merging']!r}")
        return cls(**tuples)

    def build(self, flash: bool = True) -> nn.Module:
        """Make the network, with random weights, in evaluation mode.

        Parameters
        ----------
        flash : bool
            Whether attention runs through `torch.nn.functional.scaled_dot_product_attention`
            where gradients are off; the result is the same.
        """
        from napari_sightline.models.monai_parts import SwinUNETR

        made: nn.Module = SwinUNETR(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            patch_size=self.patch,
            depths=self.depths,
            num_heads=self.heads,
            window_size=self.window,
            qkv_bias=self.qkv_bias,
            mlp_ratio=self.mlp_ratio,
            feature_size=self.feature_size,
            norm_name=NORMS[self.norm],
            normalize=self.normalize,
            patch_norm=self.patch_norm,
            downsample=cast(Any, _merging_class(self.merging)),
            use_v2=self.use_v2,
            use_flash_attention=flash,
        )
        return made.eval()


def sizes_of_state(
    state: Mapping[str, Tensor], merging: Merging = "merging", normalize: bool = True
) -> SwinUnetrSizes:
    """Read the sizes of a Swin-UNETR from the shapes of its tensors.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        With MONAI's own names, no prefix.
    merging, normalize
        What shapes do not tell; see `SwinUnetrSizes`.

    Raises
    ------
    ModelError
        Where it is another architecture, or a kind of Swin-UNETR that cannot be built.
    """
    if ANCHOR not in state or "out.conv.conv.weight" not in state:
        raise ModelError("The checkpoint is not of a Swin-UNETR; give one that MONAI's class made.")
    embed = state[ANCHOR]
    if embed.ndim != 5:
        raise ModelError(
            "The checkpoint is of a Swin-UNETR for 2D pictures; give one for 3D volumes."
        )
    if len(set(embed.shape[2:])) != 1:
        raise ModelError(
            "The checkpoint's tokens are not cubes, which MONAI's Swin-UNETR cannot build; "
            "give another checkpoint."
        )
    try:
        sizes = SwinUnetrSizes(
            in_channels=int(embed.shape[1]),
            out_channels=int(state["out.conv.conv.weight"].shape[0]),
            feature_size=int(embed.shape[0]),
            depths=tuple(_depth(state, stage) for stage in range(1, _STAGES + 1)),
            heads=tuple(
                int(state[_BIAS_TABLE.format(stage)].shape[1]) for stage in range(1, _STAGES + 1)
            ),
            window=_window(state),
            patch=int(embed.shape[2]),
            mlp_ratio=float(
                state["swinViT.layers1.0.blocks.0.mlp.linear1.weight"].shape[0] / embed.shape[0]
            ),
            qkv_bias="swinViT.layers1.0.blocks.0.attn.qkv.bias" in state,
            patch_norm="swinViT.patch_embed.norm.weight" in state,
            use_v2=any(key.startswith("swinViT.layers1c.") for key in state),
            norm=norm_of(state, "encoder1.layer.norm1"),
            normalize=normalize,
            merging=merging,
        )
        _check_bounds(sizes)
        return sizes
    except KeyError as missing:
        raise ModelError(
            f"The checkpoint lacks {missing.args[0]!r}, which every Swin-UNETR has; "
            "give a whole checkpoint."
        ) from missing


def sizes_of_network(network: nn.Module) -> SwinUnetrSizes:
    """Read the sizes of a Swin-UNETR that MONAI or `SwinUnetrSizes.build` made.

    Raises
    ------
    ModelError
        Where it is another kind of network.
    """
    sizes = sizes_of_state(network.state_dict())
    stage = cast(Any, network).swinViT.layers1[0]
    for merging in MERGINGS:
        if type(stage.downsample) is _merging_class(merging):
            return replace(sizes, merging=merging, normalize=bool(cast(Any, network).normalize))
    raise ModelError(
        f"The network merges tokens by {type(stage.downsample).__name__}, which is not one of "
        f"MONAI's; choose {', '.join(MERGINGS)}."
    )


def _check_bounds(sizes: SwinUnetrSizes) -> None:
    """Refuse what cannot be built, and what a few shapes would blow up to fill any memory."""
    odd = []
    if sizes.feature_size % 12 or not 12 <= sizes.feature_size <= 768:
        odd.append(f"{sizes.feature_size} features (a multiple of 12 is usual)")
    if max(sizes.in_channels, sizes.out_channels) > 1024:
        odd.append(f"{sizes.in_channels} channels in, {sizes.out_channels} out")
    if sizes.patch > 8 or max(sizes.depths) > 64 or min(sizes.depths) < 1 or sizes.mlp_ratio > 32:
        odd.append(f"tokens of {sizes.patch} voxels, blocks {sizes.depths}")
    for stage, heads in enumerate(sizes.heads):
        if heads < 1 or (sizes.feature_size * 2**stage) % heads:
            odd.append(f"{heads} heads in stage {stage + 1}")
    if odd:
        raise ModelError(
            f"The checkpoint's sizes are not those of a Swin-UNETR: {'; '.join(odd)}; "
            "give a checkpoint of MONAI's own class."
        )


def _depth(state: Mapping[str, Tensor], stage: int) -> int:
    start = f"swinViT.layers{stage}.0.blocks."
    return 1 + max(
        (int(k[len(start) :].split(".")[0]) for k in state if k.startswith(start)), default=-1
    )


def _window(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Find the window whose relative positions fill the bias table.

    A cube of side w has (2 w - 1)^3 of them. Where several windows fit, the index of positions
    tells them apart.
    """
    rows = int(state[_BIAS_TABLE.format(1)].shape[0])
    side = round(rows ** (1 / 3))
    index = state.get("swinViT.layers1.0.blocks.0.attn.relative_position_index")
    if index is None:
        if side**3 == rows and side % 2 and side < 2 * _LARGEST_WINDOW:
            return ((side + 1) // 2,) * 3
    else:
        sides = [w for w in range(1, _LARGEST_WINDOW + 1) if rows % (2 * w - 1) == 0]
        for window in product(sides, repeat=3):
            fits = math.prod(2 * w - 1 for w in window) == rows
            if fits and math.prod(window) == index.shape[0] and _is_index_of(index, window):
                return cast(tuple[int, int, int], window)
    raise ModelError(
        f"The checkpoint's table of relative positions has {rows} rows, which fits no window of "
        "attention; give a checkpoint of MONAI's Swin-UNETR."
    )


def _is_index_of(index: Tensor, window: tuple[int, ...]) -> bool:
    """Whether the first token's row is that of this window."""
    _, b, c = (2 * w - 1 for w in window)
    middle = ((window[0] - 1) * b + window[1] - 1) * c + window[2] - 1
    row = [middle - (z * b + y) * c - x for z, y, x in product(*(range(w) for w in window))]
    return index[0].tolist() == row


def _merging_class(merging: Merging) -> type[nn.Module]:
    """Give the class that merges tokens; looked up late, since MONAI takes long to import."""
    from napari_sightline.models.monai_parts import MERGING_MODE

    if merging == "merging_before_1_5":
        from napari_sightline.models.patch_merging import PatchMergingBefore15

        return PatchMergingBefore15
    return cast("type[nn.Module]", MERGING_MODE[merging])
