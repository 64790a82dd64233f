"""The part of a session that takes prompts: add, change, choose among candidates, preview."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace

from napari_sightline.errors import BadInput
from napari_sightline.prompts import MaskPrompt, Prompt
from napari_sightline.segment import morphology
from napari_sightline.segment.acts import Act, Choice, Operation, Paint, is_prompt
from napari_sightline.segment.core import SessionCore
from napari_sightline.segment.packed import PackedMask
from napari_sightline.segment.predict import Answer, Around
from napari_sightline.segment.state import Option, Step
from napari_sightline.segment.update import (
    CancelFn,
    Candidate,
    EarlyFn,
    Glimpse,
    MaskUpdate,
    ProgressFn,
    check,
    tell,
)

#: Names of candidates, from small to large.
KINDS = ("part", "organ", "surroundings")
# Steps that are remembered, so that a prompt that is moved costs only those after it.
_REMEMBERED = 16


class PromptCalls(SessionCore):
    """Prompts of the current object; see `Session`."""

    def _clear(self) -> None:
        super()._clear()
        self._memory: OrderedDict[tuple[tuple[Act, ...], int, int], Step] = OrderedDict()
        self._offered: tuple[tuple[Option, ...], int, tuple[Candidate, ...]] | None = None

    def add(
        self,
        prompt: Prompt,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
        early: EarlyFn | None = None,
    ) -> MaskUpdate:
        """Add a prompt to the current object and segment it anew.

        Parameters
        ----------
        prompt : Point, Box, Scribble, Lasso or MaskPrompt
            In voxels of the volume (canonical order). A box one voxel thick leaves the third
            extent open. What a lasso encloses is shown to the model as a scribble, and belongs,
            or does not, to the mask. A mask is joined to the object's own.
        progress : callable, optional
            Called with a share, 0 .. 1, and a word.
        cancel : callable, optional
            Asked between the parts of the work; True stops it.
        early : callable, optional
            Called with a `Glimpse` where the model is to look again, wider or closer, which takes
            longer: something to show meanwhile. At most once.

        Returns
        -------
        MaskUpdate
            After it every positive click lies inside the mask and every negative one outside,
            except on voxels of locked objects; on one voxel the last click, lasso, mask or edit
            holds.

        Raises
        ------
        BadInput
            Where no volume is set or the prompt lies outside it.
        Cancelled
            Where `cancel` returned True.
        """
        with self._lock:
            acts = (*self.current.step.acts, self._checked(prompt))
            return self._become(acts, progress, cancel, early)

    def replace_prompt(
        self,
        index: int,
        prompt: Prompt,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
    ) -> MaskUpdate:
        """Move or change a prompt of the current object; the mask follows.

        The mask becomes what it would be had the prompt been given so from the start: whatever
        came after it (prompts, a candidate that was chosen, edits) is done again, in order. What
        came before it is remembered for the last 16 steps, so that a recent prompt costs little;
        an old one costs one answer of the model for each prompt since.

        Parameters
        ----------
        index : int
            Of the prompt in ``session.current.prompts``.
        prompt : Prompt
            What takes its place.
        progress, cancel : callable, optional
            As in `add`.

        Raises
        ------
        BadInput
            Where there is no such prompt, or the new one lies outside the volume.
        Cancelled
            Where `cancel` returned True; the prompt is then where it was.
        """
        with self._lock:
            acts, at = self.current.step.acts, self._place(index)
            changed = (*acts[:at], self._checked(prompt), *acts[at + 1 :])
            return self._become(changed, progress, cancel)

    def remove_prompt(
        self, index: int, progress: ProgressFn | None = None, cancel: CancelFn | None = None
    ) -> MaskUpdate:
        """Take a prompt of the current object away; as `replace_prompt`."""
        with self._lock:
            acts, at = self.current.step.acts, self._place(index)
            return self._become((*acts[:at], *acts[at + 1 :]), progress, cancel)

    def insert_prompt(
        self,
        index: int,
        prompt: Prompt,
        progress: ProgressFn | None = None,
        cancel: CancelFn | None = None,
    ) -> MaskUpdate:
        """Put a prompt before another one of the current object; as `replace_prompt`."""
        with self._lock:
            acts = self.current.step.acts
            last = index == len(self.current.prompts)
            at = len(acts) if last else self._place(index)
            return self._become((*acts[:at], self._checked(prompt), *acts[at:]), progress, cancel)

    def reset(self) -> MaskUpdate | None:
        """Drop the current object's prompts and mask, as a step that can be undone."""
        with self._lock:
            started = time.perf_counter()
            if self.current.untouched:
                return None
            return self._commit(self._scene.changed(None, step=Step()), started)

    # ---- candidates

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What else may be meant by the current object's first prompt, from small to large.

        Three after a first prompt (part, organ, surroundings) where the model offers as many;
        none after further prompts. Computed when first asked for.
        """
        with self._lock:
            item = self.current
            step = item.step
            if not step.options:
                return ()
            kept, version = self._offered, self._labels.version
            if kept is not None and kept[0] is step.options and kept[1] == version:
                return kept[2]
            count = len(step.options) - 1
            kinds = KINDS if count == len(KINDS) else [f"mask {k + 1}" for k in range(count)]
            made = []
            for k in range(count):
                found = self._need().choose(step, k, self._around(item.id)).step
                size = found.mask.count * item.voxel_ml
                made.append(Candidate(kinds[k], found.quality, found.mask, size))
            self._offered = (step.options, version, tuple(made))
            return tuple(made)

    @property
    def chosen(self) -> int | None:
        """Index of the candidate that is shown; None for the model's own answer."""
        return self.current.step.chosen

    def choose(self, index: int | None) -> MaskUpdate:
        """Show a candidate, as a step that can be undone; later prompts go on from it.

        Parameters
        ----------
        index : int or None
            Of `candidates`; None goes back to the model's own answer.

        Raises
        ------
        BadInput
            Where there is no such candidate.
        """
        with self._lock:
            started, item = time.perf_counter(), self.current
            if index is not None:
                index = int(index)
            answer = self._need().choose(item.step, index, self._around(item.id))
            return self._take(answer, started, None)

    # ---- preview

    def preview(
        self, prompt: Prompt, cancel: CancelFn | None = None, read: bool = False
    ) -> MaskUpdate | None:
        """Say what a prompt would give, and change nothing; for showing it under the pointer.

        One look of the model, without a second one wider or closer; a tap does not hear of it.

        Parameters
        ----------
        prompt : Prompt
            As for `add`.
        cancel : callable, optional
            As for `add`.
        read : bool
            Whether the image may be read where it was not yet, which takes as long as a first
            click; else the answer is None there, at once.

        Returns
        -------
        MaskUpdate or None
            ``generation`` is that of the last step.

        Raises
        ------
        BadInput, Cancelled
            As for `add`.
        """
        with self._lock:
            started, item, predictor = time.perf_counter(), self.current, self._need()
            prompt = self._checked(prompt)
            check(cancel)
            around = self._around(item.id, None, cancel)
            if not isinstance(prompt, MaskPrompt):
                if self._model is None and not read:
                    return None
                self.load()
                region = predictor.region_for(item.step, prompt)
                if not read and not predictor.knows(region):
                    return None
            answer = predictor.answer(item.step, prompt, around, tries=0)
            check(cancel)
            step = answer.step
            box = step.mask.box or (slice(0, 0), slice(0, 0), slice(0, 0))
            return MaskUpdate(
                item.id,
                box,
                step.mask.paint(box),
                None,
                step.quality,
                time.perf_counter() - started,
                0.0,
                self._generation,
                None if step.logits is None else step.logits.region,
            )

    # ---- the work

    def _checked(self, prompt: Prompt) -> Prompt:
        volume = self._need().volume
        for corner in prompt.bounds:
            if not volume.contains(corner):
                where = ", ".join(f"{v:g}" for v in corner)
                size = " x ".join(str(n) for n in volume.shape)
                raise BadInput(
                    f"The prompt at voxel ({where}) lies outside the volume of {size} voxels; "
                    "place it inside."
                )
        return prompt.cropped() if isinstance(prompt, MaskPrompt) else prompt

    def _place(self, index: int) -> int:
        """Where a prompt stands among the acts."""
        places = [k for k, act in enumerate(self.current.step.acts) if is_prompt(act)]
        if not 0 <= index < len(places):
            raise BadInput(f"There is no prompt {index}; the object has {len(places)}.")
        return places[index]

    def _become(
        self,
        acts: tuple[Act, ...],
        progress: ProgressFn | None,
        cancel: CancelFn | None,
        early: EarlyFn | None = None,
    ) -> MaskUpdate:
        """Make the current object what comes of some acts, done in order."""
        started, item = time.perf_counter(), self.current
        predictor = self._need()
        predictor.encode_seconds = 0.0
        if any(is_prompt(act) and not isinstance(act, MaskPrompt) for act in acts):
            self.load(progress)
        done, step = self._remembered(item.step, acts)
        answer, around = Answer(step), self._around(item.id, progress, cancel)
        for number, act in enumerate(acts[done:], done + 1):
            if early is not None and number == len(acts):
                around = replace(around, early=lambda first: early(self._glimpse(first)))
            answer = self._do(answer.step, act, around)
            self._remember(answer.step)
        tell(progress, 1.0, "done")
        return self._take(answer, started, cancel)

    def _glimpse(self, step: Step) -> Glimpse:
        """Paint what the current object would be with a step that is not done yet."""
        box = self.current.step.mask.xor(step.mask).box
        after = self._scene.changed(None, step=step)
        painted = () if box is None else ((box, self._labels.paint(box, after)),)
        region = None if step.logits is None else step.logits.region
        return Glimpse(self.current.id, step.quality, painted, region)

    def _do(self, before: Step, act: Act, around: Around) -> Answer:
        """Do one act to an object."""
        check(around.cancel)
        if isinstance(act, Choice):
            # A first prompt that was moved may offer nothing to choose from.
            if len(before.options) - 1 <= (act.index or 0):
                return Answer(before)
            return self._need().choose(before, act.index, around)
        if isinstance(act, Paint):
            mask = before.mask.join(act.added).less(act.removed)
            return Answer(Step((*before.acts, act), mask))
        if isinstance(act, Operation):
            # Without the prompts before it there may be nothing left to work on.
            if before.mask.box is None:
                return Answer(before)
            return Answer(self._operate(before, act, around))
        return self._need().answer(before, act, around)

    def _operate(self, before: Step, act: Operation, around: Around) -> Step:
        """Do a morphological operation; closed voxels are not taken."""
        volume = self._need().volume
        mask, box = morphology.operate(
            act.name, act.amount, before.mask, volume.spacing, volume.shape
        )
        item = around.scene.need(around.number)
        labels = around.labels
        look = labels.taken if item.accepted else labels.closed
        taken = look(box, around.scene, around.number)
        if taken is not None:
            mask = mask & (~taken | before.mask.paint(box))
        return Step((*before.acts, act), PackedMask.of(mask, box))

    def _take(
        self, answer: Answer, started: float, cancel: CancelFn | None, number: int | None = None
    ) -> MaskUpdate:
        after = self._scene.changed(number, step=answer.step)
        return self._commit(after, started, answer.native, cancel)

    def _remember(self, step: Step) -> None:
        key = (step.acts, self._labels.version, self._model_version)
        self._memory[key] = step
        self._memory.move_to_end(key)
        while len(self._memory) > _REMEMBERED:
            self._memory.popitem(last=False)

    def _remembered(self, now: Step, acts: tuple[Act, ...]) -> tuple[int, Step]:
        """How many of some acts need not be done again, and what comes of them."""
        if acts[: len(now.acts)] == now.acts:
            return len(now.acts), now
        for done in range(len(acts), 0, -1):
            key = (acts[:done], self._labels.version, self._model_version)
            if key in self._memory:
                return done, replace(self._memory[key])
        return 0, Step()
