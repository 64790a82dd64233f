"""Processes that learn together."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

_RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from napari_sightline.train.parallel import launch
from sleeper import sleep
if __name__ == "__main__":
    launch(sleep, sys.argv[1], 2)
"""
_SLEEPER = """
import json, os, time
from pathlib import Path
from napari_sightline.train.parallel import gather


def sleep(rank, folder):
    found = gather({f"case {rank}": {1: 0.5 + rank}}, 2)
    (Path(folder) / f"{rank}.found").write_text(json.dumps(found))
    (Path(folder) / f"{rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(_SLEEPER)
    (tmp_path / "run.py").write_text(_RUN)
    run = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), str(tmp_path)])
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    end = time.monotonic() + 90
    while time.monotonic() < end and not all(f.exists() and f.read_text() for f in files):
        time.sleep(0.1)
    children = [psutil.Process(int(f.read_text())) for f in files]
    run.kill()
    run.wait()
    # Each knows what both found.
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.found").read_text())
        assert found == {"case 0": {"1": 0.5}, "case 1": {"1": 1.5}}
    _, alive = psutil.wait_procs(children, timeout=20)
    for process in alive:
        process.kill()
    assert not alive
