"""Recipe of automatic models: train the embedded Swin-UNETR, or fine-tune one on one's own labels.

The embedded model learns seven organs at risk of head and neck from planning CT; see
docs/training_automatic.md for the choices behind it.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec, partners_of
from napari_sightline.segment.doubtful import doubtful
from napari_sightline.train.calibrate import BIAS, calibrate, noted_offsets, spread
from napari_sightline.train.completing import brought, complete
from napari_sightline.train.loop import RunOptions, Trainer, workers_or_all
from napari_sightline.train.mixed_precision import guard_small_grids, halve_attention
from napari_sightline.train.organ_cases import (
    OrganCase,
    OrganSource,
    find_headneck,
    find_pairs,
    read_case,
)
from napari_sightline.train.organ_crops import Mirror, OrganSampler
from napari_sightline.train.organ_judge import COUNT as JUDGED
from napari_sightline.train.organ_judge import OrganJudge
from napari_sightline.train.parallel import gather, launch
from napari_sightline.train.partial_loss import partial_loss

#: Facts of the embedded model. Air is 0, which is what windows beyond the scan are filled with.
HEADNECK_SPEC = SegmenterSpec(
    name="swin-unetr-headneck-ct",
    labels={
        1: "brainstem",
        2: "spinal cord",
        3: "right parotid gland",
        4: "left parotid gland",
        5: "oesophagus",
        6: "larynx",
        7: "mandible",
    },
    channels=("CT",),
    roi=(96, 96, 96),
    orientation="SPL",
    spacing=(2.5, 2.5, 2.5),
    intensity=IntensityRule("window", -200.0, 400.0, 0.0, 1.0, True),
    overlap=0.5,
    fragments=0.1,
    blank=-1024.0,
    modality="CT",
    licence="BSD-3-Clause (weights); trained on OpenKBP, MIT",
    source="sightline train automatic",
)

#: Millimetres that contours of the head-and-neck data lie further left than what is seen; see
#: docs/training_automatic.md.
HEADNECK_LAG = 0.5

#: Row of the log on contours that were left out.
DOUBTFUL = "doubtful contours, left out"


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of a run; see `train`."""

    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    warm_start: Path | None = None
    roi: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    mirror: bool = False
    complete: bool = False


def headneck_network() -> nn.Module:
    """Build the embedded model's network, with random weights.

    MONAI's Swin-UNETR, the second version: a residual convolution leads each stage.
    """
    from napari_sightline.models.monai_parts import SwinUNETR

    network: Any = SwinUNETR(
        in_channels=1,
        out_channels=HEADNECK_SPEC.outputs,
        feature_size=12,
        window_size=4,
        use_v2=True,
        use_flash_attention=True,
    )
    with torch.no_grad():
        # Nearly all is background: the first steps need not learn that.
        network.out.conv.conv.bias[0] += 3
    made: nn.Module = network
    return made


def train(
    out: Path,
    minutes: float,
    *,
    data: Path | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    warm_start: Path | None = None,
    resume: bool = True,
    workers: int | None = None,
    seed: int = 0,
    rate: float = 8e-4,
    precision: str = "bf16",
    optimiser: str = "adamw",
    roi: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
    mirror: bool | None = None,
    complete: bool = False,
) -> None:
    """Train an automatic model and write it.

    Parameters
    ----------
    out : Path
        File to write (``.safetensors``), see `napari_sightline.models.segmenter_io`. Beside it
        lie a checkpoint (``.ckpt``) and a log (``.log.jsonl``).
    minutes : float
        Training time in all, resumed runs included.
    data : Path, optional
        Folder with ``index.json`` and ``headneck_ct``; trains the embedded model.
    images, labels : Path, optional
        Folders of one's own scans and label maps instead, see
        `napari_sightline.train.organ_cases.find_pairs`; fine-tunes `warm_start`.
    warm_start : Path, optional
        Model to start from where there is no checkpoint. Where its structures are others than
        those of `labels`, its last layer is made anew.
    resume : bool
        Go on from the checkpoint beside `out` where there is one.
    workers : int, optional
        Processes; by default one a core.
    seed : int
        Seed of weights and crops.
    rate : float
        Peak learning rate; a tenth of the default suits fine-tuning.
    precision : str
        ``"bf16"`` (mixed, guarded against NaN) or ``"fp32"``.
    optimiser : str
        ``"adamw"`` or ``"muon"``, see `napari_sightline.train.optimiser.optimiser_of`.
    roi : tuple of 3 int, optional
        Voxels of a crop, and of the model's window, instead of the model's own.
    spacing : tuple of 3 float, optional
        Millimetres of the grid that is learnt on, along the network's axes, instead of the model's
        own.
    mirror : bool, optional
        Whether every other crop is mirrored left to right, and structures whose names differ in
        left and right change places. By default for the embedded model only: a head looks alike
        from both sides, an abdomen does not.
    complete : bool
        Whether `warm_start` first fills in what the cases of `data` do not contour, to be learnt
        like the contours; see `napari_sightline.train.completing.complete`. Pairs of one's own
        lack nothing: what is not labelled there is background.

    Raises
    ------
    BadInput
        Where data or options cannot be used.
    ModelError
        Where `warm_start` cannot be used.
    """
    options = Options(
        minutes=minutes,
        out=out,
        resume=resume,
        workers=workers_or_all(workers),
        seed=seed,
        rate=rate,
        precision=precision,
        optimiser=optimiser,
        data=data,
        images=images,
        labels=labels,
        warm_start=warm_start,
        roi=roi,
        spacing=spacing,
        mirror=data is not None if mirror is None else mirror,
        complete=complete,
    )
    # What is wrong with the input is said before processes start.
    _plan(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    launch(_work, options, options.workers)


def left_out(out: Path) -> dict[str, list[str]]:
    """Read off a run's log which contours it left out, see `napari_sightline.segment.doubtful`.

    Returns
    -------
    dict of str to list of str
        By case: structures.
    """
    rows = [json.loads(row) for row in out.with_suffix(".log.jsonl").read_text().splitlines()]
    found = [row["cases"] for row in rows if row.get("event") == DOUBTFUL]
    return dict(found[-1]) if found else {}


@dataclass(frozen=True)
class _Plan:
    """A model to start from, with the facts it shall have and those it has; cases; its offsets."""

    start: Segmenter
    own: SegmenterSpec
    sources: list[OrganSource]
    offsets: Tensor


def _plan(options: Options) -> _Plan:
    """Read options."""
    roi = options.roi
    if roi is not None and (any(n < 32 or n % 32 for n in roi) or max(roi) < 64):
        # At stride 32 the network normalises over what is left, which one voxel does not allow.
        raise BadInput(f"A crop of {roi} voxels does not fit; give multiples of 32, one above 32.")
    mm = options.spacing
    if mm is not None and not all(0.1 <= x <= 20 for x in mm):  # NaN is refused too
        raise BadInput(f"A grid of {mm} mm is none to learn on; give spacings of 0.1 to 20 mm.")
    own = options.images is not None or options.labels is not None
    if own == (options.data is not None):
        raise BadInput("Give either --data, or --images and --labels, to learn from.")
    if options.complete and (own or options.warm_start is None):
        raise BadInput(
            "Structures that are not contoured are filled in by the model of --warm-start, and in "
            "the cases of --data only; leave --complete out or give both."
        )
    start: Segmenter | None = None
    about: dict[str, Any] = {}
    if options.warm_start is not None:
        from napari_sightline.models.segmenter_io import read_segmenter

        start, about = read_segmenter(options.warm_start)
    torch.manual_seed(options.seed)
    if options.data is not None:
        sources, spec = find_headneck(options.data), HEADNECK_SPEC
        if start is None:
            start = Segmenter(headneck_network(), spec)
        elif dict(start.spec.labels) != dict(spec.labels):
            raise BadInput(
                f"The model {start.spec.name!r} has other structures than the head-and-neck "
                "data; give one's own pairs with --images and --labels."
            )
    else:
        if options.images is None or options.labels is None:
            raise BadInput("Fine-tuning needs both --images and --labels; give the other too.")
        if start is None:
            raise BadInput("Fine-tuning needs a model to start from; give --warm-start.")
        if start.spec.overlapping:
            raise BadInput(
                f"The model {start.spec.name!r} has structures that overlap, and a label map "
                "cannot; choose another model to start from."
            )
        sources, names = find_pairs(options.images, options.labels, options.seed)
        if set(names) != set(start.spec.labels):
            about = {}  # the last layer is made anew
        start = _with_structures(start, names)
    mirror = start.spec.mirror and options.mirror  # else it unlearns what mirrored windows need
    spec = replace(
        start.spec,
        roi=options.roi or start.spec.roi,
        spacing=options.spacing or start.spec.spacing,
        mirror=mirror,
    )
    offsets = noted_offsets(about, start)
    return _Plan(Segmenter(start.network, spec), start.spec, sources, offsets)


def _with_structures(start: Segmenter, names: dict[int, str]) -> Segmenter:
    """Fit a model's last layer to other structures; kept where the label values are the same."""
    if set(names) == set(start.spec.labels):
        kept = {
            value: start.spec.labels[value] if name == f"label {value}" else name
            for value, name in names.items()
        }
        return Segmenter(start.network, replace(start.spec, labels=kept))
    spec = replace(start.spec, labels=names, name=f"{start.spec.name}-tuned")
    network: Any = start.network
    try:
        old = network.out.conv.conv  # as MONAI's UnetOutBlock names it
    except AttributeError as error:
        raise BadInput(
            f"The model {start.spec.name!r} has no last layer that could take other structures; "
            "choose a Swin-UNETR to start from."
        ) from error
    network.out.conv.conv = nn.Conv3d(old.in_channels, spec.outputs, 1, bias=old.bias is not None)
    return Segmenter(start.network, spec)


def _work(rank: int, options: Options) -> None:
    _Trainer(rank, options).run()


class _Trainer(Trainer):
    options: Options

    def __init__(self, rank: int, options: Options) -> None:
        plan = _plan(options)
        start, sources, offsets = plan.start, plan.sources, plan.offsets
        self.spec, self.own, world = start.spec, plan.own, options.workers
        self.plain = deepcopy(start.network).eval()
        network = start.network.train()
        if bool(offsets.any()):
            # Chosen for labels by the greatest probability, not for learning.
            with torch.no_grad():
                network.get_parameter(BIAS).sub_(offsets)
        guard_small_grids(network)
        halve_attention(network)
        super().__init__(rank, options, network)
        learning = [s for s in sources if not s.validates]
        held = sorted((s for s in sources if s.validates), key=lambda s: (-len(s.known), s.name))
        # Every process needs a case; of few, all read all.
        mine = learning[rank::world] if len(learning) >= world else learning
        cases = [read_case(s, self.spec) for s in held[:JUDGED][rank::world]]
        self.judge = OrganJudge(cases, self.spec, world)
        trusted = self._trusted([read_case(s, self.spec) for s in mine])
        if options.complete and self.state.seconds < options.minutes * 60:
            trusted = [self._completed(case) for case in trusted]
        self.sampler = OrganSampler(
            trusted,
            self.spec.roi,
            self.spec.outputs,
            [self.crop_seed, rank],
            Mirror.of(self.spec, HEADNECK_LAG if options.data else 0.0) if options.mirror else None,
        )
        #: What is added to the logits; chosen when the time is over.
        self.offsets = torch.zeros(self.spec.outputs)
        torch.manual_seed(self.crop_seed + rank)

    def _trusted(self, cases: list[OrganCase]) -> list[OrganCase]:
        """Leave out contours that seem to belong to another image."""
        medians = gather({c.source.name: c.medians() for c in cases}, self.options.workers)
        rule = self.spec.intensity
        ranged = rule.kind in ("window", "percentile")
        # Of a window of 600 HU that is 12 HU.
        strange = doubtful(medians, 0.02 * (rule.to_high - rule.to_low if ranged else 1.0))
        if strange:
            names = self.spec.labels
            self.log(
                event=DOUBTFUL,
                cases={k: [names[v] for v in values] for k, values in strange.items()},
            )
        kept = [c.without(strange[c.source.name]) if c.source.name in strange else c for c in cases]
        kept = [c for c in kept if c.source.known]
        if not kept:
            raise BadInput(
                f"All contours of {len(cases)} of the cases seem to belong to other scans, and a "
                "process has no others to learn from; check the label files, or give --workers 1."
            )
        return kept

    def _completed(self, case: OrganCase) -> OrganCase:
        """Let the model that is started from fill in what a case does not contour."""
        return complete(case, self._found, self.spec.outputs, self.spec.fragments)

    def _found(self, case: OrganCase) -> Tensor:
        """Logits of the model that is started from; chances where its own grid is another one."""
        read = case if self.own.spacing == self.spec.spacing else read_case(case.source, self.own)
        bf16 = self.options.precision == "bf16"
        logits = self.judge.logits(self.plain, read, bf16, self.own.roi)
        return logits if read is case else brought(logits.softmax(0), read, case)

    def learn(self, done: float) -> float:
        crop = self.sampler.draw()
        image = crop.image[None].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self.state.model(image)
        loss = partial_loss(logits, crop.labels[None], crop.seen[None], crop.known[None])
        loss.backward()
        return float(loss.detach())

    def finish(self) -> None:
        """Choose the offsets of logits on cases that were learnt from."""
        network, bf16 = self._averaged(), self.options.precision == "bf16"
        if BIAS not in self.state.average:
            return
        partners = partners_of(self.spec.labels) if self.options.mirror else None
        self.offsets = calibrate(
            spread(self.sampler.cases),
            lambda case: self.judge.logits(network, case, bf16),
            self.spec.outputs,
            partners,
            self.options.workers,
        )
        self.log(event="calibration", offsets=[round(float(x), 2) for x in self.offsets])

    def scores(self) -> dict[str, Any]:
        return self.judge.score(self._averaged(), self.options.precision == "bf16")

    def write(self, about: dict[str, Any]) -> None:
        from napari_sightline.models.segmenter_io import write_segmenter

        if bool(self.offsets.any()):
            offsets = {k: round(float(x), 2) for k, x in enumerate(self.offsets) if x}
            about = {**about, "offsets": offsets}
        write_segmenter(self.options.out, self._averaged(), self.spec, about)

    def _averaged(self) -> nn.Module:
        weights = dict(self.state.average)
        if BIAS in weights:
            weights[BIAS] = weights[BIAS] + self.offsets
        self.plain.load_state_dict(weights)
        return self.plain.eval()
