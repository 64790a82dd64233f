"""Recipe of automatic models: train the embedded Swin-UNETR, or fine-tune one on one's own labels.

The embedded model learns seven organs at risk of head and neck from planning CT; see
docs/training_automatic.md for the choices behind it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import partners_of
from napari_sightline.segment.doubtful import doubtful
from napari_sightline.train.automatic_plan import Options, plan
from napari_sightline.train.calibrate import bias_in, calibrate, spread
from napari_sightline.train.completing import Filled, brought, complete, maker_of
from napari_sightline.train.distil import taught_loss
from napari_sightline.train.loop import Trainer, workers_or_all
from napari_sightline.train.mixed_precision import guard_small_grids, halve_attention
from napari_sightline.train.organ_cases import OrganCase, read_case
from napari_sightline.train.organ_crops import Mirror, OrganSampler
from napari_sightline.train.organ_judge import COUNT as JUDGED
from napari_sightline.train.organ_judge import OrganJudge
from napari_sightline.train.parallel import gather, launch
from napari_sightline.train.partial_loss import partial_loss

#: Millimetres that contours of the head-and-neck data lie further left than what is seen; see
#: docs/training_automatic.md.
HEADNECK_LAG = 0.5

#: Row of the log on contours that were left out.
DOUBTFUL = "doubtful contours, left out"


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
    network: str | None = None,
    teachers: Sequence[Path] = (),
    teach: float = 0.5,
) -> None:
    """Train an automatic model and write it.

    Parameters
    ----------
    out : Path
        File to write (``.safetensors``), see `napari_sightline.models.segmenter_io`. Beside it
        lie a checkpoint (``.ckpt``), a log (``.log.jsonl``) and what was filled in (``.filled``).
    minutes : float
        Training time in all, resumed runs included. With 0 nothing is learnt from `warm_start`; the
        offsets of its logits are chosen anew.
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
        Whether `warm_start`, else the first of `teachers`, first fills in what the cases of `data`
        do not contour, to be learnt like the contours; see
        `napari_sightline.train.completing.complete`. Pairs of one's own lack nothing: what is not
        labelled there is background.
    network : str, optional
        Of `automatic_plan.NETWORKS`, to begin with random weights; ``"swin-unetr"`` by default.
        Where `warm_start` is several networks: which of them goes on learning; the first by
        default.
    teachers : sequence of Path
        Models with the same structures, grid and intensities. The mean of their chances is learnt
        too, crop by crop; see `napari_sightline.train.distil.taught_loss`.
    teach : float
        Share of that in the loss, 0 to 1; at 0 a teacher only fills in.

    Raises
    ------
    BadInput
        Where data or options cannot be used.
    ModelError
        Where `warm_start` or a teacher cannot be used.
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
        network=network,
        teachers=tuple(teachers),
        teach=teach,
    )
    # What is wrong with the input is said before processes start.
    plan(options)
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


def _work(rank: int, options: Options) -> None:
    _Trainer(rank, options).run()


class _Trainer(Trainer):
    options: Options

    def __init__(self, rank: int, options: Options) -> None:
        given = plan(options)
        self.spec, world = given.start.spec, options.workers
        self.filler, self.teachers = given.filler, given.teachers if options.teach else []
        network = given.start.network
        self.plain = deepcopy(network).eval()
        network.train()
        guard_small_grids(network)
        halve_attention(network)
        super().__init__(rank, options, network)
        learning = [s for s in given.sources if not s.validates]
        held = sorted(
            (s for s in given.sources if s.validates), key=lambda s: (-len(s.known), s.name)
        )
        # Every process needs a case; of few, all read all.
        mine = learning[rank::world] if len(learning) >= world else learning
        cases = [read_case(s, self.spec) for s in held[:JUDGED][rank::world]]
        self.judge = OrganJudge(cases, self.spec, world)
        trusted = self._trusted([read_case(s, self.spec) for s in mine])
        if options.complete and self.state.seconds < options.minutes * 60:
            trusted = self._completed(trusted)
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

    def _completed(self, cases: list[OrganCase]) -> list[OrganCase]:
        """Let the model that is started from, or a teacher, fill in what cases lack."""
        filler = self.filler
        assert filler is not None  # the plan has refused the rest
        fragments, bf16 = self.spec.fragments, self.options.precision == "bf16"
        same = filler.spec.spacing == self.spec.spacing
        maker = maker_of(filler, self.spec.spacing, fragments, bf16)
        kept = Filled(self.options.out.with_suffix(".filled"), maker)

        def found(case: OrganCase) -> Tensor:
            """Logits; chances where its own grid is another one."""
            read = case if same else read_case(case.source, filler.spec)
            logits = self.judge.logits(filler.whole, read, bf16, filler.spec.roi)
            return logits if same else brought(logits.softmax(0), read, case)

        return [complete(case, found, self.spec.outputs, fragments, kept) for case in cases]

    def learn(self, done: float) -> float:
        crop = self.sampler.draw()
        image = crop.image[None].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self.state.model(image)
            with torch.no_grad():
                told = [teacher(image).float().softmax(1) for teacher in self.teachers]
        loss = partial_loss(logits, crop.labels[None], crop.seen[None], crop.known[None])
        if told:
            chances = torch.stack(told).mean(0)
            share = self.options.teach
            taught = taught_loss(logits, chances, crop.seen[None])
            loss = (1 - share) * loss + share * taught
        loss.backward()
        return float(loss.detach())

    def finish(self) -> None:
        """Choose the offsets of logits on cases that were learnt from."""
        network, bf16 = self._averaged(), self.options.precision == "bf16"
        if bias_in(self.state.average) is None:
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
        name = bias_in(weights)
        if name is not None:
            weights[name] = weights[name] + self.offsets
        self.plain.load_state_dict(weights)
        return self.plain.eval()
