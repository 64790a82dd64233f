"""The label map of the accepted objects, kept in step with the scene, and what is painted."""

from __future__ import annotations

import numpy as np

from napari_sightline.segment.history import Transition
from napari_sightline.segment.packed import EMPTY, PackedMask, overlap, union, widened
from napari_sightline.segment.region import Region
from napari_sightline.segment.state import Scene, SegmentObject
from napari_sightline.volume import Box3


class LabelMap:
    """Accepted objects on the volume's grid, and which of their voxels are closed to others.

    Parameters
    ----------
    shape : tuple of 3 int
        Of the volume.

    Attributes
    ----------
    version : int
        Changes whenever the closed voxels may have.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._array: np.ndarray | None = None
        self._on_region: tuple[int, int, Region, np.ndarray | None] | None = None
        self.version = 0

    @property
    def array(self) -> np.ndarray:
        """The label map, uint8, or uint16 where an id asks for it; zeros until first accepted."""
        if self._array is None:
            self._array = np.zeros(self._shape, np.uint8)
        return self._array

    def reserve(self, scene: Scene) -> None:
        """Get the memory that a scene needs, so that `update` cannot fail for want of it."""
        top = max((item.id for item in scene.objects if item.accepted), default=0)
        if top and top > np.iinfo(self.array.dtype).max:
            self._array = self.array.astype(np.uint16)

    def update(self, before: Scene, after: Scene) -> None:
        """Bring the map from one scene to another."""
        self.reserve(after)
        old = {item.id: item for item in before.objects}
        new = {item.id: item for item in after.objects}
        changed = [k for k in {**old, **new} if old.get(k) is not new.get(k)]
        before_after = [(old.get(k), new.get(k)) for k in changed]
        touched = [(a, b) for a, b in before_after if _stands(a) or _stands(b)]
        if not touched:
            return
        self.version += 1
        moved = [(a, b) for a, b in touched if _standing(a) is not _standing(b)]
        for a, _ in moved:
            box = _standing(a).box
            if a is not None and box is not None:
                part = self.array[box]
                part[_standing(a).unpack() & (part == a.id)] = 0
        for _, b in moved:
            box = _standing(b).box
            if b is not None and box is not None:
                part = self.array[box]
                part[_standing(b).unpack() & (part == 0)] = b.id

    def closed(self, box: Box3, scene: Scene, but: int = 0) -> np.ndarray | None:
        """Voxels of a box that belong to locked objects other than `but`; None without any."""
        return self._of(box, [o for o in scene.objects if o.locked and o.id != but])

    def taken(self, box: Box3, scene: Scene, but: int = 0) -> np.ndarray | None:
        """Voxels of a box that belong to accepted objects other than `but`; None without any."""
        return self._of(box, [o for o in scene.objects if o.accepted and o.id != but])

    def _of(self, box: Box3, items: list[SegmentObject]) -> np.ndarray | None:
        numbers = [o.id for o in items if overlap(o.mask_box, box) is not None]
        if not numbers:
            return None
        chosen = np.zeros(int(np.iinfo(self.array.dtype).max) + 1, bool)
        chosen[numbers] = True
        out = chosen[self.array[box]]
        return out if out.any() else None

    def closed_on(self, region: Region, scene: Scene, but: int = 0) -> np.ndarray | None:
        """Say which voxels of a working grid are closed, by more than half; None without any."""
        kept = self._on_region
        if kept is not None and kept[:3] == (self.version, but, region):
            return kept[3]
        box = widened(region.box(self._shape), (1, 1, 1), self._shape)
        native = self.closed(box, scene, but)
        out = None
        if native is not None:
            origin = np.array(region.origin) - [s.start for s in box]
            a, b, c = (float(v) for v in origin)
            moved = Region((a, b, c), region.step, region.shape, region.spacing)
            out = moved.extract(native.view(np.uint8), 0.0) > 0.5
            out = out if out.any() else None
        self._on_region = (self.version, but, region, out)
        return out

    def paint(self, box: Box3, scene: Scene) -> np.ndarray:
        """Label image of a box with every object in it.

        Locked objects lie on top, then the current one, then accepted ones, then others.
        """
        out = self.array[box].copy()
        top = max((item.id for item in scene.objects), default=0)
        if top > np.iinfo(out.dtype).max:
            out = out.astype(np.uint16)
        closed = self.closed(box, scene)
        for item in scene.objects:
            if not item.accepted and item.id != scene.current:
                out[item.step.mask.paint(box) & (out == 0)] = item.id
        current = scene.get(scene.current)
        if current is not None and overlap(current.mask_box, box) is not None:
            mask = current.step.mask.paint(box)
            out[mask if closed is None else mask & ~closed] = current.id
        return out


def _stands(item: SegmentObject | None) -> bool:
    return item is not None and item.accepted


def _standing(item: SegmentObject | None) -> PackedMask:
    """Voxels of an object in the label map."""
    return item.step.mask if item is not None and item.accepted else EMPTY


def repainted(step: Transition, before: Scene, after: Scene) -> tuple[Box3, ...]:
    """Boxes outside which a step left the painted label image as it was."""
    boxes: list[Box3] = []
    for change in step.changes:
        old, new = before.get(change.id), after.get(change.id)
        same = old is not None and new is not None
        if same and old is not None and new is not None:
            same = (old.accepted, old.locked) == (new.accepted, new.locked)
        whole = union(old.mask_box if old else None, new.mask_box if new else None)
        box = change.mask.box if same else whole
        if box is not None:
            boxes.append(box)
    if before.current != after.current:
        for number in (before.current, after.current):
            for scene in (before, after):
                item = scene.get(number)
                if item is not None and not item.accepted and item.mask_box is not None:
                    boxes.append(item.mask_box)
    return tuple(box for k, box in enumerate(boxes) if box not in boxes[:k])
