"""The session, with a model whose answers are known, and with the embedded one."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_fakes import Bright, begin, brick, whole

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.prompts import Box, MaskPrompt, Point, Scribble
from napari_sightline.segment import scale
from napari_sightline.segment.constrain import CLEAR, heed
from napari_sightline.segment.interactive import Session
from napari_sightline.segment.region import Region, plan
from napari_sightline.segment.state import PackedMask
from napari_sightline.segment.tokens import TRUST
from napari_sightline.volume import Volume


def test_a_click_gives_the_object_on_the_scans_own_voxels() -> None:
    data, mask = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    update = session.add(Point((20, 20, 20)))
    np.testing.assert_array_equal(whole(session, update), mask)
    assert update.quality == 0.9
    assert update.logits is not None
    np.testing.assert_array_equal(update.logits[update.mask] > 0, True)
    assert session.current.volume_ml == pytest.approx(mask.sum() / 1000)


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 1.0), (0.8, 1.5, 2.0), (1.0, 4.0, 0.9)])
def test_anisotropic_voxels(spacing: tuple[float, float, float]) -> None:
    data, mask = brick((24, 40, 44), (6, 10, 12), (18, 30, 33))
    session = begin(data, spacing)
    found = whole(session, session.add(Point((12, 20, 20))))
    wrong = np.argwhere(found != mask)
    # Only the surface may differ, by the interpolation there.
    assert len(wrong) <= 0.08 * mask.sum()


def test_the_image_is_read_once_per_region() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    model = session.model
    assert isinstance(model, Bright)
    session.prepare()
    first = session.add(Point((20, 20, 20)))
    second = session.add(Point((25, 20, 20)))
    assert len(model.encoded) == 1
    assert first.encode_seconds == second.encode_seconds == 0
    # The second click came with the mask so far.
    assert model.decoded[0][2] is None
    previous = model.decoded[1][2]
    assert previous is not None and previous.max() > 0.5
    assert model.decoded[1][1].tolist() == [1, 1]


def test_the_mask_so_far_counts_more_with_every_prompt_behind_it() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    model = session.model
    assert isinstance(model, Bright)
    for k in range(7):
        session.add(Point((14 + 2 * k, 20, 20)))
    highest = [float(previous.max()) for _, _, previous in model.decoded if previous is not None]
    full = highest[-1]
    expected = np.array([*TRUST, *[TRUST[-1]] * 2]) / TRUST[-1]
    assert np.allclose(np.array(highest) / full, expected, atol=0.02)


def test_a_chosen_candidate_counts_in_full() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    model = session.model
    assert isinstance(model, Bright)
    session.add(Point((20, 20, 20)))
    session.choose(1)
    session.add(Point((25, 20, 20)))
    previous = model.decoded[-1][2]
    assert previous is not None and previous.max() > 4


def test_an_object_longer_than_the_region_is_not_cut_off() -> None:
    data, mask = brick((500, 60, 60), (20, 25, 25), (470, 35, 35))
    session = begin(data)
    found = whole(session, session.add(Point((240, 30, 30))))
    model = session.model
    assert isinstance(model, Bright)
    assert len(model.encoded) > 1
    dice = 2 * (found & mask).sum() / (found.sum() + mask.sum())
    assert dice > 0.9
    assert np.argwhere(found)[:, 0].max() - np.argwhere(found)[:, 0].min() >= 440


def test_a_small_object_in_a_large_scan_is_looked_at_closely() -> None:
    data, mask = brick((300, 300, 300), (100, 110, 120), (106, 116, 126))
    session = begin(data)
    found = whole(session, session.add(Point((103, 113, 123))))
    # All but the corners, which lie between voxels of the region.
    assert (found != mask).sum() <= 8
    model = session.model
    assert isinstance(model, Bright)
    assert model.encoded[-1][1] < model.encoded[0][1]


def test_islands_go_until_they_are_clicked() -> None:
    data = np.zeros((40, 40, 60), np.int16)
    data[10:30, 10:30, 5:20] = 100
    data[10:30, 10:30, 40:55] = 100
    session = begin(data)
    first = whole(session, session.add(Point((20, 20, 12))))
    assert first[20, 20, 12] and not first[:, :, 30:].any()
    both = whole(session, session.add(Point((20, 20, 47))))
    np.testing.assert_array_equal(both, data > 0)
    # Parts of a mask that somebody gave are theirs.
    session.new_object()
    session.add(MaskPrompt(data > 0))
    corrected = whole(session, session.add(Point((20, 20, 12))))
    np.testing.assert_array_equal(corrected, data > 0)


class Listener:
    """A tap that notes what it was given, and when the model ran."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.heard: list[tuple[object, Region, np.ndarray, np.ndarray]] = []
        self.during: list[int] = []
        self.fail = False

    @contextmanager
    def recording(
        self, network: object, region: Region, points: np.ndarray, codes: np.ndarray
    ) -> Iterator[None]:
        model = self.session.model
        assert isinstance(model, Bright)
        before = len(model.decoded)
        self.heard.append((network, region, points, codes))
        yield
        self.during.append(len(model.decoded) - before)
        if self.fail:
            raise RuntimeError("the tap is full")


def test_a_tap_hears_of_every_decoding() -> None:
    data, _ = brick((300, 300, 300), (100, 110, 120), (106, 116, 126))
    session = begin(data)
    session.add(Point((103, 113, 123)))
    session.undo()
    session.tap = tap = Listener(session)
    model = session.model
    assert isinstance(model, Bright)
    del model.decoded[:]
    update = session.add(Point((103, 113, 123)))
    assert len(tap.heard) == len(model.decoded) > 1  # it looked closer
    assert set(tap.during) == {1}
    assert tap.heard[0][1] != update.region == tap.heard[-1][1]
    for (network, region, points, codes), asked in zip(tap.heard, model.decoded, strict=True):
        assert network is None  # this model has none
        np.testing.assert_array_equal(points, asked[0])
        np.testing.assert_array_equal(codes, asked[1])
        np.testing.assert_allclose(region.to_volume(points), [(103, 113, 123)], atol=1e-3)
    # Its faults are not swallowed, and change nothing.
    tap.fail = True
    with pytest.raises(RuntimeError, match="full"):
        session.add(Point((104, 113, 123)))
    assert len(session.current.prompts) == 1
    session.tap = None
    session.add(Point((104, 113, 123)))
    assert len(tap.during) == 3


def test_a_tap_is_given_the_models_network() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    model = Bright()
    model.network = object()  # type: ignore[attr-defined]
    session = Session(model)
    session.set_volume(Volume.from_array(data))
    session.tap = tap = Listener(session)
    session.add(Point((20, 20, 20)))
    assert tap.heard[0][0] is model.network  # type: ignore[attr-defined]
    assert session.undo().region is None  # type: ignore[union-attr]


def test_a_click_outside_the_region_moves_it() -> None:
    data = np.zeros((300, 300, 300), np.int16)
    data[20:40, 20:40, 20:40] = 100
    data[260:280, 260:280, 260:280] = 100
    session = begin(data)
    session.add(Point((30, 30, 30)))
    found = whole(session, session.add(Point((270, 270, 270))))
    assert found[30, 30, 30] and found[270, 270, 270]
    assert found.sum() == pytest.approx((data > 0).sum(), rel=0.3)


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(0, 19), st.integers(0, 23), st.integers(0, 27)), st.booleans()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_was_clicked_holds(clicks: list[tuple[tuple[int, int, int], bool]]) -> None:
    data, _ = brick((20, 24, 28), (5, 6, 7), (15, 16, 17))
    session = begin(data, (2.0, 1.0, 1.5))
    said: dict[tuple[int, int, int], bool] = {}
    for place, positive in clicks:
        said[place] = positive
        found = whole(session, session.add(Point(place, positive)))
        for voxel, inside in said.items():
            assert found[voxel] == inside


def test_undo_and_redo_bring_back_every_step() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    masks = [np.zeros(data.shape, bool)]
    for k in range(12):
        session.add(Point((12 + k, 5 + k, 20)))
        masks.append(session.label_image() > 0)
    for expected in masks[-2::-1]:
        update = session.undo()
        assert update is not None
        np.testing.assert_array_equal(session.label_image() > 0, expected)
        np.testing.assert_array_equal(whole(session, update), expected)
    assert session.undo() is None
    for expected in masks[1:]:
        session.redo()
        np.testing.assert_array_equal(session.label_image() > 0, expected)
    assert session.redo() is None
    session.undo()
    session.add(Point((0, 0, 0)))
    assert not session.can_redo


def test_reset_can_be_undone() -> None:
    data, mask = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    session.add(Point((20, 20, 20)))
    update = session.reset()
    assert update is not None and not update.mask.any()
    assert session.current.prompts == ()
    session.undo()
    np.testing.assert_array_equal(session.label_image() > 0, mask)


def test_accepted_objects_are_never_changed() -> None:
    data, mask = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    session.add(Point((20, 20, 20)))
    done = session.accept("parotid")
    assert (done.id, done.name, done.accepted) == (1, "parotid", True)
    session.add(Point((20, 20, 20)))
    session.add(Scribble(((5, 5, 5), (20, 20, 20)), radius=1))
    assert session.current.id == 2
    np.testing.assert_array_equal(session.labels == 1, mask)
    np.testing.assert_array_equal(session.label_image() == 1, mask)
    session.accept()
    np.testing.assert_array_equal(session.labels == 1, mask)
    assert session.names == {1: "parotid", 2: "object 2"}


def test_more_than_255_objects() -> None:
    session = begin(np.zeros((4, 20, 20), np.int16))
    for k in range(300):
        mask = np.ones((1, 1, 1), bool)
        session.add(MaskPrompt(mask, (k // 100, k // 10 % 10, k % 10)))
        session.accept(f"m{k}")
    assert session.labels.dtype == np.uint16
    assert sorted(np.unique(session.labels)) == list(range(301))


def test_a_mask_to_start_from_is_kept_and_then_corrected() -> None:
    data, mask = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    update = session.add(MaskPrompt(mask[5:35, 5:40, 5:50], (5, 5, 5)))
    np.testing.assert_array_equal(whole(session, update), mask)
    model = session.model
    assert isinstance(model, Bright)
    assert not model.decoded
    session.add(Point((20, 20, 20)))
    previous = model.decoded[0][2]
    assert previous is not None
    assert previous.max() > 3.5 and previous.min() < -3.5


def test_boxes_and_scribbles_reach_the_model() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    session.add(Box((10, 12, 14), (29, 32, 36)))
    session.add(Scribble(((5, 5, 5), (5, 5, 30)), positive=False))
    model = session.model
    assert isinstance(model, Bright)
    points, codes, _ = model.decoded[-1]
    assert codes[:2].tolist() == [4, 5]
    assert set(codes[2:].tolist()) == {2}
    # From centre to centre of the outermost voxels of the model's own, finer grid.
    size = np.array([20, 21, 23]) / scale.FINEST - 1
    np.testing.assert_allclose(points[1] - points[0], size, rtol=1e-5)


def test_bad_prompts_leave_everything_as_it_was() -> None:
    data, mask = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    with pytest.raises(BadInput, match="no volume"):
        Session(Bright()).add(Point((0, 0, 0)))
    session.add(Point((20, 20, 20)))
    with pytest.raises(BadInput, match=r"\(20, 20, 90\) lies outside .* 40 x 50 x 60"):
        session.add(Point((20, 20, 90)))
    with pytest.raises(BadInput, match="outside"):
        session.add(Box((0, 0, 0), (5, 5, 60)))
    with pytest.raises(BadInput, match="no object 7"):
        session.rename(7, "x")
    assert len(session.current.prompts) == 1
    np.testing.assert_array_equal(session.label_image() > 0, mask)


def test_nothing_to_accept() -> None:
    session = begin(np.zeros((8, 8, 8)))
    with pytest.raises(BadInput, match="no mask yet"):
        session.accept()


def test_cancelling_changes_nothing() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    told: list[str] = []
    with pytest.raises(Cancelled):
        session.add(Point((20, 20, 20)), lambda _, w: told.append(w), lambda: len(told) > 0)
    assert told == ["reading the image"]
    assert session.current.prompts == () and not session.can_undo
    session.add(Point((20, 20, 20)))
    assert len(session.current.prompts) == 1


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((1, 64, 64), np.float32),
        np.full((30, 30, 30), 7, np.int16),
        np.full((20, 20, 20), np.nan, np.float32),
        np.ones((1, 1, 1), np.uint8),
        np.ones((2, 3, 500), np.int32),
    ],
    ids=["slice", "constant", "nan", "voxel", "thread"],
)
def test_odd_images(data: np.ndarray) -> None:
    session = begin(data)
    middle = tuple(n // 2 for n in data.shape)
    update = session.add(Point(middle))
    assert whole(session, update)[middle]
    with np.errstate(invalid="ignore"):
        assert not np.isnan(update.quality)


def test_threads_wait_for_one_another() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    threads = [
        threading.Thread(target=session.add, args=(Point((15, 15, 15 + k)),)) for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(session.current.prompts) == 8
    assert session.add(Point((15, 15, 15))).generation == 9


def test_a_new_volume_lets_go_of_the_old_one() -> None:
    data, _ = brick((40, 50, 60), (10, 12, 14), (30, 33, 37))
    session = begin(data)
    session.add(Point((20, 20, 20)))
    gone = weakref.ref(session.volume)
    session.set_volume(Volume.from_array(np.zeros((9, 9, 9))))
    assert gone() is None
    assert not session.labels.any() and session.labels.shape == (9, 9, 9)
    assert len(session.objects) == 1


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_that_the_model_did_not_heed_is_given_its_surroundings(positive: bool) -> None:
    region = plan((40, 40, 40), (1, 1, 1), 1.0, np.array([20.0, 20, 20]), 48**3)
    wrong = -3.0 if positive else 3.0
    logits = np.full(region.shape, wrong, np.float32)
    first, last = Point((5, 5, 5), not positive), Point((20, 20, 20), positive)
    out = heed(logits, region, (first, last))
    at = tuple(np.rint(region.to_region(np.array(last.position))).astype(int))
    assert out[at] == pytest.approx(CLEAR if positive else -CLEAR)
    changed = int(((out > 0) == positive).sum())
    assert 30 < changed < 2000
    far = tuple(np.rint(region.to_region(np.array(first.position))).astype(int))
    assert out[far] == pytest.approx(wrong, abs=1e-3)
    # A rival close by keeps its place.
    rival = Point((20, 20, 22), not positive)
    narrow = heed(logits, region, (rival, last))
    assert ((narrow > 0) == positive).sum() < changed / 3
    there = tuple(np.rint(region.to_region(np.array(rival.position))).astype(int))
    assert (narrow[there] > 0) != positive
    # Heeded clicks, and a first click alone, change nothing.
    np.testing.assert_array_equal(heed(-logits, region, (first, last)), -logits)
    np.testing.assert_array_equal(heed(logits, region, (last,)), logits)


@given(st.integers(0, 2**32 - 1))
def test_packed_masks_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < rng.random()
    a, b, c = (slice(3, 3 + n) for n in mask.shape)
    packed = PackedMask.of(mask, (a, b, c))
    np.testing.assert_array_equal(packed.paint((a, b, c)), mask)
    assert packed.count == mask.sum()
    shifted = packed.paint((slice(0, 5), slice(4, 20), slice(3, 5)))
    full = np.zeros((20, 20, 20), bool)
    full[a, b, c] = mask
    np.testing.assert_array_equal(shifted, full[0:5, 4:20, 3:5])


def test_the_embedded_model_finds_a_ball() -> None:
    z, y, x = np.indices((48, 56, 60))
    truth = (z - 24) ** 2 + (y - 26) ** 2 + (x - 30) ** 2 < 12**2
    data = np.random.default_rng(0).normal(0, 6, truth.shape) + 100 * truth
    session = Session(device="cpu")
    session.set_volume(Volume.from_array(data.astype(np.float32), spacing=(2, 2, 2)))
    found = whole(session, session.add(Point((24, 26, 30))))
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
