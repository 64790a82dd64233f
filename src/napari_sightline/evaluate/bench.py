"""Speed and memory of the interactive engine on the machine at hand.

Times are given as ratios against a peer in the same run, because absolute ones
say more about the machine: the peer is one pass of nnU-Net's residual encoder
network at 192^3, which nnInteractive runs for every click (Isensee et al.,
*nnInteractive: redefining 3D promptable segmentation*, 2025).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import napari_sightline
from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.evaluate.console import table
from napari_sightline.evaluate.report import machine

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from napari_sightline.models.promptable import Promptable

Tell = Callable[[float, str], None]

SIZES = (96, 128)
#: Side of the peer's region and its input channels (image, prompts, previous mask).
PEER_SIZE, PEER_CHANNELS = 192, 8
#: The scan of `bench_memory`: left, posterior, superior.
SCAN_SHAPE = (512, 512, 400)
#: Its clicks, voxels of the file: into the organ, lower in it, into the body above it.
_CLICKS = (((200, 250, 200), True), ((200, 280, 235), True), ((200, 250, 380), False))


def bench_click(
    model: Promptable,
    repeats: int = 20,
    sizes: tuple[int, ...] = SIZES,
    peer: bool = True,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Time a click: what is computed once per region, and each click.

    A click is the fifth of an object: five prompts and a previous mask.

    Parameters
    ----------
    model : Promptable
        A loaded model.
    repeats : int
        Timed clicks for each size, 1 or more.
    sizes : tuple of int
        Sides of the cubic regions, voxels.
    peer : bool
        Whether nnU-Net's network is timed too, where it is installed.
    tell : callable, optional
        Told the share done and what is going on.

    Returns
    -------
    dict
        ``{"click": {"96": {"encode_s", "decode_p50_ms", "decode_p95_ms"}, ..., "nnunet_pass_s",
        "ratio"}, "machine", "version", "threads"}``; the peer's two are None where it was not
        timed, with a ``note`` that says why. ``ratio`` is passes over clicks at the first size.

    Raises
    ------
    BadInput
        Where `repeats` is below 1 or a size does not suit the model.
    """
    import torch

    if repeats < 1:
        raise BadInput(f"{repeats} repeats measure nothing; give 1 or more.")
    if bad := [size for size in sizes if size % model.stride]:
        raise BadInput(f"A region of {bad[0]}^3 is not a multiple of {model.stride} voxels.")
    say = tell or (lambda share, word: None)
    click: dict[str, Any] = {}
    for number, size in enumerate(sizes):
        say(0.6 * number / len(sizes), f"clicks in a region of {size}^3")
        click[str(size)] = _time_region(model, size, repeats)
    click["nnunet_pass_s"], click["ratio"] = None, None
    if peer:
        say(0.6, f"one pass of nnU-Net's network at {PEER_SIZE}^3")
        try:
            click["nnunet_pass_s"] = round(time_peer(), 3)
            first = click[str(sizes[0])]["decode_p50_ms"] / 1000
            click["ratio"] = round(click["nnunet_pass_s"] / first, 1)
        except SightlineError as error:
            click["note"] = str(error)
    else:
        click["note"] = "nnU-Net's network was not timed, as asked."
    say(1.0, "done")
    return {
        "click": click,
        "machine": machine(),
        "version": napari_sightline.__version__,
        "threads": torch.get_num_threads(),
    }


def table_of(click: dict[str, Any]) -> Table:
    """Table of the regions of `bench_click`'s ``click``."""
    made = table("A click", "region", "once per region, s", "click p50, ms", "click p95, ms")
    for size, row in click.items():
        if isinstance(row, dict):
            p50, p95 = f"{row['decode_p50_ms']:.0f}", f"{row['decode_p95_ms']:.0f}"
            made.add_row(f"{size}^3", f"{row['encode_s']:.3f}", p50, p95)
    return made


def summary(result: dict[str, Any]) -> str:
    """Two lines on a result of `bench_click`: the ratio, and what it was measured on."""
    click = result["click"]
    line = click.get("note") or (
        f"One pass of nnU-Net's network at {PEER_SIZE}^3: {click['nnunet_pass_s']:.1f} s, "
        f"{click['ratio']:.0f} times a click at {SIZES[0]}^3."
    )
    threads, version = result["threads"], result["version"]
    return f"{line}\n{result['machine']}, {threads} threads, version {version}"


def peer_network() -> nn.Module:
    """Build nnU-Net's residual encoder network with random weights.

    Raises
    ------
    BadInput
        Where `dynamic_network_architectures` is not installed.
    """
    from torch import nn

    try:
        from dynamic_network_architectures.architectures.unet import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            ResidualEncoderUNet,
        )
    except ImportError as error:
        raise BadInput(
            "The comparison with nnU-Net's network was skipped because it is not installed; "
            "install it with: pip install dynamic-network-architectures."
        ) from error
    return ResidualEncoderUNet(
        input_channels=PEER_CHANNELS,
        n_stages=6,
        features_per_stage=[32, 64, 128, 256, 320, 320],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2, 2],
        n_blocks_per_stage=[1, 3, 4, 6, 6, 6],
        num_classes=2,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    ).eval()


def time_peer(size: int = PEER_SIZE, passes: int = 1) -> float:
    """Seconds of one pass of nnU-Net's residual encoder network with random weights.

    The large preset ("ResEnc L") as nnInteractive uses it: 6 stages, 102 million parameters,
    float32. Timing does not depend on the weights.

    Raises
    ------
    BadInput
        Where `dynamic_network_architectures` is not installed or memory does not suffice.
    """
    import torch

    network = peer_network()
    seconds = []
    try:
        with torch.inference_mode():
            region = torch.zeros(1, PEER_CHANNELS, size, size, size)
            network(region[..., :64, :64, :64])  # first calls choose kernels
            for _ in range(passes):
                started = time.perf_counter()
                network(region)
                seconds.append(time.perf_counter() - started)
    except (RuntimeError, MemoryError) as error:
        raise BadInput(
            f"The comparison with nnU-Net's network at {size}^3 was skipped because it failed "
            f"({str(error).splitlines()[0]}); it needs about 8 GB of memory."
        ) from error
    return float(np.median(seconds))


def bench_memory(model: str = "sightline-3d", weights: Path | None = None) -> dict[str, Any]:
    """Measure what opening and clicking needs beside a scan of 512 x 512 x 400 int16 voxels.

    A fresh process opens the scan from a file, prepares and clicks; its peak of resident
    memory less the scan counts, Python and torch included.

    Returns
    -------
    dict
        ``{"memory": {"scan_mb", "peak_mb", "beyond_mb", "clicks"}, "machine", "version"}``.

    Raises
    ------
    BadInput
        Where the measuring process fails.
    """
    from napari_sightline.io import save_image

    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        file = save_image(Path(folder) / "scan.nii.gz", _large_scan())
        code = (
            "import sys; from napari_sightline.evaluate.bench import _open_and_click; "
            "_open_and_click(*sys.argv[1:])"
        )
        clicks = json.dumps(_CLICKS)
        command = [sys.executable, "-c", code, str(file), clicks, model, str(weights or "")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(f"The measuring process failed ({last}); try it with less else running.")
    return {
        "memory": json.loads(done.stdout.splitlines()[-1]),
        "machine": machine(),
        "version": napari_sightline.__version__,
    }


def peak_memory() -> int:
    """Peak of this process's resident memory so far, bytes."""
    # On Linux, getrusage counts the parent's peak from before exec as well.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError as error:  # Windows
        raise BadInput(
            "Peak memory cannot be read on this system; run it on Linux or macOS."
        ) from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _time_region(model: Promptable, size: int, repeats: int) -> dict[str, float]:
    from napari_sightline.models.intensity import Intensity

    rng = np.random.default_rng(0)
    region = rng.normal(0, 200, (size, size, size)).astype(np.float32)
    intensity = Intensity.of(region)
    points = np.linspace(0.3, 0.7, 5)[:, None] * np.full((1, 3), float(size))
    codes = np.array([1, 1, 0, 1, 0])
    encoded = model.encode(region, intensity, 1.5)
    answer = model.decode(encoded, points, codes, None)
    previous: npt.NDArray[np.float32] = answer.logits[0]
    encodes = [
        _timed(lambda: model.encode(region, intensity, 1.5)) for _ in range(max(3, repeats // 5))
    ]
    model.decode(encoded, points, codes, previous)
    decodes = [
        _timed(lambda: model.decode(encoded, points, codes, previous)) for _ in range(repeats)
    ]
    return {
        "encode_s": round(float(np.median(encodes)), 4),
        "decode_p50_ms": round(1000 * float(np.median(decodes)), 2),
        "decode_p95_ms": round(1000 * float(np.percentile(decodes, 95)), 2),
    }


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _large_scan() -> napari_sightline.Volume:
    """Make a CT-like scan of 0.8 x 0.8 x 1 mm with a bright body in it."""
    from napari_sightline.volume import Volume

    array = np.full(SCAN_SHAPE, -1000, dtype=np.int16)
    x, y, z = np.indices(SCAN_SHAPE, sparse=True)
    for k in range(SCAN_SHAPE[2]):  # a slice at a time: this process's memory matters too
        wide = ((x[..., 0] - 256) / 200) ** 2 + ((y[..., 0] - 256) / 150) ** 2 < 1
        organ = ((x[..., 0] - 200) / 60) ** 2 + ((y[..., 0] - 250) / 45) ** 2 + (
            (float(z[0, 0, k]) - 200) / 70
        ) ** 2 < 1
        array[:, :, k][wide] = -20
        array[:, :, k][organ] = 90
    affine = np.diag([-0.8, -0.8, 1.0, 1.0])
    return Volume.from_array(array, affine, name="bench", modality="CT")


def _open_and_click(path: str, clicks: str, model: str, weights: str) -> None:
    """Open a scan and click; print a line of JSON with the memory it took."""
    from napari_sightline.io import load
    from napari_sightline.models import load_model
    from napari_sightline.prompts import Point
    from napari_sightline.segment.interactive import Session

    volume = load(path)
    session = Session(load_model(model, "auto", Path(weights) if weights else None))
    session.set_volume(volume)
    places = json.loads(clicks)
    session.prepare(tuple(volume.file_to_voxel(places[0][0])))
    for place, positive in places:
        i, j, k = (float(v) for v in volume.file_to_voxel(place))
        session.add(Point((i, j, k), positive))
    session.accept("organ")
    scan, peak = volume.data.nbytes / 2**20, peak_memory() / 2**20
    held = {"scan_mb": scan, "peak_mb": peak, "beyond_mb": peak - scan}
    print(json.dumps({k: round(v, 1) for k, v in held.items()} | {"clicks": len(places)}))
