"""Undo and redo within a bound of memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.segment.history import HISTORY_BYTES, Timeline, Transition
from napari_sightline.segment.packed import EMPTY, PackedLogits, PackedMask
from napari_sightline.segment.region import plan
from napari_sightline.segment.state import Scene, SegmentObject, Step


def test_two_hundred_steps_on_a_large_scan_stay_under_200_mb() -> None:
    # An organ of 1.2 million voxels whose rim moves, and logits of a usual region, all noise.
    rng = np.random.default_rng(0)
    region = plan((400, 512, 512), (1.5, 0.8, 0.8), 2.9, np.array([200.0, 256, 256]), 80**3)
    away = np.sqrt(sum(axis**2 for axis in np.ogrid[-1:1:80j, -1:1:170j, -1:1:170j]))
    steps = tuple(slice(-1, 1, n * 1j) for n in region.shape)
    grid = np.sqrt(sum(axis**2 for axis in np.ogrid[steps]))
    box = (slice(160, 240), slice(170, 340), slice(170, 340))
    states = []
    for _ in range(3):
        mask = away + rng.normal(0, 0.01, away.shape) < 0.98
        logits = 25 * (0.5 - grid) + rng.normal(0, 0.4, grid.shape)
        step = Step((), PackedMask.of(mask, box), PackedLogits.of(region, logits))
        states.append(Scene((SegmentObject(1, step=step),), 1, 2))
    assert states[0].objects[0].step.mask.count > 1e6
    sizes = [Transition.between(x, y).nbytes for x, y in pairwise(states)]
    assert 0 < max(sizes) * 200 < HISTORY_BYTES < 200e6


def scene(k: int, rng: np.random.Generator) -> Scene:
    region = plan((16, 16, 16), (1, 1, 1), 1.0, np.array([8.0, 8, 8]), 16**3)
    mask = rng.random((6, 7, 8)) < 0.5
    packed = PackedMask.of(mask, (slice(k % 5, k % 5 + 6), slice(2, 9), slice(0, 8)))
    logits = PackedLogits.of(region, rng.normal(0, 3, region.shape)) if k % 3 else None
    return Scene((SegmentObject(1, step=Step((), packed, logits)),), 1, 2)


def test_beyond_the_bound_the_oldest_steps_cannot_be_undone_and_no_mask_is_lost() -> None:
    rng = np.random.default_rng(0)
    states = [scene(k, rng) for k in range(40)]
    timeline = Timeline(limit=60_000)
    for before, after in pairwise(states):
        timeline.push(Transition.between(before, after))
        assert timeline.nbytes <= 60_000
    now, count = states[-1], 0
    while (earlier := timeline.undo(now)) is not None:
        count += 1
        now = earlier
        assert now == states[-1 - count]
    assert 2 < count < 39
    while (later := timeline.redo(now)) is not None:
        count -= 1
        now = later
        assert now == states[-1 - count]
    assert now == states[-1]


def test_one_step_larger_than_the_bound_can_still_be_undone() -> None:
    rng = np.random.default_rng(0)
    first, second = scene(0, rng), scene(1, rng)
    timeline = Timeline(limit=10)
    timeline.push(Transition.between(first, second))
    assert timeline.undo(second) == first


@given(st.integers(0, 2**32 - 1))
def test_a_step_leads_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = scene(int(rng.integers(9)), rng), scene(int(rng.integers(9)), rng)
    other = SegmentObject(5, "other", True, True, step=Step(mask=two.objects[0].step.mask))
    for after in (two, two.with_object(other), Scene(), one):
        step = Transition.between(one, after)
        assert step.apply(one) == after
        assert step.apply(after, back=True) == one


@given(st.integers(0, 2**32 - 1))
def test_sets_of_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks, fields = [], []
    for _ in range(2):
        low = rng.integers(0, 6, 3)
        size = rng.integers(1, 5, 3)
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(low, size, strict=True))
        part = rng.random(tuple(size)) < 0.6
        field = np.zeros((12, 12, 12), bool)
        field[box] = part
        masks.append(PackedMask.of(part, box))
        fields.append(field)
    everything = (slice(0, 12),) * 3
    a, b = masks
    for made, expected in (
        (a.xor(b), fields[0] ^ fields[1]),
        (a.join(b), fields[0] | fields[1]),
        (a.less(b), fields[0] & ~fields[1]),
        (a.xor(EMPTY), fields[0]),
        (EMPTY.join(b), fields[1]),
    ):
        np.testing.assert_array_equal(made.paint(everything), expected)
        assert made.count == expected.sum()
