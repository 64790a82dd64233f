"""What every part of a session builds on: its volume, its model, its scene and its history."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.segment import scale
from napari_sightline.segment.history import Timeline, Transition
from napari_sightline.segment.label_map import LabelMap, repainted
from napari_sightline.segment.packed import EMPTY, union, within
from napari_sightline.segment.predict import Around, Predictor, Tap
from napari_sightline.segment.state import Scene, SegmentObject, Step
from napari_sightline.segment.update import CancelFn, MaskUpdate, ProgressFn, check, tell
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari_sightline.models.promptable import Promptable

_NOWHERE: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))


class SessionCore:
    """One volume, a model, and a scene that moves in steps; see `Session`."""

    def __init__(
        self,
        model: str | Promptable = "sightline-3d",
        device: str = "auto",
        tap: Tap | None = None,
    ) -> None:
        self._name = model if isinstance(model, str) else model.name
        self._model: Promptable | None = None if isinstance(model, str) else model
        self._device = device
        self._tap = tap
        self._lock = threading.RLock()
        self._predictor: Predictor | None = None
        self._generation = 0
        self._model_version = 0
        self._clear()

    def _clear(self) -> None:
        self._predictor = None
        self._scene = Scene()
        self._timeline = Timeline()
        self._labels = LabelMap((0, 0, 0))
        self._last: MaskUpdate | None = None

    # ---- volume and model

    @property
    def volume(self) -> Volume | None:
        """The volume, or None."""
        return None if self._predictor is None else self._predictor.volume

    @property
    def model(self) -> Promptable | None:
        """The model, or None before it is loaded."""
        return self._model

    @property
    def device(self) -> str:
        """Device that the model runs on; as it was asked for before the model is loaded."""
        return self._device if self._model is None else str(getattr(self._model, "device", ""))

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"bf16"``; empty before the model is loaded."""
        return str(getattr(self._model, "precision", ""))

    @property
    def tap(self) -> Tap | None:
        """Who watches every decoding; may be set at any time, and holds from the next one on."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = tap
        if self._predictor is not None:
            self._predictor.tap = tap

    def set_volume(self, volume: Volume) -> None:
        """Take a volume; objects of an earlier one are let go. Cheap: nothing is computed yet."""
        with self._lock:
            self._clear()
            self._generation = 0
            self._predictor = predictor = Predictor(volume)
            predictor.model, predictor.tap = self._model, self._tap
            self._labels = LabelMap(volume.shape)
            self._scene = Scene().begun(self._voxel_ml)

    def load(self, progress: ProgressFn | None = None) -> None:
        """Load the model's weights now instead of at the first prompt.

        Raises
        ------
        BadInput, ModelError
            See `napari_sightline.models.load_model`.
        """
        with self._lock:
            if self._model is None:
                tell(progress, 0.0, "loading the model")
                from napari_sightline.models import load_model

                self._model = load_model(self._name, self._device)
            if self._predictor is not None:
                self._predictor.model = self._model

    def set_model(
        self,
        model: str | Promptable,
        device: str = "auto",
        progress: ProgressFn | None = None,
    ) -> None:
        """Go on with another model, or another device.

        Masks, prompts and history stay; the next prompt is answered by the new model, from the
        mask there is. Where loading fails the session stays as it was.

        Parameters
        ----------
        model : str or Promptable
            Name of a promptable model, which is loaded now, or a loaded one.
        device : str
            As in the constructor.
        progress : callable, optional
            Called with a share, 0 .. 1, and a word.

        Raises
        ------
        BadInput, ModelError
            See `napari_sightline.models.load_model`.
        """
        if isinstance(model, str):
            tell(progress, 0.0, "loading the model")
            from napari_sightline.models import load_model

            loaded = load_model(model, device)
        else:
            loaded = model
        with self._lock:
            self._name, self._device, self._model = loaded.name, device, loaded
            self._model_version += 1
            if self._predictor is not None:
                self._predictor.forget()
                self._predictor.model = loaded
        tell(progress, 1.0, "ready")

    def prepare(
        self,
        position: tuple[float, float, float] | None = None,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
        box: Box3 | None = None,
    ) -> None:
        """Compute ahead what depends on the image alone, so that a first click need not wait.

        A first click in the middle half of what was prepared last is answered there.

        Parameters
        ----------
        position : tuple of 3 float, optional
            Voxel round which a click is expected; by default the middle of `box` or the volume.
        progress, cancel : callable, optional
            As in `add`.
        box : tuple of 3 slices, optional
            What is visible, in voxels of the volume.

        Raises
        ------
        BadInput
            Where no volume is set.
        Cancelled
            Where `cancel` returned True.
        """
        with self._lock:
            predictor = self._need()
            volume = predictor.volume
            self.load(progress)
            centre = (np.array(volume.shape) - 1) / 2
            if position is not None:
                centre = np.asarray(position, float)
            elif box is not None:
                ends = [s.indices(n) for s, n in zip(box, volume.shape, strict=True)]
                centre = np.array([(low + max(low, high - 1)) / 2 for low, high, _ in ends])
            region = scale.start(volume, centre)
            predictor.encode(region, progress, cancel)
            predictor.ready = region
            tell(progress, 1.0, "ready")

    # ---- what there is

    @property
    def objects(self) -> tuple[SegmentObject, ...]:
        """Every object, in the order of their making."""
        return self._scene.objects

    @property
    def current(self) -> SegmentObject:
        """The object that prompts go to.

        Raises
        ------
        BadInput
            Where no volume is set.
        """
        self._need()
        return self._scene.need(None)

    @property
    def names(self) -> dict[int, str]:
        """Names of accepted objects by label value."""
        return {item.id: item.name for item in self._scene.objects if item.accepted}

    @property
    def labels(self) -> np.ndarray:
        """Label map of the accepted objects on the volume's canonical grid, uint8 or uint16."""
        with self._lock:
            self._need()
            return self._labels.array

    def label_image(self, include_current: bool = True) -> np.ndarray:
        """Copy of `labels`, with objects that are not accepted yet painted in if wanted."""
        with self._lock:
            volume = self._need().volume
            if not include_current:
                return self._labels.array.copy()
            a, b, c = (slice(0, n) for n in volume.shape)
            return self._labels.paint((a, b, c), self._scene)

    def paint(self, box: Box3) -> np.ndarray:
        """Label image of a box, with every object in it: what a viewer shows there.

        Locked objects lie on top, then the current one, then accepted ones, then others.

        Parameters
        ----------
        box : tuple of 3 slices
            In voxels, such as those in `MaskUpdate.changed`.

        Returns
        -------
        numpy.ndarray
            uint8 or uint16, a copy.
        """
        with self._lock:
            self._need()
            return self._labels.paint(box, self._scene)

    @property
    def last_update(self) -> MaskUpdate | None:
        """What the last step changed; also of calls that return something else."""
        return self._last

    # ---- steps

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo, of whatever kind."""
        return self._timeline.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether an undone step can come back."""
        return self._timeline.can_redo

    @property
    def history_bytes(self) -> int:
        """Memory that undo and redo take, about; bounded by `history.HISTORY_BYTES`."""
        return self._timeline.nbytes

    def undo(self) -> MaskUpdate | None:
        """Take back the last step: a prompt, a change of an object, an operation.

        Steps are kept as packed differences within a bound of memory; the oldest beyond it can no
        longer be taken back. Returns None where there is none.
        """
        return self._travel(back=True)

    def redo(self) -> MaskUpdate | None:
        """Bring an undone step back; None where there is none."""
        return self._travel(back=False)

    def _travel(self, back: bool) -> MaskUpdate | None:
        with self._lock:
            started, before = time.perf_counter(), self._scene
            after = self._timeline.undo(before) if back else self._timeline.redo(before)
            if after is None:
                return None
            self._labels.update(before, after)
            self._scene = after
            self._record("undo" if back else "redo")
            return self._tell_of(Transition.between(before, after), before, started)

    def _commit(
        self,
        after: Scene,
        started: float,
        native: tuple[Box3, np.ndarray] | None = None,
        cancel: CancelFn | None = None,
        note: str = "",
    ) -> MaskUpdate:
        """Make a scene the session's, as a step that can be undone."""
        before = self._scene
        step = Transition.between(before, after)
        self._labels.reserve(after)
        check(cancel)
        # From here on nothing can fail.
        if step.changes or before.current != after.current:
            self._timeline.push(step)
            self._labels.update(before, after)
            self._scene = after
            self._record(step)
        return self._tell_of(step, before, started, native, note)

    def _record(self, step: Transition | str) -> None:
        """Hear of a step that was done; for whoever keeps it."""

    def _tell_of(
        self,
        step: Transition,
        before: Scene,
        started: float,
        native: tuple[Box3, np.ndarray] | None = None,
        note: str = "",
    ) -> MaskUpdate:
        self._generation += 1
        after, encoded = self._scene, self._need().encode_seconds
        objects = tuple(change.id for change in step.changes)
        subject = after.current
        if objects and subject not in objects:
            subject = next((k for k in objects if after.get(k) is not None), objects[0])
        elif before.current in objects and after.current != before.current:
            subject = before.current
        item = after.get(subject)
        mask = item.step.mask if item else EMPTY
        box: Box3 | None = None
        for number in (*objects, subject):
            for scene in (before, after):
                other = scene.get(number)
                box = union(box, other.mask_box if other else None)
        values = None
        if native is not None:
            box = union(box, native[0]) or native[0]
            values = np.full([s.stop - s.start for s in box], -np.inf, np.float16)
            values[within(native[0], box)] = native[1]
        box = box or _NOWHERE
        found = item.step if item else Step()
        self._last = MaskUpdate(
            subject,
            box,
            mask.paint(box),
            values,
            found.quality,
            time.perf_counter() - started,
            encoded if native is not None else 0.0,
            self._generation,
            None if native is None or found.logits is None else found.logits.region,
            repainted(step, before, after),
            objects,
            note,
        )
        return self._last

    # ---- shared by the parts

    def _need(self) -> Predictor:
        if self._predictor is None:
            raise BadInput("The session has no volume; call set_volume first.")
        return self._predictor

    def _around(
        self,
        number: int,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
    ) -> Around:
        return Around(self._scene, self._labels, number, progress, cancel)

    @property
    def _voxel_ml(self) -> float:
        return float(np.prod(self._need().volume.spacing)) / 1000
