"""The part of a session that keeps objects: make, accept, reopen, merge, lock, name, delete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from napari_sightline.errors import BadInput
from napari_sightline.segment.acts import Paint
from napari_sightline.segment.core import SessionCore
from napari_sightline.segment.packed import EMPTY
from napari_sightline.segment.state import Scene, SegmentObject, Step
from napari_sightline.segment.update import MaskUpdate


class ObjectCalls(SessionCore):
    """The objects of a session; every call is a step that can be undone. See `Session`."""

    def new_object(self, name: str = "") -> SegmentObject:
        """Begin another object; one without prompts is taken again.

        The present one stays as it is, not accepted; `select` goes back to it.

        Raises
        ------
        BadInput
            Where no volume is set, or 65535 objects exist.
        """
        with self._lock:
            started, now = time.perf_counter(), self.current
            if not now.untouched or (name and name != now.name):
                self._commit(self._scene.begun(self._voxel_ml, name), started)
            return self.current

    def accept(self, name: str | None = None) -> SegmentObject:
        """Write the current object's mask into the labels, lock it, and begin another object.

        Voxels of locked objects stay theirs; those of accepted but unlocked ones change hands.
        See `last_update` for what changed.

        Raises
        ------
        BadInput
            Where the mask is empty, or holds voxels of locked objects alone.
        """
        with self._lock:
            started, item = time.perf_counter(), self.current
            box = item.mask_box
            if box is None:
                raise BadInput("The object has no mask yet; place a prompt before you accept it.")
            scene, mask = self._scene, item.step.mask
            for other in scene.objects:
                if other.locked:
                    mask = mask.less(other.step.mask)
            if mask.box is None:
                raise BadInput(
                    "Every voxel of the object belongs to locked ones; "
                    "unlock or delete one of them first."
                )
            for other in scene.objects:
                if other.accepted and not other.locked:
                    left = other.step.mask.less(mask)
                    if left is not other.step.mask:
                        lost = Paint(EMPTY, mask)
                        step = Step((*other.step.acts, lost), left, None, other.step.quality)
                        scene = scene.changed(other.id, step=step)
            done = replace(
                item,
                name=name or item.name or f"object {item.id}",
                accepted=True,
                locked=True,
                step=replace(item.step, mask=mask),
            )
            scene = scene.with_object(done).begun(self._voxel_ml)
            self._commit(scene, started)
            return done

    def reopen(self, object_id: int) -> MaskUpdate:
        """Make an accepted object the current one again, to correct it with its prompts.

        It leaves `labels` until it is accepted again. The object that was current stays, not
        accepted, if anything was done to it.

        Raises
        ------
        BadInput
            Where there is no such object, or it was not accepted.
        """
        with self._lock:
            started = time.perf_counter()
            if not self._scene.need(object_id).accepted:
                raise BadInput(f"Object {object_id} is not accepted yet; select it instead.")
            scene = self._scene.changed(object_id, accepted=False, locked=False)
            return self._commit(self._entered(scene, object_id), started)

    def select(self, object_id: int) -> MaskUpdate:
        """Make another object that is not accepted yet the current one.

        Raises
        ------
        BadInput
            Where there is no such object, or it was accepted.
        """
        with self._lock:
            started = time.perf_counter()
            if self._scene.need(object_id).accepted:
                raise BadInput(f"Object {object_id} is accepted; reopen it instead.")
            return self._commit(self._entered(self._scene, object_id), started)

    def delete(self, object_id: int) -> MaskUpdate:
        """Take an object away; `BadInput` where there is none of that number.

        Where it was the current one, the last object that is not accepted yet follows, or a new
        one.
        """
        with self._lock:
            started = time.perf_counter()
            self._scene.need(object_id)
            scene = self._scene.without(object_id)
            if object_id == scene.current:
                scene = self._onward(scene)
            return self._commit(scene, started)

    def duplicate(self, object_id: int, name: str = "") -> MaskUpdate:
        """Copy an object, with its prompts, into a new current one.

        A label map holds one object a voxel: the copy shows where it differs from its original,
        for example after `grow`, and gets the voxels that no locked object has when accepted.

        Raises
        ------
        BadInput
            Where there is no such object, or 65535 exist.
        """
        with self._lock:
            started, item = time.perf_counter(), self._scene.need(object_id)
            original = item.name or f"object {item.id}"
            scene = self._scene.begun(self._voxel_ml, name or f"{original} copy")
            copied = replace(scene.need(None), step=item.step, colour=item.colour)
            return self._commit(scene.with_object(copied), started)

    def merge(self, object_ids: Sequence[int]) -> MaskUpdate:
        """Join objects into the first of them; the others are taken away.

        Parameters
        ----------
        object_ids : sequence of int
            Two or more. The first keeps its name, colour, prompts and state.

        Raises
        ------
        BadInput
            Where fewer than two are given, one does not exist or none has a mask.
        """
        with self._lock:
            started = time.perf_counter()
            numbers = list(dict.fromkeys(int(k) for k in object_ids))
            if len(numbers) < 2:
                raise BadInput("Merging takes two objects or more; choose another one as well.")
            first, *others = (self._scene.need(k) for k in numbers)
            step, scene = first.step, self._scene
            for other in others:
                added = other.step.mask
                if first.accepted:
                    # What lies under a third, accepted object stays there.
                    for third in scene.objects:
                        if third.accepted and third.id not in numbers:
                            added = added.less(third.step.mask)
                step = Step((*step.acts, Paint(added)), step.mask.join(added))
                scene = scene.without(other.id)
            scene = scene.with_object(replace(first, step=step))
            if scene.get(scene.current) is None:
                scene = self._onward(scene)
            return self._commit(scene, started)

    # ---- attributes

    def rename(self, object_id: int, name: str) -> MaskUpdate:
        """Name an object; `BadInput` where there is none of that number."""
        return self._set(object_id, name=str(name))

    def recolour(self, object_id: int, colour: tuple[int, int, int] | None) -> MaskUpdate:
        """Give an object a colour: red, green, blue, 0 .. 255; None: that of its name."""
        if colour is not None:
            values = [int(v) for v in colour]
            if len(values) != 3 or not all(0 <= v <= 255 for v in values):
                raise BadInput(f"{colour} is no colour; give red, green and blue, 0 to 255.")
            colour = (values[0], values[1], values[2])
        return self._set(object_id, colour=colour)

    def set_visible(self, object_id: int, visible: bool) -> MaskUpdate:
        """Show or hide an object; its voxels stay in the label image."""
        return self._set(object_id, visible=bool(visible))

    def lock(self, object_id: int) -> MaskUpdate:
        """Keep an accepted object's voxels from all others; `BadInput` for one not accepted."""
        if not self._scene.need(object_id).accepted:
            raise BadInput(f"Object {object_id} is not accepted yet; accept it to lock it.")
        return self._set(object_id, locked=True)

    def unlock(self, object_id: int) -> MaskUpdate:
        """Let objects that are accepted later take an object's voxels, and tools edit it."""
        return self._set(object_id, locked=False)

    def _set(self, object_id: int, **values: object) -> MaskUpdate:
        with self._lock:
            started, item = time.perf_counter(), self._scene.need(object_id)
            if all(getattr(item, key) == value for key, value in values.items()):
                return self._commit(self._scene, started)
            return self._commit(self._scene.changed(object_id, **values), started)

    # ---- which is current

    def _entered(self, scene: Scene, number: int) -> Scene:
        """Scene with another current object; one to which nothing was done goes."""
        left = scene.get(scene.current)
        scene = replace(scene, current=number)
        if left is None or left.id == number or not left.untouched:
            return scene
        following = left.id if scene.next_id == left.id + 1 else scene.next_id
        return replace(scene.without(left.id), next_id=following)

    def _onward(self, scene: Scene) -> Scene:
        """Scene whose current object exists: the last open one, or a new one."""
        open_ones = [item.id for item in scene.objects if not item.accepted]
        if open_ones:
            return replace(scene, current=open_ones[-1])
        return replace(scene, current=0).begun(self._voxel_ml)
