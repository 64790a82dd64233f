from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_making import CODES, POINTS, Reference, encoded, promptable, prompts, swin_unetr

from napari_sightline.attention.calls import Call, KeptTensors
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.rollout import left_product, rollout
from napari_sightline.attention.tap import Tap
from napari_sightline.attention.tokens import Placement
from napari_sightline.errors import BadInput, Cancelled


def test_a_vit_equals_the_product_of_matrices() -> None:
    from monai.networks.nets import ViT

    from napari_sightline.attention.tokens_vit import use_recordable_attention

    torch.manual_seed(0)
    size = (16, 24, 16)
    network = ViT(1, size, 8, 24, 24, 3, 3, classification=True, num_classes=2).eval()
    for block in network.blocks:
        block.attn.qkv.weight.data.mul_(30)
    use_recordable_attention(network)
    x = torch.randn(1, 1, *size)
    with torch.inference_mode(), Reference() as reference:
        network(x)
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), size)
    with torch.inference_mode(), Tap().record(network, frame) as one:
        network(x)
    product = np.eye(13)
    for matrix in reference.maps:
        product = (matrix[0].mean(0).numpy() + np.eye(13)) / 2 @ product
    token = 1 + np.ravel_multi_index((1, 2, 0), (2, 3, 2))
    answer = rollout(one, (9, 17, 3))
    np.testing.assert_allclose(answer.values(0).reshape(-1), product[token, 1:], atol=1e-6)
    np.testing.assert_allclose(answer.special, product[token, 0], atol=1e-6)
    assert not answer.approximate


def test_a_two_way_network_equals_products_on_both_kinds_of_tokens() -> None:
    network, size = promptable(), (48, 32, 48)
    with torch.inference_mode():
        features = encoded(network, size)
        with Reference() as reference:
            network.decode(features, prompts())
        frame = Frame.scaled((0, 0, 0), (1, 1, 1), size)
        with Tap().record(network, frame, "m", POINTS, CODES) as one:
            network.decode(features, prompts())
    n, m = 18, 5
    product = np.eye(n + m)
    image, tokens = slice(0, n), slice(n, n + m)
    for number, matrix in enumerate(reference.maps):
        queries = (image, tokens, tokens, image)[number % 4]
        keys = (image, tokens, image, tokens)[number % 4]
        step = np.eye(n + m)
        step[queries, queries] *= 0.5
        step[queries, keys] += 0.5 * matrix[0].mean(0).numpy()
        product = step @ product
    answer = rollout(one, (20, 3, 40))
    row = product[np.ravel_multi_index((1, 0, 2), (3, 2, 3))]
    np.testing.assert_allclose(answer.values(0).reshape(-1), row[image], atol=1e-6)
    np.testing.assert_allclose(answer.special, row[tokens].sum(), atol=1e-6)
    assert answer.approximate
    answer = rollout(one, prompt="click 2 (−)")
    np.testing.assert_allclose(answer.values(0).reshape(-1), product[n + 2, image], atol=1e-6)
    with pytest.raises(BadInput, match="a voxel or at a prompt"):
        rollout(one)
    with pytest.raises(BadInput, match="choose one of seed"):
        rollout(one, prompt=9)
    with pytest.raises(Cancelled):
        rollout(one, (20, 3, 40), cancel=lambda: True)


def test_swin_keeps_every_share_and_spreads_over_stages() -> None:
    network, size = swin_unetr().swinViT, (16, 24, 20)
    x = torch.randn(1, 1, *size)
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), size)
    with torch.inference_mode(), Tap().record(network, frame) as one:
        network(x)
    answer = rollout(one, (3, 20, 11))
    assert answer.approximate
    assert answer.grid.shape == (8, 12, 10)
    total = answer.weights.sum() + answer.padding[0]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    # One unshifted window alone cannot reach further than itself.
    first = rollout(one, (3, 20, 11), last=0)
    cells = np.argwhere(first.seen)
    assert np.all(cells.max(0) - cells.min(0) < 3)


def test_a_product_holds_blocks_of_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sightline.attention.calls.BLOCK", 2 * 700 * 16)
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 700, 8), torch.randn(1, 2, 700, 8)
    call = Call("m", Placement("m"), 1, 2, 700, 700, 8**-0.5, KeptTensors(q, k))
    sizes = []
    rows = Call.rows

    def watched(self: Call, entry: int, tokens: np.ndarray) -> torch.Tensor:
        found = rows(self, entry, tokens)
        sizes.append(found.shape[1])
        return found

    monkeypatch.setattr(Call, "rows", watched)
    vector = np.random.default_rng(0).random(700)
    vector[100:300] = 0
    full = (q[0].double() @ k[0].double().transpose(1, 2) * 8**-0.5).softmax(-1).mean(0).numpy()
    np.testing.assert_allclose(left_product(call, 0, vector), vector @ full, atol=1e-5)
    assert max(sizes) == 16
    assert sum(sizes) == 500
