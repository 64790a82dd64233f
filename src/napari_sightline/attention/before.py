"""The mask that a promptable network was given with its prompts, kept small."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Steps of `tanh(logit / 4)`, in which `sightline-3d` is given the mask before, either side of 0.
_STEPS = 127
#: Its largest value, short of 1: logits have an end.
_END = 0.999


@dataclass(frozen=True, eq=False)
class Before:
    """Logits of a mask before, squashed, in 255 steps, deflated.

    Attributes
    ----------
    shape : tuple of int
        ``(D, H, W)``.
    data : bytes
        Packed.
    """

    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, squashed: Tensor) -> Before | None:
        """Pack ``tanh(logits / 4)``, ``(D, H, W)``; None where it is zero, which means no mask."""
        small = (squashed.detach().float() * _STEPS).round().to(torch.int8).cpu().numpy()
        if not small.any():
            return None
        return cls(small.shape, zlib.compress(np.ascontiguousarray(small).tobytes(), 1))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self.data)

    def logits(self) -> npt.NDArray[np.float32]:
        """Return the logits ``(D, H, W)``; squashed again, they differ by 1/254 at most."""
        small = np.frombuffer(zlib.decompress(self.data), np.int8).reshape(self.shape)
        share = (small.astype(np.float32) / _STEPS).clip(-_END, _END)
        return np.asarray(4 * np.arctanh(share), np.float32)


def mask_before(network: nn.Module, name: str, args: tuple[Any, ...]) -> Before | None:
    """Find the mask before in what a module of a network is given; None where it is not there.

    `sightline-3d` folds it into the last eight channels that enter its `stem`.
    """
    if name != "stem" or type(network).__name__ != "Sightline3D" or len(args) != 1:
        return None
    from napari_sightline.models.sightline3d import depth_to_space

    return Before.of(depth_to_space(args[0][:1, -8:])[0, 0])
