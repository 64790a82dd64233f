"""The panel's benchmark: a robot clicks through a real window."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from viewer_making import ball_scan

from napari_sightline.errors import BadInput
from napari_sightline.viewer.bench import _SLEEPER, Heartbeat, bench_panel, machine_held_up, summary
from napari_sightline.viewer.robot import live


@pytest.fixture
def ball(tmp_path: Path) -> tuple[Path, Path]:
    """A scan of a ball and its label map."""
    voxels = ball_scan()
    places = np.indices(voxels.shape) - 23.5
    truth = ((places**2).sum(0) < 100).astype(np.uint8)
    image, labels = tmp_path / "ball.nii.gz", tmp_path / "truth.nii.gz"
    nib.Nifti1Image(voxels, np.diag([2.0, 2, 2, 1])).to_filename(image)
    nib.Nifti1Image(truth, np.diag([2.0, 2, 2, 1])).to_filename(labels)
    return image, labels


def test_clicks_are_timed_from_press_to_picture(
    qapp: object, ball: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_ASYNC", "0")
    told: list[float] = []
    result = bench_panel(*ball, clicks=6, tell=lambda share, word: told.append(share))
    panel = result["panel"]
    assert panel["clicks"] == 6 and panel["shape"] == [48, 48, 48]
    assert 0 < panel["click_p50_ms"] <= panel["click_p95_ms"]
    # A small scan is answered from small regions alone.
    assert panel["usual_clicks"] == 6 and panel["usual_p50_ms"] == panel["click_p50_ms"]
    assert 0 < panel["blocked_p99_ms"] <= panel["blocked_max_ms"]
    assert panel["beyond_mb"] > 0 and panel["machine_max_ms"] >= 0
    assert len(told) == 7
    assert f"{panel['click_p50_ms']:.0f} ms from press to picture" in summary(result)


def test_the_heart_feels_a_blocked_window(qapp: object) -> None:
    with Heartbeat() as heart:
        live(0.05)
        time.sleep(0.12)
        live(0.05)
    assert max(heart.gaps) > 100


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process")
def test_a_machine_that_stands_still_is_told_from_the_window() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sleeper:
        time.sleep(0.5)
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        sleeper.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        said, _ = sleeper.communicate()
    assert float(said) > 300
    with machine_held_up() as held:
        assert held == []
    assert len(held) == 1


def test_nothing_to_measure(ball: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="0 clicks measure nothing; give 1 or more"):
        bench_panel(*ball, clicks=0)
