from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_sightline.attention.faithful import (
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

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor) -> Tensor:
        corner = (slice(None), slice(None), slice(0, 16), slice(16, 32), slice(0, 16))
        same = 1 - (x[corner] - self.image[corner]).abs().mean() / 0.5
        return torch.full_like(x, 1.0) * (8 * same - 4)


def probe() -> tuple[Probe, np.ndarray]:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *SIZE)).astype(np.float32))
    mask = np.zeros(SIZE, bool)
    mask[4:8, 20:24, 30:40] = True
    return Probe(Looks(image), "m", image, Frame.scaled((0, 0, 0), (1, 1, 1), SIZE)), mask


def test_a_map_that_knows_beats_chance_and_its_opposite_loses() -> None:
    one, mask = probe()
    values = np.zeros((1, 2, 3), np.float32)
    values[0, 1, 0] = 1
    grid = TokenGrid.whole((1, 2, 3), (16.0, 16.0, 16.0))
    zeros = np.zeros(1, np.float32)
    good = AttentionMap(
        values.reshape(1, -1), np.arange(6), grid, one.frame, zeros, zeros, "q", "m", "b", ("h",)
    )
    told: list[float] = []
    found = faithfulness(
        one,
        {"good": good, "bad": -np.kron(values, np.ones((16, 16, 16)))},
        mask,
        randoms=3,
        steps=6,
        progress=lambda share, word: told.append(share),
    )
    deletion, spread = found.random_area("deletion")
    assert found.maps["good"].deletion_area < deletion < found.maps["bad"].deletion_area
    assert spread > 0
    insertion, _ = found.random_area("insertion")
    assert found.maps["good"].insertion_area > insertion > found.maps["bad"].insertion_area
    # After the first of six blocks nothing is left to lose, nor to win.
    curve = found.maps["good"].deletion
    assert curve[0] > 0.95
    assert np.all(curve[1:] < 0.1)
    assert found.agreement["good", "bad"] == pytest.approx(-1)
    assert told[-1] == 1
    assert len(told) == 2 * 7 * 5


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
