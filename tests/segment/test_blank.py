"""Blank places lose their labels, noisy air keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sightline.segment.blank import leave_out_blank


def reference(labels: np.ndarray, image: np.ndarray, value: float) -> np.ndarray:
    """Go through the whole scan, centre by centre."""
    low, opened = image <= value, np.zeros(image.shape, bool)
    for centre in np.ndindex(image.shape):
        cube = tuple(slice(max(0, c - 1), c + 2) for c in centre)
        if low[cube].all():
            opened[cube] = True
    return np.where(opened, 0, labels)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 14)] * 3), st.integers(0, 2**32 - 1), st.booleans())
def test_the_opening_of_what_is_blank(
    shape: tuple[int, int, int], seed: int, overlapping: bool
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 300, shape)
    image[tuple(slice(a, a + b) for a, b in rng.integers(0, 9, (3, 2)))] = -1024
    image[rng.random(shape) < 0.1] = -1024
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    if overlapping:
        labels = rng.random((2, *shape)) < 0.5
    expected = reference(labels, image, -1024)
    given_labels = labels.copy()
    count = leave_out_blank(labels, image, -1024)
    assert np.array_equal(labels, expected) and labels.dtype == given_labels.dtype
    assert count == np.count_nonzero(labels != given_labels)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cut_off_half(axis: int) -> None:
    image, labels = np.zeros((20, 21, 22), np.int16), np.ones((20, 21, 22), np.uint16)
    half = (slice(None),) * axis + (slice(0, 7),)
    image[half] = -2000
    assert leave_out_blank(labels, image, -1024) == labels[half].size
    assert not labels[half].any() and labels.sum() == labels.size - labels[half].size


def test_noisy_air_keeps_its_labels() -> None:
    rng = np.random.default_rng(0)
    image = np.maximum(rng.normal(-1000, 20, (20, 20, 20)), -1024)
    labels = np.full(image.shape, 3, np.uint8)
    assert 0.05 < np.mean(image <= -1024) < 0.2
    assert leave_out_blank(labels, image, -1024) == 0 and (labels == 3).all()
