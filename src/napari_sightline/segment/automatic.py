"""Automatic segmentation: windows stream through a network, finished slabs become labels at once.

Memory follows the window, not the scan: sums of overlapping windows are kept for those planes that
can still change. The labels are those of ``monai.inferers.sliding_window_inference`` with Gaussian
weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_sightline.errors import BadInput, Cancelled
from napari_sightline.models.precision import pick_device
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.blank import leave_out_blank
from napari_sightline.segment.device import is_out_of_memory
from napari_sightline.segment.finish import Finish
from napari_sightline.segment.fitness import check_volumes, concerns
from napari_sightline.segment.frame import Frame, window_affine, working_spacing
from napari_sightline.segment.resample import Grid
from napari_sightline.segment.runner import Runner, Waiting, WindowTap
from napari_sightline.segment.scaling import Scaling
from napari_sightline.segment.slabs import SlabReader, Sweep, constant
from napari_sightline.segment.sums import SlabSums
from napari_sightline.segment.windows import Windows, importance_map
from napari_sightline.segment.writers import PlainWriter, SlabWriter
from napari_sightline.volume import Volume

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished planes.

    Attributes
    ----------
    box : tuple of 3 slices
        Where they lie in the volume, canonical voxels.
    labels : ndarray
        Their labels: a view of the whole result, ``labels[..., *box]``.
    """

    box: tuple[slice, slice, slice]
    labels: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What came of a scan.

    Attributes
    ----------
    labels : ndarray of uint8 or uint16, shape of the volume
        Label values, canonical order. Where structures may overlap, bool with a leading axis:
        ``labels[k - 1]`` is the mask of value ``k``.
    names : dict of int to str
        Structure by label value.
    probabilities : ndarray of float16, shape (outputs, ...), optional
        Of each output, on the scan's grid.
    entropy : ndarray of float16, shape of the volume, optional
        Of the probabilities, 0 (sure) .. 1 (any output is as likely).
    notes : tuple of str
        Sentences for the user.
    device, precision : str
        As it ended.
    windows, skipped : int
        Windows in all, and those that held one value only and were not computed again.
    seconds : float
        Time it took.
    """

    labels: npt.NDArray[Any]
    names: dict[int, str]
    probabilities: npt.NDArray[np.float16] | None
    entropy: npt.NDArray[np.float16] | None
    notes: tuple[str, ...]
    device: str
    precision: str
    windows: int
    skipped: int
    seconds: float


def segment(
    volume: Volume | Sequence[Volume],
    model: Segmenter,
    *,
    device: str = "auto",
    precision: str = "auto",
    overlap: float | None = None,
    batch: int | None = None,
    skip_air: bool = True,
    fragments: float | None = None,
    mirror: bool | None = None,
    keep_blank: bool = False,
    probabilities: bool = False,
    entropy: bool = False,
    on_slab: Callable[[Slab], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    tap: WindowTap | None = None,
) -> Segmentation:
    """Segment a scan with an automatic model.

    Parameters
    ----------
    volume : Volume or sequence of Volume
        The scan; one volume for each of the model's channels, on one grid.
    model : Segmenter
        Network and facts. The network is moved to the device and stays there.
    device : str
        ``"auto"`` or a torch device. Where its memory runs out, the run goes on with less: smaller
        batches, sums on the CPU, in the end all on the CPU.
    precision : {"auto", "fp32", "bf16"}
        ``"auto"`` takes bf16 where a window shows, once for a network and device, that it is
        faster and gives the label of float32 to 99.9 % of voxels.
    overlap : float, optional
        Share of a window that the next one sees again, instead of the model's.
    batch : int, optional
        Windows passed together; by default by free memory.
    skip_air : bool
        Whether a window that holds one value only, as outside of a body, takes the result of
        the first such window. The network would give the same: nothing but time changes.
    fragments : float, optional
        Share, 0 .. 1, of a structure's largest part below which its other parts are left out of the
        labels, instead of the model's; 0 keeps all.
    mirror : bool, optional
        Whether each window is also passed mirrored left to right, which takes twice the time,
        instead of what the model says, see `SegmenterSpec.mirror`.
    keep_blank : bool
        Whether labels stay where the scan was never reconstructed, which the model's facts would
        leave out, see `SegmenterSpec.blank`.
    probabilities, entropy : bool
        Whether these are returned too.
    on_slab : callable, optional
        Called with each `Slab` as it is finished, in this thread; with the whole at the end where
        fragments or blank places were left out.
    on_note : callable, optional
        Called with each note as it comes up.
    progress : callable, optional
        Called with a share, 0 .. 1, and a word.
    cancel : callable, optional
        Asked before every batch; where it says True, `Cancelled` is raised.
    tap : WindowTap, optional
        Such as `napari_sightline.attention.tap.Tap`: sees every window that is computed.

    Returns
    -------
    Segmentation

    Raises
    ------
    BadInput
        Where volumes, options or device do not fit.
    ModelError
        Where memory does not suffice even for one window on the CPU, or the network does not
        give what its facts say.
    Cancelled
        Where `cancel` says so.
    """
    volumes = [volume] if isinstance(volume, Volume) else list(volume)
    check_volumes(volumes, model.spec)
    if precision not in PRECISIONS:
        raise BadInput(
            f"The precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}."
        )
    if batch is not None and batch < 1:
        raise BadInput(f"A batch of {batch} windows is not possible; give 1 or more.")
    finish = Finish(fragments=model.spec.fragments if fragments is None else fragments)
    run = _Run(volumes, model, overlap, skip_air, finish)
    run.blank = None if keep_blank else model.spec.blank
    run.on_note, run.progress, run.cancel = on_note, progress, cancel
    for note in concerns(volumes, model.spec):
        run.note(note)
    runner = Runner(model, pick_device(device), precision, batch, run.note)
    runner.tap, runner.places = tap, run.places
    if mirror is not None:
        runner.mirror = mirror
    return run.all(runner, probabilities, entropy, on_slab)


class _Run:
    """One scan's way through one network."""

    on_note: Callable[[str], None] | None = None
    progress: Callable[[float, str], None] | None = None
    cancel: Callable[[], bool] | None = None
    #: Value at or below which a place was never reconstructed; None keeps labels there.
    blank: float | None = None

    def __init__(
        self,
        volumes: list[Volume],
        model: Segmenter,
        overlap: float | None,
        skip_air: bool,
        finish: Finish,
    ) -> None:
        self.spec, self.volumes, self.skip_air = model.spec, volumes, skip_air
        self.finish = finish
        frame = Frame.of(self.spec.orientation)
        scan = volumes[0]
        wished = working_spacing(scan.spacing, self.spec)
        a, b, c = frame.axes
        grid = Grid.of(
            (scan.shape[a], scan.shape[b], scan.shape[c]),
            (scan.spacing[a], scan.spacing[b], scan.spacing[c]),
            (wished[a], wished[b], wished[c]),
        )
        share = self.spec.overlap if overlap is None else overlap
        self.sweep = Sweep.over(frame, grid, Windows.over(grid.target, self.spec.roi, share))
        self.notes: list[str] = []
        self.done = 0
        self.began = self.first = time.perf_counter()

    def note(self, text: str) -> None:
        """Keep a sentence for the user and pass it on."""
        if text not in self.notes:
            self.notes.append(text)
            if self.on_note is not None:
                self.on_note(text)

    @torch.inference_mode()
    def all(
        self,
        runner: Runner,
        probabilities: bool,
        entropy: bool,
        on_slab: Callable[[Slab], None] | None,
    ) -> Segmentation:
        """Go through the scan."""
        spec, sweep, shape = self.spec, self.sweep, self.volumes[0].shape
        self._tell("reading")
        scalings = [Scaling.of(spec.intensity, v.data) for v in self.volumes]
        reader = SlabReader([v.data for v in self.volumes], scalings, sweep)
        lead = (spec.outputs,) if spec.overlapping else ()
        small = np.uint8 if spec.outputs <= 256 else np.uint16
        labels = np.zeros((*lead, *shape), bool if spec.overlapping else small)
        chances = np.zeros((spec.outputs, *shape), np.float16) if probabilities else None
        unsure = np.zeros(shape, np.float16) if entropy else None
        if runner.precision == "auto":
            self._choose_precision(runner, reader)
        weights = importance_map(spec.roi)
        whole = probabilities or entropy
        means = whole or not sweep.grid.identity
        sums = runner.guarded(
            lambda: SlabSums(spec.outputs, sweep, weights, runner.footing.sums, means)
        )
        writer: SlabWriter | PlainWriter = PlainWriter(sums)
        if means:
            writer = SlabWriter(sums, sweep, spec.overlapping, whole)
        even = 0.5 if means else 0.0  # a probability, or a logit, that decides for neither
        views = [None if a is None else sweep.view(a) for a in (labels, chances, unsure)]
        starts, ends = sweep.starts(), sweep.sorted(sweep.windows.padded)
        self.first = time.perf_counter()
        for k, start in enumerate(starts[0]):
            final = starts[0][k + 1] if k + 1 < len(starts[0]) else ends[0]
            before = writer.written
            for columns in self._windows(runner, reader, sums, start):
                for planes, box, chance in writer.rows(final, columns):
                    self._write(views, (planes, *box), chance, even)
                    del chance  # its block of sums is done with
            for planes, box, chance in writer.finished(final):
                self._write(views, (planes, *box), chance, even)
            if writer.written > before and on_slab is not None:
                where = sweep.box(before, writer.written)
                on_slab(Slab(where, labels[(..., *where)]))
        if self._leave_out(labels) and on_slab is not None:
            on_slab(Slab((slice(None),) * 3, labels))
        self._tell("done")
        return Segmentation(
            labels,
            dict(spec.labels),
            chances,
            unsure,
            tuple(self.notes),
            str(runner.footing.device),
            runner.precision,
            len(sweep.windows),
            runner.skipped,
            time.perf_counter() - self.began,
        )

    def places(self, starts: list[tuple[int, int, int]]) -> list[object]:
        """Where windows lie in the volume, for a tap."""
        from napari_sightline.attention.frame import Frame as Place

        found: list[object] = []
        for start in starts:
            corner = [0, 0, 0]
            for axis, at in zip(self.sweep.order, start, strict=True):
                corner[axis] = at - self.sweep.windows.before[axis]
            affine = window_affine(self.sweep.frame, self.sweep.grid, corner)
            found.append(Place(self.spec.roi, affine))
        return found

    def _windows(
        self, runner: Runner, reader: SlabReader, sums: SlabSums, start: int
    ) -> Iterator[int]:
        """Pass the windows that begin at one plane; yield the columns that each row completes."""
        roi, starts = self.sweep.sorted(self.spec.roi), self.sweep.starts()
        slab = reader.read(start, start + roi[0])
        for b, following in zip(starts[1], (*starts[1][1:], None), strict=True):
            waiting: list[Waiting] = []
            for c in starts[2]:
                part = slab[:, :, b : b + roi[1], c : c + roi[2]]
                value = constant(part) if self.skip_air else None
                waiting.append(Waiting((start, b, c), self.sweep.to_network(part), value))
            self._pass(runner, waiting, sums)
            yield b + roi[1] if following is None else following

    def _pass(self, runner: Runner, waiting: list[Waiting], sums: SlabSums) -> None:
        """Pass windows through the network and add them up, with less memory where it runs out."""
        while waiting:
            if self.cancel is not None and self.cancel():
                raise Cancelled
            try:
                part = waiting[: runner.footing.batch]
                for one, logits in zip(part, runner.logits(part), strict=True):
                    sums.add(one.start, self.sweep.from_network(logits))
                    waiting = waiting[1:]
                    self.done += 1
                del logits  # as large as a window's activations: not beside the next one's
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                runner.step_down(error)
                sums.move(runner.footing.sums)
            self._tell("segmenting", runner.skipped)

    def _choose_precision(self, runner: Runner, reader: SlabReader) -> None:
        """Try bf16 on the window in the middle of the scan."""
        roi, starts = self.sweep.sorted(self.spec.roi), self.sweep.starts()
        a, b, c = (axis[len(axis) // 2] for axis in starts)
        slab = reader.read(a, a + roi[0])
        reader.forget()
        self._tell("checking the precision")
        window = slab[:, :, b : b + roi[1], c : c + roi[2]]
        runner.choose_precision(self.sweep.to_network(window)[None])

    def _write(
        self,
        views: list[npt.NDArray[Any] | None],
        box: tuple[slice, ...],
        chance: Tensor,
        even: float,
    ) -> None:
        """Turn probabilities into what is wanted, in place."""
        labels, chances, unsure = views
        assert labels is not None
        if self.spec.overlapping:
            labels[(slice(None), *box)] = (chance > even).cpu().numpy()
        else:
            labels[box] = chance.argmax(0).to(torch.int32).cpu().numpy()
        if chances is not None:
            chances[(slice(None), *box)] = chance.to(torch.float16).cpu().numpy()
        if unsure is not None:
            unsure[box] = entropy_of(chance, self.spec.overlapping).half().cpu().numpy()

    def _leave_out(self, labels: npt.NDArray[Any]) -> bool:
        """Leave blank places and fragments out, in place; whether there were any."""
        unseen = 0
        if self.blank is not None:
            unseen = leave_out_blank(labels, self.volumes[0].data, self.blank)
        if unseen:
            self.note(
                f"{unseen:,} voxels were left out: the scan is blank there "
                f"({self.blank:g} or less)."
            )
        if not self.finish:
            return unseen > 0
        finished = self.finish.apply(labels, self.volumes[0].spacing)
        count = int(np.count_nonzero(finished != labels))
        if not count:
            return unseen > 0
        labels[...] = finished
        self.note(
            f"{count:,} voxels were left out: parts smaller than {self.finish.fragments:.0%} of a "
            "structure's largest part."
        )
        return True

    def _tell(self, word: str, skipped: int = 0) -> None:
        if self.progress is None:
            return
        total = len(self.sweep.windows)
        if word == "segmenting":
            computed = max(1, self.done - skipped)
            left = (time.perf_counter() - self.first) / computed * (total - self.done)
            word = f"window {self.done} of {total}, {left:.0f} s left"
        self.progress(self.done / total, word)


def entropy_of(chance: Tensor, overlapping: bool) -> Tensor:
    """Entropy of probabilities ``(channels, ...)``, 0 .. 1; the mean of each where they overlap."""
    chance = chance.clamp(0, 1)
    log = np.log(2 if overlapping else max(2, len(chance)))
    surprise = torch.special.entr(chance)
    if overlapping:
        return (surprise + torch.special.entr(1 - chance)).mean(0) / log
    return surprise.sum(0) / log
