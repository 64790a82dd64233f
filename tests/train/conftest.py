"""Pairs of scans and label maps, and helpers that tests import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from recipe_making import scene, write


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    for k in range(4):
        image, labels = scene(k)
        write(tmp_path / f"scans/p{k}_ct.nii.gz", image)
        write(tmp_path / f"truth/p{k}_labels.nii.gz", labels)
    return tmp_path / "scans", tmp_path / "truth"
