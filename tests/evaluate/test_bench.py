"""What the benchmarks measure and how they say so, with a model that does nothing."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.evaluate import bench
from napari_sightline.evaluate.bench import bench_click, peak_memory, table_of, time_peer


class Still:
    """Answers at once and notes what it was asked."""

    name, stride = "still", 16

    def __init__(self) -> None:
        self.encoded: list[tuple[int, ...]] = []
        self.decoded: list[bool] = []

    def encode(self, region: np.ndarray, intensity: object, spacing: float) -> object:
        self.encoded.append(region.shape)
        return region.shape

    def decode(
        self, encoded: tuple[int, ...], points: np.ndarray, codes: np.ndarray, previous: object
    ) -> object:
        assert points.shape == (len(codes), 3)
        assert points.max() < encoded[0]
        self.decoded.append(previous is not None)
        return SimpleNamespace(logits=np.zeros((4, *encoded), np.float32), quality=np.zeros(4))


def test_names_of_the_figures() -> None:
    model = Still()
    result = bench_click(model, repeats=5, sizes=(32, 48), peer=False)
    assert json.loads(json.dumps(result)) == result
    click = result["click"]
    for size in ("32", "48"):
        assert set(click[size]) == {"encode_s", "decode_p50_ms", "decode_p95_ms"}
        assert click[size]["decode_p95_ms"] >= click[size]["decode_p50_ms"] >= 0
    assert click["nnunet_pass_s"] is None and click["ratio"] is None
    assert {"machine", "version", "threads"} <= set(result)
    assert set(model.encoded) == {(32, 32, 32), (48, 48, 48)}
    assert sum(model.decoded) >= 10  # timed clicks have a previous mask
    assert table_of(click).row_count == 2


def test_ratio_is_passes_over_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "time_peer", lambda: 20.0)
    monkeypatch.setattr(bench, "_time_region", lambda *_: {"decode_p50_ms": 100.0})
    result = bench_click(Still(), sizes=(32,))
    click = result["click"]
    assert (click["nnunet_pass_s"], click["ratio"]) == (20.0, 200.0)
    assert "20.0 s, 200 times" in bench.summary(result)


def test_missing_peer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    click = bench_click(Still(), repeats=1, sizes=(32,))["click"]
    assert click["ratio"] is None
    assert "pip install" in click["note"]
    assert click["note"] in bench.summary(
        {"click": click, "machine": "m", "threads": 2, "version": "1"}
    )
    with pytest.raises(BadInput, match="not installed"):
        time_peer(32)


def test_peer_has_a_hundred_million_parameters() -> None:
    pytest.importorskip("dynamic_network_architectures")
    import torch

    with torch.device("meta"):
        network = bench.peer_network()
    assert 95e6 < sum(p.numel() for p in network.parameters()) < 110e6


def test_bad_options() -> None:
    with pytest.raises(BadInput, match="repeats"):
        bench_click(Still(), repeats=0)
    with pytest.raises(BadInput, match="multiple of 16"):
        bench_click(Still(), sizes=(50,))


def test_peak_memory_grows() -> None:
    before = peak_memory()
    held = np.ones(40 * 2**20, np.uint8)
    assert 30e6 < before < 64e9
    assert peak_memory() >= before
    assert held.any()


@pytest.mark.timeout(300)
def test_memory_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SCAN_SHAPE", (512, 512, 20))
    monkeypatch.setattr(bench, "_CLICKS", (((200, 250, 10), True), ((200, 250, 2), False)))
    memory = bench.bench_memory()["memory"]
    assert memory["scan_mb"] == pytest.approx(10.0)
    assert memory["beyond_mb"] == pytest.approx(memory["peak_mb"] - memory["scan_mb"], abs=0.2)
    assert 100 < memory["beyond_mb"] < 1536
    assert memory["clicks"] == 2


def test_failed_measurement_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SCAN_SHAPE", (8, 8, 8))
    with pytest.raises(BadInput, match=r"failed .*'magic'"):
        bench.bench_memory("magic")
