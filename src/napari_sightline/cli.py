"""The command `sightline`: the engine from a shell.

Only the standard library, typer and the package's errors are imported here:
``sightline --help`` must not wait for torch. What takes time is imported by the
command that needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sightline import __version__
from napari_sightline.cli_attention import add_attention_commands
from napari_sightline.cli_auto import add_auto_commands
from napari_sightline.cli_files import add_file_commands
from napari_sightline.cli_models import add_model_commands
from napari_sightline.cli_train import train_automatic
from napari_sightline.environment import prepare_torch
from napari_sightline.errors import BadInput, SightlineError

if TYPE_CHECKING:
    from napari_sightline.segment.interactive import Session

HELP = {"help_option_names": ["-h", "--help"]}


def _group(help: str) -> typer.Typer:
    return typer.Typer(help=help, no_args_is_help=True, context_settings=HELP)


app = typer.Typer(
    help="Segment CT, MR and PET volumes with prompts.",
    no_args_is_help=True,
    context_settings=HELP,
    pretty_exceptions_enable=False,
)
evaluating = _group("Measure quality over cases.")
benching = _group("Measure speed and memory on this machine.")
training = _group("Train the embedded models.")
app.add_typer(evaluating, name="evaluate")
app.add_typer(benching, name="bench")
app.add_typer(training, name="train")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")]
Model = Annotated[
    str, typer.Option(help="Name of a promptable model; see 'sightline models list'.")
]
Weights = Annotated[Path | None, typer.Option(help="Another weights file of that model.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]


def main() -> None:
    """Run the command; a mistake of the user costs one sentence and exit code 2."""
    # Those that spin are faster where nothing else runs, as in most measurements.
    prepare_torch(share_cores="bench" not in sys.argv or "attention" in sys.argv)
    try:
        app()
    except SightlineError as error:
        if "--debug" in sys.argv:
            raise
        print(f"sightline: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sightline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    pass  # what these do happens before any command: see _show_version and main


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(help="The scan.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Mask to write, such as mask.nii.gz.", show_default=False)
    ],
    click: Annotated[
        list[str] | None,
        typer.Option(
            help="Voxel i,j,k in the file's own axes, counted from 0. ':-' after it says: not "
            "this. Again for more clicks.",
            metavar="I,J,K[:-]",
        ),
    ] = None,
    mm: Annotated[
        list[str] | None,
        typer.Option(
            help="A click in the scanner's millimetres (x right, y anterior, z superior).",
            metavar="X,Y,Z[:-]",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Two opposite corner voxels in the file's own axes.",
            metavar="I0,J0,K0,I1,J1,K1",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the structure, kept in the mask.")] = "object",
    channel: Annotated[
        int | None, typer.Option(help="Channel or time point of a 4D image, from 0.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Name or number of a DICOM series.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw three planes into this .png file too.")
    ] = None,
    model: Model = "sightline-3d",
    weights: Weights = None,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Segment one structure of a scan from clicks and boxes.

    Prompts are given in this order, whatever their order on the line: boxes, clicks (--click),
    clicks in millimetres (--mm); those of a kind in the order on the line. The mask lies on the
    scan's own grid.
    """
    from napari_sightline.evaluate.console import progress
    from napari_sightline.io import load, save
    from napari_sightline.io.formats import LABEL_ENDINGS
    from napari_sightline.io.picture import Shown, save_picture
    from napari_sightline.io.prompt_text import read_prompts
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.prompts import Point

    if not (click or mm or box):
        raise BadInput("There is nothing to go by; give one or more of --click, --mm and --box.")
    check_target(out, tuple(LABEL_ENDINGS))
    check_target(picture, (".png",))
    check_target(json)
    volume = load(image, channel, int(series) if series and series.isdigit() else series)
    for note in volume.notes:
        print(note, file=sys.stderr)
    prompts = read_prompts(volume, box or [], click or [], mm or [])
    with progress("segmenting") as tell:
        tell(0.0, "loading the model")
        session = _session(model, device, weights)
        session.set_volume(volume)
        seconds, quality = [], float("nan")
        for number, prompt in enumerate(prompts):
            tell(0.2 + 0.7 * number / len(prompts), f"prompt {number + 1} of {len(prompts)}")
            update = session.add(prompt)
            seconds.append(round(update.seconds, 4))
            quality = update.quality
        if session.current.mask_box is None:
            raise BadInput("The prompts gave an empty mask; click into the structure itself.")
        done = session.accept(name)
        tell(0.95, "writing")
        written = save(out, session.labels, volume, session.names)
        if picture is not None:
            caption = f"{_count(len(prompts), 'prompt')} · {done.volume_ml:.1f} mL"
            clicks = [prompt for prompt in prompts if isinstance(prompt, Point)]
            shown = Shown(session.labels == done.id, name, caption, clicks)
            save_picture(picture, volume, [shown], f"{model} · {volume.name}")
    print(f"{written}: {name}, {done.volume_ml:.2f} mL, predicted overlap {quality:.2f}")
    print(f"{_count(len(prompts), 'prompt')}: " + ", ".join(f"{s:.2f} s" for s in seconds))
    if json is not None:
        facts = {"mask": str(written), "name": name, "volume_ml": round(done.volume_ml, 4)}
        write_json(json, facts | {"quality": round(quality, 4), "seconds": seconds})


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what comes out.")] = Path("sightline-demo"),
    image: Annotated[Path | None, typer.Option(help="A scan instead of the phantom.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Its true labels: they place the clicks.")
    ] = None,
    clicks: Annotated[int, typer.Option(help="Clicks for each organ.")] = 3,
    window: Annotated[
        bool, typer.Option(help="Open napari with the result where there is a display.")
    ] = True,
    weights: Weights = None,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Do the main job once: open a scan, click, segment, write the mask and a picture of it.

    Without --image the scan is a phantom made on the spot, and a robot user places the clicks
    by its truth. Of a scan without --labels, even structures are clicked once each.
    """
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.evaluate.demo import open_window, organs_as_json, run, table_of
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    with progress("demo") as tell:
        tell(0.0, "loading")
        shown = run(_session("sightline-3d", device, weights), out, image, labels, clicks, tell)
    show(table_of(shown.organs, f"{shown.volume.name}: what each click gave"))
    for what, path in (("scan", shown.scan), ("mask", shown.mask), ("picture", shown.picture)):
        print(f"{what:8} {path}")
    if json is not None:
        write_json(json, {"organs": organs_as_json(shown.organs, shown.volume)})
    if window:
        open_window([shown.scan, shown.mask])


add_file_commands(app)
add_auto_commands(app, evaluating, benching)
training.command("automatic")(train_automatic)
add_model_commands(app)
add_attention_commands(app, evaluating, benching)


@evaluating.command("cases")
def list_the_cases(
    data: Annotated[Path, typer.Option(help="Folder with index.json.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Cases file to write.", show_default=False)],
    split: Annotated[str, typer.Option(help="validation or training.")] = "validation",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="headneck_ct, hippocampus_mr or sarcoma; all by default."),
    ] = None,
) -> None:
    """List the cases of a data folder by its own split, for 'evaluate interactive'."""
    from napari_sightline.evaluate.cases import SETS, list_cases, write_cases

    found = list_cases(data, split, sets or SETS)
    print(f"{write_cases(out, found)}: {_count(len(found), 'case')}")


@evaluating.command("interactive")
def evaluate_interactive(
    cases: Annotated[Path, typer.Option(help="Cases file.", show_default=False)],
    clicks: Annotated[int, typer.Option(help="Clicks for each structure.")] = 5,
    baseline: Annotated[
        bool, typer.Option(help="Give a method without learning as many clicks.")
    ] = True,
    method: Annotated[
        str, typer.Option("--baseline-method", help="geodesic or 'random walker'.")
    ] = "geodesic",
    jobs: Annotated[int, typer.Option(help="Processes that share the cases.")] = 1,
    box_first: Annotated[
        bool, typer.Option("--box-first", help="A box before the clicks.")
    ] = False,
    noisy: Annotated[bool, typer.Option("--noisy", help="A user who clicks less exactly.")] = False,
    in_mm: Annotated[bool, typer.Option("--in-mm", help="Depth of errors in mm.")] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Scores and clicks of each structure in the JSON.")
    ] = False,
    model: Model = "sightline-3d",
    weights: Weights = None,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Let a robot user click through cases: Dice and surface Dice after every click."""
    from functools import partial

    from napari_sightline.evaluate.cases import read_cases
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.evaluate.interactive import evaluate, make_session
    from napari_sightline.evaluate.report import RobotProtocol, tables
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    protocol = RobotProtocol(clicks, method if baseline else None, box_first, in_mm, noisy)
    found = read_cases(cases)
    with progress("evaluating") as tell:
        result = evaluate(
            found,
            partial(make_session, model, device, weights),
            protocol,
            jobs,
            lambda done, total, case: tell(done / total, f"{done} of {total}: {case}"),
            details,
        )
    show(*tables(result))
    seconds = result["seconds"]
    print(
        f"{seconds['encode_p50']:.2f} s once per region, {seconds['click_p50']:.2f} s a click "
        f"(95 %: {seconds['click_p95']:.2f} s); {result['machine']}, version {result['version']}"
    )
    if json is not None:
        write_json(json, result)


@benching.command("click")
def bench_the_click(
    repeats: Annotated[int, typer.Option(help="Timed clicks for each size.")] = 20,
    peer: Annotated[bool, typer.Option(help="Time nnU-Net's network for the ratio.")] = True,
    weights: Weights = None,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Time a click in regions of 96^3 and 128^3, beside one pass of nnU-Net's network."""
    from napari_sightline.evaluate.bench import SIZES, bench_click, summary, table_of
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.models import load_model

    check_target(json)
    with progress("timing") as tell:
        result = bench_click(
            load_model("sightline-3d", device, weights), repeats, SIZES, peer, tell
        )
    show(table_of(result["click"]))
    print(summary(result))
    if json is not None:
        write_json(json, result)


@benching.command("memory")
def bench_the_memory(weights: Weights = None, json: Json = None) -> None:
    """Measure what opening and clicking needs beside a scan of 512 x 512 x 400 voxels."""
    from napari_sightline.evaluate.bench import bench_memory
    from napari_sightline.evaluate.console import progress
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    with progress("measuring") as tell:
        tell(0.1, "a large scan, in a process of its own")
        result = bench_memory(weights=weights)
    memory = result["memory"]
    print(
        f"Peak {memory['peak_mb']:.0f} MB, {memory['beyond_mb']:.0f} MB beyond the scan's "
        f"{memory['scan_mb']:.0f} MB."
    )
    if json is not None:
        write_json(json, result)


@benching.command("panel")
def bench_the_panel(
    image: Annotated[Path | None, typer.Option(help="A scan instead of the phantom.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Its true labels: they place the clicks.")
    ] = None,
    clicks: Annotated[int, typer.Option(help="Clicks in all.")] = 100,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Click through the panel in a napari window: time until the mask is seen, and stalls."""
    from napari_sightline.evaluate.console import progress
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.viewer.bench import bench_panel, summary

    check_target(json)
    with progress("timing") as tell:
        result = bench_panel(image, labels, clicks, device, tell)
    print(summary(result))
    if json is not None:
        write_json(json, result)


@training.command("interactive")
def train_interactive(
    data: Annotated[Path, typer.Option(help="Folder with index.json.", show_default=False)],
    minutes: Annotated[
        float, typer.Option(help="Training time, earlier runs included.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Weights to write, .safetensors.", show_default=False)],
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint beside --out where there is one.")
    ] = True,
    warm_start: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.")] = 0,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 6e-4,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
) -> None:
    """Train the embedded promptable network on a folder of volumes."""
    from napari_sightline.io.targets import check_target
    from napari_sightline.train.interactive import train

    check_target(out, (".safetensors",))
    train(
        data,
        minutes,
        out,
        resume=resume,
        warm_start=warm_start,
        workers=workers,
        seed=seed,
        rate=rate,
        precision=precision,
    )
    print(f"{out}: weights after {minutes:g} minutes")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _session(model: str, device: str, weights: Path | None) -> Session:
    from napari_sightline.models import load_model
    from napari_sightline.segment.interactive import Session

    return Session(load_model(model, device, weights))


if __name__ == "__main__":
    main()
