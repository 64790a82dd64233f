from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_making import (
    CODES,
    POINTS,
    Reference,
    encoded,
    promptable,
    prompts,
    swin_unetr,
)
from torch import Tensor, nn

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.tap import Tap
from napari_sightline.errors import BadInput, ModelError
from napari_sightline.segment.region import Region

REGION = Region((3.0, -2.0, 1.5), (1.5, 1.0, 0.7), (48, 32, 48), 1.0)


class Plain(nn.Module):
    """Attention with every kind of argument, and none that a family knows."""

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        self.arguments = arguments
        self.project = nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).view(*x.shape[:2], 3, 3, 4).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, **self.arguments)  # type: ignore[arg-type]


class ByHand(nn.Module):
    """Softmax over a map, as MONAI's eager blocks and many others do."""

    def __init__(self, route: str) -> None:
        super().__init__()
        self.project = nn.Linear(12, 36)
        self.softmax = nn.Softmax(dim=-1)
        self.route = route

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).view(*x.shape[:2], 3, 3, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        if self.route == "module":
            weights = self.softmax(scores)
        elif self.route == "method":
            weights = scores.softmax(dim=-1)
        else:
            weights = F.softmax(scores, -1)
        return weights @ v


def record(network: nn.Module, x: Tensor, tap: Tap | None = None) -> tuple[Pass, Tensor, Tensor]:
    with torch.inference_mode():
        plain = network(x)
        with (tap or Tap()).record(network) as one:
            seen = network(x)
    return one, plain, seen


def assert_rows_equal(one: Pass, maps: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(one.calls) == len(maps)
    for call, expected in zip(one.calls, maps, strict=True):
        assert expected.shape == (call.batch, call.heads, call.queries, call.keys)
        entry = call.batch // 2
        rows = call.rows(entry, range(call.queries))
        assert float((rows - expected[entry]).abs().max()) <= tolerance
        token = call.keys // 3
        column = call.column(entry, token)
        assert float((column - expected[entry, :, :, token]).abs().max()) <= tolerance


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_of_the_promptable_network_equal_the_formula(precision: str) -> None:
    network, tap = promptable(), Tap()
    auto = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), auto:
        features = encoded(network, REGION.shape)
        plain = network.decode(features, prompts())
        with tap.recording(network, REGION, POINTS.numpy(), CODES.numpy()):
            seen = network.decode(features, prompts())
        with Reference() as reference:
            network.decode(features, prompts())
    assert torch.equal(plain.logits, seen.logits)
    assert torch.equal(plain.quality, seen.quality)
    one = tap.latest
    assert one is not None
    assert one.model == "sightline-3d"
    assert one is tap.for_region(REGION)
    assert_rows_equal(one, reference.maps)
    # What the first block was given is kept, and the rest computed again.
    held = sum(n * 36 for n in (3 * 2 * 3, 1 + len(CODES))) * (2 if precision == "bf16" else 4)
    assert 0 <= tap.nbytes - held < 200
    chosen = Tap(blocks=["*1.token_to_image"])
    with torch.inference_mode(), auto, chosen.recording(network, REGION, POINTS, CODES):
        network.decode(features, prompts())
    assert 0 <= chosen.nbytes - held < 200
    assert_rows_equal(chosen.passes[0], reference.maps[6:7])
    # Whoever asks often may hold it open, and pays for it.
    with one.opened():
        assert one.nbytes > 4 * held
    assert one.nbytes == tap.nbytes


@pytest.mark.parametrize("v2", [False, True])
def test_rows_of_swin_unetr_equal_the_formula(v2: bool) -> None:
    network = swin_unetr(3, v2).swinViT
    x = torch.randn(2, 1, 26, 16, 14)
    one, plain, seen = record(network, x)
    with torch.inference_mode(), Reference() as reference:
        network(x)
    assert torch.equal(plain[-1], seen[-1])
    assert_rows_equal(one, reference.maps)
    # The bias of shifted windows is rebuilt, not kept.
    assert all(call.bias is not None and call.bias.nbytes == 0 for call in one.calls)


def test_eager_swin_unetr_is_seen_by_its_softmax() -> None:
    x = torch.randn(1, 1, 26, 16, 14)
    eager, plain, seen = record(swin_unetr(3, flash=False).swinViT, x)
    flash, _, _ = record(swin_unetr(3).swinViT, x)
    assert torch.equal(plain[-1], seen[-1])
    assert [call.label for call in eager.calls] == [call.label for call in flash.calls]
    for by_hand, call in zip(eager.calls, flash.calls, strict=True):
        close = {"atol": 2e-3, "rtol": 2e-2}
        torch.testing.assert_close(by_hand.rows(0, [0, 1]), call.rows(0, [0, 1]), **close)
        torch.testing.assert_close(by_hand.column(0, 1), call.column(0, 1), **close)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.randn(5, 5)},
        {"attn_mask": torch.randn(2, 1, 1, 5).expand(2, 3, 5, 5)},
        {"attn_mask": torch.randn(2, 3, 5, 5) > -1},
    ],
)
def test_every_argument_of_attention_counts(arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    network, x = Plain(**arguments), torch.randn(2, 5, 12)
    one, plain, seen = record(network, x)
    with torch.inference_mode(), Reference() as reference:
        network(x)
    assert torch.equal(plain, seen)
    assert_rows_equal(one, reference.maps)
    assert "no geometry" in one.calls[0].label


def test_fewer_heads_of_keys_than_of_queries() -> None:
    q, k = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8)
    with Tap().record(nn.Identity()) as one:
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    torch.testing.assert_close(
        one.calls[0].rows(0, range(5)),
        q[0].matmul(k[0].repeat_interleave(2, 0).transpose(-1, -2)).mul(8**-0.5).softmax(-1),
    )


@pytest.mark.parametrize("route", ["module", "method", "function"])
def test_softmax_by_hand_is_seen(route: str) -> None:
    network, x = ByHand(route), torch.randn(2, 5, 12)
    one, plain, seen = record(network, x)
    assert torch.equal(plain, seen)
    assert len(one.calls) == 1
    assert one.calls[0].module == ""
    q, k, _ = network.project(x).view(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(-1, -2)).softmax(-1)
    torch.testing.assert_close(one.calls[0].rows(1, range(5)), expected[1].detach())


def test_multi_head_attention_of_torch() -> None:
    network = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    x = torch.randn(1, 5, 12)
    with torch.inference_mode():
        plain = network(x, x, x, need_weights=False)[0]
        with Tap().record(network) as one:
            seen = network(x, x, x, need_weights=False)[0]
        assert torch.equal(plain, seen)
        # The fused path cannot be seen: said, not silently empty.
        with pytest.raises(BadInput, match="fused path"):
            one.check()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with Tap().record(network) as one:
                network(x, x, x, need_weights=False)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        _, weights = network(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(one.calls[0].rows(0, range(5)), weights[0])


def test_masks_of_torchs_own_layer() -> None:
    torch.manual_seed(0)
    network = nn.MultiheadAttention(12, 3)
    x, mask = torch.randn(5, 2, 12), torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 0] = True
    padding[1, 1] = True
    with Tap().record(network) as one:
        _, weights = network(
            x, x, x, attn_mask=mask, key_padding_mask=padding, average_attn_weights=False
        )
    assert len(one.calls) == 1
    torch.testing.assert_close(one.calls[0].rows(0, range(5)), weights[0].detach())
    rows = one.calls[0].rows(1, range(2, 5))
    torch.testing.assert_close(rows, weights[1, :, 2:].detach())
    appended = nn.MultiheadAttention(12, 3, add_zero_attn=True)
    with Tap().record(appended) as one:
        appended(x, x, x)
    with pytest.raises(BadInput, match="appends keys"):
        one.check()


def test_a_compiled_model_says_so() -> None:
    inner = torch.compile(Plain(), backend="eager")
    network = nn.Sequential(nn.Identity(), inner)  # type: ignore[arg-type]
    one, plain, seen = record(network, torch.randn(1, 5, 12))
    assert torch.equal(plain, seen)
    assert one.calls == []
    with pytest.raises(BadInput, match="compiled"):
        one.check()


def test_a_scripted_model_says_so() -> None:
    with pytest.warns(DeprecationWarning, match="jit"):
        network = torch.jit.trace(nn.Linear(3, 3), torch.zeros(1, 3))
    one, plain, seen = record(network, torch.zeros(1, 3))
    assert torch.equal(plain, seen)
    with pytest.raises(BadInput, match="compiled"):
        one.check()


def test_a_model_without_attention_says_so() -> None:
    one, _, _ = record(nn.Linear(3, 3), torch.zeros(1, 3))
    with pytest.raises(BadInput, match="no attention"):
        one.check()


def test_half_precision_copies_are_close_and_half_as_large() -> None:
    torch.manual_seed(0)
    network, x = Plain(), torch.randn(2, 40, 12)
    exact, _, _ = record(network, x)
    half, _, _ = record(network, x, Tap(half=True))
    assert half.nbytes * 2 == exact.nbytes
    rows, expected = half.calls[0].rows(0, range(40)), exact.calls[0].rows(0, range(40))
    assert 0 < float((rows - expected).abs().max()) < 2e-3
    # Too large for fp16: kept as they are.
    large, _, _ = record(network, x * 1e6, Tap(half=True))
    assert large.nbytes == exact.nbytes


def test_blocks_are_chosen_by_name() -> None:
    network, x = swin_unetr().swinViT, torch.randn(1, 1, 16, 16, 16)
    one, _, _ = record(network, x, Tap(blocks=["*layers2*"]))
    assert [call.placement.stage for call in one.calls] == [2, 2]
    one, _, _ = record(
        network, x, Tap(blocks=lambda name: name.endswith("layers1.0.blocks.0.attn"))
    )
    assert len(one.calls) == 1


def test_the_oldest_passes_go_beyond_the_budget() -> None:
    network, x = Plain(), torch.randn(2, 40, 12)
    size = record(network, x)[0].nbytes
    tap = Tap(budget_mb=2.5 * size / 2**20)
    kept = [record(network, x, tap)[0] for _ in range(4)]
    assert tap.passes == tuple(kept[2:])
    assert tap.nbytes == 2 * size
    assert tap.dropped == 2
    assert kept[3].number > kept[2].number
    tap.clear()
    assert tap.latest is None


def test_what_does_not_fit_at_all_says_so() -> None:
    network, x = (
        nn.Sequential(Plain(), nn.Flatten(2), nn.Linear(160, 12), Plain()),
        torch.randn(2, 40, 12),
    )
    whole, _, _ = record(network, x)
    tap = Tap(budget_mb=(whole.nbytes - 1) / 2**20)
    one, _, _ = record(network, x, tap)
    assert [call.observable for call in one.calls] == [False, True]
    with pytest.raises(BadInput, match="raise its budget"):
        one.calls[0].rows(0, [0])
    assert tap.nbytes <= tap.budget


def test_an_error_in_the_model_leaves_nothing_behind() -> None:
    network, tap = promptable(), Tap()
    with pytest.raises(RuntimeError), tap.record(network):
        raise RuntimeError
    assert tap.latest is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_other_threads_are_not_recorded() -> None:
    network, x = Plain(), torch.randn(1, 5, 12)
    with Tap().record(network) as one:
        thread = threading.Thread(target=network, args=(x,))
        thread.start()
        thread.join()
        assert one.calls == []
        network(x)
    assert len(one.calls) == 1


def test_any_change_of_weights_is_noticed() -> None:
    network, x = Plain(), torch.randn(1, 5, 12)
    changes: list[Callable[[], object]] = [
        lambda: setattr(network, "project", nn.Linear(12, 36)),
        lambda: network.project.weight.detach().mul_(2),
        lambda: network.project.register_buffer("shift", torch.zeros(1)),
        lambda: network.project.shift.add_(1),  # type: ignore[operator, union-attr]
        lambda: setattr(network.project, "bias", nn.Parameter(torch.zeros(36))),
    ]
    for change in changes:
        one, _, _ = record(network, x)
        one.check()
        change()
        with pytest.raises(ModelError, match="run it again"):
            one.check()


def test_replaced_weights_are_noticed() -> None:
    network, x = Plain(), torch.randn(1, 5, 12)
    one, _, _ = record(network, x)
    one.check()
    network.load_state_dict(Plain().state_dict())
    with pytest.raises(ModelError, match="run it again"):
        one.check()
    one, _, _ = record(network, x)
    one.check()
    del network
    with pytest.raises(ModelError, match="changed"):
        one.check()


def test_the_window_that_saw_a_voxel_most_centrally() -> None:
    network, tap = Plain(), Tap()
    x = torch.randn(1, 5, 12)
    for corner in (0, 16, 32):
        with tap.window(network, Frame.scaled((0, 0, corner), (1, 1, 1), (32, 32, 32)), "swin"):
            network(x)
    first, second, third = tap.passes
    assert tap.at((16, 16, 2)) is first
    assert tap.at((16, 16, 30)) is second
    assert tap.at((16, 16, 60)) is third
    assert tap.at((16, 16, 64)) is None
    assert tap.at((16, 16, 2), "other") is None
    with pytest.raises(BadInput, match="outside what swin saw"):
        first.entry((16, 16, 40))


def test_frames_turn_voxels_both_ways() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 2.0], [-1, 0, 0], [0, 0.5, 0]]
    affine[:3, 3] = [3, 40, 5]
    frame = Frame((8, 10, 12), affine)
    points = np.random.default_rng(0).random((5, 3)) * 9
    np.testing.assert_allclose(frame.from_volume(frame.to_volume(points)), points, atol=1e-12)
    assert frame.contains(frame.to_volume((0, 0, 11)))
    assert not frame.contains(frame.to_volume((0, 0, 12)))
