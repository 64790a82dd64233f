"""Recipe of `sightline-3d`: train the embedded promptable network on a folder of volumes.

Several processes of one thread each train together with averaged gradients; on CPUs that is faster
than one process of several threads.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from napari_sightline.errors import BadInput
from napari_sightline.models.sightline3d import Config, Features, Prediction, Sightline3D
from napari_sightline.train import simulate
from napari_sightline.train.crops import Crop, real_crop
from napari_sightline.train.datasets import PHANTOMS, Case, Source, find, phantom_case, read
from napari_sightline.train.painted import painted_crop, shape_crop

#: How often each set is drawn; sets that are missing leave their share to the others.
SHARES = {
    "headneck_ct": 0.45,
    "hippocampus_mr": 0.18,
    "sarcoma": 0.19,
    "labels": 0.09,
    "shapes": 0.05,
    PHANTOMS: 0.04,
}
#: Phantoms that a process draws. The demo's patients have other seeds.
PHANTOM_COUNT, PHANTOM_SEED = 6, 1000
#: Side of a crop, crops a step and process, how often at the start and at the end of a run.
SIZES = ((32, 5, 0.3, 0.05), (48, 2, 0.35, 0.3), (64, 1, 0.31, 0.5), (96, 1, 0.04, 0.15))
#: Prompts placed one after the other, and how often.
CLICKS = ((1, 0.15), (2, 0.2), (3, 0.25), (4, 0.22), (6, 0.18))


@dataclass(frozen=True)
class Options:
    """Options of a run; see `train`."""

    data: Path
    minutes: float
    out: Path
    resume: bool = True
    warm_start: Path | None = None
    workers: int = 2
    seed: int = 0
    rate: float = 6e-4
    precision: str = "bf16"
    config: Config = field(default_factory=Config)


def mask_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice loss plus balanced cross-entropy of each mask.

    Parameters
    ----------
    logits : torch.Tensor
        ``(B, M, D, H, W)``.
    target, known : torch.Tensor
        ``(B, 1, D, H, W)`` bool; voxels that are not known are left out.

    Returns
    -------
    torch.Tensor
        ``(B, M)``.
    """
    axes = (2, 3, 4)
    k, t = known.float(), (target & known).float()
    p = logits.sigmoid() * k
    dice = 1 - (2 * (p * t).sum(axes) + 1) / (p.sum(axes) + t.sum(axes) + 1)
    inside = t.sum(axes, keepdim=True)
    outside = (k.sum(axes, keepdim=True) - inside).clamp(min=1)
    # The background of a small object counts at most eight times the object: no empty prediction.
    weight = torch.where(t > 0, 1.0, (8 * inside / outside).clamp(max=1.0)) * k
    entropy = F.binary_cross_entropy_with_logits(logits, t.expand_as(logits), reduction="none")
    return dice + (entropy * weight).sum(axes) / weight.sum(axes).clamp(min=1)


def overlap(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Intersection over union of each mask, ``(B, M)``; shapes as in `mask_loss`."""
    p = (logits > 0) & known
    t = target & known
    both = (p & t).sum((2, 3, 4)).float()
    either = (p | t).sum((2, 3, 4)).float()
    return both / either.clamp(min=1)


def step_loss(prediction: Prediction, target: Tensor, known: Tensor, ambiguous: Tensor) -> Tensor:
    """Loss of one step: the main mask, the best candidate where ambiguous, and the qualities.

    `ambiguous` is ``(B,)`` bool: True where a single prompt was given. Of the candidates only the
    best learns (Kirillov et al., 2023), and the others a little, so that none dies.
    """
    logits, quality = prediction
    loss = mask_loss(logits[:, :1], target, known)[:, 0].mean()
    truth = overlap(logits.detach(), target, known)
    rating = (quality.sigmoid() - truth) ** 2
    loss = loss + rating[:, 0].mean()
    if bool(ambiguous.any()):
        candidates = mask_loss(logits[ambiguous, 1:], target[ambiguous], known[ambiguous])
        share = float(ambiguous.float().mean())
        best = candidates.min(1).values.mean() + 0.05 * candidates.mean()
        loss = loss + share * (0.4 * best + rating[ambiguous, 1:].mean())
    return loss


class Sampler:
    """Draws crops from the cases of one process."""

    def __init__(self, sources: list[Source], rank: int, world: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, rank])
        self.cases: dict[str, list[Case]] = {}
        for source in sources[rank::world]:
            case = read(source)
            group = "labels" if source.image is None else source.group
            if source.image is None or case.targets:
                self.cases.setdefault(group, []).append(case)
        first = PHANTOM_SEED + rank * PHANTOM_COUNT
        self.cases[PHANTOMS] = [phantom_case(first + k) for k in range(PHANTOM_COUNT)]
        self.groups = [g for g in SHARES if g == "shapes" or self.cases.get(g)]
        shares = np.array([SHARES[g] for g in self.groups])
        self.shares = shares / shares.sum()

    def draw(self, size: int) -> Crop:
        """Draw one crop of `size` voxels a side."""
        shape = (size, size, size)
        while True:
            group = str(self.rng.choice(self.groups, p=self.shares))
            if group == "shapes":
                crop = shape_crop(self.rng, shape)
            else:
                cases = self.cases[group]
                case = cases[int(self.rng.integers(len(cases)))]
                make = painted_crop if case.image is None else real_crop
                crop = make(self.rng, case, shape)
            if crop is not None:
                return crop


@dataclass
class State:
    """What a checkpoint holds."""

    model: Sightline3D
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write to a temporary name first, then move."""
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average,
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            },
            temporary,
        )
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote, without executing anything in the file."""
        kept = torch.load(path, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.average = kept["average"]
        self.optimiser.load_state_dict(kept["optimiser"])
        self.step, self.seconds = int(kept["step"]), float(kept["seconds"])

    def follow(self, decay: float) -> None:
        """Let the averaged weights follow the model's."""
        # Young averages follow faster, so that the first minutes count.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        values = self.model.state_dict()
        torch._foreach_lerp_([self.average[k] for k in values], list(values.values()), 1 - decay)


def train(
    data: Path,
    minutes: float,
    out: Path,
    *,
    resume: bool = True,
    warm_start: Path | None = None,
    workers: int | None = None,
    seed: int = 0,
    rate: float = 6e-4,
    precision: str = "bf16",
    config: Config | None = None,
) -> None:
    """Train the promptable network and write its weights.

    Parameters
    ----------
    data : Path
        Folder of volumes, see `napari_sightline.train.datasets.find`.
    minutes : float
        Training time in all, resumed runs included.
    out : Path
        Weights to write (``.safetensors``). Beside it lie a checkpoint (``.ckpt``) and a log
        (``.log.jsonl``).
    resume : bool
        Go on from the checkpoint beside `out` where there is one.
    warm_start : Path, optional
        Weights to start from where there is no checkpoint.
    workers : int, optional
        Processes; by default one a core.
    seed : int
        Seed of weights and crops.
    rate : float
        Peak learning rate.
    precision : str
        ``"bf16"`` (mixed, guarded against NaN) or ``"fp32"``.
    config : Config, optional
        Sizes of the network.

    Raises
    ------
    BadInput
        Where data or options cannot be used.
    """
    if precision not in ("bf16", "fp32"):
        raise BadInput(f"The precision {precision!r} is not known; choose bf16 or fp32.")
    if minutes <= 0:
        raise BadInput(f"A training of {minutes} minutes cannot run; give more than 0.")
    if out.suffix != ".safetensors":
        raise BadInput(f"The weights file {out.name!r} must end in .safetensors; rename it.")
    find(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    world = workers or os.cpu_count() or 1
    options = Options(
        data, minutes, out, resume, warm_start, world, seed, rate, precision, config or Config()
    )
    if world == 1:
        _work(0, options, "")
        return
    import tempfile

    # Large activations come and go; without this the C library returns their pages to the system
    # each time, which costs a quarter of a step. Read when a process starts, so set before.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**33))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(2**28))
    with tempfile.TemporaryDirectory() as folder:
        # A file, not a port: two trainings on one machine never meet.
        address = (Path(folder) / "rendezvous").as_uri()
        spawn(_work, (options, address), nprocs=world)


def _work(rank: int, options: Options, address: str) -> None:
    torch.set_num_threads(1)
    world = options.workers
    if world > 1:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    try:
        _Trainer(rank, options).run()
    finally:
        if world > 1:
            dist.destroy_process_group()


class _Trainer:
    def __init__(self, rank: int, options: Options) -> None:
        from napari_sightline.models.weights_io import read_weights

        self.rank, self.options = rank, options
        torch.manual_seed(options.seed)
        model = Sightline3D(options.config)
        if options.warm_start is not None:
            model.load_state_dict(read_weights(options.warm_start)[0])
        model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True
        )
        # From the start: all processes add up gradients of all weights, used in a step or not.
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.state = State(model, average, optimiser)
        self.checkpoint = options.out.with_suffix(".ckpt")
        if options.resume and self.checkpoint.exists():
            self.state.load(self.checkpoint)
        sources = find(options.data)
        seed = options.seed + 7919 * self.state.step
        started = time.monotonic()
        self.sampler = Sampler([s for s in sources if not s.validates], rank, options.workers, seed)
        self.judge = None
        from napari_sightline.train.validate import Judge

        self.judge = Judge([s for s in sources if s.validates], rank, options.workers)
        # The order of crop sizes is common, so that no process waits for another.
        self.common = np.random.default_rng([options.seed, 1, self.state.step])
        self.skipped = 0
        self._log(event="start", step=self.state.step, load_seconds=time.monotonic() - started)

    def run(self) -> None:
        """Train until the time is over; write checkpoints, log and weights."""
        state, total = self.state, self.options.minutes * 60
        last = self._agree(time.monotonic())
        saved, judged = state.seconds, state.seconds
        losses: list[float] = []
        while state.seconds < total:
            losses.append(self._step(state.seconds / total))
            state.step += 1
            now = self._agree(time.monotonic())
            state.seconds, last = state.seconds + now - last, now
            if state.step % 100 == 0:
                self._log(
                    step=state.step,
                    minutes=round(state.seconds / 60, 2),
                    loss=round(float(np.mean(losses)), 4),
                    rate=self.rate(state.seconds / total),
                    skipped=self.skipped,
                )
                losses = []
            if state.seconds - saved > 180:
                saved = state.seconds
                self._save()
            if state.seconds - judged > 900:
                judged = state.seconds
                self._validate()
                last = self._agree(time.monotonic())
        self._validate()
        self._save()

    def rate(self, done: float) -> float:
        """Learning rate: a warm-up over 300 steps of this run, then a cosine down to 3 %."""
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.options.rate * cosine * min(1.0, (self.state.step + 1) / 300)

    def _agree(self, value: float) -> float:
        """Take the first process's value, so that all stop at the same step."""
        if self.options.workers == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def _step(self, done: float) -> float:
        state, rng = self.state, self.sampler.rng
        shares = [(1 - done) * s[2] + done * s[3] for s in SIZES]
        size, count = SIZES[int(self.common.choice(len(SIZES), p=shares))][:2]
        clicks = CLICKS[int(self.common.choice(len(CLICKS), p=[c[1] for c in CLICKS]))][0]
        crops = [self.sampler.draw(size) for _ in range(count)]
        image = torch.stack([c.image for c in crops])
        target = torch.stack([c.target for c in crops])[:, None]
        known = torch.stack([c.known for c in crops])[:, None]
        spacing = torch.tensor([c.spacing for c in crops])
        state.optimiser.zero_grad(set_to_none=False)
        bf16 = self.options.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = state.model.encode(image, spacing)
        loss = self._clicks(rng, features, target, known, clicks)
        for group in state.optimiser.param_groups:
            group["lr"] = self.rate(done)
        if self._reduce():
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
            state.optimiser.step()
            state.follow(0.999)
        return loss

    def _clicks(
        self,
        rng: np.random.Generator,
        features: Features,
        target: Tensor,
        known: Tensor,
        clicks: int,
    ) -> float:
        """Forward and backward through a sequence of clicks; each step's graph is freed at once."""
        cut = Features(
            tuple(level.detach().requires_grad_() for level in features.levels),
            features.keys.detach().requires_grad_(),
            features.coarse,
            features.folded,
        )
        truth = (target & known)[:, 0].numpy()
        lists = [simulate.PromptList() for _ in truth]
        previous: Tensor | None = None
        if rng.random() < 0.06:
            previous = torch.stack([simulate.rough_mask(rng, t) for t in target[:, 0]])[:, None]
            masks = (previous[:, 0] > 0).numpy()
            for mask, goal, prompts in zip(masks, truth, lists, strict=True):
                simulate.correct(rng, mask, goal, prompts)
        else:
            for goal, prompts in zip(truth, lists, strict=True):
                simulate.first(rng, goal, prompts)
        bf16 = self.options.precision == "bf16"
        total = 0.0
        for k in range(clicks):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                prediction = self.state.model.decode(cut, simulate.batch(lists), previous)
            ambiguous = torch.full((len(lists),), k == 0 and previous is None)
            loss = step_loss(prediction, target, known, ambiguous) / clicks
            loss.backward()
            total += float(loss.detach())
            if k + 1 < clicks:
                previous = prediction.logits[:, :1].detach()
                masks = ((previous > 0) & known)[:, 0].numpy()
                for mask, goal, prompts in zip(masks, truth, lists, strict=True):
                    simulate.correct(rng, mask, goal, prompts)
        outputs = [*features.levels, features.keys]
        pairs = [
            (out, leaf.grad)
            for out, leaf in zip(outputs, [*cut.levels, cut.keys], strict=True)
            if leaf.grad is not None
        ]
        torch.autograd.backward([p[0] for p in pairs], [p[1] for p in pairs])
        return total

    def _reduce(self) -> bool:
        """Average the gradients over the processes; False (skip the step) if any is not finite."""
        gradients = [p.grad for p in self.state.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        if self.options.workers > 1:
            dist.all_reduce(flat)
            flat /= self.options.workers
        if not bool(torch.isfinite(flat.sum())):
            self.skipped += 1
            if self.skipped > 50:
                raise RuntimeError(
                    "The training gave 50 gradients that are not finite; "
                    "go on from the checkpoint with precision fp32."
                )
            return False
        start = 0
        for g in gradients:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()
        return True

    def _save(self) -> None:
        from napari_sightline.models.weights_io import write_weights

        if self.rank:
            return
        self.state.save(self.checkpoint)
        about = {"step": self.state.step, "minutes": round(self.state.seconds / 60, 1)}
        write_weights(self.options.out, self.state.average, self.options.config, about)

    def _validate(self) -> None:
        assert self.judge is not None
        model = Sightline3D(self.options.config)
        model.load_state_dict(self.state.average)
        scores = self.judge.score(model.eval())
        self._log(event="validation", minutes=round(self.state.seconds / 60, 2), **scores)

    def _log(self, **row: Any) -> None:
        if self.rank:
            return
        row["time"] = time.strftime("%H:%M:%S")
        with self.options.out.with_suffix(".log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
