"""The benchmark of the sliding window runs, and both paths give one answer."""

from __future__ import annotations

import pytest

pytest.importorskip("monai")

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bench_automatic import Setting, bench_automatic, table_of


@pytest.mark.timeout(300)
def test_both_paths_on_small_scans() -> None:
    small = Setting((64, 80, 64), (96, 160, 160), classes=6, feature_size=12, window=4, roi=64)
    told: list[str] = []
    result = bench_automatic(small, lambda share, word: told.append(word))
    found = result["automatic"]
    assert found["agreement"] >= 0.99
    assert found["time_ratio"] > 0 and found["memory_ratio"] > 0
    assert found["ours_mb"] > 0 and found["monai_mb"] > 0
    assert told == [
        "time of this engine",
        "time of MONAI",
        "memory of this engine",
        "memory of MONAI",
        "done",
    ]
    assert result["setting"]["memory_shape"] == [96, 160, 160]
    assert table_of(result).row_count == 3


def test_a_process_that_fails() -> None:
    with pytest.raises(BadInput, match="Measuring the time of ours failed"):
        bench_automatic(Setting(feature_size=13))
