"""Undo and redo over whole scenes, kept as packed differences within a bound of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from napari_sightline.prompts import History
from napari_sightline.segment.packed import EMPTY, PackedLogits, PackedMask
from napari_sightline.segment.state import Scene, SegmentObject

#: Bytes that the differences of a session may take, about. Beyond it the oldest steps can no
#: longer be undone; no mask is lost by that.
HISTORY_BYTES = 160 * 2**20
# What an act, a tuple of them and their owner take beside voxels, about.
_OVERHEAD = 2048


@dataclass(frozen=True)
class LogitsChange:
    """Logits of an object before and after a step.

    As a difference where both lie on one region; else both as they are.
    """

    before: PackedLogits | None = None
    after: PackedLogits | None = None
    difference: bytes | None = None

    @classmethod
    def between(cls, before: PackedLogits | None, after: PackedLogits | None) -> LogitsChange:
        """Compare two; nothing is kept where they are the same."""
        if before is after or before == after:
            return cls()
        if before is not None and after is not None and before.region == after.region:
            return cls(difference=after.difference(before))
        return cls(before, after)

    @property
    def nothing(self) -> bool:
        """Whether both were the same."""
        return self.before is None and self.after is None and self.difference is None

    def apply(self, now: PackedLogits | None, back: bool) -> PackedLogits | None:
        """Return the logits on the other side of the step."""
        if self.nothing:
            return now
        if self.difference is None:
            return self.before if back else self.after
        assert now is not None
        return now.moved(self.difference, back)

    @property
    def nbytes(self) -> int:
        """Bytes kept."""
        parts = [p.data for p in (self.before, self.after) if p is not None]
        return sum(map(len, parts)) + len(self.difference or b"")


@dataclass(frozen=True)
class ObjectChange:
    """An object before and after a step, None where it did not exist, without their voxels.

    ``mask`` holds the voxels that changed sides.
    """

    before: SegmentObject | None
    after: SegmentObject | None
    mask: PackedMask
    logits: LogitsChange

    @classmethod
    def between(cls, before: SegmentObject | None, after: SegmentObject | None) -> ObjectChange:
        """Compare two states of one object."""
        old = before.step.mask if before else EMPTY
        new = after.step.mask if after else EMPTY
        logits = LogitsChange.between(
            before.step.logits if before else None, after.step.logits if after else None
        )
        return cls(_hollow(before), _hollow(after), old.xor(new), logits)

    @property
    def id(self) -> int:
        """Whose change it is."""
        item = self.before or self.after
        assert item is not None
        return item.id

    def apply(self, now: SegmentObject | None, back: bool) -> SegmentObject | None:
        """Return the object on the other side of the step, with its voxels."""
        target = self.before if back else self.after
        if target is None:
            return None
        mask = (now.step.mask if now else EMPTY).xor(self.mask)
        logits = self.logits.apply(now.step.logits if now else None, back)
        return replace(target, step=replace(target.step, mask=mask, logits=logits))

    @property
    def nbytes(self) -> int:
        """Bytes kept, about."""
        shells = (item for item in (self.before, self.after) if item is not None)
        options = {id(o): len(o.logits.data) for item in shells for o in item.step.options}
        return _OVERHEAD + len(self.mask.bits) + self.logits.nbytes + sum(options.values())


def _hollow(item: SegmentObject | None) -> SegmentObject | None:
    if item is None:
        return None
    return replace(item, step=replace(item.step, mask=EMPTY, logits=None))


@dataclass(frozen=True)
class Transition:
    """One step of a session: what it changed, in both directions."""

    changes: tuple[ObjectChange, ...]
    order_before: tuple[int, ...]
    order_after: tuple[int, ...]
    current: tuple[int, int]
    next_id: tuple[int, int]

    @classmethod
    def between(cls, before: Scene, after: Scene) -> Transition:
        """Compare two scenes; objects they share cost nothing."""
        old = {item.id: item for item in before.objects}
        new = {item.id: item for item in after.objects}
        changes = tuple(
            ObjectChange.between(old.get(number), new.get(number))
            for number in {**old, **new}
            if old.get(number) is not new.get(number)
        )
        return cls(
            changes,
            tuple(old),
            tuple(new),
            (before.current, after.current),
            (before.next_id, after.next_id),
        )

    def apply(self, scene: Scene, back: bool = False) -> Scene:
        """Return the scene on the other side of the step."""
        objects = {item.id: item for item in scene.objects}
        for change in self.changes:
            item = change.apply(objects.pop(change.id, None), back)
            if item is not None:
                objects[change.id] = item
        order = self.order_before if back else self.order_after
        side = 0 if back else 1
        return Scene(tuple(objects[k] for k in order), self.current[side], self.next_id[side])

    @cached_property
    def nbytes(self) -> int:
        """Bytes kept, about."""
        return _OVERHEAD + sum(change.nbytes for change in self.changes)


class Timeline:
    """Steps of a session that can be undone and redone.

    Parameters
    ----------
    limit : int
        Bytes that the steps may take, about; the oldest are forgotten beyond it, never the last.
    """

    def __init__(self, limit: int = HISTORY_BYTES) -> None:
        self.limit = limit
        # The first entry stands for the scene that the first step changed.
        self._history: History[Transition | None] = History([None])

    @property
    def steps(self) -> tuple[Transition, ...]:
        """Steps kept, the oldest first, undone ones last."""
        return tuple(step for step in self._history.states[1:] if step is not None)

    @property
    def undone(self) -> int:
        """How many steps `redo` can bring back."""
        return len(self._history) - 1 - self._history.index

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to bring back."""
        return self._history.can_redo

    @property
    def nbytes(self) -> int:
        """Bytes that the steps take, about."""
        return sum(step.nbytes for step in self.steps)

    def push(self, step: Transition) -> None:
        """Add a step; undone ones are forgotten, and the oldest beyond the limit."""
        self._history.push(step)
        surplus, count = self.nbytes - self.limit, 0
        kept = self.steps
        while surplus > 0 and count < len(kept) - 1:
            surplus -= kept[count].nbytes
            count += 1
        if count:
            # The last one forgotten would stay as the place to begin from: it is let go of too.
            self._history = History([None, *kept[count:]])

    def undo(self, scene: Scene) -> Scene | None:
        """Return the scene before the last step; None where there is none."""
        step = self._history.current
        if step is None or self._history.index == 0:
            return None
        earlier = step.apply(scene, back=True)
        self._history.undo()
        return earlier

    def redo(self, scene: Scene) -> Scene | None:
        """Return the scene after the step undone last; None where there is none."""
        if not self._history.can_redo:
            return None
        step = self._history.redo()
        assert step is not None
        return step.apply(scene)
