"""Time and memory of the streamed sliding window, against MONAI's, each in a process of its own.

MONAI's default path: eager attention in float32, the whole scan's logits kept. Both use one
network with random weights, one set of windows and Gaussian weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bench import peak_memory
from napari_sightline.evaluate.report import machine

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from napari_sightline.models.segmenter import Segmenter

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes
    ----------
    time_shape, memory_shape : tuple of 3 int
        Voxels of the scans that are timed and whose memory is measured.
    classes : int
        Outputs of the network, background included.
    feature_size, window : int
        Of MONAI's Swin-UNETR.
    roi : int
        Side of a window, voxels.
    overlap : float
        Of the windows.
    """

    time_shape: tuple[int, int, int] = (160, 160, 160)
    memory_shape: tuple[int, int, int] = (300, 512, 512)
    classes: int = 14
    feature_size: int = 24
    window: int = 7
    roi: int = 96
    overlap: float = 0.5


def bench_automatic(setting: Setting | None = None, tell: Tell | None = None) -> dict[str, Any]:
    """Measure both paths.

    For the memory the network computes one window of a hundred and gives its logits for the others:
    the peak is that of a whole run, and takes minutes instead of an hour. Its precision is the one
    that the timed run chose: logits that are only copied tell neither its labels nor its speed.

    Returns
    -------
    dict
        ``{"automatic": {"time_ratio", "memory_ratio", "agreement", "ours_s", "monai_s", "ours_mb",
        "monai_mb", "precision"}, "setting", "machine", "version", "threads"}``; ratios are ours
        over MONAI's, memory is the peak beyond scan, network and libraries.

    Raises
    ------
    BadInput
        Where a measuring process fails.
    """
    import torch

    say = tell or (lambda share, word: None)
    setting = setting or Setting()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        steps = [(what, path) for what in ("time", "memory") for path in ("ours", "monai")]
        for number, (what, path) in enumerate(steps):
            say(number / len(steps), f"{what} of {'this engine' if path == 'ours' else 'MONAI'}")
            chosen = figures["ours time"]["precision"] if what == "memory" else None
            figures[f"{path} {what}"] = _measured(what, path, setting, Path(folder), chosen)
        same = [np.load(Path(folder) / f"{path}.npy") for path in ("ours", "monai")]
        agreement = float((same[0] == same[1]).mean())
    say(1.0, "done")
    ours, monai = figures["ours time"]["seconds"], figures["monai time"]["seconds"]
    our_mb, monai_mb = figures["ours memory"]["beyond_mb"], figures["monai memory"]["beyond_mb"]
    return {
        "automatic": {
            "time_ratio": round(ours / monai, 3),
            "memory_ratio": round(our_mb / monai_mb, 3),
            "agreement": round(agreement, 6),
            "ours_s": ours,
            "monai_s": monai,
            "ours_mb": our_mb,
            "monai_mb": monai_mb,
            "precision": figures["ours time"]["precision"],
        },
        "setting": {
            "time_shape": list(setting.time_shape),
            "memory_shape": list(setting.memory_shape),
            "classes": setting.classes,
            "feature_size": setting.feature_size,
            "window": setting.window,
            "roi": setting.roi,
            "overlap": setting.overlap,
        },
        "machine": machine(),
        "version": napari_sightline.__version__,
        "threads": torch.get_num_threads(),
    }


def table_of(result: dict[str, Any]) -> Table:
    """Table of a result, for a terminal."""
    from napari_sightline.evaluate.console import table

    found, setting = result["automatic"], result["setting"]
    made = table("Sliding window", "", "this engine", "MONAI", "ratio")
    sizes = [" x ".join(map(str, setting[key])) for key in ("time_shape", "memory_shape")]
    made.add_row(
        f"time, {sizes[0]}, s",
        f"{found['ours_s']:.1f}",
        f"{found['monai_s']:.1f}",
        f"{found['time_ratio']:.2f}",
    )
    made.add_row(
        f"memory, {sizes[1]}, MB",
        f"{found['ours_mb']:.0f}",
        f"{found['monai_mb']:.0f}",
        f"{found['memory_ratio']:.2f}",
    )
    made.add_row("voxels with one label", f"{100 * found['agreement']:.3f} %", "", "")
    return made


def _measured(
    what: str, path: str, setting: Setting, folder: Path, precision: str | None = None
) -> dict[str, Any]:
    code = (
        "import sys; from napari_sightline.evaluate.bench_automatic import _child; "
        "_child(*sys.argv[1:])"
    )
    facts = json.dumps(setting.__dict__)
    command = [sys.executable, "-c", code, what, path, facts, str(folder), precision or "auto"]
    variables = dict(os.environ)
    if path == "monai":  # as a script of MONAI's runs by default
        variables.pop("THP_MEM_ALLOC_ENABLE", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(
            f"Measuring the {what} of {path} failed ({last}); try it with less else running."
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _child(what: str, path: str, facts: str, folder: str, precision: str = "auto") -> None:
    """Run one path once; print a line of JSON with time and memory."""
    import psutil  # type: ignore[import-untyped]
    import torch

    values: dict[str, Any] = json.loads(facts)
    setting = Setting(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]
    shape = setting.time_shape if what == "time" else setting.memory_shape
    rng = np.random.default_rng(0)
    scan = np.empty(shape, np.int16)
    for k in range(shape[0]):  # a slice at a time: this process's memory matters
        scan[k] = rng.normal(40, 60, shape[1:])
    made = _segmenter(setting, flash=path == "ours", once=what == "memory")
    with torch.inference_mode():  # libraries set up, kernels chosen
        made.network(torch.zeros(1, 1, 64, 64, 64))
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    if path == "ours":
        labels, precision = _ours(scan, made, precision)
    else:
        labels, precision = _monai(scan, made), "fp32"
    seconds = time.perf_counter() - began
    if what == "time":
        np.save(Path(folder) / f"{path}.npy", labels)
    beyond = (peak_memory() - before) / 2**20
    figures = {"seconds": round(seconds, 2), "beyond_mb": round(beyond, 1)}
    print(json.dumps(figures | {"precision": precision}))


def _ours(scan: Any, made: Segmenter, precision: str = "auto") -> tuple[Any, str]:
    from napari_sightline.segment.automatic import segment
    from napari_sightline.volume import Volume

    volume = Volume.from_array(scan, spacing=(1.0, 1.0, 1.0))
    found = segment(volume, made, device="cpu", precision=precision)
    return found.labels, found.precision


def _monai(scan: Any, made: Segmenter) -> Any:
    """Do what a MONAI bundle does: scale, slide, take the greatest."""
    import torch

    from napari_sightline.models.monai_parts import sliding_window_inference

    spec = made.spec
    image = torch.from_numpy(scan).float()[None, None]
    image = (image - spec.intensity.low) / (spec.intensity.high - spec.intensity.low)
    image = image.clamp_(0, 1)
    with torch.inference_mode():
        logits = sliding_window_inference(
            image, spec.roi, 1, made.network, overlap=spec.overlap, mode="gaussian"
        )
        assert isinstance(logits, torch.Tensor)
        return logits[0].argmax(0).to(torch.uint8).numpy()


def _segmenter(setting: Setting, flash: bool, once: bool) -> Segmenter:
    import torch
    from torch import nn

    from napari_sightline.models.monai_parts import SwinUNETR
    from napari_sightline.models.segmenter import Segmenter, SegmenterSpec

    torch.manual_seed(0)
    network: nn.Module = SwinUNETR(
        in_channels=1,
        out_channels=setting.classes,
        feature_size=setting.feature_size,
        window_size=setting.window,
        use_flash_attention=flash,
    ).eval()
    if once:
        network = _once(network)
    spec = SegmenterSpec(
        "bench",
        {k: f"structure {k}" for k in range(1, setting.classes)},
        roi=(setting.roi, setting.roi, setting.roi),
        orientation="SPL",
        overlap=setting.overlap,
    )
    return Segmenter(network, spec)


def _once(network: Any) -> Any:
    """Wrap a network: of windows of one size, one of a hundred is computed, for the others too."""
    from torch import nn

    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.kept: Tensor | None = None
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            if self.kept is None or self.kept.shape[2:] != x.shape[2:] or self.calls % 100 == 0:
                self.kept = self.network(x)
            self.calls += 1
            # A copy, as every window's logits are new: paths may change them in place.
            return self.kept.clone()

    return Once().eval()
