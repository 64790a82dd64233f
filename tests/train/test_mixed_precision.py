"""Learning in bf16."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai")

from monai.networks.nets.swin_unetr import SwinUNETR, WindowAttention, compute_mask

from napari_sightline.train.mixed_precision import guard_small_grids, halve_attention

WINDOW, TOKENS = (4, 4, 4), 64


def attention() -> WindowAttention:
    torch.manual_seed(0)
    made = WindowAttention(12, 3, WINDOW, qkv_bias=True)
    torch.nn.init.normal_(made.relative_position_bias_table, std=1.0)
    return made


def masks() -> torch.Tensor:
    """Of eight windows that were shifted."""
    mask: torch.Tensor = compute_mask((8, 8, 8), WINDOW, (2, 2, 2), torch.device("cpu"))
    return mask


def learnt(
    module: WindowAttention, x: torch.Tensor, mask: torch.Tensor | None, bf16: bool
) -> list[torch.Tensor]:
    """Answer and gradients."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = module(x, mask)
    (found.float() * torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
    grads = [p.grad for p in module.parameters()]
    return [found.detach(), x.grad, *(g.clone() for g in grads)]  # type: ignore[list-item, union-attr]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


@pytest.mark.parametrize("shifted", [False, True])
def test_it_is_as_near_to_float32_as_before(shifted: bool) -> None:
    module, x = attention(), torch.randn(16, TOKENS, 12)
    mask = masks() if shifted else None
    exact = learnt(module, x, mask, bf16=False)
    before = learnt(module, x, mask, bf16=True)
    halve_attention(module)
    after = learnt(module, x, mask, bf16=True)
    for now, old, true in zip(after, before, exact, strict=True):
        assert now.dtype == old.dtype and now.shape == old.shape
        assert distance(now, true) < max(0.02, 2 * distance(old, true))


def test_scores_stay_in_bf16() -> None:
    module = attention()
    halve_attention(module)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        module(torch.randn(8, TOKENS, 12, requires_grad=True), masks())
    large = [t for t in kept if t.numel() >= 8 * 3 * TOKENS**2]
    assert large and all(t.dtype == torch.bfloat16 for t in large)


def test_without_gradients_or_autocast_nothing_changes() -> None:
    module, x, mask = attention(), torch.randn(8, TOKENS, 12), masks()
    plain = learnt(module, x, mask, bf16=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = module(x, mask)
    halve_attention(module)
    for now, before in zip(learnt(module, x, mask, bf16=False), plain, strict=True):
        assert torch.equal(now, before)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x, mask), seen)


def test_dropout_is_kept() -> None:
    module = WindowAttention(12, 3, WINDOW, attn_drop=1.0)
    halve_attention(module)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(torch.randn(8, TOKENS, 12), None)
    torch.testing.assert_close(found.float(), module.proj.bias.expand_as(found), atol=0.02, rtol=0)


def test_a_whole_network_learns_alike() -> None:
    torch.manual_seed(0)
    network = SwinUNETR(1, 2, feature_size=12, depths=(2, 2, 1, 1), window_size=4).train()
    image = torch.randn(1, 1, 64, 64, 64)

    def gradient() -> torch.Tensor:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = network(image)
        found.float().square().mean().backward()
        parts = [p.grad.flatten() for p in network.swinViT.parameters() if p.grad is not None]
        return torch.cat(parts)

    before = gradient()
    halve_attention(network)
    after = gradient()
    assert float(torch.cosine_similarity(before, after, dim=0)) > 0.98


def test_bf16_gradients_can_be_trusted_on_the_smallest_grid() -> None:
    torch.manual_seed(0)
    network = SwinUNETR(1, 3, feature_size=12, depths=(1, 1, 1, 1), window_size=4).train()
    guard_small_grids(network)
    image = torch.randn(1, 1, 64, 64, 32)
    weights = [p for name, p in network.named_parameters() if "encoder10" in name and p.ndim == 5]

    def gradients(bf16: bool) -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            network(image).float().square().mean().backward()
        return [w.grad.clone() for w in weights if w.grad is not None]

    exact = gradients(False)
    assert len(exact) == 2
    for _ in range(2):
        junk = [torch.full((200_000,), float("nan")) for _ in range(20)]
        del junk
        for got, expected in zip(gradients(True), exact, strict=True):
            assert float((got - expected).norm() / expected.norm()) < 0.5
