"""Device, precision and batch of a long run: by free memory, and less where it runs out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from napari_sightline.models.precision import AGREEMENT

#: Windows in one batch at most, and share of the free memory that a batch may take.
MAX_BATCH, SHARE = 8, 0.6

# Precision found for a network, by device.
_FOUND: WeakKeyDictionary[nn.Module, dict[str, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Footing:
    """Where a run takes place.

    Attributes
    ----------
    device : torch.device
        Where the network runs.
    sums : torch.device
        Where overlapping windows are added up.
    batch : int
        Windows that go through the network together.
    """

    device: torch.device
    sums: torch.device
    batch: int = 1

    def step_down(self) -> tuple[Footing, str] | None:
        """Return what needs less memory, and a sentence that says so; None where nothing does.

        First the batch is halved, then the sums go to the CPU, then the network does.
        """
        cpu = torch.device("cpu")
        if self.batch > 1:
            batch = self.batch // 2
            count = f"{batch} windows" if batch > 1 else "one window"
            return replace(self, batch=batch), f"Memory ran out; going on with {count} at a time."
        if self.sums.type != "cpu":
            lower = replace(self, sums=cpu)
            return lower, f"Memory of {self.device} ran out; windows are added up on the CPU."
        if self.device.type != "cpu":
            lower = Footing(cpu, cpu, 1)
            return lower, f"Memory of {self.device} ran out; going on on the CPU, which is slower."
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, or None where it does not say."""
    if device.type == "cpu":
        import psutil  # type: ignore[import-untyped]

        return int(psutil.virtual_memory().available)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    if device.type == "xpu":
        free, _ = torch.xpu.mem_get_info(device)
        return int(free)
    return None


def release(device: torch.device) -> None:
    """Give cached memory back after it ran out."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()


def batch_for(device: torch.device, window_bytes: int) -> int:
    """Windows that fit into free memory together, at least one.

    Parameters
    ----------
    device : torch.device
        On a CPU one window at a time is as fast as several.
    window_bytes : int
        What one window takes while it passes the network.
    """
    if device.type == "cpu":
        return 1
    free = free_memory(device)
    if free is None or window_bytes <= 0:
        return 1
    return max(1, min(MAX_BATCH, int(SHARE * free / window_bytes)))


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Run something and return the bytes it took at its peak on `device`, 0 where unknown."""
    if device.type not in ("cuda", "xpu"):
        run()
        return 0
    module = torch.cuda if device.type == "cuda" else torch.xpu
    module.reset_peak_memory_stats(device)
    before = module.memory_allocated(device)
    run()
    return int(module.max_memory_allocated(device) - before)


def checked_precision(
    network: nn.Module,
    device: torch.device,
    run: Callable[[str], Tensor],
    decide: Callable[[Tensor], Tensor],
) -> str:
    """Choose bf16 where it is faster and gives the labels that float32 gives, else float32.

    Tried once for a network and device, on one window.

    Parameters
    ----------
    network : torch.nn.Module
        Whose precision is wanted.
    device : torch.device
        CPUs without bf16 instructions, and MPS, keep float32 untried.
    run : callable
        Passes the window through the network in the precision named; returns logits.
    decide : callable
        Turns logits into labels.
    """
    found = _FOUND.setdefault(network, {})
    if str(device) not in found:
        found[str(device)] = _try_both(device, run, decide)
    return found[str(device)]


def _try_both(
    device: torch.device, run: Callable[[str], Tensor], decide: Callable[[Tensor], Tensor]
) -> str:
    if device.type == "mps" or (device.type == "cuda" and not torch.cuda.is_bf16_supported(False)):
        return "fp32"
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "fp32"
    labels = {precision: decide(run(precision)) for precision in ("fp32", "bf16")}
    if float((labels["fp32"] == labels["bf16"]).float().mean()) < AGREEMENT:
        return "fp32"
    seconds = {}
    for precision in ("fp32", "bf16"):  # a second time: the first chose kernels
        start = time.perf_counter()
        run(precision).flatten()[0].item()  # waits for the device
        seconds[precision] = time.perf_counter() - start
    return "bf16" if seconds["bf16"] < seconds["fp32"] else "fp32"
