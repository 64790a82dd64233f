"""Whatever is done to a session, in whatever order: what must hold at all times."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from segment_fakes import Growing, begin

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Prompt, Scribble
from napari_sightline.segment.acts import said
from napari_sightline.segment.interactive import MaskUpdate

SHAPE = (10, 14, 12)
voxels = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
picks = st.integers(0, 30)


@st.composite
def lassos(draw: Any) -> Lasso:
    axis = draw(st.integers(0, 2))
    low, high = sorted((draw(voxels), draw(voxels)))
    corners = [np.array(low), np.array(low), np.array(high)]
    others = [k for k in range(3) if k != axis]
    corners[1][others[0]] = high[others[0]]
    for corner in corners:
        corner[axis] = low[axis]
    try:
        return Lasso(tuple(tuple(map(float, c)) for c in corners), draw(st.booleans()))
    except BadInput:
        corner = tuple(min(v, n - 3) for v, n in zip(low, SHAPE, strict=True))
        path = [list(corner) for _ in range(3)]
        path[1][others[0]] += 2
        path[2][others[1]] += 2
        return Lasso(tuple(map(tuple, path)), draw(st.booleans()))


prompts = st.one_of(
    st.builds(Point, voxels, st.booleans()),
    st.builds(Box, voxels, voxels),
    st.builds(lambda a, b, s: Scribble((a, b), s), voxels, voxels, st.booleans()),
    st.builds(lambda v: MaskPrompt(np.ones((1, 1, 1), bool), v), voxels),
    lassos(),
)


class Steps(RuleBasedStateMachine):
    """A reader who does anything at all."""

    @initialize()
    def start(self) -> None:
        self.session = begin(np.zeros(SHAPE, np.int16), (2.0, 1.0, 1.5), Growing())
        self.shown = self.session.label_image()
        self.once_locked = np.zeros(SHAPE, bool)

    def do(self, work: Any, free: bool = False) -> None:
        """Do something; it may be refused, and must then change nothing."""
        session = self.session
        held = {o.id: o.step.mask for o in session.objects if o.locked}
        before, generation = session.objects, session._generation
        try:
            work()
        except BadInput:
            assert session.objects is before
            np.testing.assert_array_equal(session.label_image(), self.shown)
            return
        if not free:
            after = {o.id: o for o in session.objects}
            for number, mask in held.items():
                if number in after and after[number].locked:
                    assert after[number].step.mask == mask
        if session._generation == generation:
            return
        update = session.last_update
        assert isinstance(update, MaskUpdate)
        shown = session.label_image()
        same = self.shown.copy()
        for box in update.changed:
            same[box] = shown[box]
            np.testing.assert_array_equal(session.paint(box), shown[box])
        np.testing.assert_array_equal(same, shown)
        self.shown = shown

    def some(self, pick: int) -> int:
        return self.session.objects[pick % len(self.session.objects)].id

    @rule(prompt=prompts)
    def add(self, prompt: Prompt) -> None:
        self.do(lambda: self.session.add(prompt))

    @rule(pick=picks, prompt=prompts)
    def replace(self, pick: int, prompt: Prompt) -> None:
        count = max(1, len(self.session.current.prompts))
        self.do(lambda: self.session.replace_prompt(pick % count, prompt))

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        count = max(1, len(self.session.current.prompts))
        self.do(lambda: self.session.remove_prompt(pick % count))

    @rule(index=st.sampled_from([None, 0, 1, 2]))
    def choose(self, index: int | None) -> None:
        self.do(lambda: self.session.choose(index))

    @rule(back=st.booleans())
    def travel(self, back: bool) -> None:
        self.do(self.session.undo if back else self.session.redo, free=True)

    @rule()
    def accept(self) -> None:
        self.do(self.session.accept)

    @rule()
    def reset(self) -> None:
        self.do(self.session.reset)

    @rule(
        pick=picks,
        call=st.sampled_from(
            ["reopen", "select", "delete", "duplicate", "lock", "unlock", "fill_holes"]
        ),
    )
    def manage(self, pick: int, call: str) -> None:
        number = self.some(pick)
        self.do(lambda: getattr(self.session, call)(number))

    @rule(a=picks, b=picks)
    def merge(self, a: int, b: int) -> None:
        pair = (self.some(a), self.some(b))
        self.do(lambda: self.session.merge(pair), free=True)

    @rule(pick=picks, mm=st.sampled_from([-2.0, -1.0, 1.0, 3.0]), kind=st.integers(0, 3))
    def shape(self, pick: int, mm: float, kind: int) -> None:
        number, session = self.some(pick), self.session
        calls = (
            lambda: session.grow(mm, number),
            lambda: session.smooth(abs(mm), number),
            lambda: session.largest_part(number),
            lambda: session.interpolate(None, number),
        )
        self.do(calls[kind])

    @rule(a=voxels, b=voxels, value=st.integers(0, 5), force=st.booleans())
    def brush(self, a: Any, b: Any, value: int, force: bool) -> None:
        box = tuple(slice(min(p, q), max(p, q) + 1) for p, q in zip(a, b, strict=True))
        painted = self.session.paint(box)
        painted[::2] = value
        self.do(lambda: self.session.adopt(painted, box, force), free=force)
        if force:
            np.testing.assert_array_equal(self.session.paint(box), painted)

    @rule(seed=st.integers(0, 3))
    def load_labels(self, seed: int) -> None:
        labels = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
        labels[:, :7] = 0
        self.do(lambda: self.session.import_labels(labels))

    @rule(name=st.sampled_from(["", "liver"]))
    def another(self, name: str) -> None:
        self.do(lambda: self.session.new_object(name))

    @invariant()
    def the_label_map_holds_the_accepted_objects(self) -> None:
        expected = np.zeros(SHAPE, int)
        for item in self.session.objects:
            if item.accepted and item.mask_box is not None:
                part = expected[item.mask_box]
                assert not part[item.mask].any(), "accepted objects overlap"
                part[item.mask] = item.id
        np.testing.assert_array_equal(self.session.labels, expected)

    @invariant()
    def there_is_one_current_object_and_it_is_open(self) -> None:
        numbers = [item.id for item in self.session.objects]
        assert len(set(numbers)) == len(numbers)
        assert not self.session.current.accepted
        assert all(item.accepted or not item.locked for item in self.session.objects)

    @invariant()
    def what_was_said_holds(self) -> None:
        session, item = self.session, self.session.current
        self.once_locked |= np.isin(session.labels, [o.id for o in session.objects if o.locked])
        mask = item.step.mask.paint(tuple(slice(0, n) for n in SHAPE))
        words: dict[tuple[int, ...], bool] = {}
        for prompt in said(item.step.acts):
            if isinstance(prompt, Point):
                words[tuple(map(int, prompt.position))] = prompt.positive
            elif isinstance(prompt, Lasso):
                inside, origin = prompt.filled()
                for voxel in np.argwhere(inside) + origin:
                    words[tuple(map(int, voxel))] = prompt.positive
            elif isinstance(prompt, Scribble):
                for voxel in np.unique(np.rint(prompt.sample(0.5)).astype(int), axis=0):
                    words[tuple(map(int, voxel))] = prompt.positive
        for voxel, inside in words.items():
            assert mask[voxel] == inside or (inside and self.once_locked[voxel])

    def teardown(self) -> None:
        session = self.session
        objects, shown = session.objects, session.label_image()
        count = 0
        while session.can_undo:
            session.undo()
            count += 1
        assert not session.label_image().any()
        assert not session.labels.any()
        assert [o.untouched for o in session.objects] == [True]
        assert session.undo() is None
        while session.can_redo:
            session.redo()
            count -= 1
        if not count:  # nothing had been undone before
            np.testing.assert_array_equal(session.label_image(), shown)
            for one, other in zip(session.objects, objects, strict=True):
                assert (one.id, one.name, one.accepted, one.locked) == (
                    other.id,
                    other.name,
                    other.accepted,
                    other.locked,
                )
                assert one.step.mask == other.step.mask
                assert one.step.acts == other.step.acts


Steps.TestCase.settings = settings(max_examples=30, stateful_step_count=18, deadline=None)
TestSteps = Steps.TestCase
