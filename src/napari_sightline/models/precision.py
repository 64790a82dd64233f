"""Device and precision: the fastest that gives the same labels as float32."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from napari_sightline.errors import BadInput

#: Share of voxels that must carry the label that float32 gives.
AGREEMENT = 0.999


def pick_device(name: str = "auto") -> torch.device:
    """Turn a name into a device.

    Parameters
    ----------
    name : str
        ``"auto"`` takes the accelerator that torch finds, else the CPU; or ``"cpu"``, ``"cuda"``,
        ``"cuda:1"``, ``"mps"``, ``"xpu"``.

    Raises
    ------
    BadInput
        Where the name is unknown or the device is not there.
    """
    if name == "auto":
        if torch.accelerator.is_available():
            found = torch.accelerator.current_accelerator()
            if found is not None:
                return found
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(
            f"The device {name!r} is not one that torch knows; choose auto, cpu, cuda, mps or xpu."
        ) from error
    if device.type != "cpu":
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        count = torch.accelerator.device_count() if found is not None else 0
        if found is None or found.type != device.type or (device.index or 0) >= count:
            raise BadInput(f"The device {name!r} is not on this machine; choose auto or cpu.")
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Context in which the network runs in `precision`, ``"fp32"`` or ``"bf16"``."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def choose_precision(
    run: Callable[[str], torch.Tensor], device: torch.device, repeats: int = 3
) -> str:
    """Choose bf16 where it is faster and its labels agree with float32, else float32.

    Parameters
    ----------
    run : callable
        Runs a small task in the precision named and returns its logits.
    device : torch.device
        Where it runs; on MPS float32 is kept.
    repeats : int
        Timed runs of each; the fastest counts.
    """
    if device.type == "mps":
        return "fp32"
    seconds, logits = {}, {}
    for precision in ("fp32", "bf16"):
        logits[precision] = run(precision)
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            logits[precision] = run(precision)
            best = min(best, time.perf_counter() - start)
        seconds[precision] = best
    same = ((logits["fp32"] > 0) == (logits["bf16"] > 0)).float().mean()
    if seconds["bf16"] < 0.9 * seconds["fp32"] and float(same) >= AGREEMENT:
        return "bf16"
    return "fp32"
