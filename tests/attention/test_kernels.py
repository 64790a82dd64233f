from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_making import promptable, swin_unetr

from napari_sightline.attention.kernels import position_kernels
from napari_sightline.errors import BadInput


def test_kernels_hold_the_bias_between_any_two_tokens() -> None:
    network = swin_unetr(3)
    found = position_kernels(network)
    assert len(found) == 8
    module = network.get_submodule("swinViT.layers2.0.blocks.1.attn")
    kernel = found["swinViT.layers2.0.blocks.1.attn"]
    assert kernel.shape == (6, 5, 5, 5)
    places = np.array(np.unravel_index(np.arange(27), (3, 3, 3))).T
    table = module.relative_position_bias_table
    bias = table[module.relative_position_index.reshape(-1)].view(27, 27, 6)
    for query, key in ((0, 26), (13, 13), (5, 20), (20, 5)):
        offset = places[key] - places[query] + 2
        expected = torch.tensor(kernel[(slice(None), *offset)])
        assert torch.equal(bias[query, key], expected)
    with pytest.raises(BadInput, match="no relative position bias"):
        position_kernels(promptable())
