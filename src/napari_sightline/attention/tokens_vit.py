"""Tokens of MONAI's ViT and of UNETR, which holds one: one global grid of patches."""

from __future__ import annotations

import numpy as np

from napari_sightline.attention.tokens import LiveCall, Placement, TokenGrid, family, sides


@family("SABlock")
def vit(call: LiveCall) -> Placement | None:
    """Place a call of a block of MONAI's ViT: patches in C order, a class token before them."""
    whole = call.above("ViT", "ViTAutoEnc")
    block = call.above("TransformerBlock")
    if whole is None or block is None or not whole.args:
        return None
    image = tuple(int(n) for n in whole.args[0].shape[2:])
    patch = _patch(whole.module, len(image))
    if patch is None:
        return None
    grid = tuple(n // p for n, p in zip(image, patch, strict=True))
    lead = ("class",) if hasattr(whole.module, "cls_token") else ()
    if call.weights_shape[2] != len(lead) + int(np.prod(grid)):
        return None
    full, size = (1,) * (3 - len(grid)) + grid, (1,) * (3 - len(grid)) + patch
    tokens = TokenGrid.whole(
        (full[0], full[1], full[2]), (float(size[0]), float(size[1]), float(size[2])), lead
    )
    number = int(block.name.rsplit(".", 1)[-1]) + 1
    label = f"block {number}, global, {sides(tokens.shape)} tokens"
    return Placement(label, "global", tokens, tokens, block=number)


def _patch(vit: object, axes: int) -> tuple[int, ...] | None:
    """Voxels of a patch: of the convolution, or of the rearrangement before a linear layer."""
    from torch import nn

    embedding = getattr(getattr(vit, "patch_embedding", None), "patch_embeddings", None)
    if isinstance(embedding, nn.Conv2d | nn.Conv3d):
        return tuple(int(s) for s in embedding.stride)
    if isinstance(embedding, nn.Sequential):
        lengths = getattr(embedding[0], "axes_lengths", {})
        if isinstance(lengths, dict) and len(lengths) == axes:
            return tuple(int(lengths[f"p{i + 1}"]) for i in range(axes))
    return None


def use_recordable_attention(network: object) -> int:
    """Let MONAI's ViT and UNETR call the attention that a recorder keeps small.

    Their blocks compute softmax by hand, of which the whole map has to be kept. This sets the
    blocks' public switch ``use_flash_attention`` where it holds (no relative positions, no map
    saved); the network's output then differs by about 3e-6.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.

    Returns
    -------
    int
        Number of blocks that were switched.
    """
    count = 0
    for module in network.modules():  # type: ignore[attr-defined]
        if (
            type(module).__name__ == "SABlock"
            and not module.use_flash_attention
            and module.rel_positional_embedding is None
            and not module.save_attn
        ):
            module.use_flash_attention = True
            count += 1
    return count
