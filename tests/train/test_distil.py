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


def test_value_is_that_of_its_formula() -> None:
    q, p = chances(0), chances(1)
    q[:, 3] *= 1e-3  # a structure that the teacher hardly sees
    q[:, 0] += 1 - q.sum(1)
    seen = torch.rand(ALL.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    a, b = p[0][:, seen[0]], q[0][:, seen[0]]
    missed = [-float((b[:, n] * a[:, n].log()).sum()) for n in range(a.shape[1])]
    expected = sum(missed) / len(missed)
    weights, parts = [], []
    for k in (1, 2, 3):
        mass = float(b[k].sum())
        if k < 3:
            told = sum(float(b[k, n]) * missed[n] for n in range(a.shape[1]))
            expected += 0.2 / 2 * told / mass
        weights.append(1.0 if k < 3 else 0.05)
        parts.append(float((a[k] - b[k]).abs().sum()) / (float(a[k].sum()) + mass + 50))
    expected += sum(w * x for w, x in zip(weights, parts, strict=True)) / sum(weights)
    assert float(taught_loss(p.log() + 3, q, seen)) == pytest.approx(expected, rel=1e-5)


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
