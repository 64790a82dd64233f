from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Box, History, MaskPrompt, Point, Scribble

coordinate = st.floats(-1e4, 1e4)
position = st.tuples(coordinate, coordinate, coordinate)


def test_a_point_takes_any_three_numbers_and_keeps_plain_floats() -> None:
    point = Point(np.array([1, 2, 3], dtype=np.int16), positive=np.False_)
    assert point == Point((1.0, 2.0, 3.0), False)
    assert all(type(value) is float for value in point.position)
    assert point.positive is False
    assert hash(point) == hash(Point((1.0, 2.0, 3.0), False))


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ((1, 2), "2 coordinates"),
        ((1, 2, 3, 4), "4 coordinates"),
        ((1, 2, float("nan")), "not finite"),
        ((1, 2, float("inf")), "not finite"),
        (("a", 2, 3), "not made of numbers"),
        (7, "not made of numbers"),
        (None, "not made of numbers"),
    ],
)
def test_a_wrong_position_is_named(values: object, fault: str) -> None:
    with pytest.raises(BadInput, match=f"^The click .*{fault}.*; give three voxel indices.$"):
        Point(values)


@given(position, position)
def test_a_box_sorts_its_corners(first: tuple, second: tuple) -> None:
    box = Box(first, second)
    assert box == Box(second, first)
    assert np.all(np.asarray(box.low) <= box.high)
    assert sorted([*box.low, *box.high]) == sorted([*first, *second])
    assert box.bounds == (box.low, box.high)


def test_a_box_names_its_wrong_corner() -> None:
    with pytest.raises(BadInput, match="second corner of the box"):
        Box((0, 0, 0), (1, 1))


@given(st.lists(position, min_size=1, max_size=6), st.floats(0.3, 20))
def test_samples_of_a_scribble_lie_close_together_and_hold_every_vertex(
    path: list, step: float
) -> None:
    path = [tuple(value / 100 for value in vertex) for vertex in path]
    scribble = Scribble(tuple(path))
    samples = scribble.sample(step)
    gaps = np.linalg.norm(np.diff(samples, axis=0), axis=1)
    assert np.all(gaps <= step * (1 + 1e-9))
    for vertex in path:
        assert np.min(np.linalg.norm(samples - vertex, axis=1)) < 1e-9
    low, high = scribble.bounds
    assert np.all(samples >= np.asarray(low) - 1e-9)
    assert np.all(samples <= np.asarray(high) + 1e-9)


@pytest.mark.parametrize("radius", [0, -1, float("nan"), float("inf")])
def test_a_scribble_needs_a_radius(radius: float) -> None:
    with pytest.raises(BadInput, match="radius"):
        Scribble(((0, 0, 0),), radius=radius)


def test_a_scribble_needs_a_path() -> None:
    with pytest.raises(BadInput, match="no positions; draw"):
        Scribble(())
    with pytest.raises(BadInput, match="step"):
        Scribble(((0, 0, 0), (1, 1, 1))).sample(0)


def test_a_mask_is_copied_and_kept_from_changes() -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2:4, 5] = True
    prompt = MaskPrompt(mask, (10, -2, np.int64(0)))
    mask[:] = False
    assert prompt.mask.sum() == 2
    assert prompt.bounds == ((11.0, 0.0, 5.0), (11.0, 1.0, 5.0))
    with pytest.raises(ValueError, match="read-only"):
        prompt.mask[0, 0, 0] = True


def test_masks_are_equal_by_what_they_hold() -> None:
    mask = np.ones((2, 2, 2), bool)
    assert MaskPrompt(mask) == MaskPrompt(mask.copy())
    assert hash(MaskPrompt(mask)) == hash(MaskPrompt(mask.copy()))
    assert MaskPrompt(mask) != MaskPrompt(mask, (0, 0, 1))
    assert MaskPrompt(mask) != MaskPrompt(np.ones((2, 2, 3), bool))
    assert MaskPrompt(mask) != "mask"


@pytest.mark.parametrize(
    ("mask", "origin", "fault"),
    [
        (np.ones((2, 2), bool), (0, 0, 0), "2 axes"),
        (np.ones((2, 2, 2), np.uint8), (0, 0, 0), "holds uint8"),
        (np.zeros((2, 2, 2), bool), (0, 0, 0), "empty"),
        (np.ones((2, 2, 2), bool), (0, 0.5, 0), "whole numbers"),
        (np.ones((2, 2, 2), bool), (0, 0), "2 coordinates"),
    ],
)
def test_a_wrong_mask_is_named(mask: np.ndarray, origin: tuple, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        MaskPrompt(mask, origin)


def test_history_walks_back_and_forth() -> None:
    history: History[str] = History()
    assert (history.current, history.undo(), history.redo()) == (None, None, None)
    for state in ("", "a", "ab"):
        history.push(state)
    assert not history.can_redo
    assert (history.undo(), history.undo(), history.undo()) == ("a", "", None)
    assert history.current == ""
    assert not history.can_undo
    assert (history.redo(), history.redo(), history.redo()) == ("a", "ab", None)


def test_a_push_after_undo_forgets_what_was_undone() -> None:
    history = History(["", "a", "ab"])
    history.undo()
    history.push("ac")
    assert not history.can_redo
    assert (history.undo(), history.redo(), history.current) == ("a", "ac", "ac")
    history.clear()
    assert (len(history), history.current, history.can_undo) == (0, None, False)


def test_history_has_no_small_limit() -> None:
    history: History[int] = History()
    for state in range(5000):
        history.push(state)
    steps = 0
    while history.can_undo:
        assert history.undo() == 4998 - steps
        steps += 1
    assert steps == 4999


@given(st.lists(st.sampled_from(["push", "undo", "redo"]), max_size=60))
def test_history_agrees_with_two_stacks(actions: list[str]) -> None:
    history: History[int] = History([0])
    past, future = [0], []
    for number, action in enumerate(actions, start=1):
        if action == "push":
            history.push(number)
            past.append(number)
            future.clear()
        elif action == "undo":
            expected = None
            if len(past) > 1:
                future.append(past.pop())
                expected = past[-1]
            assert history.undo() == expected
        else:
            expected = future.pop() if future else None
            if expected is not None:
                past.append(expected)
            assert history.redo() == expected
        assert history.current == past[-1]
        assert (history.can_undo, history.can_redo) == (len(past) > 1, bool(future))
