"""The command that trains automatic models.

Only the standard library, typer and the package's errors are imported here, as in `cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sightline.errors import BadInput


def train_automatic(
    minutes: Annotated[
        float,
        typer.Option(
            help="Training time, earlier runs included. 0 with --warm-start learns nothing and "
            "chooses the offsets of its logits anew.",
            show_default=False,
        ),
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
    optimiser: Annotated[
        str, typer.Option(help="adamw or muon, which learns faster and needs PyTorch 2.9.")
    ] = "adamw",
    roi: Annotated[
        str | None,
        typer.Option(help="Voxels of a crop and of the model's window: 64, or 96,64,64."),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            help="Millimetres of the grid that is learnt on, along the network's axes: 2, or "
            "2.5,3.5,3.5; the model's own by default."
        ),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Mirror every other crop left to right, for bodies that look alike from both "
            "sides; by default for the embedded model only.",
            show_default=False,
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Let the --warm-start, else the first --teacher, fill in what the cases of --data "
            "do not contour, and learn from that too.",
        ),
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(
            help="Network to begin with random weights, from --data: swin-unetr (by default) or "
            "dynunet, a convolutional teacher. Of a --warm-start of several networks: which of "
            "them learns on; the first by default.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Model whose chances are learnt too; it needs the same structures, grid and "
            "intensities. May be given again: the mean of all is learnt.",
            show_default=False,
        ),
    ] = None,
    teach: Annotated[
        float, typer.Option(help="Share of the teachers in the loss; at 0 they only fill in.")
    ] = 0.5,
) -> None:
    """Train the embedded automatic model, or fine-tune a Swin-UNETR on your own labels."""
    from napari_sightline.io.targets import check_target
    from napari_sightline.models.questions import parse
    from napari_sightline.segment.doubtful import sentence
    from napari_sightline.train.automatic import left_out, train

    check_target(out, (".safetensors",))
    sides = None if roi is None else parse("roi", roi)
    grid = None if spacing is None else parse("spacing", spacing)
    if spacing is not None and grid is None:
        raise BadInput("A grid that is another one for each scan cannot be set; give millimetres.")
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
        optimiser=optimiser,
        roi=sides,
        spacing=grid,
        mirror=mirror,
        complete=complete,
        network=network,
        teachers=tuple(teacher or ()),
        teach=teach,
    )
    for case, structures in left_out(out).items():
        print(f"{sentence(case, structures)} They were left out.")
    print(f"{out}: model after {minutes:g} minutes")
