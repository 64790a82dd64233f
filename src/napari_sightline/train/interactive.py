"""Recipe of `sightline-3d`: train the embedded promptable network on a folder of volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sightline.models.sightline3d import Config, Features, Sightline3D
from napari_sightline.train import simulate
from napari_sightline.train.datasets import find
from napari_sightline.train.loop import RunOptions, Trainer, workers_or_all
from napari_sightline.train.mask_loss import step_loss
from napari_sightline.train.parallel import launch
from napari_sightline.train.sampler import Sampler

#: Side of a crop, crops a step and process, how often at the start and at the end of a run.
SIZES = ((32, 5, 0.3, 0.05), (48, 2, 0.35, 0.3), (64, 1, 0.31, 0.5), (96, 1, 0.04, 0.15))
#: Prompts placed one after the other, and how often.
CLICKS = ((1, 0.15), (2, 0.2), (3, 0.25), (4, 0.22), (6, 0.18))


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of a run; see `train`."""

    data: Path
    warm_start: Path | None = None
    config: Config = field(default_factory=Config)


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
    options = Options(
        data=data,
        minutes=minutes,
        out=out,
        resume=resume,
        warm_start=warm_start,
        workers=workers_or_all(workers),
        seed=seed,
        rate=rate,
        precision=precision,
        config=config or Config(),
    )
    find(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    launch(_work, options, options.workers)


def _work(rank: int, options: Options) -> None:
    _Trainer(rank, options).run()


class _Trainer(Trainer):
    options: Options

    def __init__(self, rank: int, options: Options) -> None:
        from napari_sightline.models.weights_io import read_weights
        from napari_sightline.train.validate import Judge

        torch.manual_seed(options.seed)
        self.model = Sightline3D(options.config)
        if options.warm_start is not None:
            self.model.load_state_dict(read_weights(options.warm_start)[0])
        super().__init__(rank, options, self.model)
        sources, world = find(options.data), options.workers
        self.sampler = Sampler([s for s in sources if not s.validates], rank, world, self.crop_seed)
        self.judge = Judge([s for s in sources if s.validates], rank, world)

    def learn(self, done: float) -> float:
        shares = [(1 - done) * s[2] + done * s[3] for s in SIZES]
        size, count = SIZES[int(self.common.choice(len(SIZES), p=shares))][:2]
        clicks = CLICKS[int(self.common.choice(len(CLICKS), p=[c[1] for c in CLICKS]))][0]
        crops = [self.sampler.draw(size) for _ in range(count)]
        image = torch.stack([c.image for c in crops])
        target = torch.stack([c.target for c in crops])[:, None]
        known = torch.stack([c.known for c in crops])[:, None]
        spacing = torch.tensor([c.spacing for c in crops])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bf16"):
            features = self.model.encode(image, spacing)
        return self._clicks(self.sampler.rng, features, target, known, clicks)

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
                prediction = self.model.decode(cut, simulate.batch(lists), previous)
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

    def scores(self) -> dict[str, Any]:
        model = Sightline3D(self.options.config)
        model.load_state_dict(self.state.average)
        return self.judge.score(model.eval())

    def write(self, about: dict[str, Any]) -> None:
        from napari_sightline.models.weights_io import write_weights

        write_weights(self.options.out, self.state.average, self.options.config, about)
