"""The recorder of attention: keeps queries and keys of every attention call of a running model.

Two routes see attention, and neither changes a library or the model's output:

1. A `torch.overrides.TorchFunctionMode` sees each call of
   `torch.nn.functional.scaled_dot_product_attention` with its arguments.
2. Models that compute softmax by hand call `softmax` over a map of four axes, ``(batch, heads,
   queries, keys)``, or of three; the same mode sees it and the map itself is kept, as large as it
   is. A module that also makes a call of the first kind is not looked at this way.

Forward hooks tell which module is running. Compiled and scripted code cannot be seen, nor the
fused path of `torch.nn.MultiheadAttention`; the pass says so in its notes.
"""

from __future__ import annotations

import fnmatch
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.recorder import Recorder, Settings

if TYPE_CHECKING:
    from napari_sightline.segment.region import Region


class Tap:
    """Records attention while a model runs.

    Parameters
    ----------
    budget_mb : float
        Memory for recorded passes; the oldest are dropped beyond it.
    blocks : sequence of str or callable, optional
        Which modules are recorded: patterns of their names, as in a shell (``"*layers1*"``), or a
        function of the name; all by default.
    half : bool
        Keep fp16 copies of float32 queries and keys: half the memory, and rows that differ from
        the true ones by about 1e-3 of their value. Off, rows are exact to 1e-5.
    keep : int
        Passes that are kept at most.
    """

    def __init__(
        self,
        budget_mb: float = 512,
        blocks: Sequence[str] | Callable[[str], bool] | None = None,
        half: bool = False,
        keep: int = 64,
    ) -> None:
        self.budget = int(budget_mb * 2**20)
        self.half = half
        self._wanted = _filter(blocks)
        self._passes: deque[Pass] = deque()
        self._keep = max(1, keep)
        self._lock = threading.Lock()
        self.dropped = 0

    # ---- what was recorded

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Recorded passes, oldest first."""
        with self._lock:
            return tuple(self._passes)

    @property
    def latest(self) -> Pass | None:
        """The newest pass, or None."""
        with self._lock:
            return self._passes[-1] if self._passes else None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(one.nbytes for one in self.passes)

    def at(self, position: npt.ArrayLike, model: str | None = None) -> Pass | None:
        """Pass that saw a canonical voxel ``(3,)`` most centrally; of equals the newest."""
        best, found = -np.inf, None
        for one in self.passes:
            if model is not None and one.model != model:
                continue
            for frame in one.frames:
                if frame.contains(position) and frame.depth(position) >= best:
                    best, found = frame.depth(position), one
        return found

    def for_region(self, region: Region) -> Pass | None:
        """Newest pass on a session's working region, or None."""
        frame = Frame.of_region(region)
        for one in reversed(self.passes):
            for other in one.frames:
                if other.shape == frame.shape and np.allclose(other.affine, frame.affine):
                    return one
        return None

    def clear(self) -> None:
        """Forget every pass."""
        with self._lock:
            self._passes.clear()

    # ---- recording

    @contextmanager
    def record(
        self,
        network: nn.Module,
        frames: Frame | Sequence[Frame] | None = None,
        model: str = "",
        points: npt.ArrayLike | None = None,
        codes: npt.ArrayLike | None = None,
    ) -> Iterator[Pass]:
        """Record what `network` does inside the ``with`` block, on this thread, as one pass.

        Parameters
        ----------
        network : torch.nn.Module
            The network that will run.
        frames : Frame or sequence of Frame, optional
            Where its input lies in the volume, one for each entry of the batch.
        model : str
            Its name, for people.
        points, codes : array_like, optional
            Prompts: voxels of the network ``(M, 3)``, and codes ``(M,)``.

        Yields
        ------
        Pass
            Filled while the network runs; kept by the tap if the block ends without an error.
        """
        given = (frames,) if isinstance(frames, Frame) else tuple(frames or ())
        one = Pass(
            model or type(network).__name__,
            given,
            None if points is None else np.asarray(points, float).reshape(-1, 3),
            None if codes is None else np.asarray(codes, np.int64).reshape(-1),
        ).of(network)
        recorder = Recorder(Settings(self._wanted, self.budget, self.half), one, network)
        try:
            with recorder:
                yield one
            one.notes += recorder.unseen()
        finally:
            recorder.close()
        self._add(one)

    def _add(self, one: Pass) -> None:
        with self._lock:
            self._passes.append(one)
            while len(self._passes) > self._keep or (
                len(self._passes) > 1 and sum(p.nbytes for p in self._passes) > self.budget
            ):
                self._passes.popleft()
                self.dropped += 1

    @contextmanager
    def recording(
        self, network: nn.Module | None, region: Region, points: npt.ArrayLike, codes: npt.ArrayLike
    ) -> Iterator[None]:
        """Record a click: what `napari_sightline.segment.interactive.Session` calls.

        Parameters
        ----------
        network : torch.nn.Module or None
            The promptable network; None where the model shows none, of which the pass tells.
        region : Region
            The working grid.
        points, codes : array_like
            ``(M, 3)`` voxels of the region, and the prompts' codes ``(M,)``, in token order.
        """
        from napari_sightline.attention.families import model_name

        frame = Frame.of_region(region)
        if network is None:
            yield
            note = "The model shows no network, so its attention cannot be seen; choose another."
            self._add(Pass("the model", (frame,), notes=[note]))
            return
        with self.record(network, frame, model_name(network), points, codes):
            yield

    @contextmanager
    def window(
        self, network: nn.Module, frames: Frame | Sequence[Frame], model: str = ""
    ) -> Iterator[None]:
        """Record a window of a sliding pass: what `napari_sightline.segment.automatic` calls.

        Parameters
        ----------
        network : torch.nn.Module
            The network.
        frames : Frame or sequence of Frame
            Where each window of the batch lies: its shape in voxels of the network, and the
            affine from those to canonical voxels of the volume.
        model : str
            The model's name.
        """
        with self.record(network, frames, model):
            yield


def _filter(blocks: Sequence[str] | Callable[[str], bool] | None) -> Callable[[str], bool]:
    if blocks is None:
        return lambda name: True
    if callable(blocks):
        return blocks
    patterns = tuple(blocks)
    return lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
