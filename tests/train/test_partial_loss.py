"""The loss where not every structure is contoured."""

from __future__ import annotations

import pytest
import torch

from napari_sightline.train.partial_loss import partial_loss


class TestLoss:
    labels = torch.tensor([0, 1, 2, 0]).view(1, 4, 1, 1)
    seen = torch.ones(1, 4, 1, 1, dtype=torch.bool)

    def loss(self, logits: torch.Tensor, known: list[bool], **change: torch.Tensor) -> float:
        values = {"labels": self.labels, "seen": self.seen} | change
        return float(partial_loss(logits, values["labels"], values["seen"], torch.tensor([known])))

    def test_right_is_better_than_wrong(self) -> None:
        truth = torch.nn.functional.one_hot(self.labels, 3).movedim(-1, 1).float()
        assert self.loss(20 * truth, [True] * 3) < 1e-3
        assert self.loss(-20 * truth, [True] * 3) > 10

    def test_all_known_is_cross_entropy_and_dice(self) -> None:
        logits = torch.randn(1, 3, 4, 1, 1)
        p = logits.softmax(1)
        expected = torch.nn.functional.cross_entropy(logits, self.labels)
        for k in (1, 2):
            t = (self.labels == k).float()
            both, sizes = (p[:, k] * t).sum(), p[:, k].sum() + t.sum()
            expected = expected + 0.5 * (1 - (2 * both + 20) / (sizes + 20))
            expected = expected - 0.5 * 0.1 * p[0, k][t[0] > 0].log().mean()
        assert self.loss(logits, [True] * 3) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("seed", range(12))
    def test_value_and_gradient_are_those_of_its_formula(self, seed: int) -> None:
        torch.manual_seed(seed)
        logits = (4 * torch.randn(2, 5, 6, 5, 4)).requires_grad_()
        known = torch.rand(2, 5) < 0.6
        known[:, 0] = True
        if seed == 0:
            known[:, 1:] = False
        labels = torch.randint(0, 5, (2, 6, 5, 4)) * (torch.rand(2, 6, 5, 4) < 0.5 * (seed != 1))
        labels = torch.stack([x * k[x] for x, k in zip(labels, known, strict=True)])
        seen = torch.rand(labels.shape) < 0.8
        expected = sum(map(self.formula, logits, labels, seen, known)) / 2
        (gradient,) = torch.autograd.grad(expected, logits)
        loss = partial_loss(logits, labels, seen, known)
        torch.testing.assert_close(loss, expected)
        # As the last of other operations, such as the one of a loss that is scaled.
        (3 * loss).backward()
        torch.testing.assert_close(logits.grad, 3 * gradient, atol=1e-6, rtol=1e-4)

    @staticmethod
    def formula(
        logits: torch.Tensor, labels: torch.Tensor, seen: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        p = logits.softmax(0)
        empty = p[0] + p[~known].sum(0)
        target = torch.where(labels == 0, empty, p.gather(0, labels[None])[0])
        weight = torch.where(seen, 1.0, 0.05 * (labels == 0))
        loss = -(weight * target.log()).sum() / weight.sum()
        parts, shares, missed = [], [], []
        for k in range(1, len(p)):
            if known[k]:
                t = (labels == k) & seen
                above, below = 2 * p[k][t].sum() + 20, p[k][seen].sum() + t.sum() + 20
                shares.append(1.0 if t.any() else 0.25)
                parts.append(shares[-1] * (1 - above / below))
                if t.any():
                    missed.append(-p[k][t].log().mean())
        if parts:
            loss = loss + sum(parts) / sum(shares)
        return loss + 0.1 * sum(missed) / len(missed) if missed else loss

    def test_a_small_organ_that_died_out_is_pulled_back(self) -> None:
        labels = torch.zeros(1, 16, 16, 16, dtype=torch.int64)
        labels[0, :8, :8, :8], labels[0, 12, 12, 12:15] = 1, 2
        logits = torch.zeros(1, 3, 16, 16, 16)
        logits[0, 2] = -8
        logits.requires_grad_()
        seen = torch.ones_like(labels, dtype=torch.bool)
        partial_loss(logits, labels, seen, torch.ones(1, 3, dtype=torch.bool)).backward()
        assert logits.grad is not None
        pull = logits.grad[0, 2]
        assert float(pull.sum()) < 0
        # Its voxels count tens of times more than by their number.
        assert float(pull[12, 12, 13]) < -10 / labels.numel()

    def test_an_unknown_structure_is_as_good_as_background(self) -> None:
        labels = torch.tensor([0, 1, 0, 0]).view(1, 4, 1, 1)
        logits = torch.zeros(1, 3, 4, 1, 1)
        logits[0, 1, 1] = 9
        logits[0, 0, 2:] = 9
        logits[0, 0, 0] = 9
        other = logits.clone()
        other[0, 0, 2], other[0, 2, 2] = 0, 9  # says it is the unknown structure
        known = [True, True, False]
        assert self.loss(other, known, labels=labels) == pytest.approx(
            self.loss(logits, known, labels=labels), abs=1e-6
        )
        assert self.loss(other, [True] * 3, labels=labels) > 1

    def test_no_gradient_from_an_unknown_structure_or_unseen_organs(self) -> None:
        logits = torch.randn(1, 3, 4, 1, 1, requires_grad=True)
        seen = self.seen.clone()
        seen[0, 1] = False
        known = torch.ones(1, 3, dtype=torch.bool)
        partial_loss(logits, self.labels, seen, known).backward()
        assert logits.grad is not None
        assert float(logits.grad[0, :, 1].abs().sum()) == 0
        assert float(logits.grad[0, :, 2].abs().sum()) > 0
