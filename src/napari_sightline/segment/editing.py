"""The part of a session that edits masks without a model: operations, brushes, label maps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.legend import as_labels
from napari_sightline.segment.acts import Operation, Paint
from napari_sightline.segment.packed import EMPTY, PackedMask, overlap
from napari_sightline.segment.prompting import PromptCalls
from napari_sightline.segment.state import LAST_ID, Scene, SegmentObject, Step
from napari_sightline.segment.update import CancelFn, MaskUpdate, check
from napari_sightline.volume import Box3

_ALL: Box3 = (slice(None), slice(None), slice(None))


class EditCalls(PromptCalls):
    """Edits of a session's objects; every call is a step that can be undone. See `Session`."""

    # ---- operations

    def largest_part(self, object_id: int | None = None) -> MaskUpdate:
        """Keep the largest connected part of an object (default: the current one).

        Raises
        ------
        BadInput
            Where there is no such object, it has no mask, or it is locked. So do the other
            operations.
        """
        return self._shape(Operation("largest part"), object_id)

    def fill_holes(self, object_id: int | None = None) -> MaskUpdate:
        """Fill what an object shuts in on all sides; see `largest_part`."""
        return self._shape(Operation("fill holes"), object_id)

    def smooth(self, mm: float, object_id: int | None = None) -> MaskUpdate:
        """Even out an object's surface with a Gaussian of `mm`, keeping its volume."""
        return self._shape(Operation("smooth", float(mm)), object_id)

    def grow(self, mm: float, object_id: int | None = None) -> MaskUpdate:
        """Grow an object by so many mm on every side; below zero shrinks it.

        It does not grow into locked objects, and an accepted one not into any other accepted one.
        """
        return self._shape(Operation("grow", float(mm)), object_id)

    def interpolate(self, axis: int | None = None, object_id: int | None = None) -> MaskUpdate:
        """Fill empty slices between drawn ones.

        Parameters
        ----------
        axis : int, optional
            Across the slices; by default the one with most empty slices between drawn ones.
        object_id : int, optional
            By default the current object.

        Raises
        ------
        BadInput
            As for `largest_part`, or where there is nothing to fill.
        """
        return self._shape(Operation("interpolate", -1.0 if axis is None else axis), object_id)

    def _shape(self, act: Operation, object_id: int | None) -> MaskUpdate:
        with self._lock:
            self._need()
            started, item = time.perf_counter(), self._scene.need(object_id)
            if item.locked:
                name = item.name or f"Object {item.id}"
                raise BadInput(f"{name} is locked; unlock or reopen it first.")
            step = self._operate(item.step, act, self._around(item.id))
            return self._commit(self._scene.changed(item.id, step=step), started)

    # ---- what other tools did

    def adopt(self, labels: np.ndarray, box: Box3 | None = None, force: bool = False) -> MaskUpdate:
        """Take over what another tool painted into the label image.

        Voxels that differ from `paint` of the same box change hands: those painted with an
        object's id become its own, and no longer belong to any other object, also not to one that
        lies hidden beneath. An id that no object has makes a new one, accepted and locked.

        Parameters
        ----------
        labels : numpy.ndarray
            Whole numbers, 0 .. 65535, of the box's shape.
        box : tuple of 3 slices, optional
            In voxels of the volume; by default all of it.
        force : bool
            Whether locked objects may be changed too. Else they stay, `MaskUpdate.changed` holds
            where the tool painted on them, to be painted back, and `MaskUpdate.note` says so.

        Raises
        ------
        BadInput
            Where the labels have another shape, are no whole numbers or do not fit 16 bits.
        """
        with self._lock:
            started, volume = time.perf_counter(), self._need().volume
            ends = [s.indices(n) for s, n in zip(box or _ALL, volume.shape, strict=True)]
            a, b, c = (slice(low, max(low, high)) for low, high, _ in ends)
            where: Box3 = (a, b, c)
            given = _whole_numbers(labels, tuple(s.stop - s.start for s in where))
            scene = self._scene
            now = self._labels.paint(where, scene)
            differs = given != now
            note, kept = "", EMPTY
            locked = [o for o in scene.objects if o.locked and not force]
            hit = differs & np.isin(now, [o.id for o in locked])
            hit |= differs & np.isin(given, [o.id for o in locked])
            if hit.any():
                names = {o.id: o.name or f"object {o.id}" for o in locked}
                found = np.union1d(now[hit], given[hit])
                which = ", ".join(names[int(k)] for k in found if int(k) in names)
                note = f"{which} is locked and was left as it was; unlock it to paint on it."
                kept, differs = PackedMask.of(hit, where), differs & ~hit
            # An erased voxel is lost to those beneath as well: the reader sees it empty.
            for item in scene.objects:
                if overlap(item.mask_box, where) is not None:
                    lost = differs & (given != item.id) & item.step.mask.paint(where)
                    if lost.any():
                        scene = _painted(scene, item.id, EMPTY, PackedMask.of(lost, where))
            for number in (int(k) for k in np.unique(given[differs]) if k):
                added = PackedMask.of(differs & (given == number), where)
                if scene.get(number) is None:
                    scene = _with_label(scene, number, EMPTY, f"label {number}", self._voxel_ml)
                scene = _painted(scene, number, added, EMPTY)
            update = self._commit(scene, started, note=note)
            if kept.box is not None:
                update = replace(update, changed=(*update.changed, kept.box))
                self._last = update
            return update

    def import_labels(
        self,
        labels: np.ndarray,
        names: Mapping[int, str] | None = None,
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        cancel: CancelFn | None = None,
    ) -> MaskUpdate:
        """Make accepted objects of a label map, such as an automatic segmentation, in one step.

        Each can be reopened and corrected with prompts. Voxels of locked objects stay theirs. A
        label keeps its value as id where no object has it yet.

        Parameters
        ----------
        labels : numpy.ndarray
            Whole numbers, 0 .. 65535, of the volume's shape (canonical order).
        names, colours : mapping, optional
            By label value; colours as red, green, blue, 0 .. 255.
        cancel : callable, optional
            True stops it; nothing is imported then.

        Raises
        ------
        BadInput
            Where the labels lie on another grid, do not fit 16 bits or are all zero, or no voxel
            of them is free.
        Cancelled
            Where `cancel` returned True.
        """
        from scipy import ndimage

        with self._lock:
            started, volume = time.perf_counter(), self._need().volume
            given = as_labels(labels, volume, ("u1", "u2"))
            places = ndimage.find_objects(given)
            scene, empty = self._scene, self._scene.need(None)
            if empty.untouched:
                scene = scene.without(empty.id)
            unlocked = [o.id for o in scene.objects if o.accepted and not o.locked]
            made = 0
            for value, place in enumerate(places, 1):
                if place is None:
                    continue
                check(cancel)
                box: Box3 = (place[0], place[1], place[2])
                mask = given[box] == value
                closed = self._labels.closed(box, self._scene)
                packed = PackedMask.of(mask if closed is None else mask & ~closed, box)
                if packed.box is None:
                    continue
                scene = _cleared(scene, packed, unlocked)
                number = value if scene.get(value) is None else scene.free_id()
                name = (names or {}).get(value) or f"label {value}"
                scene = _with_label(scene, number, packed, name, self._voxel_ml)
                colour = (colours or {}).get(value)
                if colour is not None:
                    r, g, b = (min(255, max(0, int(v))) for v in colour)
                    scene = scene.changed(number, colour=(r, g, b))
                made += 1
            if not made:
                raise BadInput(
                    "The label map holds no voxel that is free; give one with labels above 0, "
                    "or unlock objects that lie there."
                )
            if empty.untouched:
                scene = self._afresh(scene, empty)
            return self._commit(scene, started, cancel=cancel)

    def _afresh(self, scene: Scene, empty: SegmentObject) -> Scene:
        """Scene with the object that was begun, under its own id if that is still free."""
        if scene.get(empty.id) is None:
            following = max(scene.next_id, empty.id + 1)
            return replace(scene.with_object(empty), current=empty.id, next_id=following)
        return replace(scene, current=0).begun(self._voxel_ml, empty.name)


def _whole_numbers(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise BadInput(f"The labels are {array.dtype}; convert them to whole numbers.")
    if array.shape != shape:
        raise BadInput(
            f"The labels have shape {array.shape} but their box has {shape}; "
            "give labels made on this scan."
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > LAST_ID:
        raise BadInput(
            f"Labels from {low} to {high} do not fit a label map of 16 bits; "
            "paint with labels from 1 to 65535."
        )
    return array.astype(np.uint16)


def _painted(scene: Scene, number: int, added: PackedMask, removed: PackedMask) -> Scene:
    """Scene with voxels put into an object's mask, and others taken out."""
    item = scene.get(number)
    if item is None:
        return scene
    mask = item.step.mask.join(added).less(removed)
    step = Step((*item.step.acts, Paint(added, removed)), mask)
    return scene.with_object(replace(item, step=step))


def _cleared(scene: Scene, mask: PackedMask, numbers: list[int]) -> Scene:
    """Scene in which none of some objects holds any of some voxels."""
    for number in numbers:
        held = scene.need(number).step.mask
        if held.less(mask).count != held.count:
            scene = _painted(scene, number, EMPTY, mask)
    return scene


def _with_label(scene: Scene, number: int, mask: PackedMask, name: str, voxel_ml: float) -> Scene:
    """Scene with an accepted object that no prompt made."""
    acts = (Paint(mask),) if mask.box is not None else ()
    made = SegmentObject(
        number, name, accepted=True, locked=True, step=Step(acts, mask), voxel_ml=voxel_ml
    )
    return replace(scene.with_object(made), next_id=max(scene.next_id, number + 1))
