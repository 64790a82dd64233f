from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_sightline.attention.faithful import (
    SCORES,
    TESTS,
    Score,
    block_shape,
    curves,
    faithfulness,
    on_blocks,
)
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.probe import Probe
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.errors import BadInput, Cancelled

SIZE = (16, 32, 48)


class Looks(nn.Module):
    """Sure of its mask in so far as one corner of the image is as sharp as it was."""

    def __init__(self, image: Tensor, mask: np.ndarray) -> None:
        super().__init__()
        self.image, self.mask = image, torch.from_numpy(mask)

    def forward(self, x: Tensor) -> Tensor:
        corner = (slice(None), slice(None), slice(0, 16), slice(16, 32), slice(0, 16))
        same = 1 - (x[corner] - self.image[corner]).abs().mean() / 0.5
        return torch.where(self.mask, 8 * same - 4, -12.0) + 0 * x


def probe() -> tuple[Probe, np.ndarray]:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *SIZE)).astype(np.float32))
    mask = np.zeros(SIZE, bool)
    mask[4:8, 20:24, 30:40] = True
    return Probe(Looks(image, mask), "m", image, Frame.scaled((0, 0, 0), (1, 1, 1), SIZE)), mask


def one_block(shape: tuple[int, int, int], at: tuple[int, int, int], one: Probe) -> AttentionMap:
    """A map that is sure of one block."""
    values = np.zeros(shape, np.float32)
    values[at] = 1
    size = tuple(float(n / m) for n, m in zip(one.image.shape[2:], shape, strict=True))
    zeros = np.zeros(1, np.float32)
    flat, cells = values.reshape(1, -1), np.arange(values.size)
    grid = TokenGrid.whole(shape, size)  # type: ignore[arg-type]
    return AttentionMap(flat, cells, grid, one.frame, zeros, zeros, "q", "m", "b", ("h",))


@pytest.mark.parametrize("score", SCORES)
def test_a_map_that_knows_beats_chance_and_its_opposite_loses(score: Score) -> None:
    one, mask = probe()
    good = one_block((1, 2, 3), (0, 1, 0), one)
    bad = -np.kron(good.weights.reshape(1, 2, 3), np.ones((16, 16, 16), np.float32))
    told: list[float] = []
    found = faithfulness(
        one,
        {"good": good, "bad": bad},
        mask,
        randoms=4,
        steps=6,
        progress=lambda share, word: told.append(share),
        beside={"even": np.ones(SIZE, np.float32), "same": -bad},
    )
    for moved in (False, True):
        for test in TESTS:
            assert found.gain("good", test, score, moved) > 0.02
            _, spread = found.chance(test, score, "good" if moved else None)
            assert spread > 0
    for test in TESTS:
        assert found.gain("bad", test, score) < -0.02
    # After the first of six blocks nothing is left to lose.
    curve = found.maps["good"].curve("deletion", score)
    assert curve[0] > 0.95
    assert np.all(curve[1:] < 0.2 * curve[0])
    np.testing.assert_allclose(curve[0], found.maps["bad"].curve("insertion", score)[-1])
    assert found.agreement["good", "bad"] == pytest.approx(-1)
    assert found.agreement["good", "same"] == pytest.approx(1)
    assert found.agreement["good", "even"] == 0
    assert told[-1] == 1
    assert len(told) == 2 + 2 * 5 * (2 + 4 + 2 * 4)


class Leaks(nn.Module):
    """Fills everything where the image is blurred, as a promptable network does."""

    def __init__(self, image: Tensor, mask: np.ndarray) -> None:
        super().__init__()
        self.image, self.mask = image, torch.from_numpy(mask)

    def forward(self, x: Tensor) -> Tensor:
        change = (x - self.image).abs().mean((2, 3, 4), keepdim=True)
        return torch.where(self.mask, 6.0, 60 * change - 6) + 0 * x


def test_overlap_sees_a_leak_that_probability_does_not() -> None:
    one, mask = probe()
    leaky = replace(one, network=Leaks(one.image, mask))
    found = curves(leaky, np.arange(6.0), mask, steps=6)
    assert np.ptp(found.curve("deletion", "probability")) < 1e-6
    overlap = found.curve("deletion", "overlap")
    assert overlap[0] > 0.8
    assert overlap[-1] < 0.1


def test_a_moved_map_keeps_its_values_and_its_neighbours() -> None:
    class Keeps:
        def __init__(self) -> None:
            noise = np.random.default_rng(1).normal(size=(1, 1, 64, 80, 96))
            self.image = torch.from_numpy(noise).float()
            self.gone: list[np.ndarray] = []

        def scores(self, image: Tensor, mask: np.ndarray) -> tuple[float, float]:
            self.gone.append(image[0, 0].numpy())
            return 0.5, 0.5

    keeps = Keeps()
    a, b, c = np.ogrid[:4, :5, :6]
    blob = np.kron(
        np.exp(-((a - 1.1) ** 2 + 1.07 * (b - 2.05) ** 2 + 1.2 * (c - 3.02) ** 2)),
        np.ones((16, 16, 16)),
    )
    mask = np.ones((64, 80, 96), bool)
    faithfulness(keeps, {"blob": blob}, mask, randoms=3, steps=8)  # type: ignore[arg-type, dict-item]

    def touching(image: np.ndarray) -> float:
        """Share of the blurred blocks' neighbours, over the border too, that are blurred."""
        change = np.abs(image - keeps.image[0, 0].numpy())
        inner = change.reshape(4, 16, 5, 16, 6, 16)[:, 6:10, :, 6:10, :, 6:10]
        gone = inner.mean((1, 3, 5)) > 0.4
        assert 12 < gone.sum() < 18
        return float(np.mean([np.roll(gone, s, x)[gone] for x in range(3) for s in (-1, 1)]))

    # Two ends, then for each order first deletions, then insertions, one after another.
    each = [keeps.gone[2 + 14 * number] for number in range(7)]
    own, scattered, moved = each[0], each[1:4], each[4:]
    assert all(touching(one) == pytest.approx(touching(own)) for one in moved)
    assert max(map(touching, scattered)) < touching(own) / 2
    assert any(not np.array_equal(one, own) for one in moved)


def test_blocks_average_what_they_hold() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((4, 6, 10))
    assert block_shape((32, 48, 80)) == (2, 3, 5)
    found = on_blocks(values, (32, 48, 80))
    np.testing.assert_allclose(found, values.reshape(2, 2, 3, 2, 5, 2).mean((1, 3, 5)))
    # The last block may be cut, and tokens may straddle blocks.
    voxels = rng.random((20, 16, 16))
    found = on_blocks(voxels, (20, 16, 16))
    np.testing.assert_allclose(found[:, 0, 0], [voxels[:16].mean(), voxels[16:].mean()])
    coarse = on_blocks(np.arange(2.0)[:, None, None], (48, 16, 16))
    np.testing.assert_allclose(coarse[:, 0, 0], [0, 0.5, 1])


def test_what_cannot_be_measured_says_so() -> None:
    one, mask = probe()
    with pytest.raises(BadInput, match="make no 10 steps"):
        curves(one, np.zeros(6), mask)
    with pytest.raises(BadInput, match="at least 1 random"):
        faithfulness(one, {}, mask, randoms=0)
    with pytest.raises(Cancelled):
        curves(one, np.zeros(6), mask, steps=3, cancel=lambda: True)
