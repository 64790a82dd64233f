"""The embedded automatic model on a real case, and on the phantom."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_sightline import load, phantom
from napari_sightline.evaluate.metrics import dice
from napari_sightline.io import load_labels
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.automatic import segment

pytest.importorskip("monai")
from napari_sightline.models import load_segmenter


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return load_segmenter("swin-unetr-headneck-ct")


def test_a_real_case(model: Segmenter, shared_data: Path) -> None:
    index = json.loads((shared_data / "index.json").read_text())["headneck_ct"]
    held = [k for k, v in index.items() if v["group"] == "validation-pats"]
    name = max(held, key=lambda k: len(index[k]["contoured"]))
    folder = shared_data / "headneck_ct"
    scan = load(folder / f"{name}_ct.nii.gz")
    truth = load_labels(folder / f"{name}_organs.nii.gz")[0].data
    found = segment(scan, model, device="cpu")
    assert found.labels.shape == scan.shape
    scores = {
        organ: dice(found.labels == value, truth == value)
        for value, organ in found.names.items()
        if (truth == value).any()
    }
    assert len(scores) >= 5
    assert np.mean(list(scores.values())) > 0.6, scores
    # Left of the patient is left: high along the last axis.
    right, left = (np.argwhere(found.labels == value)[:, 2].mean() for value in (3, 4))
    assert left > right


def test_the_phantom(model: Segmenter) -> None:
    scan, truth, names = phantom()
    found = segment(scan, model, device="cpu", overlap=0.25)
    # Nothing is odd about the scan; fragments may be.
    assert all("were left out" in note for note in found.notes)
    assert set(found.names.items()) <= set(names.items())
    organs = [v for v in found.names if (found.labels == v).any()]
    assert len(organs) >= 4
    # Nothing is drawn in the air round the head.
    air = np.asarray(scan.data) < -800
    assert (found.labels[air] > 0).mean() < 0.01
    assert dice(found.labels == 7, truth == 7) > 0.3  # bone looks like bone, drawn or not
