"""Commands around automatic segmentation: run it, measure it, judge it, time it, train it.

Only the standard library, typer and the package's errors are imported here, as in `cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_auto_commands(
    app: typer.Typer, evaluating: typer.Typer, benching: typer.Typer, training: typer.Typer
) -> None:
    """Add the commands to the groups of the command line."""
    training.command("automatic")(train_automatic)


def train_automatic(
    minutes: Annotated[
        float, typer.Option(help="Training time, earlier runs included.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Model to write, .safetensors.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Folder with index.json: trains the embedded model.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of your own scans, with --labels: fine-tunes.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of their label maps, named alike.")
    ] = None,
    warm_start: Annotated[Path | None, typer.Option(help="Model to start from.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint beside --out where there is one.")
    ] = True,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(help="Peak learning rate; 8e-4, and 1e-4 where there is a --warm-start."),
    ] = None,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    roi: Annotated[
        int | None, typer.Option(help="Side of a crop and of the model's window, voxels.")
    ] = None,
) -> None:
    """Train the embedded automatic model, or fine-tune a Swin-UNETR on your own labels."""
    from napari_sightline.io.targets import check_target
    from napari_sightline.train.automatic import train

    check_target(out, (".safetensors",))
    train(
        out,
        minutes,
        data=data,
        images=images,
        labels=labels,
        warm_start=warm_start,
        resume=resume,
        workers=workers,
        seed=seed,
        rate=rate if rate is not None else 8e-4 if warm_start is None else 1e-4,
        precision=precision,
        roi=(roi, roi, roi) if roi else None,
    )
    print(f"{out}: model after {minutes:g} minutes")
