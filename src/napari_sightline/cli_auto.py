"""Commands around automatic segmentation: run it, measure it, judge it, time it.

Only the standard library, typer and the package's errors are imported here, as in `cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sightline.errors import BadInput

if TYPE_CHECKING:
    from napari_sightline.evaluate.scans import AutoOptions, Outcome

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")]
Precision = Annotated[
    str, typer.Option(help="auto (bf16 where it gives the same labels), fp32 or bf16.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]
AutoModel = Annotated[
    str,
    typer.Option(help="Name of an automatic model, a bundle or a checkpoint; see 'models list'."),
]
Largest = Annotated[
    bool, typer.Option("--largest", help="Keep the largest part of every structure only.")
]
Fragments = Annotated[
    float | None,
    typer.Option(
        help="Leave out parts smaller than this share (0 to 1) of a structure's largest part, "
        "instead of the model's; 0 keeps all."
    ),
]
Mirror = Annotated[
    bool | None,
    typer.Option(
        "--mirror/--no-mirror",
        help="Pass each window mirrored left to right too, in twice the time, or do not; "
        "by default what the model says.",
        show_default=False,
    ),
]
KeepBlank = Annotated[
    bool,
    typer.Option(
        "--keep-blank",
        help="Keep labels where the scan was never reconstructed, which the model would leave out.",
    ),
]
EMBEDDED = "swin-unetr-headneck-ct"


def add_auto_commands(app: typer.Typer, evaluating: typer.Typer, benching: typer.Typer) -> None:
    """Add the commands to the groups of the command line."""
    app.command("auto")(auto)
    app.command("measure")(measure_labels)
    evaluating.command("automatic")(evaluate_automatic)
    benching.command("automatic")(bench_the_automatic)


def auto(
    image: Annotated[
        Path, typer.Argument(help="The scan, or a folder of scans.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(help="Labels to write, such as organs.nii.gz; a folder for a folder."),
    ],
    model: AutoModel = EMBEDDED,
    more: Annotated[
        list[Path] | None,
        typer.Option(help="File of the model's next channel, such as T1 after T1c; repeat."),
    ] = None,
    largest: Largest = False,
    fragments: Fragments = None,
    mirror: Mirror = None,
    keep_blank: KeepBlank = False,
    holes: Annotated[bool, typer.Option("--holes", help="Fill holes in every structure.")] = False,
    smooth: Annotated[
        float, typer.Option(help="Even out surfaces with a Gaussian of so many millimetres.")
    ] = 0.0,
    measures: Annotated[
        bool, typer.Option("--measures", help="Write a table of measures (.csv) too.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write each structure's probability too.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write the entropy, 0 to 1, too.")
    ] = False,
    overlap: Annotated[
        float | None, typer.Option(help="Overlap of windows, 0 to <1; the model's by default.")
    ] = None,
    skip_air: Annotated[
        bool, typer.Option(help="Compute windows that hold one value only (air) once.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Of a folder, make again what exists already.")
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Of a folder, spread the scans over the Dask cluster at this address."),
    ] = None,
    ending: Annotated[str, typer.Option(help="Of a folder, the ending of the labels.")] = ".nii.gz",
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
) -> None:
    """Segment a scan, or every scan of a folder, with an automatic model.

    Labels lie on the scan's own grid. Of a folder, a scan that fails does not stop the others, and
    a run that was stopped goes on where it was.
    """
    from napari_sightline.evaluate.scans import AutoOptions
    from napari_sightline.io.formats import LABEL_ENDINGS
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.segment.finish import Finish

    finish = Finish(largest, holes, smooth)
    options = AutoOptions(
        _absolute(model),
        device,
        precision,
        overlap,
        skip_air,
        finish,
        measures,
        probabilities,
        uncertainty,
        fragments,
        mirror,
        keep_blank,
    )
    check_target(json)
    if more and _is_batch(image, out):
        raise BadInput("Of a folder, each file must hold all channels; leave --more out.")
    if not _is_batch(image, out):
        if scheduler is not None:
            raise BadInput("A cluster takes a folder of scans; leave --scheduler out for one.")
        check_target(out, tuple(LABEL_ENDINGS))
        outcome = _auto_one(image, tuple(more or ()), out, options)
        if json is not None:
            write_json(json, outcome.to_dict())
        return
    outcomes = _auto_many(image, out, options, overwrite, scheduler, ending)
    if json is not None:
        write_json(json, [outcome.to_dict() for outcome in outcomes])
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _absolute(model: str) -> str:
    """Give a model's file by its whole path, which workers elsewhere find too."""
    path = Path(model)
    return str(path.resolve()) if path.exists() else model


def _is_batch(image: Path, out: Path) -> bool:
    """Whether a folder of scans is meant, rather than one DICOM series."""
    from napari_sightline.io.formats import LABEL_ENDINGS

    return image.is_dir() and not out.name.lower().endswith(tuple(LABEL_ENDINGS))


def _auto_one(image: Path, more: tuple[Path, ...], out: Path, options: AutoOptions) -> Outcome:
    from napari_sightline.evaluate.console import progress
    from napari_sightline.evaluate.scans import Job, segment_file

    with progress("segmenting") as tell:
        tell(0.0, "loading")
        outcome = segment_file(Job(image, out, more), options, tell)
    for note in outcome.notes:
        print(note, file=sys.stderr)
    found = f"{outcome.structures} structure{'s' if outcome.structures != 1 else ''}"
    print(f"{outcome.out}: {found}, {outcome.seconds:.1f} s")
    return outcome


def _auto_many(
    folder: Path,
    out: Path,
    options: AutoOptions,
    overwrite: bool,
    scheduler: str | None,
    ending: str,
) -> list[Outcome]:
    from napari_sightline.evaluate.console import progress
    from napari_sightline.evaluate.scans import find_jobs, run_here, run_on_cluster
    from napari_sightline.io.formats import LABEL_ENDINGS

    if ending not in LABEL_ENDINGS:
        raise BadInput(
            f"The ending {ending!r} is no format for labels; choose one of "
            f"{', '.join(LABEL_ENDINGS)}."
        )
    jobs = find_jobs(folder, out, ending)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"The folder {str(out)!r} cannot be made ({error.strerror}); give another one."
        ) from error
    runs: Iterator[Outcome] = (
        run_here(jobs, options, overwrite)
        if scheduler is None
        else run_on_cluster(jobs, options, scheduler, overwrite)
    )
    outcomes: list[Outcome] = []
    with progress("scans") as tell:
        tell(0.0, f"0 of {len(jobs)}")
        for outcome in runs:
            outcomes.append(outcome)
            tell(len(outcomes) / len(jobs), f"{len(outcomes)} of {len(jobs)}")
            name = Path(outcome.image).name
            if outcome.status == "failed":
                print(f"{name}: {outcome.error}", file=sys.stderr)
            elif outcome.status == "done":
                print(f"{outcome.out}: {outcome.structures} structures, {outcome.seconds:.1f} s")
    count = {s: sum(o.status == s for o in outcomes) for s in ("done", "there", "failed")}
    print(f"{count['done']} done, {count['there']} there already, {count['failed']} failed")
    return outcomes


def measure_labels(
    labels: Annotated[Path, typer.Argument(help="The label map.", show_default=False)],
    image: Annotated[Path, typer.Option(help="The scan it lies on.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Table to write, .csv.")] = None,
    json: Json = None,
) -> None:
    """Measure every structure of a label map: volume, intensities, place, extent."""
    import numpy as np

    from napari_sightline.evaluate.console import show, table
    from napari_sightline.io import load, load_labels
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.segment.measure import columns, measure, row_of, write_csv

    check_target(out, (".csv",))
    check_target(json)
    scan = load(image)
    drawn, names = load_labels(labels)
    if drawn.shape != scan.shape or not np.allclose(drawn.affine, scan.affine, atol=1e-2):
        raise BadInput(
            f"{labels.name} does not lie on the grid of {image.name}; give the scan that the "
            "labels were drawn on."
        )
    found = measure(np.asarray(drawn.data), scan, names)
    shown = table("Measures", "", "mL", "mean", "SD", "min", "median", "max", "mm across", "parts")
    for one in found:
        numbers = (one.mean, one.sd, one.minimum, one.median, one.maximum, one.diameter_mm)
        cells = [f"{one.volume_ml:.2f}", *(f"{number:.1f}" for number in numbers)]
        shown.add_row(one.name, *cells, str(one.parts))
    show(shown)
    if out is not None:
        print(write_csv(out, found))
    if json is not None:
        rows = [dict(zip(columns(), row_of(one), strict=True)) for one in found]
        clean = [{k: None if v != v else v for k, v in row.items()} for row in rows]
        write_json(json, clean)


def evaluate_automatic(
    cases: Annotated[Path, typer.Option(help="Cases file.", show_default=False)],
    model: AutoModel = EMBEDDED,
    largest: Largest = False,
    fragments: Fragments = None,
    mirror: Mirror = None,
    keep_blank: KeepBlank = False,
    holes: Annotated[bool, typer.Option("--holes", help="Fill holes in every structure.")] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Scores of each case in the JSON.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
) -> None:
    """Segment cases with an automatic model: Dice and surface Dice, with intervals."""
    from napari_sightline.evaluate.automatic import doubts, evaluate, method_of, table_of
    from napari_sightline.evaluate.cases import read_cases
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.models import load_segmenter
    from napari_sightline.segment.finish import Finish

    check_target(json)
    found = read_cases(cases)
    finish = Finish(largest, holes)
    method = method_of(
        load_segmenter(model), device, precision, finish, fragments, mirror, keep_blank
    )
    with progress("evaluating") as tell:
        result = evaluate(
            found,
            method,
            lambda done, total, case: tell(done / total, f"{done} of {total}: {case}"),
            details=details,
        )
    result["model"] = model
    show(table_of(result))
    for sentence in doubts(result):
        print(sentence)
    seconds = result["seconds"]
    print(f"{seconds['p50']:.1f} s a scan; {result['machine']}, version {result['version']}")
    if json is not None:
        write_json(json, result)


def bench_the_automatic(
    classes: Annotated[int, typer.Option(help="Outputs of the network.")] = 14,
    feature_size: Annotated[int, typer.Option(help="Of MONAI's Swin-UNETR.")] = 24,
    side: Annotated[int, typer.Option(help="Side of the scan that is timed, voxels.")] = 160,
    roi: Annotated[int, typer.Option(help="Side of a window, voxels.")] = 96,
    small: Annotated[
        bool, typer.Option("--small", help="Measure memory on 128 x 192 x 192 voxels.")
    ] = False,
    json: Json = None,
) -> None:
    """Measure time and memory of the sliding window against MONAI's.

    Memory is that of a scan of 512 x 512 x 300 voxels; MONAI needs about 7 GB for it.
    """
    from napari_sightline.evaluate.bench_automatic import Setting, bench_automatic, table_of
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    shape = (128, 192, 192) if small else (300, 512, 512)
    setting = Setting((side, side, side), shape, classes, feature_size, roi=roi)
    with progress("measuring") as tell:
        result = bench_automatic(setting, tell)
    show(table_of(result))
    print(f"{result['machine']}, {result['threads']} threads, version {result['version']}")
    if json is not None:
        write_json(json, result)
