"""The training loop that the recipes share: time, learning rate, checkpoints, log."""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_sightline.errors import BadInput
from napari_sightline.train.optimiser import OPTIMISERS, optimiser_of
from napari_sightline.train.parallel import agree, average_gradients
from napari_sightline.train.state import State

#: Seconds of training between checkpoints, and between looks at unseen cases.
SAVE_EVERY, JUDGE_EVERY = 180.0, 900.0
#: Steps over which the learning rate rises, and steps between rows of the log.
WARM_UP, LOG_EVERY = 300, 100
#: Gradients that are not finite before a run is given up.
MAX_SKIPPED = 50


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that every run has.

    Attributes
    ----------
    minutes : float
        Training time in all, resumed runs included.
    out : Path
        Weights to write (``.safetensors``). Beside it lie a checkpoint (``.ckpt``) and a log
        (``.log.jsonl``).
    resume : bool
        Go on from the checkpoint where there is one.
    workers : int
        Processes.
    seed : int
        Seed of weights and crops.
    rate : float
        Peak learning rate.
    precision : str
        ``"bf16"`` (mixed, guarded against NaN) or ``"fp32"``.
    optimiser : str
        One of `napari_sightline.train.optimiser.OPTIMISERS`.
    """

    minutes: float
    out: Path
    resume: bool = True
    workers: int = 2
    seed: int = 0
    rate: float = 6e-4
    precision: str = "bf16"
    optimiser: str = "adamw"

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise BadInput(f"The precision {self.precision!r} is not known; choose bf16 or fp32.")
        if self.optimiser not in OPTIMISERS:
            raise BadInput(
                f"The optimiser {self.optimiser!r} is not known; choose {' or '.join(OPTIMISERS)}."
            )
        if self.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
            raise BadInput("The optimiser muon needs PyTorch 2.9 or newer; choose adamw.")
        if not (self.minutes > 0 or (self.minutes == 0 and self.may_only_finish)):
            raise BadInput(f"A training of {self.minutes} minutes cannot run; give more than 0.")
        if not self.rate > 0:
            raise BadInput(f"A learning rate of {self.rate} teaches nothing; give more than 0.")
        if self.workers < 1:
            raise BadInput(f"{self.workers} processes cannot work; give 1 or more.")
        if self.out.suffix != ".safetensors":
            raise BadInput(
                f"The weights file {self.out.name!r} must end in .safetensors; rename it."
            )

    @property
    def may_only_finish(self) -> bool:
        """Whether a run without a step makes sense: what `Trainer.finish` does is worth it."""
        return False


def workers_or_all(workers: int | None) -> int:
    """Return the number of processes asked for, else one a core."""
    return workers if workers is not None else os.cpu_count() or 1


class Trainer(ABC):
    """One process of a training.

    Parameters
    ----------
    rank : int
        Number of the process; 0 writes the files.
    options : RunOptions
        Options of the run.
    model : torch.nn.Module
        The network, equal in all processes.
    """

    def __init__(self, rank: int, options: RunOptions, model: nn.Module) -> None:
        self.rank, self.options = rank, options
        model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        # All weights get gradients from the start: all processes add up as many of them.
        optimiser = optimiser_of(model, options.optimiser, options.rate)
        average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.state = State(model, average, optimiser)
        self.checkpoint = options.out.with_suffix(".ckpt")
        if options.resume and self.checkpoint.exists():
            self.state.load(self.checkpoint)
        #: Draws what is common to all processes, so that none waits for another.
        self.common = np.random.default_rng([options.seed, 1, self.state.step])
        self.skipped = 0
        self._created = time.monotonic()

    @abstractmethod
    def learn(self, done: float) -> float:
        """Add the gradients of one step and return its loss; `done` is the share of the run."""

    @abstractmethod
    def scores(self) -> dict[str, Any]:
        """Look at unseen cases with the averaged weights; what the log shall say of it."""

    @abstractmethod
    def write(self, about: dict[str, Any]) -> None:
        """Write the averaged weights to ``options.out`` (called in the first process only)."""

    @property
    def crop_seed(self) -> int:
        """Seed of the crops, another one after each resumption."""
        return self.options.seed + 7919 * self.state.step

    def run(self) -> None:
        """Train until the time is over; write checkpoints, log and weights."""
        state, total, world = self.state, self.options.minutes * 60, self.options.workers
        waited = round(time.monotonic() - self._created, 1)
        self.log(event="start", step=state.step, load_seconds=waited)
        last = agree(time.monotonic(), world)
        saved, judged = state.seconds, state.seconds
        losses: list[float] = []
        while state.seconds < total:
            losses.append(self._step(state.seconds / total))
            state.step += 1
            now = agree(time.monotonic(), world)
            state.seconds, last = state.seconds + now - last, now
            if state.step % LOG_EVERY == 0:
                self.log(
                    step=state.step,
                    minutes=round(state.seconds / 60, 2),
                    loss=round(float(np.mean(losses)), 4),
                    rate=self.rate(state.seconds / total),
                    skipped=self.skipped,
                )
                losses = []
            if state.seconds - saved > SAVE_EVERY:
                saved = state.seconds
                self._save()
            if state.seconds - judged > JUDGE_EVERY:
                judged = state.seconds
                self._judge()
                last = agree(time.monotonic(), world)
        self.finish()
        self._judge()
        self._save()

    def finish(self) -> None:  # noqa: B027
        """Do what is left to do when the time is over; nothing here."""

    def rate(self, done: float) -> float:
        """Learning rate: a warm-up over the first steps, then a cosine down to 3 %."""
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.options.rate * cosine * min(1.0, (self.state.step + 1) / WARM_UP)

    def log(self, **row: Any) -> None:
        """Append a row to the log."""
        if self.rank:
            return
        row["time"] = time.strftime("%H:%M:%S")
        with self.options.out.with_suffix(".log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _step(self, done: float) -> float:
        state = self.state
        state.optimiser.zero_grad(set_to_none=False)
        loss = self.learn(done)
        for group in state.optimiser.param_groups:
            group["lr"] = self.rate(done)
        if average_gradients(state.model, self.options.workers):
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
            state.optimiser.step()
            state.follow(0.999)
        else:
            self.skipped += 1
            if self.skipped > MAX_SKIPPED:
                raise RuntimeError(
                    f"The training gave {MAX_SKIPPED} gradients that are not finite; "
                    "go on from the checkpoint with precision fp32."
                )
        return loss

    def _save(self) -> None:
        if self.rank:
            return
        self.state.save(self.checkpoint)
        self.write({"step": self.state.step, "minutes": round(self.state.seconds / 60, 1)})

    def _judge(self) -> None:
        scores = self.scores()
        self.log(event="validation", minutes=round(self.state.seconds / 60, 2), **scores)
