"""From a prompt to an object's next mask: the model's part of a step, without any memory of it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.models.intensity import Intensity
from napari_sightline.prompts import Box, MaskPrompt, Point, Prompt
from napari_sightline.segment import scale
from napari_sightline.segment.acts import Choice, is_edit, said
from napari_sightline.segment.constrain import connect, enforce, heed
from napari_sightline.segment.label_map import LabelMap
from napari_sightline.segment.packed import PackedLogits, PackedMask
from napari_sightline.segment.region import Region
from napari_sightline.segment.state import Option, Scene, Step
from napari_sightline.segment.tokens import prompt_tokens, solid, start_logits, trusted
from napari_sightline.segment.update import CancelFn, ProgressFn, check, tell
from napari_sightline.volume import Box3, Volume

if TYPE_CHECKING:
    from napari_sightline.models.promptable import Decoded, Promptable

#: Regions whose image features are kept: the last ones used.
CACHED_REGIONS = 4
#: Logit of voxels that belong to a locked object.
CLOSED = -7.9


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
class Around:
    """What a step must respect and whom it reports to.

    ``scene`` and ``labels`` say which voxels are closed; ``number`` is the object being segmented;
    ``early`` hears of a first answer where the model is to look again.
    """

    scene: Scene
    labels: LabelMap
    number: int
    progress: ProgressFn | None = None
    cancel: CancelFn | None = None
    early: Callable[[Step], None] | None = None


@dataclass(frozen=True)
class Answer:
    """A step, and its logits on the volume's own voxels where a model spoke."""

    step: Step
    native: tuple[Box3, np.ndarray] | None = None


class Predictor:
    """A model on a volume.

    Parameters
    ----------
    volume : Volume
        The scan.

    Attributes
    ----------
    model : Promptable or None
        Must be set before a prompt is answered.
    tap : Tap or None
        Watches every decoding but those of previews.
    ready : Region or None
        Where a first click is answered if it falls well inside: its image was read ahead.
    encode_seconds : float
        Time spent on what depends on the image alone, since it was last set to 0.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.model: Promptable | None = None
        self.tap: Tap | None = None
        self.ready: Region | None = None
        self.encode_seconds = 0.0
        self._intensity: Intensity | None = None
        self._features: OrderedDict[Region, Any] = OrderedDict()

    def forget(self) -> None:
        """Let go of what a model computed."""
        self._features.clear()
        self.ready = None

    def knows(self, region: Region) -> bool:
        """Whether a region's image was read."""
        return region in self._features

    def encode(
        self, region: Region, progress: ProgressFn | None = None, cancel: CancelFn | None = None
    ) -> Any:
        """Features of a region, from the cache or computed now."""
        if region in self._features:
            self._features.move_to_end(region)
            return self._features[region]
        check(cancel)
        tell(progress, 0.2, "reading the image")
        started = time.perf_counter()
        assert self.model is not None
        if self._intensity is None:
            self._intensity = Intensity.of(self.volume.data)
        voxels = region.extract(self.volume.data, self._intensity.low)
        check(cancel)
        features = self.model.encode(voxels, self._intensity, region.spacing)
        self._features[region] = features
        while len(self._features) > CACHED_REGIONS:
            self._features.popitem(last=False)
        self.encode_seconds += time.perf_counter() - started
        return features

    def answer(
        self, before: Step, prompt: Prompt, around: Around, tries: int = scale.TRIES
    ) -> Answer:
        """Add a prompt to an object.

        Parameters
        ----------
        before : Step
            The object so far.
        prompt : Prompt
            What is added; inside the volume.
        around : Around
            Closed voxels, progress, cancel.
        tries : int
            How often the model may look again, wider or closer; 0 is for a preview, of which the
            tap does not hear.
        """
        if isinstance(prompt, MaskPrompt):
            return Answer(self._given(before, prompt, around))
        volume, acts = self.volume, (*before.acts, prompt)
        held, shown = said(acts), self._shown(before, prompt)
        region, previous = start_logits(volume, before, shown, self.ready)
        edited = any(is_edit(act) for act in acts)
        # A mask that the reader made or chose counts in full.
        if previous is not None and not edited and not isinstance(before.acts[-1], Choice):
            previous = trusted(previous, len(before.prompts))

        def decode(where: Region, prior: np.ndarray | None) -> Decoded:
            return self._decode(where, shown, prior, around, heard=tries > 0)

        def finish(found: scale.Found) -> Answer:
            heeded = heed(found.logits, found.region, held, alone=not edited)
            return self._finish(Step(acts, quality=found.quality), found.region, heeded, around)

        def glimpse(found: scale.Found) -> None:
            check(around.cancel)
            assert around.early is not None
            around.early(finish(found).step)

        early = glimpse if around.early is not None else None
        found = scale.settle(volume, region, previous, shown, decode, tries, early)
        check(around.cancel)
        options: tuple[Option, ...] = ()
        answer = finish(found)
        if len(found.candidates) and answer.step.logits is not None and tries:
            others = [
                Option(PackedLogits.of(found.region, logits), float(quality))
                for logits, quality in zip(found.candidates, found.qualities, strict=True)
            ]
            sizes = [int(np.count_nonzero(logits > 0)) for logits in found.candidates]
            order = sorted(range(len(others)), key=sizes.__getitem__)
            options = (
                Option(answer.step.logits, found.quality),
                *(others[k] for k in order),
            )
        return replace(answer, step=replace(answer.step, options=options))

    def choose(self, before: Step, index: int | None, around: Around) -> Answer:
        """Take a candidate instead of what is shown; None: the model's own answer."""
        count = len(before.options) - 1
        if index is not None and not 0 <= index < count:
            there = f"choose one of 0 to {count - 1}" if count > 0 else "place a first prompt"
            raise BadInput(f"There is no candidate {index}; {there}.")
        if count < 1:
            raise BadInput("There are no candidates to choose from; place a first prompt.")
        acts = before.acts
        if isinstance(acts[-1], Choice):
            acts = acts[:-1]
        if index is not None:
            acts = (*acts, Choice(index))
        option = before.options[0 if index is None else index + 1]
        step = Step(acts, quality=option.quality, options=before.options)
        return self._finish(step, option.logits.region, option.logits.unpack(), around)

    def _finish(self, step: Step, region: Region, logits: np.ndarray, around: Around) -> Answer:
        """Turn logits of a region into an object's mask on the volume's own voxels."""
        held = said(step.acts)
        closed = around.labels.closed_on(region, around.scene, around.number)
        if closed is not None:
            logits = np.where(closed, np.float32(CLOSED), logits)
        if not any(is_edit(act) for act in step.acts):
            logits = connect(logits, region, held)
        box, native = scale.native(self.volume, region, logits, held)
        mask = enforce(native > 0, box, held, self.volume, region.spacing)
        taken = around.labels.closed(box, around.scene, around.number)
        if taken is not None:
            mask &= ~taken
        packed = PackedLogits.of(region, logits)
        done = replace(step, mask=PackedMask.of(mask, box), logits=packed)
        return Answer(done, (box, native))

    def _given(self, before: Step, prompt: MaskPrompt, around: Around) -> Step:
        """Object with the voxels of a mask that was given, but for closed ones."""
        ends = [o + n for o, n in zip(prompt.origin, prompt.mask.shape, strict=True)]
        a, b, c = (slice(i, j) for i, j in zip(prompt.origin, ends, strict=True))
        mask = prompt.mask
        closed = around.labels.closed((a, b, c), around.scene, around.number)
        if closed is not None:
            mask = mask & ~closed
        packed = PackedMask.of(mask, (a, b, c))
        return Step((*before.acts, prompt), before.mask.join(packed))

    def region_for(self, before: Step, prompt: Prompt) -> Region:
        """Region on which a prompt would be answered first."""
        return start_logits(self.volume, before, self._shown(before, prompt), self.ready)[0]

    def _shown(self, before: Step, prompt: Prompt) -> tuple[Prompt, ...]:
        """Prompts that the model is shown, boxes in 3D."""
        prompts = (*self._still_true(before), *said((*before.acts, prompt)))
        return tuple(solid(p, self.volume) if isinstance(p, Box) else p for p in prompts)

    def _still_true(self, before: Step) -> tuple[Prompt, ...]:
        """Prompts before the last edit that the mask, edited since, does not contradict."""
        recent = said(before.acts)
        older = before.prompts[: len(before.prompts) - len(recent)]
        if not older:
            return ()
        mask, box = before.mask.unpack(), before.mask.box
        true: list[Prompt] = []
        for prompt in older:
            if isinstance(prompt, MaskPrompt):
                continue
            if isinstance(prompt, Point):
                voxel = np.rint(prompt.position).astype(int)
                inside = False
                if box is not None:
                    at = voxel - [s.start for s in box]
                    inside = bool(np.all((at >= 0) & (at < mask.shape))) and bool(mask[tuple(at)])
                if inside != prompt.positive:
                    continue
            true.append(prompt)
        return tuple(true)

    def _decode(
        self,
        region: Region,
        prompts: tuple[Prompt, ...],
        previous: np.ndarray | None,
        around: Around,
        heard: bool,
    ) -> Decoded:
        features = self.encode(region, around.progress, around.cancel)
        check(around.cancel)
        tell(around.progress, 0.7, "segmenting")
        assert self.model is not None
        points, codes = prompt_tokens(prompts, region)
        closed = around.labels.closed_on(region, around.scene, around.number)
        if closed is not None and previous is not None:
            previous = np.where(closed, np.float32(CLOSED), previous)
        tap = self.tap if heard else None
        if tap is None:
            decoded = self.model.decode(features, points, codes, previous)
        else:
            network = getattr(self.model, "network", None)
            with tap.recording(network, region, points, codes):
                decoded = self.model.decode(features, points, codes, previous)
        if closed is None:
            return decoded
        return decoded._replace(logits=np.where(closed, np.float32(CLOSED), decoded.logits))
