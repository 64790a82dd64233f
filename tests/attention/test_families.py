"""ViT, UNETR, SAM and SAM 2 on random weights, against the networks' own partition and maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_making import Reference
from torch import Tensor, nn

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import (
    AttentionMap,
    prompts_of,
    query_prompt,
    query_voxel,
)
from napari_sightline.attention.tap import Tap
from napari_sightline.attention.tokens_vit import use_recordable_attention


def louder(network: nn.Module, factor: float = 4) -> nn.Module:
    """Make attention far from even, and positions matter."""
    for name, weight in network.named_parameters():
        if name.endswith(("qkv.weight", "q_proj.weight")):
            weight.data.mul_(factor)
        elif "rel_pos" in name:
            nn.init.normal_(weight.data, std=0.3)
    return network.eval().requires_grad_(False)


def record(
    network: nn.Module, frame: Frame, *args: Any, prompts: Any = (None, None), **kwargs: Any
) -> tuple[Pass, list[Tensor]]:
    with torch.inference_mode():
        plain = network(*args, **kwargs)
        with Tap().record(network, frame, "net", *prompts) as one:
            seen = network(*args, **kwargs)
        with Reference() as reference:
            network(*args, **kwargs)
    for a, b in zip(tensors(plain), tensors(seen), strict=True):
        assert torch.equal(a, b)
    return one, reference.maps


def tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if hasattr(output, "values") else output
    return [t for part in parts if part is not None for t in tensors(part)]


def assert_rows_equal(one: Pass, maps: list[Tensor]) -> None:
    assert len(one.calls) == len(maps)
    for call, expected in zip(one.calls, maps, strict=True):
        for entry in {0, call.batch - 1}:
            rows = call.rows(entry, range(call.queries))
            assert float((rows - expected[entry]).abs().max()) <= 1e-5, call.label


@pytest.mark.parametrize("projection", ["conv", "perceptron"])
@pytest.mark.parametrize("classes", [False, True])
def test_vit_of_monai(projection: str, classes: bool) -> None:
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    size = (16, 24, 8)
    network = ViT(
        1, size, 8, 24, 24, 2, 3, proj_type=projection, classification=classes, num_classes=2
    )
    louder(network, 40)
    assert use_recordable_attention(network) == 2
    one, maps = record(network, Frame.scaled((0, 0, 0), (1, 1, 1), size), torch.randn(1, 1, *size))
    assert_rows_equal(one, maps)
    voxel = (9, 20, 3)
    token = np.ravel_multi_index((1, 2, 0), (2, 3, 1)) + classes
    for number in range(2):
        answer = query_voxel(one, voxel, number)
        assert isinstance(answer, AttentionMap)
        expected = maps[number][0, :, token]
        np.testing.assert_allclose(
            answer.values(), expected[:, int(classes) :].view(-1, 2, 3, 1), atol=1e-5
        )
        lead = expected[:, 0] if classes else torch.zeros(3)
        np.testing.assert_allclose(answer.special, lead, atol=1e-5)


def test_a_vit_by_hand_gives_the_same_rows() -> None:
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    network = louder(ViT(1, (16, 16, 16), 8, 24, 24, 2, 3), 40)
    frame, x = Frame.scaled((0, 0, 0), (1, 1, 1), (16, 16, 16)), torch.randn(1, 1, 16, 16, 16)
    one, maps = record(network, frame, x)
    assert maps == []
    by_hand = [query_voxel(one, (3, 9, 12), number) for number in range(2)]
    use_recordable_attention(network)
    one, _ = record(network, frame, x)
    for number, expected in enumerate(by_hand):
        answer = query_voxel(one, (3, 9, 12), number)
        np.testing.assert_allclose(answer.weights, expected.weights, atol=1e-4)
        assert answer.block == expected.block


def test_unetr() -> None:
    from monai.networks.nets import UNETR

    torch.manual_seed(0)
    network = louder(UNETR(1, 2, (32, 16, 48), 4, 24, 24, 3, norm_name="instance"), 40)
    assert use_recordable_attention(network) == 12
    size = (32, 16, 48)
    one, maps = record(network, Frame.scaled((0, 0, 0), (1, 1, 1), size), torch.randn(1, 1, *size))
    assert_rows_equal(one, maps)
    answer = query_voxel(one, (20, 3, 40), 7)
    assert isinstance(answer, AttentionMap)
    np.testing.assert_allclose(answer.values(), maps[7][0, :, 5].view(3, 2, 1, 3), atol=1e-5)


def sam(window: int, image: int, eager: bool = False) -> nn.Module:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )
    from transformers.models.sam.modeling_sam import SamModel

    torch.manual_seed(window)
    vision = SamVisionConfig(
        hidden_size=24,
        output_channels=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=image,
        patch_size=8,
        window_size=window,
        global_attn_indexes=[1],
        mlp_ratio=1.0,
        num_pos_feats=12,
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=24, image_size=image, patch_size=8, image_embedding_size=image // 8
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=24,
        mlp_dim=24,
        num_attention_heads=3,
        attention_downsample_rate=2,
        iou_head_hidden_dim=24,
    )
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    config._attn_implementation = "eager" if eager else "sdpa"
    return louder(SamModel(config), 20)


def windows_of(numbers: Tensor, side: int) -> Tensor:
    """Cells of each token ``(windows, side * side)`` by SAM's own partition, -1 for padding."""
    from transformers.models.sam.modeling_sam import SamVisionLayer

    cells = numbers[None, :, :, None].double() + 1
    parts, _ = SamVisionLayer.window_partition(None, cells, side)  # type: ignore[arg-type]
    return parts.flatten(1).long() - 1


@pytest.mark.parametrize(("window", "image"), [(3, 64), (4, 64), (5, 40)])
def test_sam(window: int, image: int) -> None:
    network = sam(window, image)
    side = image // 8
    # The picture is a slice of the volume, 2 pixels a voxel: rows posterior, columns left.
    affine = np.diag([1.0, 0.5, 0.5, 1.0])
    affine[:3, 3] = (7, -0.25, -0.25)
    frame = Frame((1, image, image), affine)
    points = torch.tensor([[[[10.0, 20.0], [30.0, 5.0]]]])
    marks = torch.tensor([[[1, 0]]])
    places = np.array([[0, 20, 10], [0, 5, 30]])
    one, maps = record(
        network,
        frame,
        pixel_values=torch.randn(1, 3, image, image),
        input_points=points,
        input_labels=marks,
        prompts=(places, [1, 0]),
    )
    assert_rows_equal(one, maps)
    voxel = (7, 12, 17)
    y, x = (int((v + 0.25) * 2 + 0.5) // 8 for v in voxel[1:])
    cell = y * side + x
    numbers = windows_of(torch.arange(side * side).view(side, side), window)
    at, token = (int(v) for v in (numbers == cell).nonzero()[0])
    expected = np.full((3, side * side), np.nan)
    inside = numbers[at] >= 0
    expected[:, numbers[at][inside]] = maps[0][at, :, token][:, inside]
    answer = query_voxel(one, voxel, 0)
    assert isinstance(answer, AttentionMap)
    np.testing.assert_allclose(answer.values(), expected.reshape(3, 1, side, side), atol=1e-5)
    np.testing.assert_allclose(answer.padding, maps[0][at, :, token][:, ~inside].sum(-1), atol=1e-5)
    answer = query_voxel(one, voxel, 1)
    assert isinstance(answer, AttentionMap)
    np.testing.assert_allclose(
        answer.values(), maps[1][0, :, cell].view(3, 1, side, side), atol=1e-5
    )
    box, values = answer.on_volume((20, image // 2, image // 2))
    assert [(s.start, s.stop) for s in box] == [(7, 8), (0, image // 2), (0, image // 2)]
    np.testing.assert_allclose(values[0, 12, 17], float(maps[1][0, 0, cell, cell]), atol=1e-5)
    assert prompts_of(one) == (
        "predicted quality",
        *(f"mask {i}" for i in (1, 2, 3, 4)),
        "click 1 (+)",
        "click 2 (−)",
        "no point",
    )
    last = len(one.calls) - 1
    answer = query_prompt(one, 1, last)
    assert isinstance(answer, AttentionMap)
    np.testing.assert_allclose(
        answer.values(), maps[last][0, :, 6].view(3, 1, side, side), atol=1e-5
    )
    residual = [call.placement.residual for call in one.calls if "prompts to prompts" in call.label]
    assert residual == [False, True]


def test_eager_sam_gives_the_same_rows() -> None:
    x = torch.randn(1, 3, 64, 64)
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), (1, 64, 64))
    eager = sam(3, 64, eager=True)
    flash = sam(3, 64)
    flash.load_state_dict(eager.state_dict())
    by_hand, maps = record(eager.vision_encoder, frame, x)
    assert maps == []
    kept, _ = record(flash.vision_encoder, frame, x)
    for number in range(2):
        expected = query_voxel(kept, (0, 30, 50), number)
        answer = query_voxel(by_hand, (0, 30, 50), number)
        np.testing.assert_allclose(answer.weights, expected.weights, atol=1e-4)


@pytest.mark.parametrize("image", [64, 128])
def test_sam2(image: int) -> None:
    from transformers import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    torch.manual_seed(0)
    backbone = {
        "hidden_size": 12,
        "embed_dim_per_stage": [12, 24, 48, 96],
        "num_attention_heads": 1,
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "blocks_per_stage": [1, 2, 2, 1],
        "global_attention_blocks": [4],
        "window_size_per_stage": [4, 2, 4, 2],
        "image_size": [image, image],
        "window_positional_embedding_background_size": [4, 4],
    }
    config = Sam2Config(
        vision_config={
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": [96, 48, 24, 12],
            "backbone_feature_sizes": [[image // s] * 2 for s in (4, 8, 16)],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": image, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    network = louder(Sam2Model(config), 6)
    frame = Frame.scaled((3, 0, 0), (1, 0.5, 0.5), (1, image, image))
    one, maps = record(
        network,
        frame,
        pixel_values=torch.randn(1, 3, image, image),
        input_points=torch.tensor([[[[10.0, 20.0]]]]),
        input_labels=torch.tensor([[[1]]]),
        prompts=([[0, 20, 10]], [1]),
    )
    assert_rows_equal(one, maps)
    pixel = np.array([image * 0.6, image * 0.3]).astype(int)
    # Sides of windows of keys and the stride of tokens, block by block.
    for number, (side, stride, pool) in enumerate(
        [(4, 4, 1), (4, 4, 2), (2, 8, 1), (2, 8, 2), (0, 16, 1), (4, 16, 2)]
    ):
        tokens = image // stride
        keys = torch.arange(tokens**2).view(tokens, tokens)
        queries = torch.arange((tokens // pool) ** 2).view(tokens // pool, tokens // pool)
        cell = int(queries[tuple(pixel // (stride * pool))])
        if side:
            keys, queries = windows_of(keys, side), windows_of(queries, side // pool)
        else:
            keys, queries = keys.view(1, -1), queries.view(1, -1)
        at, token = (int(v) for v in (queries == cell).nonzero()[0])
        expected = np.full((one.calls[number].heads, tokens**2), np.nan)
        inside = keys[at] >= 0
        expected[:, keys[at][inside]] = maps[number][at, :, token][:, inside]
        answer = query_voxel(one, (3, *(pixel * 0.5)), number)
        assert isinstance(answer, AttentionMap)
        np.testing.assert_allclose(
            answer.values(), expected.reshape(-1, 1, tokens, tokens), atol=1e-5
        )
        # And what attends to it, from the other side.
        answer = query_voxel(one, (3, *(pixel * 0.5)), number, "from")
        assert isinstance(answer, AttentionMap)
        assert answer.grid.shape == (1, tokens // pool, tokens // pool)
    assert prompts_of(one)[:2] == ("object score", "predicted quality")
    assert prompts_of(one)[-2:] == ("click 1 (+)", "no point")
