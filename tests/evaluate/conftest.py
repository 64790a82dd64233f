"""Cases on disk for the tests of evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Helpers of these tests; worker processes import them too, by the path they inherit.
sys.path.insert(0, str(Path(__file__).parent))

from evaluation_fakes import scan

from napari_sightline.evaluate.cases import EvaluationCase
from napari_sightline.io import save, save_image


@pytest.fixture
def cases(tmp_path: Path) -> list[EvaluationCase]:
    """Two scans of two sets, each with two structures."""
    made = []
    for number, (group, modality) in enumerate((("one", "CT"), ("two", "MR"))):
        volume, labels = scan(number)
        image = save_image(tmp_path / f"scan{number}.nii.gz", volume)
        truth = save(tmp_path / f"truth{number}.nii.gz", labels, volume)
        names = {1: "near block", 2: "far block"}
        made.append(EvaluationCase(image, truth, names, group, modality))
    return made
