"""Speed and memory of recorded attention, against storing whole maps."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bench import peak_memory
from napari_sightline.evaluate.console import table
from napari_sightline.evaluate.report import machine

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.tap import Tap

Tell = Callable[[float, str], None]
#: Channels and heads of the large row, and rows of the product through its block.
CHANNELS, HEADS, PRODUCT_ROWS = 64, 4, 16


def bench(
    repeats: int = 30, side: int = 96, tokens: int = 131072, tell: Tell | None = None
) -> dict[str, Any]:
    """Time voxel queries over all blocks, and one row over very many tokens.

    Parameters
    ----------
    repeats : int
        Timed queries, 1 or more, each of another voxel.
    side : int
        Of the region of `sightline-3d` and of the window of Swin-UNETR (feature size 24), voxels;
        a multiple of 32.
    tokens : int
        Of the large row.
    tell : callable, optional
        Told a share and a word.

    Returns
    -------
    dict
        ``{"attention": {MODEL: {"query_ms", "query_p95_ms", "memory_ratio", "held_mb",
        "whole_mb"}, "row_N_ms", "row_N_mb", "product_N_ms", "product_N_mb"}, "machine",
        "version", "threads"}``. ``memory_ratio`` is what the recorder holds over what the whole
        maps would take in float32. Megabytes of the row count its queries and keys.
    """
    import torch

    if repeats < 1:
        raise BadInput(f"{repeats} repeats measure nothing; give 1 or more.")
    if side % 32:
        raise BadInput(f"A side of {side} voxels is not a multiple of 32; choose 64 or 96.")
    say = tell or (lambda share, word: None)
    say(0.0, f"one row over {tokens} tokens")
    found: dict[str, Any] = _large_row(tokens, repeats)
    say(0.2, "sightline-3d")
    # A pass holds its network weakly: it has to live until the queries are done.
    one, network = _pass_of_sightline(side)
    found["sightline-3d"] = _queries(one, side, repeats)
    say(0.6, "Swin-UNETR")
    one, network = _pass_of_swin(side)
    found["swin-unetr-24"] = _queries(one, side, repeats)
    del network
    say(1.0, "done")
    return {
        "attention": found,
        "machine": machine(),
        "version": napari_sightline.__version__,
        "threads": torch.get_num_threads(),
    }


def table_of(result: dict[str, Any]) -> Table:
    """Table of a result of `bench`."""
    columns = ("p50, ms", "p95, ms", "held, MB", "whole maps, MB", "ratio")
    made = table("A voxel's attention in all blocks", "model", *columns)
    for name, row in result["attention"].items():
        if isinstance(row, dict):
            cells = (row["query_ms"], row["query_p95_ms"], row["held_mb"], row["whole_mb"])
            ratio = f"1 / {1 / row['memory_ratio']:.1f}"
            made.add_row(name, *(f"{v:.2f}" for v in cells), ratio)
    for name, value in result["attention"].items():
        if name.endswith("_ms"):
            held = result["attention"][name[:-3] + "_mb"]
            made.add_row(
                name[:-3].replace("_", " over "), f"{value:.2f}", "", f"{held:.1f}", "", ""
            )
    return made


def _pass_of_sightline(side: int) -> tuple[Pass, Any]:
    from napari_sightline.attention.tap import Tap
    from napari_sightline.models import load_model
    from napari_sightline.models.intensity import Intensity
    from napari_sightline.segment.region import Region

    model: Any = load_model("sightline-3d", "cpu")
    rng = np.random.default_rng(0)
    voxels = rng.normal(0, 200, (side, side, side)).astype(np.float32)
    region = Region((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (side, side, side), 1.5)
    points, codes = np.full((1, 3), side / 2), np.array([1])
    encoded, tap = model.encode(voxels, Intensity.of(voxels), 1.5), Tap()
    with tap.recording(model.network, region, points, codes):
        model.decode(encoded, points, codes, None)
    return _held(tap), model.network


def _pass_of_swin(side: int) -> tuple[Pass, Any]:
    import torch

    from napari_sightline.attention.frame import Frame
    from napari_sightline.attention.tap import Tap

    try:
        from napari_sightline.models.monai_parts import SwinUNETR
    except ImportError as error:
        raise BadInput(
            "Swin-UNETR cannot be timed because MONAI is not installed; install it with: "
            "pip install 'napari-sightline[auto]'."
        ) from error
    network = SwinUNETR(in_channels=1, out_channels=8, feature_size=24, use_flash_attention=True)
    network, tap = network.eval(), Tap()
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), (side, side, side))
    with torch.inference_mode(), tap.window(network, frame, "Swin-UNETR"):
        network(torch.randn(1, 1, side, side, side))
    return _held(tap), network


def _held(tap: Tap) -> Pass:
    one = tap.latest
    assert one is not None
    return one


def _queries(one: Pass, side: int, repeats: int) -> dict[str, float]:
    from napari_sightline.attention.maps import query_voxel_blocks

    rng = np.random.default_rng(0)
    seconds = []
    for number in range(repeats + 2):
        place = rng.integers(0, side, 3)
        started = time.perf_counter()
        query_voxel_blocks(one, place)
        if number >= 2:
            seconds.append(time.perf_counter() - started)
    return {
        "query_ms": round(1000 * float(np.median(seconds)), 3),
        "query_p95_ms": round(1000 * float(np.percentile(seconds, 95)), 3),
        "memory_ratio": round(one.nbytes / one.full_bytes, 5),
        "held_mb": round(one.nbytes / 2**20, 3),
        "whole_mb": round(one.full_bytes / 2**20, 3),
    }


def _large_row(tokens: int, repeats: int) -> dict[str, float]:
    """One row, and a rollout product of some rows, over a block whose map would not fit."""
    import torch

    from napari_sightline.attention.calls import Call, KeptTensors
    from napari_sightline.attention.rollout import left_product
    from napari_sightline.attention.tokens import Placement

    before = _forget_peak()
    generator = torch.Generator().manual_seed(0)
    shape = (1, HEADS, tokens, CHANNELS // HEADS)
    q, k = (torch.randn(shape, generator=generator) for _ in range(2))
    scale = shape[-1] ** -0.5
    call = Call("m", Placement("m"), 1, HEADS, tokens, tokens, scale, KeptTensors(q, k))
    rng = np.random.default_rng(0)
    seconds = []
    for number in range(repeats + 1):
        started = time.perf_counter()
        call.rows(0, [int(rng.integers(tokens))])
        if number:
            seconds.append(time.perf_counter() - started)
    row = (peak_memory() - before) / 2**20
    vector = np.zeros(tokens)
    vector[rng.choice(tokens, min(tokens, PRODUCT_ROWS), replace=False)] = 1 / PRODUCT_ROWS
    started = time.perf_counter()
    left_product(call, 0, vector)
    product = time.perf_counter() - started
    return {
        f"row_{tokens}_ms": round(1000 * float(np.median(seconds)), 2),
        f"row_{tokens}_mb": round(row, 1),
        f"product_{tokens}_ms": round(1000 * product, 1),
        f"product_{tokens}_mb": round((peak_memory() - before) / 2**20, 1),
    }


def _forget_peak() -> int:
    """Resident memory now, bytes, from which a new peak is counted (on Linux; else the old one)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()
