"""The benchmark of the sliding window: both paths give one answer, figures are put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monai")

from napari_sightline.errors import BadInput
from napari_sightline.evaluate import bench_automatic as bench
from napari_sightline.evaluate.bench_automatic import Setting, table_of

SMALL = Setting((64, 72, 40), (64, 96, 40), classes=5, feature_size=12, window=4, roi=64)


def test_both_paths_give_one_answer() -> None:
    scan = np.random.default_rng(0).normal(40, 60, SMALL.time_shape).astype(np.int16)
    ours, _ = bench._ours(scan, bench._segmenter(SMALL, flash=True, once=False))
    monai = bench._monai(scan, bench._segmenter(SMALL, flash=False, once=False))
    # bf16 where this machine has it.
    assert (ours == monai).mean() >= 0.995
    assert len(np.unique(monai)) > 1


def test_one_window_stands_for_all() -> None:
    import torch

    network = bench._segmenter(SMALL, flash=True, once=True).network
    calls: list[int] = []
    network.network.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    with torch.no_grad():
        first = network(torch.zeros(1, 1, 64, 32, 32))
        again = network(torch.ones(1, 1, 64, 32, 32))
    assert len(calls) == 1 and torch.equal(first, again)
    first += 1
    assert not torch.equal(first, again)


def test_a_process_measures(tmp_path: Path) -> None:
    figures = bench._measured("memory", "ours", SMALL, tmp_path)
    assert figures["beyond_mb"] > 1 and figures["seconds"] > 0
    assert figures["precision"] in ("fp32", "bf16")
    assert bench._measured("memory", "ours", SMALL, tmp_path, "fp32")["precision"] == "fp32"


def test_figures_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        ("time", "ours"): {"seconds": 3.0, "beyond_mb": 0, "precision": "bf16"},
        ("time", "monai"): {"seconds": 6.0, "beyond_mb": 0, "precision": "fp32"},
        ("memory", "ours"): {"seconds": 0, "beyond_mb": 500.0, "precision": "bf16"},
        ("memory", "monai"): {"seconds": 0, "beyond_mb": 4000.0, "precision": "fp32"},
    }

    asked: list[str | None] = []

    def measured(
        what: str, path: str, _: Setting, folder: Path, precision: str | None
    ) -> dict[str, Any]:
        asked.append(precision)
        labels = np.zeros(100, np.uint8)
        labels[0] = path == "ours"
        np.save(folder / f"{path}.npy", labels)
        return rows[what, path]

    monkeypatch.setattr(bench, "_measured", measured)
    told: list[float] = []
    result = bench.bench_automatic(SMALL, lambda share, word: told.append(share))
    found = result["automatic"]
    assert found["time_ratio"] == 0.5 and found["memory_ratio"] == 0.125
    assert found["agreement"] == 0.99 and found["precision"] == "bf16"
    assert told == [0, 0.25, 0.5, 0.75, 1]
    # Memory is that of the run that was timed: a network that only copies its logits cannot choose.
    assert asked == [None, None, "bf16", "bf16"]
    assert json.loads(json.dumps(result))["setting"]["memory_shape"] == [64, 96, 40]
    assert table_of(result).row_count == 3


def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench.sys, "executable", "false")
    with pytest.raises(BadInput, match=r"Measuring the time of ours failed \(no message\); try"):
        bench._measured("time", "ours", SMALL, tmp_path)
