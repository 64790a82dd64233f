"""Windows through a network: device, batch and precision, less memory where it runs out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_sightline.errors import ModelError
from napari_sightline.models.instance_norm import keep_channels_last
from napari_sightline.models.precision import autocast
from napari_sightline.models.segmenter import Segmenter, partners_of
from napari_sightline.models.window_parts import attend_in_parts
from napari_sightline.segment.device import (
    Footing,
    batch_for,
    checked_precision,
    is_out_of_memory,
    peak_bytes,
    release,
)

#: Values for which the logits of a flat window are kept.
_FLAT_KEPT = 2


class WindowTap(Protocol):
    """Whoever wants to see what a network did with a window."""

    def window(
        self, network: nn.Module, frames: Any, model: str = ""
    ) -> AbstractContextManager[object]:
        """Context in which a batch passes the network; `frames` say where its windows lie."""


@dataclass
class Waiting:
    """A window on its way.

    Attributes
    ----------
    start : tuple of 3 int
        First voxel, padded, in sweep order.
    voxels : torch.Tensor, shape (channels, *roi)
        In the network's axes.
    value : tuple of float, optional
        Of each channel, where the window holds one value only.
    """

    start: tuple[int, int, int]
    voxels: Tensor
    value: tuple[float, ...] | None


class Runner:
    """Passes windows through a model.

    Parameters
    ----------
    model : Segmenter
        Network and facts.
    device : torch.device
        Where it runs.
    precision : str
        ``"auto"``, ``"fp32"`` or ``"bf16"``; ``"auto"`` needs `choose_precision`.
    batch : int, optional
        Windows in a batch; by default by free memory.
    note : callable
        Told, in sentences, what changes on the way.
    """

    def __init__(
        self,
        model: Segmenter,
        device: torch.device,
        precision: str,
        batch: int | None,
        note: Callable[[str], None],
    ) -> None:
        #: What answers; the one whose attention a tap records.
        self.whole, self.network, self.spec = model.whole.eval(), model.network, model.spec
        self.attends = model.attends
        self.footing, self.precision = Footing(device, device, batch or 1), precision
        self.sizing, self.note = batch is None, note
        self.mirror = self.spec.mirror
        first = 1 if self.spec.overlapping else 0
        partners = partners_of(self.spec.labels)
        #: Channel by channel: what it is called in a mirrored body.
        self._sides = [partners.get(k + first, k + first) - first for k in range(self.spec.outputs)]
        self.tap: WindowTap | None = None
        #: Gives a tap the places of windows by their starts.
        self.places: Callable[[list[tuple[int, int, int]]], list[object]] | None = None
        self.skipped = 0
        # Logits of windows that hold one value only, by that value; few, since each is large.
        self._flat: dict[tuple[float, ...], Tensor] = {}
        keep_channels_last(self.whole)
        attend_in_parts(self.whole)
        self.guarded(
            lambda: self.whole.to(self.footing.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        )

    def guarded(self, run: Callable[[], Any]) -> Any:
        """Run something, and again with less memory where it runs out."""
        while True:
            try:
                return run()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.step_down(error)

    def choose_precision(self, window: Tensor) -> None:
        """Try bf16 on a window, ``(1, channels, *roi)``, see `checked_precision`."""

        def decide(logits: Tensor) -> Tensor:
            return logits > 0 if self.spec.overlapping else logits.argmax(1)

        self.precision = self.guarded(
            lambda: checked_precision(
                self.whole, self.footing.device, lambda p: self._forward(window, p), decide
            )
        )

    def logits(self, part: list[Waiting]) -> list[Tensor]:
        """Logits of each window; those that hold one value only share theirs."""
        new: list[Waiting] = []
        for one in part:
            if one.value is None or (
                one.value not in self._flat and one.value not in [n.value for n in new]
            ):
                new.append(one)
        shared = dict(self._flat)
        computed: dict[int, Tensor] = {}
        if new:
            batch = torch.stack([one.voxels for one in new])
            for one, logits in zip(
                new, self._measured(batch, [one.start for one in new]), strict=True
            ):
                computed[id(one)] = logits
                if one.value is not None:
                    shared[one.value] = logits.clone()
        self._flat = dict(list(shared.items())[-_FLAT_KEPT:])
        found = []
        for one in part:
            if id(one) in computed:
                found.append(computed[id(one)])
            else:
                assert one.value is not None
                found.append(shared[one.value])
                self.skipped += 1
        return found

    def _measured(self, batch: Tensor, starts: list[tuple[int, int, int]]) -> Tensor:
        """Run the network; the first time, find out how many windows memory has room for."""
        if not self.sizing:
            return self._network(batch, starts)
        found: list[Tensor] = []
        device = self.footing.device
        taken = peak_bytes(lambda: found.append(self._network(batch, starts)), device)
        size = batch_for(device, taken)
        self.footing = Footing(device, self.footing.sums, size)
        self.sizing = False
        return found[0]

    def _network(self, batch: Tensor, starts: list[tuple[int, int, int]]) -> Tensor:
        context: AbstractContextManager[object] = nullcontext()
        if self.tap is not None and self.places is not None:
            context = self.tap.window(self.network, self.places(starts), self.attends)
        with context:
            logits = self._forward(batch, self.precision)
        if logits.shape != (len(batch), self.spec.outputs, *self.spec.roi):
            raise ModelError(
                f"The network of {self.spec.name!r} gave {tuple(logits.shape)} for windows of "
                f"{tuple(self.spec.roi)} voxels and {self.spec.outputs} outputs; correct the "
                "model's facts."
            )
        if self.mirror:
            # Beside the tap: what is asked of a pass later is where the plain window looked.
            logits = logits.add_(self._mirrored(batch)).mul_(0.5)
        return logits

    def _mirrored(self, batch: Tensor) -> Tensor:
        """Logits of the mirrored windows, mirrored back."""
        axis = 2 + self.spec.sides
        logits = self._forward(batch.flip(axis), self.precision).flip(axis)
        return logits[:, self._sides]

    def _forward(self, batch: Tensor, precision: str) -> Tensor:
        device = self.footing.device
        batch = batch.to(device).contiguous(memory_format=torch.channels_last_3d)
        with autocast(device, precision):
            logits = self.whole(batch)
        result: Tensor = logits[0] if isinstance(logits, list | tuple) else logits
        return result.float()

    def step_down(self, error: BaseException) -> None:
        """Go on with less memory; `ModelError` where there is nothing less."""
        before = self.footing.device
        lower = self.footing.step_down()
        if lower is None:
            raise ModelError(
                f"Memory does not suffice for one window of {self.spec.name!r}; close other "
                "programs or choose a smaller model."
            ) from error
        self.footing, sentence = lower
        self.sizing = False
        self.note(sentence)
        if self.footing.device != before:
            self._flat = {}
            if self.precision == "bf16":
                self.precision = "fp32"
            self.whole.to(self.footing.device)
        release(before)
