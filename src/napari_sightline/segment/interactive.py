"""Interactive segmentation of a volume by prompts, without a window.

A `Session` holds one volume, its objects and their prompts. What depends on the image alone is
computed once per region; a click runs the rest.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.models.intensity import Intensity
from napari_sightline.prompts import MaskPrompt, Prompt
from napari_sightline.segment import scale
from napari_sightline.segment.constrain import connect, enforce, heed
from napari_sightline.segment.region import Region
from napari_sightline.segment.state import PackedLogits, PackedMask, SegmentObject, Step, union
from napari_sightline.segment.tokens import prompt_tokens, start_logits
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari_sightline.models.promptable import Decoded, Promptable

ProgressFn = Callable[[float, str], None]
CancelFn = Callable[[], bool]
#: Regions whose image features are kept: the last ones used.
CACHED_REGIONS = 4


class Tap(Protocol):
    """Somebody who watches a network while it answers prompts, such as a recorder of attention."""

    def recording(
        self, network: Any, region: Region, points: np.ndarray, codes: np.ndarray
    ) -> AbstractContextManager[Any]:
        """Return the context in which one call of the model's `decode` runs.

        Parameters
        ----------
        network : torch.nn.Module or None
            The model's ``network``; None where it has none.
        region : Region
            The working grid that is decoded.
        points : numpy.ndarray
            ``(M, 3)`` float32, voxels of the region, as the model gets them.
        codes : numpy.ndarray
            ``(M,)`` int64, see `napari_sightline.models.promptable.Promptable.decode`.
        """


@dataclass(frozen=True)
class MaskUpdate:
    """What a step changed.

    Attributes
    ----------
    object_id : int
        Whose mask it is.
    box : tuple of 3 slices
        Part of the volume, in voxels, outside which nothing changed.
    mask : numpy.ndarray
        Bool, shape of `box`: the object's whole mask inside the box; outside it has none.
    logits : numpy.ndarray or None
        float16, shape of `box`; None where no model spoke (undo, an existing mask).
    quality : float
        Predicted intersection over union, 0 .. 1, or NaN.
    seconds, encode_seconds : float
        Time of the whole step, and of what depends on the image alone.
    generation : int
        Counts the session's steps.
    region : Region or None
        The working grid whose decoding gave the mask; None where no model spoke.
    """

    object_id: int
    box: Box3
    mask: np.ndarray
    logits: np.ndarray | None
    quality: float
    seconds: float
    encode_seconds: float
    generation: int
    region: Region | None = None


class Session:
    """One volume with its objects and prompts.

    Calls are synchronous and may come from any thread; a lock keeps them apart. Every call that
    raises leaves the session as it was.

    Parameters
    ----------
    model : str or Promptable
        Name of a promptable model, loaded at first use, or a loaded one.
    device : str
        ``"auto"`` or a torch device, for a model given by name.
    tap : Tap, optional
        Watches every decoding. A step decodes once or several times, on regions that need not be
        the same; `MaskUpdate.region` says which one gave the mask. Without a tap nothing is paid.

    Attributes
    ----------
    tap : Tap or None
        As the parameter; may be set at any time and holds from the next decoding on.
    """

    def __init__(
        self,
        model: str | Promptable = "sightline-3d",
        device: str = "auto",
        tap: Tap | None = None,
    ) -> None:
        self.tap = tap
        self._name = model if isinstance(model, str) else model.name
        self._model: Promptable | None = None if isinstance(model, str) else model
        self._device = device
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self._volume: Volume | None = None
        self._intensity: Intensity | None = None
        self._features: OrderedDict[Region, Any] = OrderedDict()
        self._objects: list[SegmentObject] = []
        self._current: SegmentObject | None = None
        self._labels: np.ndarray | None = None
        self._generation = 0
        self._encode_seconds = 0.0

    # ---- volume and model

    @property
    def volume(self) -> Volume | None:
        """The volume, or None."""
        return self._volume

    @property
    def model(self) -> Promptable | None:
        """The model, or None before it is loaded."""
        return self._model

    def set_volume(self, volume: Volume) -> None:
        """Take a volume; objects of an earlier one are let go. Cheap: nothing is computed yet."""
        with self._lock:
            self._clear()
            self._volume = volume
            self.new_object()

    def load(self, progress: ProgressFn | None = None) -> None:
        """Load the model's weights now instead of at the first prompt.

        Raises
        ------
        BadInput, ModelError
            See `napari_sightline.models.load_model`.
        """
        with self._lock:
            if self._model is None:
                _tell(progress, 0.0, "loading the model")
                from napari_sightline.models import load_model

                self._model = load_model(self._name, self._device)

    def prepare(
        self,
        position: tuple[float, float, float] | None = None,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
    ) -> None:
        """Compute ahead what depends on the image alone, round a voxel (default: the middle).

        Raises
        ------
        BadInput
            Where no volume is set.
        Cancelled
            Where `cancel` returned True.
        """
        with self._lock:
            volume = self._need_volume()
            self.load(progress)
            middle = (np.array(volume.shape) - 1) / 2
            centre = middle if position is None else np.asarray(position, float)
            self._encode(scale.start(volume, centre), progress, cancel)
            _tell(progress, 1.0, "ready")

    # ---- objects

    @property
    def objects(self) -> tuple[SegmentObject, ...]:
        """Every object, in the order of their making."""
        return tuple(self._objects)

    @property
    def current(self) -> SegmentObject:
        """The object that prompts go to.

        Raises
        ------
        BadInput
            Where no volume is set.
        """
        self._need_volume()
        assert self._current is not None
        return self._current

    @property
    def names(self) -> dict[int, str]:
        """Names of accepted objects by label value."""
        return {o.id: o.name for o in self._objects if o.accepted}

    @property
    def labels(self) -> np.ndarray:
        """Label map of the accepted objects on the volume's canonical grid, uint8 or uint16."""
        with self._lock:
            return self._label_map()

    def _label_map(self) -> np.ndarray:
        volume = self._need_volume()
        if self._labels is None:
            self._labels = np.zeros(volume.shape, np.uint8)
        return self._labels

    def label_image(self, include_current: bool = True) -> np.ndarray:
        """Copy of `labels`, with the current object's mask painted in."""
        with self._lock:
            current = self.current
            out = self._label_map().copy()
            if include_current and current.mask_box is not None and not current.accepted:
                if current.id > np.iinfo(out.dtype).max:
                    out = out.astype(np.uint16)
                part = out[current.mask_box]
                part[current.step.mask.unpack() & (part == 0)] = current.id
            return out

    def new_object(self, name: str = "") -> SegmentObject:
        """Begin another object; one without prompts is taken again.

        Raises
        ------
        BadInput
            Where no volume is set, or 65535 objects exist.
        """
        with self._lock:
            volume = self._need_volume()
            now = self._current
            if now is not None and not now.accepted and not now.prompts and len(now.history) == 1:
                now.name = name or now.name
                return now
            number = 1 + max((o.id for o in self._objects), default=0)
            if number > np.iinfo(np.uint16).max:
                raise BadInput("A label map holds at most 65535 objects; begin another one.")
            created = SegmentObject(number, name, voxel_ml=float(np.prod(volume.spacing)) / 1000)
            self._objects.append(created)
            self._current = created
            return created

    def rename(self, object_id: int, name: str) -> None:
        """Name an object; `BadInput` where there is none of that number."""
        with self._lock:
            for item in self._objects:
                if item.id == object_id:
                    item.name = name
                    return
            raise BadInput(f"There is no object {object_id}; see the session's objects.")

    def accept(self, name: str | None = None) -> SegmentObject:
        """Write the current object's mask into the labels, lock it, and begin another object.

        Voxels of objects accepted before stay theirs.

        Raises
        ------
        BadInput
            Where the mask is empty.
        """
        with self._lock:
            done = self.current
            box = done.mask_box
            if box is None:
                raise BadInput("The object has no mask yet; place a prompt before you accept it.")
            labels = self._label_map()
            if done.id > np.iinfo(labels.dtype).max:
                self._labels = labels = labels.astype(np.uint16)
            part = labels[box]
            part[done.step.mask.unpack() & (part == 0)] = done.id
            done.name = name or done.name or f"object {done.id}"
            done.accepted = True
            self.new_object()
            return done

    # ---- prompts

    @property
    def can_undo(self) -> bool:
        """Whether the current object has a step to undo."""
        return self._current is not None and self._current.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether an undone step of the current object can come back."""
        return self._current is not None and self._current.history.can_redo

    def add(
        self, prompt: Prompt, progress: ProgressFn | None = None, cancel: CancelFn | None = None
    ) -> MaskUpdate:
        """Add a prompt to the current object and segment it anew.

        Parameters
        ----------
        prompt : Point, Box, Scribble or MaskPrompt
            In voxels of the volume (canonical order).
        progress : callable, optional
            Called with a share, 0 .. 1, and a word.
        cancel : callable, optional
            Asked between the parts of the work; True stops it.

        Returns
        -------
        MaskUpdate
            After it every positive click lies inside the mask and every negative one outside,
            except on voxels of objects accepted before; on one voxel the last click holds.

        Raises
        ------
        BadInput
            Where no volume is set or the prompt lies outside it.
        Cancelled
            Where `cancel` returned True.
        """
        with self._lock:
            started = time.perf_counter()
            volume, item = self._need_volume(), self.current
            for corner in prompt.bounds:
                if not volume.contains(corner):
                    where = ", ".join(f"{v:g}" for v in corner)
                    size = " x ".join(str(n) for n in volume.shape)
                    raise BadInput(
                        f"The prompt at voxel ({where}) lies outside the volume of {size} voxels; "
                        "place it inside."
                    )
            before = item.step
            prompts = (*before.prompts, prompt)
            self._encode_seconds = 0.0
            if all(isinstance(p, MaskPrompt) for p in prompts):
                step, logits = self._take_mask(prompts)
            else:
                self.load(progress)
                step, logits = self._segment(before, prompts, progress, cancel)
            item.history.push(step)
            _tell(progress, 1.0, "done")
            return self._update(item, before, logits, started)

    def undo(self) -> MaskUpdate | None:
        """Take back the current object's last step; None where there is none."""
        return self._travel(lambda history: history.undo())

    def redo(self) -> MaskUpdate | None:
        """Bring an undone step back; None where there is none."""
        return self._travel(lambda history: history.redo())

    def reset(self) -> MaskUpdate | None:
        """Drop the current object's prompts and mask, as a step that can be undone."""
        with self._lock:
            started, item = time.perf_counter(), self.current
            before = item.step
            if not before.prompts:
                return None
            item.history.push(Step())
            return self._update(item, before, None, started)

    def _travel(self, move: Callable[[Any], Step | None]) -> MaskUpdate | None:
        with self._lock:
            started, item = time.perf_counter(), self.current
            before = item.step
            if move(item.history) is None:
                return None
            return self._update(item, before, None, started)

    # ---- the work

    def _need_volume(self) -> Volume:
        if self._volume is None:
            raise BadInput("The session has no volume; call set_volume first.")
        return self._volume

    def _encode(self, region: Region, progress: ProgressFn | None, cancel: CancelFn | None) -> Any:
        """Features of a region, from the cache or computed now."""
        if region in self._features:
            self._features.move_to_end(region)
            return self._features[region]
        _check(cancel)
        _tell(progress, 0.2, "reading the image")
        started = time.perf_counter()
        volume = self._need_volume()
        assert self._model is not None
        if self._intensity is None:
            self._intensity = Intensity.of(volume.data)
        voxels = region.extract(volume.data, self._intensity.low)
        _check(cancel)
        features = self._model.encode(voxels, self._intensity, region.spacing)
        self._features[region] = features
        while len(self._features) > CACHED_REGIONS:
            self._features.popitem(last=False)
        self._encode_seconds += time.perf_counter() - started
        return features

    def _decode(
        self,
        region: Region,
        prompts: tuple[Prompt, ...],
        previous: np.ndarray | None,
        progress: ProgressFn | None,
        cancel: CancelFn | None,
    ) -> Decoded:
        features = self._encode(region, progress, cancel)
        _check(cancel)
        _tell(progress, 0.7, "segmenting")
        assert self._model is not None
        points, codes = prompt_tokens(prompts, region)
        tap = self.tap
        if tap is None:
            return self._model.decode(features, points, codes, previous)
        network = getattr(self._model, "network", None)
        with tap.recording(network, region, points, codes):
            return self._model.decode(features, points, codes, previous)

    def _segment(
        self,
        before: Step,
        prompts: tuple[Prompt, ...],
        progress: ProgressFn | None,
        cancel: CancelFn | None,
    ) -> tuple[Step, tuple[Box3, np.ndarray] | None]:
        volume = self._need_volume()
        region, previous = start_logits(volume, before, prompts)

        def decode(where: Region, prior: np.ndarray | None) -> Decoded:
            return self._decode(where, prompts, prior, progress, cancel)

        found = scale.settle(volume, region, previous, prompts, decode)
        _check(cancel)
        working = heed(found.logits, found.region, prompts)
        working = connect(working, found.region, prompts)
        box, logits = scale.native(volume, found.region, working, prompts)
        mask = enforce(logits > 0, box, prompts, volume, found.region.spacing)
        if self._labels is not None:
            mask &= self._labels[box] == 0
        packed = PackedLogits.of(found.region, working)
        return Step(prompts, PackedMask.of(mask, box), packed, found.quality), (box, logits)

    def _take_mask(self, prompts: tuple[Prompt, ...]) -> tuple[Step, None]:
        """Union of masks given as prompts, cut to free voxels."""
        whole: Box3 | None = None
        for prompt in prompts:
            low, high = prompt.bounds
            a, b, c = (slice(int(i), int(j) + 1) for i, j in zip(low, high, strict=True))
            whole = union(whole, (a, b, c))
        assert whole is not None
        mask = np.zeros([s.stop - s.start for s in whole], bool)
        for prompt in prompts:
            assert isinstance(prompt, MaskPrompt)
            ends = [o + n for o, n in zip(prompt.origin, prompt.mask.shape, strict=True)]
            a, b, c = (slice(i, j) for i, j in zip(prompt.origin, ends, strict=True))
            mask |= PackedMask.of(prompt.mask, (a, b, c)).paint(whole)
        if self._labels is not None:
            mask &= self._labels[whole] == 0
        return Step(prompts, PackedMask.of(mask, whole)), None

    def _update(
        self,
        item: SegmentObject,
        before: Step,
        logits: tuple[Box3, np.ndarray] | None,
        started: float,
    ) -> MaskUpdate:
        self._generation += 1
        step = item.step
        box = union(before.mask.box, step.mask.box) or (slice(0, 0), slice(0, 0), slice(0, 0))
        values = None
        if logits is not None:
            where, native = logits
            box = union(box if before.mask.box or step.mask.box else None, where) or where
            values = np.full([s.stop - s.start for s in box], -np.inf, np.float16)
            inner = tuple(
                slice(w.start - b.start, w.stop - b.start) for w, b in zip(where, box, strict=True)
            )
            values[inner] = native
        return MaskUpdate(
            item.id,
            box,
            step.mask.paint(box),
            values,
            step.quality,
            time.perf_counter() - started,
            self._encode_seconds if logits is not None else 0.0,
            self._generation,
            None if logits is None or step.logits is None else step.logits.region,
        )


def _tell(progress: ProgressFn | None, share: float, word: str) -> None:
    if progress is not None:
        progress(share, word)


def _check(cancel: CancelFn | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled("The segmentation was cancelled; the object is as it was.")
