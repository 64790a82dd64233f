"""What a model learns from a teacher's chances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sightline.train.distil import taught_loss


def chances(seed: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, 4, 5, 6, 7, generator=generator)).softmax(1)


ALL = torch.ones(1, 5, 6, 7, dtype=torch.bool)


def formula(logits: torch.Tensor, q: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The loss of one sample by what its text says, for autograd."""
    logs, q = logits[:, seen].log_softmax(0), q[:, seen]
    p, missed = logs.exp(), -(q * logs).sum(0)
    loss, parts, shares, told = missed.mean(), [], [], []
    for k in range(1, len(q)):
        mass = q[k].sum()
        if mass > 20:
            told.append((q[k] * missed).sum() / mass)
        shares.append(1.0 if mass > 20 else 0.05)
        parts.append(shares[-1] * (p[k] - q[k]).abs().sum() / (p[k].sum() + mass + 50))
    loss = loss + sum(parts) / sum(shares)
    return loss + 0.2 * sum(told) / len(told) if told else loss


@pytest.mark.parametrize("seed", range(6))
def test_value_and_gradient_are_those_of_its_formula(seed: int) -> None:
    torch.manual_seed(seed)
    q = (3 * torch.randn(2, 4, 5, 6, 7)).softmax(1)
    q[:, 2 + seed % 2] *= 1e-3  # a structure that the teacher hardly sees
    if seed == 0:
        q[:, 1:] *= 1e-3
    q[:, 0] += 1 - q.sum(1)
    logits = (3 * torch.randn(q.shape)).requires_grad_()
    seen = torch.rand(2, 5, 6, 7) < 0.8
    expected = sum(map(formula, logits, q, seen)) / 2
    (gradient,) = torch.autograd.grad(expected, logits)
    loss = taught_loss(logits, q, seen)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    torch.testing.assert_close(logits.grad, 3 * gradient, atol=1e-6, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_nothing_is_better_than_the_teachers_chances(seed: int, step: float) -> None:
    q = chances(seed)
    other = q.log() + step * torch.randn(q.shape, generator=torch.Generator().manual_seed(seed))
    assert float(taught_loss(q.log(), q, ALL)) < float(taught_loss(other, q, ALL))


def test_chances_are_learnt_and_not_certainties() -> None:
    q = torch.empty(1, 3, 4, 4, 4)
    q[:, 0], q[:, 1], q[:, 2] = 0.25, 0.65, 0.1
    logits = torch.zeros(q.shape, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        taught_loss(logits, q, torch.ones(1, 4, 4, 4, dtype=torch.bool)).backward()
        optimiser.step()
    torch.testing.assert_close(logits.detach().softmax(1), q, atol=0.03, rtol=0)


def test_what_is_not_seen_does_not_count() -> None:
    q, p = chances(3, 2), chances(4, 2).log().requires_grad_()
    seen = torch.zeros(2, 5, 6, 7, dtype=torch.bool)
    seen[0, :3] = True  # of the second sample nothing
    taught_loss(p, q, seen).backward()
    assert p.grad is not None and bool(p.grad.isfinite().all())
    assert float(p.grad[0, :, 3:].abs().sum() + p.grad[1].abs().sum()) == 0
    assert float(p.grad[0, :, :3].abs().sum()) > 0
