from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_making import CODES, POINTS, Reference, encoded, promptable, prompts, swin_unetr

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import (
    AttentionMap,
    TokenAttention,
    pick_heads,
    prompts_of,
    query_prompt,
    query_voxel,
    query_voxel_blocks,
)
from napari_sightline.attention.tap import Tap
from napari_sightline.errors import BadInput, ModelError

SIZE = (48, 32, 48)
GRID = (3, 2, 3)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return promptable()


@pytest.fixture(scope="module")
def maps(network: torch.nn.Module) -> list[torch.Tensor]:
    with torch.inference_mode(), Reference() as reference:
        network.decode(encoded(network, SIZE), prompts())  # type: ignore[arg-type, operator]
    return reference.maps


@pytest.fixture(scope="module")
def one(network: torch.nn.Module) -> Pass:
    with (
        torch.inference_mode(),
        Tap().record(network, Frame.scaled((2, 3, 4), (1, 1, 1), SIZE), "m", POINTS, CODES) as one,
    ):
        network.decode(encoded(network, SIZE), prompts())  # type: ignore[arg-type, operator]
    return one


def numbers(one: Pass, ending: str) -> list[int]:
    return [i for i, call in enumerate(one.calls) if call.module.endswith(ending)]


def test_prompts_have_names(one: Pass) -> None:
    assert prompts_of(one) == (
        "seed",
        "click 1 (+)",
        "click 2 (−)",
        "box, low corner",
        "box, high corner",
    )


def test_what_a_click_attends_to_and_what_attends_to_it(
    one: Pass, maps: list[torch.Tensor]
) -> None:
    for number in numbers(one, "token_to_image"):
        for prompt, token in ((0, 1), ("seed", 0), ("box, high corner", 4)):
            answer = query_prompt(one, prompt, number)
            assert isinstance(answer, AttentionMap)
            expected = maps[number][0, :, token].view(-1, *GRID)
            np.testing.assert_allclose(answer.values(), expected, atol=1e-5)
    for number in numbers(one, "image_to_token"):
        answer = query_prompt(one, 1, number, "from")
        assert isinstance(answer, AttentionMap)
        expected = maps[number][0, :, :, 2].view(-1, *GRID)
        np.testing.assert_allclose(answer.values(), expected, atol=1e-5)
        assert answer.direction == "from"
        assert "click 2 (−)" in answer.name
    for number in numbers(one, "token_self"):
        bars = query_prompt(one, 0, number)
        assert isinstance(bars, TokenAttention)
        np.testing.assert_allclose(bars.weights, maps[number][0, :, 1], atol=1e-5)


def test_what_attends_to_a_voxel(one: Pass, maps: list[torch.Tensor]) -> None:
    number = numbers(one, "image_self")[0]
    answer = query_voxel(one, (2 + 20, 3 + 5, 4 + 40), number, "from")
    token = np.ravel_multi_index((1, 0, 2), GRID)
    assert isinstance(answer, AttentionMap)
    np.testing.assert_allclose(
        answer.values(), maps[number][0, :, :, token].view(-1, *GRID), atol=1e-5
    )
    bars = query_voxel(one, (2 + 20, 3 + 5, 4 + 40), numbers(one, "image_to_token")[1])
    assert isinstance(bars, TokenAttention)
    expected = maps[numbers(one, "image_to_token")[1]][0, :, token]
    np.testing.assert_allclose(bars.weights, expected, atol=1e-5)


def test_every_block_at_once(one: Pass) -> None:
    answers = query_voxel_blocks(one, (10, 10, 10))
    assert [type(answer) for answer in answers] == [AttentionMap, TokenAttention] * 2
    answers = query_voxel_blocks(one, (10, 10, 10), "from")
    assert [answer.block for answer in answers] == [
        call.label for call in one.calls if call.module.endswith(("image_self", "token_to_image"))
    ]


def test_heads_are_merged_by_name(one: Pass) -> None:
    answer = query_voxel(one, (10, 10, 10), 0)
    assert isinstance(answer, AttentionMap)
    assert answer.heads == ("head 1", "head 2", "head 3")
    np.testing.assert_allclose(answer.reduce("mean").weights[0], answer.weights.mean(0))
    np.testing.assert_allclose(answer.reduce("max").weights[0], answer.weights.max(0))
    share = answer.weights / answer.weights.sum(0)
    expected = -(share * np.log(share)).sum(0) / np.log(3)
    np.testing.assert_allclose(answer.reduce("entropy").weights[0], expected, atol=1e-5)
    assert answer.entropy is not None
    expected = -(answer.weights * np.log(answer.weights)).sum(1) / np.log(18)
    np.testing.assert_allclose(answer.entropy, expected, atol=1e-5)
    picked = pick_heads(answer, [2])
    assert picked.heads == ("head 3",)
    assert np.array_equal(picked.values(0), answer.values(2))
    with pytest.raises(BadInput, match="heads 1 to 3"):
        pick_heads(answer, [3])
    with pytest.raises(BadInput, match="mean, max or entropy"):
        answer.reduce("median")  # type: ignore[arg-type]


def test_a_token_lies_where_its_voxels_are(one: Pass) -> None:
    answer = query_voxel(one, (10, 10, 10), 0)
    assert isinstance(answer, AttentionMap)
    # Centre of the first token: voxels 0 to 15 of a region that starts at (2, 3, 4).
    np.testing.assert_allclose(answer.affine[:3, 3], np.array([2, 3, 4]) + 7.5)
    np.testing.assert_allclose(np.diag(answer.affine)[:3], 16)


def test_queries_on_a_turned_grid() -> None:
    """A network that sees the volume flipped and with its axes in another order."""
    network, shape = swin_unetr().swinViT, (12, 20, 26)
    data = torch.randn(shape)
    # Network axes: the volume's (2, 0, 1), the first of them backwards.
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -1, 1, 1, 1
    affine[2, 3] = shape[2] - 1
    turned = data.permute(2, 0, 1).flip(0)[None, None].contiguous()
    with (
        torch.inference_mode(),
        Tap().record(network, Frame(tuple(turned.shape[2:]), affine)) as one,  # type: ignore[arg-type]
    ):
        network(turned)
    voxel = (7, 15, 20)
    answer = query_voxel(one, voxel, 1)
    assert isinstance(answer, AttentionMap)
    box, values = answer.on_volume(shape)
    assert [s.stop - s.start for s in box] == list(shape)
    grid = answer.values(0)
    for place in np.random.default_rng(0).integers(0, shape, (200, 3)):
        seen = (shape[2] - 1 - place[2], place[0], place[1])
        expected = grid[tuple(v // 2 for v in seen)]
        np.testing.assert_equal(values[tuple(place)], expected)
    # The voxel itself lies in its own window.
    assert not np.isnan(values[voxel])


def test_what_cannot_be_answered_says_why(one: Pass, network: torch.nn.Module) -> None:
    with pytest.raises(BadInput, match="outside what m saw"):
        query_voxel(one, (500, 3, 3), 0)
    with pytest.raises(BadInput, match="choose 0 to 7"):
        query_voxel(one, (10, 10, 10), 8)
    with pytest.raises(BadInput, match="are prompts, not voxels"):
        query_voxel(one, (10, 10, 10), numbers(one, "token_self")[0])
    with pytest.raises(BadInput, match="are no prompts"):
        query_prompt(one, 0, 0)
    with pytest.raises(BadInput, match="choose one of seed, click 1"):
        query_prompt(one, 4, numbers(one, "token_self")[0])
    other = promptable()
    with torch.inference_mode(), Tap().record(other) as bare:
        other.decode(encoded(other, SIZE), prompts())
    with pytest.raises(BadInput, match="Nothing is known of where"):
        query_voxel(bare, (10, 10, 10), 0)
    with torch.no_grad():
        other.blocks[0].image_self.q.weight.mul_(2)
    with pytest.raises(ModelError, match="run it again"):
        query_voxel(bare, (10, 10, 10), 0)
