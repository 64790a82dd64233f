"""Lassos, boxes on a slice, prompts moved afterwards, candidates, previews."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from segment_fakes import Bright, Growing, begin, brick, whole

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Prompt, Scribble
from napari_sightline.segment.interactive import Glimpse, Session
from napari_sightline.segment.region import plan
from napari_sightline.segment.tokens import prompt_tokens, solid
from napari_sightline.volume import Volume

SMALL = (20, 22, 22)
BRICK = ((40, 50, 60), (10, 12, 14), (30, 33, 37))


def square(axis: int, at: float, low: float, high: float, positive: bool = True) -> Lasso:
    corners = [(low, low), (low, high), (high, high), (high, low)]
    return Lasso(tuple(tuple(np.insert(c, axis, at)) for c in corners), positive)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 1.2)])
def test_what_a_lasso_encloses_takes_its_side(
    axis: int, positive: bool, spacing: tuple[float, float, float]
) -> None:
    data, _ = brick(*BRICK)
    session = begin(data, spacing)
    session.add(Point((20, 20, 20)))
    before = session.label_image() > 0
    low, high = (3.6, 18) if positive else (16, 27)
    lasso = square(axis, 20, low, high, positive)
    found = whole(session, session.add(lasso))
    inside, origin = lasso.filled()
    place = tuple(slice(o, o + n) for o, n in zip(origin, inside.shape, strict=True))
    assert (found[place][inside] == positive).all()
    # Neighbouring slices follow, those far away do not.
    far = np.abs(np.arange(data.shape[axis]) - 20) * spacing[axis] > 9
    np.testing.assert_array_equal(np.compress(far, found, axis), np.compress(far, before, axis))
    thick = np.flatnonzero((found != before).any(tuple(k for k in range(3) if k != axis)))
    assert len(thick) >= (3 if spacing[axis] <= 1 else 1)


def test_the_model_sees_a_lasso_as_a_scribble_over_its_inside() -> None:
    region = plan((40, 50, 60), (1, 1, 1), 1.0, np.array([20.0, 25, 30]), 64**3)
    for positive, code in ((True, 3), (False, 2)):
        lasso = square(1, 20, 5, 30, positive)
        points, codes = prompt_tokens((lasso,), region)
        assert len(points) == 16 and set(codes.tolist()) == {code}
        places = region.to_volume(points)
        assert np.allclose(places[:, 1], 20)
        # Away from the line, and spread.
        assert places[:, [0, 2]].min() >= 6 and places[:, [0, 2]].max() <= 29
        gaps = [np.linalg.norm(a - b) for a in places for b in places if a is not b]
        assert min(gap for gap in gaps if gap > 0) > 3


def test_a_lasso_begins_an_object_and_later_clicks_hold_inside_it() -> None:
    data = np.zeros((20, 40, 40), np.int16)
    session = begin(data)
    lasso = square(0, 10, 10, 20)
    found = whole(session, session.add(lasso))
    assert found[10, 11:20, 11:20].all()
    found = whole(session, session.add(Point((10, 15, 15), positive=False)))
    assert not found[10, 15, 15] and found[10, 12, 12]
    found = whole(session, session.add(replace(lasso, positive=True)))
    assert found[10, 15, 15]  # the last word


def test_a_box_on_a_slice_leaves_the_third_extent_open() -> None:
    volume = Volume.from_array(np.zeros((30, 60, 60), np.int16), spacing=(3, 1, 1))
    box = solid(Box((15, 20, 20), (15, 39, 31)), volume)
    assert box.low[1:] == (20, 20) and box.high[1:] == (39, 31)
    depth = (box.high[0] - box.low[0] + 1) * 3
    assert depth == pytest.approx(np.sqrt(20 * 12), abs=0.1)
    assert (box.low[0] + box.high[0]) / 2 == 15
    assert solid(Box((0, 5, 5), (0, 55, 55)), volume).low[0] == 0  # cut at the face
    deep = Box((1, 2, 3), (4, 5, 6))
    assert solid(deep, volume) is deep
    # It is shown to the model that way, and the mask is not held to it.
    data, mask = brick(*BRICK)
    session = begin(data)
    found = whole(session, session.add(Box((20, 12, 14), (20, 32, 36))))
    np.testing.assert_array_equal(found, mask)
    model = session.model
    assert isinstance(model, Bright)
    points, codes, _ = model.decoded[0]
    assert codes.tolist() == [4, 5]
    assert (points[1] - points[0] > 8).all()


def test_labels_of_another_tool_are_a_start() -> None:
    labels = np.zeros((40, 50, 60), np.uint16)
    labels[5:9, 6:10, 7:11] = 3
    labels[20:22, 20:22, 20:22] = 300
    prompt = MaskPrompt.from_labels(labels, 300)
    assert prompt.origin == (20, 20, 20) and prompt.mask.shape == (2, 2, 2)
    data, mask = brick(*BRICK)
    session = begin(data)
    session.add(Point((20, 20, 20)))
    found = whole(session, session.add(MaskPrompt.from_labels(labels, 3)))
    np.testing.assert_array_equal(found, mask | (labels == 3))  # joined to what there was
    with pytest.raises(BadInput, match="no voxel of label 7"):
        MaskPrompt.from_labels(labels, 7)


PROMPTS: list[Prompt] = [
    Point((10, 10, 10)),
    Point((12, 11, 10)),
    Scribble(((5, 5, 5), (5, 15, 5)), positive=False),
    square(1, 12, 4, 7),
    Point((10, 13, 15), positive=False),
]


def fresh(prompts: list[Prompt]) -> np.ndarray:
    session = begin(np.zeros(SMALL, np.int16), model=Growing())
    for prompt in prompts:
        session.add(prompt)
    return session.label_image() > 0


@pytest.mark.parametrize("index", range(5))
def test_a_moved_prompt_acts_as_if_it_had_been_given_so_from_the_start(index: int) -> None:
    session = begin(np.zeros(SMALL, np.int16), model=Growing())
    for prompt in PROMPTS:
        session.add(prompt)
    there = session.label_image()
    other = Point((11, 10, 9)) if index != 3 else square(1, 13, 4, 8)
    moved = [*PROMPTS[:index], other, *PROMPTS[index + 1 :]]
    model = session.model
    assert isinstance(model, Growing)
    asked = len(model.decoded)
    found = whole(session, session.replace_prompt(index, other))
    np.testing.assert_array_equal(found, fresh(moved))
    # Only what came after it was computed again.
    if index:
        assert len(model.decoded) - asked == len(PROMPTS) - index
    assert session.current.prompts == tuple(moved)
    session.undo()
    np.testing.assert_array_equal(session.label_image(), there)
    found = whole(session, session.remove_prompt(index))
    np.testing.assert_array_equal(found, fresh([*PROMPTS[:index], *PROMPTS[index + 1 :]]))
    found = whole(session, session.insert_prompt(index, PROMPTS[index]))
    np.testing.assert_array_equal(found > 0, there > 0)
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.label_image(), there)


def test_edits_and_choices_are_done_again_when_a_prompt_moves() -> None:
    def build(first: Point) -> Session:
        session = begin(np.zeros(SMALL, np.int16), model=Growing())
        session.add(first)
        session.choose(2)
        session.grow(3)
        return session

    session = build(Point((10, 10, 10)))
    session.replace_prompt(0, Point((10, 14, 10)))
    np.testing.assert_array_equal(session.label_image(), build(Point((10, 14, 10))).label_image())
    session.remove_prompt(0)
    assert not session.label_image().any() and session.current.step.acts == ()


def test_no_such_prompt() -> None:
    session = begin(np.zeros(SMALL, np.int16), model=Growing())
    session.add(Point((10, 10, 10)))
    for call in (session.remove_prompt, lambda k: session.replace_prompt(k, PROMPTS[0])):
        for index in (-1, 1):
            with pytest.raises(BadInput, match=f"no prompt {index}; the object has 1"):
                call(index)
    with pytest.raises(BadInput, match="lies outside"):
        session.replace_prompt(0, Point((90, 0, 0)))
    assert session.current.prompts == (Point((10, 10, 10)),)


def test_removing_the_only_prompt_leaves_an_empty_object() -> None:
    session = begin(np.zeros(SMALL, np.int16), model=Growing())
    session.add(Point((10, 10, 10)))
    update = session.remove_prompt(0)
    assert not update.mask.any() and session.current.prompts == ()
    session.undo()
    assert session.label_image().any()


def test_moving_a_prompt_can_be_cancelled() -> None:
    session = begin(np.zeros(SMALL, np.int16), model=Growing())
    for prompt in PROMPTS:
        session.add(prompt)
    before, asked = session.current, []

    def cancel() -> bool:
        asked.append(0)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        session.replace_prompt(0, Point((9, 9, 9)), cancel=cancel)
    assert session.current is before


def test_a_cancel_in_the_last_moment_is_heard() -> None:
    data, _ = brick(*BRICK)
    session = begin(data)
    done: list[str] = []
    with pytest.raises(Cancelled):
        session.add(Point((20, 20, 20)), lambda _, word: done.append(word), lambda: "done" in done)
    assert done[-1] == "done" and not session.can_undo and not session.label_image().any()


def graded() -> np.ndarray:
    """Three nested bricks: above 90, above 50 and above 10."""
    data = np.zeros((40, 50, 60), np.int16)
    data[8:32, 8:40, 8:50] = 30
    data[10:30, 12:33, 14:37] = 70
    data[15:25, 16:24, 18:27] = 120
    return data


def test_a_first_click_gives_three_candidates() -> None:
    data = graded()
    session = begin(data)
    assert session.candidates == ()
    update = session.add(Point((20, 20, 20)))
    np.testing.assert_array_equal(whole(session, update), data > 50)
    kinds = [candidate.kind for candidate in session.candidates]
    assert kinds == ["part", "organ", "surroundings"] and session.chosen is None
    for candidate, level, quality in zip(
        session.candidates, (90, 50, 10), (0.8, 0.6, 0.7), strict=True
    ):
        expected = data > level
        assert candidate.quality == pytest.approx(quality)
        assert candidate.volume_ml == pytest.approx(expected.sum() / 1000, rel=0.05)
        out = np.zeros(data.shape, bool)
        assert candidate.box is not None
        out[candidate.box] = candidate.mask
        assert (out != expected).sum() < 0.05 * expected.sum()
    sizes = [candidate.volume_ml for candidate in session.candidates]
    assert all(a < b for a, b in pairwise(sizes))


def test_a_candidate_is_chosen_undone_and_gone_on_from() -> None:
    session = begin(graded())
    session.add(Point((20, 20, 20)))
    shown = [session.label_image()]
    for index in (0, 2, 1, None):
        update = session.choose(index)
        shown.append(session.label_image())
        assert session.chosen == index
        if index is not None:
            candidate = session.candidates[index]
            assert update.quality == candidate.quality
            np.testing.assert_array_equal(update.mask.sum(), candidate.mask.sum())
    assert shown[1].sum() < shown[3].sum() < shown[2].sum()
    np.testing.assert_array_equal(shown[4], shown[0])
    for expected in shown[-2::-1]:
        session.undo()
        np.testing.assert_array_equal(session.label_image(), expected)
    session.redo()
    session.redo()
    assert session.chosen == 2
    model = session.model
    assert isinstance(model, Bright)
    session.add(Point((12, 14, 16)))
    previous = model.decoded[-1][2]
    assert previous is not None
    # The model went on from the surroundings, not from its own first answer.
    assert (previous > 0).sum() > 1.3 * (shown[0] > 0).sum()
    assert session.candidates == ()
    with pytest.raises(BadInput, match="no candidate"):
        session.choose(0)
    session.undo()
    with pytest.raises(BadInput, match="choose one of 0 to 2"):
        session.choose(3)
    assert len(session.candidates) == 3


def test_a_preview_touches_nothing() -> None:
    data, mask = brick(*BRICK)
    session = begin(data)
    model = session.model
    assert isinstance(model, Bright)
    assert session.preview(Point((20, 20, 20))) is None  # the image was not read yet
    assert not model.encoded
    session.prepare()
    update = session.preview(Point((20, 20, 20)))
    assert update is not None
    np.testing.assert_array_equal(whole(session, update), mask)
    assert not session.can_undo and session.last_update is None and update.generation == 0
    assert not session.label_image().any()
    with pytest.raises(Cancelled):
        session.preview(Point((20, 20, 20)), lambda: True)
    with pytest.raises(BadInput, match="outside"):
        session.preview(Point((90, 20, 20)))
    session.add(Point((20, 20, 20)))
    with_more = session.preview(Point((5, 5, 5)))
    assert with_more is not None and whole(session, with_more)[5, 5, 5]
    assert len(session.current.prompts) == 1
    other = begin(data)
    assert other.preview(Point((20, 20, 20)), read=True) is not None


def test_a_first_click_is_answered_where_the_image_was_read_ahead() -> None:
    data, _ = brick((400, 400, 400), (100, 110, 120), (160, 170, 180))
    session = begin(data)
    model = session.model
    assert isinstance(model, Bright)
    session.prepare(box=(slice(90, 170), slice(100, 180), slice(110, 190)))
    assert len(model.encoded) == 1
    update = session.add(Point((115, 145, 140)))
    assert len(model.encoded) == 1 and update.encode_seconds == 0
    session.new_object()
    session.add(Point((380, 380, 380)))  # far from it
    assert len(model.encoded) > 1


def test_another_model_goes_on_from_the_mask() -> None:
    data, mask = brick(*BRICK)
    session = begin(data)
    session.add(Point((20, 20, 20)))
    first, second = session.model, Bright()
    second.precision = "bf16"
    session.set_model(second)
    assert isinstance(first, Bright) and session.precision == "bf16" and session.device == "cpu"
    np.testing.assert_array_equal(session.label_image() > 0, mask)
    asked = len(first.decoded)
    session.add(Point((22, 20, 20)))
    assert len(first.decoded) == asked and len(second.decoded) == 1
    assert len(second.encoded) == 1 and second.decoded[0][2] is not None
    with pytest.raises(BadInput, match="not known"):
        session.set_model("no such model")
    assert session.model is second
    session.undo()
    session.undo()
    assert not session.label_image().any()


WIDE = ((500, 60, 60), (20, 25, 25), (470, 35, 35))
TINY = ((300, 300, 300), (100, 110, 120), (106, 116, 126))


@pytest.mark.parametrize(("scan", "place"), [(WIDE, (240, 30, 30)), (TINY, (103, 113, 123))])
def test_a_first_look_is_told_before_a_wider_or_closer_one(
    scan: tuple[tuple[int, int, int], ...], place: tuple[int, int, int]
) -> None:
    data, _ = brick(*scan)
    plain, watched = begin(data), begin(data)
    wanted = plain.add(Point(place))
    seen: list[tuple[Glimpse, np.ndarray, int]] = []

    def early(glimpse: Glimpse) -> None:
        assert isinstance(watched.model, Bright)
        seen.append((glimpse, watched.label_image(), len(watched.model.decoded)))

    found = watched.add(Point(place), early=early)
    # What comes of it does not depend on who watched.
    assert np.array_equal(found.mask, wanted.mask) and found.box == wanted.box
    ((glimpse, labels, looks),) = seen
    assert looks == 1 and isinstance(watched.model, Bright) and len(watched.model.decoded) > 1
    assert not labels.any()  # the session was as before
    ((box, painted),) = glimpse.painted
    once = begin(data).preview(Point(place), read=True)
    assert once is not None and once.box == box
    assert np.array_equal(painted == glimpse.object_id, once.mask)
    assert glimpse.quality == once.quality


def test_no_first_look_is_told_where_one_is_enough() -> None:
    data, _ = brick(*BRICK)
    session = begin(data)
    seen: list[Glimpse] = []
    session.add(Point((20, 20, 20)), early=seen.append)
    session.add(Point((20, 22, 20)), early=seen.append)
    session.add(MaskPrompt(np.ones((2, 2, 2), bool), (0, 0, 0)), early=seen.append)
    assert seen == []


def test_a_step_cancelled_after_its_first_look_leaves_nothing() -> None:
    data, _ = brick(*TINY)
    session = begin(data)
    seen: list[Glimpse] = []
    with pytest.raises(Cancelled):
        session.add(Point((103, 113, 123)), None, lambda: bool(seen), seen.append)
    assert len(seen) == 1
    assert not session.can_undo and not session.label_image().any()


def test_a_first_look_leaves_accepted_objects_alone() -> None:
    data, _ = brick(*WIDE)
    session = begin(data)
    session.add(MaskPrompt(np.ones((30, 5, 10), bool), (230, 25, 25)))
    session.accept("middle")
    seen: list[Glimpse] = []
    session.add(Point((240, 32, 30)), early=seen.append)
    ((box, painted),) = seen[0].painted
    assert (session.labels[box] == 1).any()
    assert np.array_equal(painted == 1, session.labels[box] == 1)
