"""MONAI's UNETR, built from a state dict.

Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation" (2022),
https://arxiv.org/abs/2103.10504.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_sightline.errors import ModelError
from napari_sightline.models.norms import NORMS, Norm, norm_of

if TYPE_CHECKING:
    from torch import Tensor, nn

#: A key that every UNETR has; what stands before it is a wrapper's prefix.
ANCHOR = "vit.patch_embedding.position_embeddings"

#: Voxels of a token along each axis.
PATCH = 16
_HEAD = 64  # channels of a head in the paper, and in MONAI's defaults (768 / 12)


@dataclass(frozen=True)
class UnetrSizes:
    """What makes one UNETR differ from another.

    Attributes
    ----------
    in_channels, out_channels : int
        Channels of the image and of the logits.
    image : tuple of 3 int
        Voxels of the only window it takes. Where it is no cube, shapes do not tell.
    heads : int
        Attention heads; shapes do not tell.
    feature_size, hidden_size, mlp_dim : int
        Channels of the decoder, of a token, and of the hidden layer.
    proj : {"conv", "perceptron"}
        How voxels become tokens.
    conv_block, res_block, qkv_bias : bool
        As in MONAI.
    norm : {"instance", "instance_affine", "batch"}
        Normalisation of the convolutional blocks.
    """

    in_channels: int
    out_channels: int
    image: tuple[int, int, int]
    heads: int = 12
    feature_size: int = 16
    hidden_size: int = 768
    mlp_dim: int = 3072
    proj: Literal["conv", "perceptron"] = "conv"
    conv_block: bool = True
    res_block: bool = True
    qkv_bias: bool = False
    norm: Norm = "instance"

    @property
    def strides(self) -> tuple[int, int, int]:
        """Voxels along each axis that a side of an input is a multiple of."""
        return (PATCH,) * 3

    @property
    def only_input(self) -> tuple[int, int, int] | None:
        """The only size it takes."""
        return self.image

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UnetrSizes:
        """Read what `to_dict` gave, after a trip through JSON."""
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**tuples)

    def build(self, flash: bool = True) -> nn.Module:
        """Make the network, with random weights, in evaluation mode.

        `flash` routes attention through `torch.nn.functional.scaled_dot_product_attention`; the
        result is the same.
        """
        from napari_sightline.models.monai_parts import UNETR, SABlock

        made: nn.Module = UNETR(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            img_size=self.image,
            feature_size=self.feature_size,
            hidden_size=self.hidden_size,
            mlp_dim=self.mlp_dim,
            num_heads=self.heads,
            proj_type=self.proj,
            norm_name=NORMS[self.norm],
            conv_block=self.conv_block,
            res_block=self.res_block,
            qkv_bias=self.qkv_bias,
        )
        for module in made.modules():
            if isinstance(module, SABlock):
                # MONAI's ViT takes no argument for it; the block's attribute is public.
                module.use_flash_attention = flash
        return made.eval()


def sizes_of_state(
    state: Mapping[str, Tensor],
    heads: int | None = None,
    image: tuple[int, int, int] | None = None,
) -> UnetrSizes:
    """Read the sizes of a UNETR from the shapes of its tensors.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        With MONAI's own names, no prefix.
    heads, image
        What shapes do not tell: the heads are taken as 64 channels each (MONAI's default) and the
        window as a cube, unless given.

    Raises
    ------
    ModelError
        Where it is another architecture, a tensor is missing, or the window is no cube and not
        given.
    """
    try:
        tokens, hidden = (int(n) for n in state[ANCHOR].shape[1:])
        first = "vit.patch_embedding.patch_embeddings.weight"
        conv = first in state
        if not conv:
            first = "vit.patch_embedding.patch_embeddings.1.weight"
        embed = state[first]
        if (embed.ndim == 4) if conv else (embed.shape[1] % PATCH**3 != 0):
            raise ModelError(
                "The checkpoint is of a UNETR for 2D pictures; give one for 3D volumes."
            )
        if image is None:
            side = round(tokens ** (1 / 3))
            if side**3 != tokens:
                raise ModelError(
                    f"The checkpoint's window of {tokens} tokens is no cube; say its size in "
                    "voxels (image_size)."
                )
            image = (side * PATCH,) * 3
        if image[0] * image[1] * image[2] != tokens * PATCH**3:
            raise ModelError(
                f"A window of {' x '.join(map(str, image))} voxels does not fit the checkpoint's "
                f"{tokens} tokens; give another image_size."
            )
        if heads is None:
            heads = hidden // _HEAD if hidden % _HEAD == 0 else 1
        if heads < 1 or hidden % heads:
            raise ModelError(
                f"{heads} heads do not divide the checkpoint's {hidden} channels; give another "
                "number of heads."
            )
        feature_size, mlp_dim = (
            int(state["out.conv.conv.weight"].shape[1]),
            int(state["vit.blocks.0.mlp.linear1.weight"].shape[0]),
        )
        # A few shapes would blow up to fill any memory.
        if max(hidden, feature_size) > 8192 or mlp_dim > 65536 or tokens > 2**16:
            raise ModelError(
                f"The checkpoint's sizes are not those of a UNETR: {hidden} channels, {mlp_dim} "
                f"hidden, {tokens} tokens; give a checkpoint of MONAI's own class."
            )
        return UnetrSizes(
            in_channels=int(embed.shape[1]) if conv else int(embed.shape[1]) // PATCH**3,
            out_channels=int(state["out.conv.conv.weight"].shape[0]),
            image=image,
            heads=heads,
            feature_size=feature_size,
            hidden_size=hidden,
            mlp_dim=mlp_dim,
            proj="conv" if conv else "perceptron",
            conv_block=any(key.startswith("encoder2.blocks.0.1.") for key in state),
            res_block="decoder5.conv_block.conv3.conv.weight" in state,
            qkv_bias="vit.blocks.0.attn.qkv.bias" in state,
            norm=norm_of(state, "encoder1.layer.norm1"),
        )
    except KeyError as missing:
        raise ModelError(
            f"The checkpoint lacks {missing.args[0]!r}, which every UNETR has; "
            "give a whole checkpoint."
        ) from missing


def sizes_of_network(network: nn.Module) -> UnetrSizes:
    """Read the sizes of a UNETR that MONAI or `UnetrSizes.build` made."""
    vit: Any = network.vit
    grid = tuple(int(n) * PATCH for n in network.feat_size)  # type: ignore[union-attr]
    heads = int(vit.blocks[0].attn.num_heads)
    return sizes_of_state(network.state_dict(), heads, grid)  # type: ignore[arg-type]


def adapted(state: Mapping[str, Tensor], sizes: UnetrSizes) -> dict[str, Tensor]:
    """Bring a state dict of another version of MONAI to the keys of the installed one.

    A class token, cross-attention and the normalisation before it came and went with versions; a
    UNETR never runs them.
    """
    import torch

    unused = (".cross_attn.", "patch_embedding.cls_token")
    made = {key: value for key, value in state.items() if not any(u in key for u in unused)}
    blocks = {key.split(".")[2] for key in made if key.startswith("vit.blocks.")}
    for block in blocks:
        start = f"vit.blocks.{block}.norm_cross_attn."
        made.setdefault(start + "weight", torch.ones(sizes.hidden_size))
        made.setdefault(start + "bias", torch.zeros(sizes.hidden_size))
    return made
