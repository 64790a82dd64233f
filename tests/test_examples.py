"""Every script in examples/ runs as a reader would run it: alone, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def run(script: Path, folder: Path, *arguments: str | Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    assert run(script, tmp_path).strip(), "an example says what it did"


def test_the_round_trip_works_on_a_real_scan(shared_data: Path, tmp_path: Path) -> None:
    scan = sorted((shared_data / "headneck_ct").glob("*_ct.nii.gz"))[0]
    script = next(path for path in EXAMPLES if path.stem == "volume_roundtrip")
    assert "on the scan's grid" in run(script, tmp_path, scan)
    assert (tmp_path / "bone.nii.gz").is_file()
