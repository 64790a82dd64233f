"""What a training keeps between steps, and its checkpoint file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass
class State:
    """What a checkpoint holds.

    Attributes
    ----------
    model : torch.nn.Module
        The network that learns.
    average : dict of str to torch.Tensor
        Exponential moving average of its state dict: the weights that are written in the end.
    optimiser : torch.optim.Optimizer
        Its optimiser.
    step : int
        Steps done.
    seconds : float
        Training time, runs before this one included.
    """

    model: nn.Module
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
        keys = [k for k, v in values.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in keys], [values[k] for k in keys], 1 - decay)
        for key in values.keys() - set(keys):
            self.average[key].copy_(values[key])
