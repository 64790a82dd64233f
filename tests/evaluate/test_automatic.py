"""Figures of automatic models: means, intervals, and what is compared with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.automatic import Score, doubts, evaluate, summarise, table_of
from napari_sightline.evaluate.cases import EvaluationCase
from napari_sightline.evaluate.metrics import dice, surface_dice
from napari_sightline.io import load, save, save_image
from napari_sightline.volume import Volume


def test_means_are_over_structures_and_intervals_over_cases() -> None:
    rng = np.random.default_rng(0)
    scores = [Score(k, "a", float(rng.uniform(0.6, 0.9)), 0.5) for k in range(30)]
    scores += [Score(0, "b", 0.2, 0.1), Score(1, "b", 0.4, 0.3)]
    result = summarise(scores, 30)
    a = np.mean([s.dice for s in scores if s.structure == "a"])
    assert result["structures"]["a"]["n"] == 30 and result["structures"]["b"]["n"] == 2
    assert result["structures"]["a"]["dice"] == pytest.approx(a, abs=1e-4)
    assert result["structures"]["b"]["dice"] == pytest.approx(0.3)
    assert result["mean"]["dice"] == pytest.approx((a + 0.3) / 2, abs=1e-4)
    low, high = result["structures"]["a"]["ci"]
    # The normal approximation of the mean's interval.
    half = 1.96 * np.std([s.dice for s in scores if s.structure == "a"]) / np.sqrt(30)
    assert low == pytest.approx(a - half, abs=0.005) and high == pytest.approx(a + half, abs=0.005)
    assert result["structures"]["b"]["ci"] == [0.2, 0.4]
    assert result["structures"]["a"]["nsd_ci"] == [0.5, 0.5]
    low, high = result["mean"]["ci"]
    assert low < result["mean"]["dice"] < high
    assert summarise(scores, 30) == result
    from rich.console import Console

    with Console(width=100).capture() as shown:
        pass
    assert shown is not None and table_of(result).row_count == 3


def cases(folder: Path) -> list[EvaluationCase]:
    found = []
    for k in range(3):
        volume = Volume.from_array(np.zeros((12, 14, 16)), spacing=(3.0, 1.0, 1.0))
        labels = np.zeros(volume.shape, np.uint8)
        labels[2:8, 2:8, 2 : 8 + k] = 1
        labels[3:6, 9:13, 9:14] = 2
        image = save_image(folder / f"c{k}.nii.gz", volume)
        truth = save(folder / f"t{k}.nii.gz", labels, volume)
        structures = {1: "right parotid", 2: "thing"} if k else {1: "right parotid"}
        found.append(EvaluationCase(image, truth, structures))
    return found


def method(volume: Volume) -> tuple[np.ndarray, dict[int, str]]:
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:8, 2:8, 2:8] = 5
    labels[3:6, 9:13, 9:12] = 4
    return labels, {5: "right parotid gland", 4: "thing"}


def test_structures_meet_by_name_where_they_are_contoured(tmp_path: Path) -> None:
    listed = cases(tmp_path)
    seen: list[tuple[int, int, str]] = []
    result: dict[str, Any] = evaluate(listed, method, lambda *done: seen.append(done), details=True)
    assert [s[:2] for s in seen] == [(1, 3), (2, 3), (3, 3)]
    assert {k: v["n"] for k, v in result["structures"].items()} == {"right parotid": 3, "thing": 2}
    expected = []
    for case in listed:
        truth = np.asarray(load(case.labels).data) == 1
        mask = method(load(case.image))[0] == 5
        expected.append((dice(mask, truth), surface_dice(mask, truth, (3.0, 1.0, 1.0))))
    means = np.mean(expected, 0)
    assert result["structures"]["right parotid"]["dice"] == pytest.approx(means[0], abs=1e-4)
    assert result["structures"]["right parotid"]["nsd"] == pytest.approx(means[1], abs=1e-4)
    assert len(result["items"]) == 5


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is one of the model's \(liver\); give"):
        evaluate(cases(tmp_path), lambda v: (np.zeros(v.shape, np.uint8), {1: "liver"}))


def test_contours_of_another_image_are_named_and_counted(tmp_path: Path) -> None:
    listed = []
    rng = np.random.default_rng(0)
    for k in range(12):
        data = rng.normal(-1000, 5, (12, 14, 16))
        labels = np.zeros(data.shape, np.uint8)
        labels[2:8, 2:8, 2:8], labels[3:6, 9:13, 9:12] = 1, 2
        data[labels > 0] += 1030
        if k == 5:
            data = np.roll(data, 3, axis=1)
        (tmp_path / str(k)).mkdir()  # all files are called alike
        volume = Volume.from_array(data.astype(np.int16), spacing=(3.0, 1.0, 1.0))
        image = save_image(tmp_path / str(k) / "ct.nii.gz", volume)
        truth = save(tmp_path / str(k) / "truth.nii.gz", labels, volume)
        listed.append(EvaluationCase(image, truth, {1: "gland", 2: "thing"}, modality="CT"))

    def by_intensity(volume: Volume) -> tuple[np.ndarray, dict[int, str]]:
        found = np.where(volume.data > -500, 1, 0)
        found[3:6, 8:, 8:13] *= 2
        return found, {1: "gland", 2: "thing"}

    result = evaluate(listed, by_intensity)
    # Half of each contour lies in air: with one more plane of air the median is far off.
    assert result["doubtful"] == {"ct": ("gland", "thing")}
    assert result["mean"]["dice"] < result["without_doubtful"]["mean"]["dice"] == 1
    assert [result["without_doubtful"]["structures"][s]["n"] for s in ("gland", "thing")] == [
        11,
        11,
    ]
    assert result["structures"]["gland"]["n"] == 12
    sentences = doubts(result)
    assert "ct: the contours of gland, thing" in sentences[0] and "1.000" in sentences[1]
    # Intensities of MR have no unit: nothing is said of them.
    plain = evaluate([replace(case, modality="MR") for case in listed], by_intensity)
    assert plain["doubtful"] == {} and doubts(plain) == []
    assert "without_doubtful" not in plain and plain["mean"] == result["mean"]
