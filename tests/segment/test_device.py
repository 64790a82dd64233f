"""Device, precision and batch: less where memory runs out, bf16 where labels agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from window_making import Net, model, run, scan

from napari_sightline.errors import ModelError
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.device import Footing, batch_for, is_out_of_memory


class OutOfMemory(Net):
    """Refuses batches above a size, as a device would."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return super().forward(x)


class TestMemory:
    def test_a_smaller_batch_and_a_sentence(self) -> None:
        plain = model()
        made = Segmenter(OutOfMemory(2), plain.spec)
        told: list[str] = []
        found = run(scan((20, 20, 40)), made, batch=8, on_note=told.append)
        assert np.array_equal(found.labels, run(scan((20, 20, 40)), plain).labels)
        assert told == list(found.notes)
        assert [t.split("with ")[1] for t in told] == [
            "4 windows at a time.",
            "2 windows at a time.",
        ]

    def test_nothing_less_to_do(self) -> None:
        made = Segmenter(OutOfMemory(0), model().spec)
        with pytest.raises(ModelError, match="does not suffice for one window of 'tiny'; close"):
            run(scan((20, 20, 20)), made)

    def test_the_order_of_steps(self) -> None:
        cuda = torch.device("cuda")
        footing: Footing | None = Footing(cuda, cuda, 4)
        seen = []
        while footing is not None:
            seen.append((footing.device.type, footing.sums.type, footing.batch))
            lower = footing.step_down()
            footing = lower[0] if lower else None
        assert seen == [
            ("cuda", "cuda", 4),
            ("cuda", "cuda", 2),
            ("cuda", "cuda", 1),
            ("cuda", "cpu", 1),
            ("cpu", "cpu", 1),
        ]

    def test_what_counts_as_out_of_memory(self) -> None:
        assert is_out_of_memory(MemoryError())
        assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 TB"))
        assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
        assert not is_out_of_memory(RuntimeError("shape mismatch"))
        assert not is_out_of_memory(ValueError("out of memory"))

    def test_an_error_of_another_kind_passes(self) -> None:
        class Broken(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                raise RuntimeError("shape mismatch")

        with pytest.raises(RuntimeError, match="shape mismatch"):
            run(scan((12, 12, 12)), Segmenter(Broken(), model().spec))

    def test_batches_by_free_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from napari_sightline.segment import device

        assert batch_for(torch.device("cpu"), 10**6) == 1
        cuda = torch.device("cuda")
        monkeypatch.setattr(device, "free_memory", lambda _: 10_000)
        assert batch_for(cuda, 1_000) == 6
        assert batch_for(cuda, 100_000) == 1
        assert batch_for(cuda, 10) == device.MAX_BATCH
        monkeypatch.setattr(device, "free_memory", lambda _: None)
        assert batch_for(cuda, 10) == 1


class TestPrecision:
    def test_bf16_only_where_labels_agree(self) -> None:
        class Fine(Net):
            """Decides by the last bits of a number, which bf16 does not hold."""

            def forward(self, x: Tensor) -> Tensor:
                y = super().forward(x)
                if torch.is_autocast_enabled("cpu"):
                    return y.flip(1)
                return y

        made = Segmenter(Fine(), model().spec)
        found = run(scan((20, 20, 20)), made, precision="auto")
        assert found.precision == "fp32"
        plain = run(scan((20, 20, 20)), model())
        assert np.array_equal(found.labels, plain.labels)

    def test_it_is_tried_once(self) -> None:
        made = model()
        net: Any = made.network
        run(scan((12, 12, 12)), made, precision="auto")
        first, net.calls = net.calls, 0
        run(scan((12, 12, 12)), made, precision="auto")
        assert net.calls == 1 <= first

    def test_forced(self) -> None:
        found = run(scan((20, 20, 20)), model(), precision="bf16")
        assert found.precision == "bf16"
        exact = run(scan((20, 20, 20)), model())
        assert (found.labels == exact.labels).mean() > 0.95
