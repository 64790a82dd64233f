"""Processes of one thread each that learn together: on CPUs faster than one of several threads."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessException, spawn

from napari_sightline.errors import BadInput, ModelError, SightlineError

#: What a process writes of an error that is meant for the user, beside the rendezvous.
_ERROR = "error.json"
_MEANT = {kind.__name__: kind for kind in (BadInput, ModelError)}


def launch(work: Callable[[int, Any], None], options: Any, world: int) -> None:
    """Run ``work(rank, options)`` in `world` processes that can reach each other.

    Parameters
    ----------
    work : callable
        A function of a module, so that it can be sent to other processes.
    options : object
        Sent along; anything that can be pickled.
    world : int
        Number of processes; one runs here.

    Raises
    ------
    SightlineError
        That of a process, as it is.
    """
    if world == 1:
        _work(0, work, options, 1, "")
        return
    # Large activations come and go; without this the C library returns their pages to the system
    # each time, which costs a quarter of a step. Read when a process starts, so set before.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**33))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(2**28))
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_work, (work, options, world, folder), nprocs=world)
        except ProcessException as error:
            # The other processes fail for want of this one; what it said is what matters.
            note = Path(folder) / _ERROR
            if not note.exists():
                raise
            kind, text = json.loads(note.read_text())
            raise _MEANT[kind](text) from error


def _work(
    rank: int, work: Callable[[int, Any], None], options: Any, world: int, folder: str
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if world > 1:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # A file, not a port: two trainings on one machine never meet.
        address = (Path(folder) / "rendezvous").as_uri()
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    try:
        work(rank, options)
    except SightlineError as error:
        if world > 1 and type(error).__name__ in _MEANT:
            part = Path(folder) / f"{rank}.{_ERROR}"
            part.write_text(json.dumps([type(error).__name__, str(error)]))
            part.replace(Path(folder) / _ERROR)
        raise
    finally:
        torch.set_num_threads(threads)
        if world > 1:
            dist.destroy_process_group()


def _end_with_parent() -> None:
    """Wait for the process that began this one; whoever ends it means all of the run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def agree(value: float, world: int) -> float:
    """Take the first process's value, so that all stop at the same step."""
    if world == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)


def gather(found: dict[str, Any], world: int) -> dict[str, Any]:
    """Join what each process found, so that all know it; plain values only."""
    if world == 1:
        return found
    shared: list[Any] = [None] * world
    dist.all_gather_object(shared, found)
    return {key: value for part in shared for key, value in part.items()}


def average_gradients(model: nn.Module, world: int) -> bool:
    """Average the gradients over the processes; False, and unchanged, if any is not finite.

    Every weight needs a gradient, zeros where it was not used: all processes add up as many.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    if world > 1:
        dist.all_reduce(flat)
        flat /= world
    if not bool(torch.isfinite(flat.sum())):
        return False
    start = 0
    for g in gradients:
        g.copy_(flat[start : start + g.numel()].view_as(g))
        start += g.numel()
    return True
