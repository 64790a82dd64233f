"""Objects: accepting, reopening, merging, locking; edits by operations, brushes and label maps."""

from __future__ import annotations

import numpy as np
import pytest
from segment_fakes import Bright, Growing, begin, brick, whole

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.prompts import Lasso, MaskPrompt, Point
from napari_sightline.segment.interactive import Session

A = (slice(5, 15), slice(5, 15), slice(5, 15))
B = (slice(5, 15), slice(5, 15), slice(20, 30))


def two() -> Session:
    """Two bright bricks, each accepted."""
    data = np.zeros((20, 20, 36), np.int16)
    data[A] = data[B] = 100
    session = begin(data)
    session.add(Point((10, 10, 10)))
    session.accept("left")
    session.add(Point((10, 10, 25)))
    session.accept("right")
    return session


def test_accepting_can_be_undone_and_names_the_boxes_to_repaint() -> None:
    session = two()
    session.undo()
    assert session.current.id == 2 and not session.current.accepted
    assert session.names == {1: "left"} and not (session.labels == 2).any()
    assert (session.label_image()[B] == 2).all()
    session.undo()
    assert session.label_image()[B].max() == 0
    session.undo()
    session.undo()
    assert not session.label_image().any() and not session.can_undo
    for _ in range(4):
        session.redo()
    assert session.names == {1: "left", 2: "right"} and (session.labels[B] == 2).all()
    assert session.last_update is not None and session.last_update.changed == (B,)


def test_a_reopened_object_is_corrected_with_its_prompts() -> None:
    session = two()
    update = session.reopen(1)
    assert session.current.id == 1 and [o.id for o in session.objects] == [1, 2]
    assert session.current.prompts == (Point((10, 10, 10)),) and 1 not in session.names
    assert update.changed == (A,) and (session.label_image()[A] == 1).all()
    found = whole(session, session.add(Point((2, 2, 2))))
    assert found[2, 2, 2] and found[A].all()
    done = session.accept()
    assert (done.id, done.name) == (1, "left") and session.labels[2, 2, 2] == 1
    assert session.current.id == 3
    with pytest.raises(BadInput, match="Object 3 is not accepted"):
        session.reopen(3)
    with pytest.raises(BadInput, match="no object 9"):
        session.reopen(9)


def test_locked_voxels_are_pushed_down_before_islands_are_judged() -> None:
    # One bright bar; its middle third is locked, so that the far third is an island.
    data = np.zeros((12, 12, 48), np.int16)
    data[3:9, 3:9, 3:45] = 100
    session = begin(data)
    middle = np.zeros(data.shape, bool)
    middle[:, :, 17:31] = True
    session.add(MaskPrompt(middle))
    session.accept()
    found = whole(session, session.add(Point((6, 6, 8))))
    assert found[6, 6, 5:16].all() and not found[:, :, 17:].any()
    logits = session.current.step.logits
    assert logits is not None
    at = logits.region.to_region(np.array([6, 6, 24])).round().astype(int)
    assert logits.unpack()[tuple(at)] < -7
    session.add(Point((6, 7, 8)))
    model = session.model
    assert isinstance(model, Bright)
    previous = model.decoded[-1][2]
    assert previous is not None and previous[tuple(at)] < -7
    # Unlocked, the bar is whole again for another object, which takes the voxels when accepted.
    session.reset()
    session.unlock(1)
    found = whole(session, session.add(Point((6, 6, 8))))
    assert found[6, 6, 3:45].all()
    assert session.paint((slice(6, 7), slice(6, 7), slice(24, 25))) == 2
    session.accept()
    assert session.labels[6, 6, 24] == 2 and session.labels[1, 1, 24] == 1
    session.undo()
    assert session.labels[6, 6, 24] == 1


def test_merge_duplicate_delete_are_undone() -> None:
    session = two()
    before = session.label_image()
    session.merge([2, 1])
    assert [o.id for o in session.objects] == [2, 3] and (session.labels[A] == 2).all()
    session.undo()
    np.testing.assert_array_equal(session.label_image(), before)
    session.delete(1)
    assert not session.labels[A].any() and session.names == {2: "right"}
    session.undo()
    np.testing.assert_array_equal(session.labels, before)
    session.duplicate(1)
    copy = session.current
    assert (copy.name, copy.prompts) == ("left copy", (Point((10, 10, 10)),))
    assert copy.mask is not None and copy.mask.all() and copy.mask_box == A
    np.testing.assert_array_equal(session.label_image(), before)  # the original is on top
    with pytest.raises(BadInput, match="belongs to locked ones"):
        session.accept()
    session.grow(2)
    session.accept()
    ring = session.labels == copy.id
    assert ring[4, 10, 10] and not ring[A].any() and (session.labels[A] == 1).all()
    for wrong in ([1], [1, 1], [1, 99]):
        with pytest.raises(BadInput):
            session.merge(wrong)


def test_deleting_the_current_object_goes_on_with_another() -> None:
    session = two()
    session.add(Point((1, 1, 1)))
    session.new_object("other")
    assert session.current.id == 4
    session.delete(4)
    assert session.current.id == 3
    session.delete(3)
    assert session.current.untouched
    session.undo()
    session.undo()
    assert (session.current.id, session.current.name) == (4, "other")
    session.select(3)
    assert session.current.id == 3 and len(session.objects) == 3
    with pytest.raises(BadInput, match="is accepted; reopen"):
        session.select(1)


def test_numbers_of_objects_are_not_given_twice() -> None:
    session = two()
    session.delete(2)
    session.add(Point((1, 1, 1)))
    assert session.accept().id == 3
    assert session.current.id == 4
    session.undo()
    session.undo()
    session.undo()
    assert session.names == {1: "left", 2: "right"}


def test_names_colours_locks_and_eyes_are_steps() -> None:
    session = two()
    session.rename(1, "parotid")
    session.recolour(1, (1, 2, 3))
    session.set_visible(1, False)
    session.unlock(1)
    item = session.objects[0]
    assert (item.name, item.colour, item.visible, item.locked) == (
        "parotid",
        (1, 2, 3),
        False,
        False,
    )
    assert session.last_update is not None and session.last_update.objects == (1,)
    for _ in range(4):
        session.undo()
    item = session.objects[0]
    assert (item.name, item.colour, item.visible, item.locked) == ("left", None, True, True)
    with pytest.raises(BadInput, match="0 to 255"):
        session.recolour(1, (1, 2, 300))
    with pytest.raises(BadInput, match="accept it to lock"):
        session.lock(3)
    count = len(session._timeline.steps)
    session.rename(1, "left")  # no change is no step
    assert len(session._timeline.steps) == count


def test_operations_on_an_object() -> None:
    session = two()
    with pytest.raises(BadInput, match="left is locked"):
        session.grow(1, 1)
    session.unlock(1)
    session.grow(8, 1)
    assert (session.labels[B] == 2).all() and session.labels[10, 10, 17] == 1
    session.undo()
    session.grow(-3, 1)
    assert (session.labels == 1).sum() == 4**3
    with pytest.raises(BadInput, match="Nothing would be left"):
        session.grow(-3, 1)
    for bad in (0.0, float("nan"), 1000.0, 0.2):
        with pytest.raises(BadInput, match="mm"):
            session.grow(bad, 1)
    with pytest.raises(BadInput, match="no mask yet"):
        session.smooth(1)
    with pytest.raises(BadInput, match="no empty slice"):
        session.interpolate(None, 1)
    # A prompt goes on from the edited mask.
    session.reopen(1)
    session.add(Point((10, 10, 11)))
    model = session.model
    assert isinstance(model, Bright)
    previous = model.decoded[-1][2]
    assert previous is not None and 0 < (previous > 0).sum() < 12**3


def test_hand_drawn_slices_are_joined() -> None:
    session = begin(np.zeros((30, 40, 40), np.int16), (2, 1, 1))
    disc = np.hypot(*(np.indices((40, 40)) - 20)) <= 8
    for k in (5, 15, 25):
        session.add(MaskPrompt(disc[None], (k, 0, 0)))
    session.interpolate()
    found = session.label_image() > 0
    np.testing.assert_array_equal(found[5:26], np.repeat(disc[None], 21, 0))
    session.undo()
    assert (session.label_image() > 0).any((1, 2)).sum() == 3


# ---- what other tools did


def test_a_brush_becomes_part_of_the_objects() -> None:
    session = two()
    session.add(Point((1, 1, 1)))
    session.unlock(1)
    before = session.label_image()
    box = (slice(0, 20), slice(0, 20), slice(0, 36))
    painted = session.paint(box)
    painted[5:8, 5:15, 5:15] = 0  # erased
    painted[0, 0, :5] = 1  # added
    painted[1, 1, 1] = 9  # a label that no object has, over the current object
    update = session.adopt(painted, box)
    np.testing.assert_array_equal(session.label_image(), painted)
    np.testing.assert_array_equal(session.labels, np.where(painted == 3, 0, painted))
    assert set(update.objects) == {1, 3, 9} and update.note == ""
    assert session.names[9] == "label 9"
    session.undo()
    np.testing.assert_array_equal(session.label_image(), before)
    session.redo()
    np.testing.assert_array_equal(session.label_image(), painted)
    # Nothing painted is no step.
    count = len(session._timeline.steps)
    assert session.adopt(painted).changed == ()
    assert len(session._timeline.steps) == count


def test_what_is_erased_is_gone_from_a_hidden_copy_too() -> None:
    session = two()
    session.duplicate(1)
    painted = session.paint(A)
    at = tuple(np.argwhere(painted == 1)[0])
    painted[at] = 0
    session.adopt(painted, A, force=True)
    np.testing.assert_array_equal(session.paint(A), painted)


def test_a_click_inside_a_lasso_of_the_other_sign_turns_its_own_voxel_only() -> None:
    session = begin(np.zeros((10, 14, 12), np.int16), (2.0, 1.0, 1.5), Growing())
    path = ((4.0, 4.0, 4.0), (4.0, 9.0, 4.0), (4.0, 9.0, 9.0), (4.0, 4.0, 9.0))
    lasso = Lasso(path, positive=False)
    session.add(lasso)
    mask = whole(session, session.add(Point((4, 6, 6))))
    inside, origin = lasso.filled()
    part = mask[tuple(slice(o, o + n) for o, n in zip(origin, inside.shape, strict=True))]
    assert part.sum() == 1 and mask[4, 6, 6]


def test_a_brush_on_a_locked_object_is_refused_unless_forced() -> None:
    session = two()
    before = session.label_image()
    painted = session.paint(A)
    painted[0] = 0
    painted[1] = 3
    update = session.adopt(painted, A)
    assert "left is locked" in update.note
    np.testing.assert_array_equal(session.label_image(), before)
    assert update.changed == ((slice(5, 7), A[1], A[2]),)  # to be painted back
    session.adopt(painted, A, force=True)
    np.testing.assert_array_equal(session.paint(A), painted)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (np.zeros((3, 3, 3), int), "have shape"),
        (np.zeros((20, 20, 36)), "float64"),
        (np.full((20, 20, 36), 70000), "do not fit"),
        (np.full((20, 20, 36), -1), "do not fit"),
    ],
)
def test_labels_that_cannot_be_taken(labels: np.ndarray, fault: str) -> None:
    session = two()
    objects = session.objects
    for call in (session.adopt, session.import_labels):
        with pytest.raises(BadInput, match=fault):
            call(labels)
    assert session.objects is objects


def test_every_organ_of_a_label_map_is_editable_at_once() -> None:
    labels = np.zeros((20, 20, 36), np.int32)
    labels[A], labels[B], labels[0, 0, 0] = 1, 300, 40
    data = np.zeros(labels.shape, np.int16)
    data[A] = 100
    session = begin(data)
    session.import_labels(labels, {1: "liver", 300: "spleen"}, {300: (9, 8, 7)})
    assert session.names == {1: "liver", 40: "label 40", 300: "spleen"}
    np.testing.assert_array_equal(session.labels, labels)
    assert session.labels.dtype == np.uint16 and session.current.untouched
    assert {o.id: o.colour for o in session.objects}[300] == (9, 8, 7)
    assert all(o.locked for o in session.objects if o.accepted)
    session.reopen(1)
    assert session.add(Point((2, 2, 2))).mask.any()
    session.undo()
    session.undo()
    session.undo()
    assert not session.labels.any() and len(session.objects) == 1 and not session.can_undo
    session.redo()
    np.testing.assert_array_equal(session.labels, labels)


def test_imported_labels_leave_locked_objects_alone() -> None:
    session = two()
    session.unlock(2)
    labels = np.zeros((20, 20, 36), np.uint8)
    labels[5:15, 5:15, 8:24] = 1
    session.import_labels(labels, {1: "new"})
    assert (session.labels[A] == 1).all() and (session.labels[5:15, 5:15, 20:24] == 4).all()
    assert session.names == {1: "left", 2: "right", 4: "new"}
    assert (session.labels[5:15, 5:15, 24:30] == 2).all()
    with pytest.raises(BadInput, match="no voxel that is free"):
        session.import_labels(np.zeros((20, 20, 36), np.uint8))
    with pytest.raises(Cancelled):
        session.import_labels(labels, cancel=lambda: True)


def test_a_hundred_imported_labels_share_their_masks_with_the_history() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:] = (np.arange(40) // 4)[:, None, None] * 10 + (np.arange(40) // 4)[None, :, None] + 1
    session = begin(np.zeros(labels.shape, np.int16))
    session.import_labels(labels)
    assert len(session.names) == 100
    np.testing.assert_array_equal(session.labels, labels)
    step = session._timeline.steps[-1]
    masks = {id(o.step.mask) for o in session.objects}
    assert all(
        id(c.mask) in masks for c in step.changes if c.after is not None and c.after.accepted
    )


def test_no_volume() -> None:
    session = Session(Bright())
    for call in (session.accept, session.fill_holes, session.new_object, lambda: session.grow(1)):
        with pytest.raises(BadInput, match="no volume"):
            call()
    for take in (session.adopt, session.import_labels):
        with pytest.raises(BadInput, match="no volume"):
            take(np.ones((1, 1, 1), int))
    data, _ = brick((8, 8, 8), (2, 2, 2), (5, 5, 5))
    assert begin(data).undo() is None
