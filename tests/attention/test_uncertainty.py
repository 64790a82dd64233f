from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.attention.uncertainty import (
    entropy_of_logits,
    entropy_of_probabilities,
    most_uncertain,
)
from napari_sightline.errors import BadInput


@given(st.floats(-15, 15))
def test_entropy_of_a_logit(logit: float) -> None:
    p = 1 / (1 + np.exp(-np.float64(logit)))
    expected = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    assert float(entropy_of_logits(np.float16(0) + np.float32(logit))) == pytest.approx(
        expected, abs=1e-5
    )
    two = entropy_of_probabilities(np.array([p, 1 - p]))
    assert float(two) == pytest.approx(expected, abs=1e-5)


def test_what_is_surely_outside_has_none() -> None:
    found = entropy_of_logits(np.array([-np.inf, np.inf, 0.0]))
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-12)
    with pytest.raises(BadInput, match="one class"):
        entropy_of_probabilities(np.ones((1, 3)))


def test_the_most_uncertain_place_is_a_region_not_a_speck() -> None:
    entropy = np.zeros((12, 12, 12), np.float32)
    entropy[1, 1, 1] = 1.0
    entropy[6:9, 5:8, 7:10] = 0.8
    box = (slice(100, 112), slice(20, 32), slice(3, 15))
    assert most_uncertain(entropy, box) == (107, 26, 11)
    with pytest.raises(BadInput, match="sure of every voxel"):
        most_uncertain(np.zeros((2, 2, 2), np.float32), box)
