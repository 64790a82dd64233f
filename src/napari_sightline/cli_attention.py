"""The commands about attention: maps without a window, their speed, and how faithful they are.

As in `cli`, nothing that takes time is imported before a command runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sightline.errors import BadInput

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.probe import Probe
    from napari_sightline.volume import Volume

__all__ = ["add_attention_commands"]

_JSON = typer.Option("--json", help="Write the figures to this file too.")
_DEVICE = typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")


def add_attention_commands(
    app: typer.Typer, evaluating: typer.Typer, benching: typer.Typer
) -> None:
    """Add the commands about attention to the command line."""
    app.command("attention")(attention)
    evaluating.command("attention")(evaluate_attention)
    benching.command("attention")(bench_attention)


def attention(
    image: Annotated[Path, typer.Argument(help="The scan.", show_default=False)],
    at: Annotated[
        str,
        typer.Option(help="Voxel i,j,k in the file's own axes, counted from 0.", metavar="I,J,K"),
    ],
    model: Annotated[
        str, typer.Option(help="sightline-3d, or an automatic model's name or file.")
    ] = "sightline-3d",
    mode: Annotated[
        str,
        typer.Option(
            help="to, from, prompt, to-prompt, rollout, prompt-rollout, relevance, gradcam."
        ),
    ] = "to",
    block: Annotated[
        str | None, typer.Option(help="Number from 0 or name of a block; see --list.")
    ] = None,
    head: Annotated[str, typer.Option(help="1, 2 ..., mean, max or entropy.")] = "mean",
    click: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompts of a promptable model; by default one click at --at. ':-' after it says: "
            "not this.",
            metavar="I,J,K[:-]",
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="Which prompt, from 1 or by name, for modes about prompts.")
    ] = "1",
    structure: Annotated[
        str | None, typer.Option(help="Structure of an automatic model that relevance is for.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Map to write, such as map.nii.gz, on the scan's grid.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Picture of all heads side by side, .png.")
    ] = None,
    same_scale: Annotated[
        bool,
        typer.Option("--same-scale/--own-scale", help="One scale for all heads in the picture."),
    ] = True,
    labels: Annotated[
        Path | None, typer.Option(help="Label map: how much attention lies in each structure.")
    ] = None,
    blocks: Annotated[bool, typer.Option("--list", help="List the blocks and stop.")] = False,
    faithful: Annotated[
        bool, typer.Option("--faithful", help="Measure deletion and insertion against chance.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps of deletion and insertion.")] = 10,
    randoms: Annotated[int, typer.Option(help="Runs of each kind of chance.")] = 5,
    channel: Annotated[
        int | None, typer.Option(help="Channel or time point of a 4D image, from 0.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Name or number of a DICOM series.")] = None,
    device: Annotated[str, _DEVICE] = "auto",
    json: Annotated[Path | None, _JSON] = None,
) -> None:
    """Show where a model looked for a voxel or a prompt, as a map on the scan's own grid.

    The model runs once, round the voxel. Attention is where it looked, not whether it is right.
    """
    from napari_sightline.attention.ask import ask, choose_heads
    from napari_sightline.attention.export import save_heads, save_map
    from napari_sightline.attention.maps import TokenAttention, prompts_of
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io import load
    from napari_sightline.io.prompt_text import read_prompts
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.prompts import Point

    check_target(out, (".nii", ".nii.gz"))
    check_target(png, (".png",))
    check_target(json)
    volume = load(image, channel, int(series) if series and series.isdigit() else series)
    (place,) = read_prompts(volume, clicks=[at])
    assert isinstance(place, Point)
    facts: dict[str, Any] = {"model": model, "mode": mode, "voxel": at}
    with progress("attention") as tell:
        tell(0.1, "running the model")
        one, probe = _run(model, device, volume, place, click or [at], structure)
        if blocks:
            show(_block_table(one))
            return
        tell(0.5, "asking")
        which = int(prompt) - 1 if prompt.isdigit() else prompt
        everything = ask(one, mode, place.position, block, which, probe=probe)
        answer = choose_heads(everything, head)
    for note in one.notes:
        print(note, file=sys.stderr)
    if isinstance(everything, TokenAttention) or isinstance(answer, TokenAttention):
        show(_token_table(everything))
        if out is not None or png is not None:
            raise BadInput("Attention on prompts is no map; choose another block for --out.")
        return
    print(f"{answer.name} · {answer.model}")
    shares = ", ".join(f"{name} {100 * float(v):.1f} %" for name, v in _shares(everything))
    print(f"on padding: {shares}" if everything.padding.any() else "on padding: none")
    if prompts_of(one):
        print(f"prompts: {', '.join(prompts_of(one))}")
    facts |= {"block": answer.block, "heads": list(everything.heads), "query": answer.query}
    facts["padding"] = [round(float(v), 6) for v in everything.padding]
    if labels is not None:
        facts["structures"] = _show_structures(everything, volume, labels)
    if faithful:
        facts["faithful"] = _show_faithful(probe, answer, randoms, steps)
    if out is not None:
        print(f"map      {save_map(out, answer, volume)}")
    if png is not None:
        print(f"picture  {save_heads(png, everything, volume, place.position, same_scale)}")
    if json is not None:
        write_json(json, facts)


def _run(
    model: str,
    device: str,
    volume: Volume,
    place: Any,
    clicks: list[str],
    structure: str | None,
) -> tuple[Pass, Probe]:
    """Run a model once round a voxel: its pass, and the look that can be repeated."""
    from napari_sightline.attention.probe import probe_click, probe_window
    from napari_sightline.attention.tap import Tap
    from napari_sightline.models import PROMPTABLE

    if model not in PROMPTABLE:
        from napari_sightline.models.catalog import load_segmenter

        probe = probe_window(load_segmenter(model), volume, place.position, structure)
        return probe.record(), probe
    from napari_sightline.io.prompt_text import read_prompts
    from napari_sightline.models import load_model
    from napari_sightline.segment.interactive import Session

    tap = Tap()
    session = Session(load_model(model, device), tap=tap)
    session.set_volume(volume)
    update = None
    for one in read_prompts(volume, clicks=clicks):
        update = session.add(one)
    assert update is not None
    found = None if update.region is None else tap.for_region(update.region)
    if found is None or update.region is None:
        raise BadInput("The prompts did not run the model; click into the structure itself.")
    return found, probe_click(session.model, volume, update.region, found)


def _shares(answer: Any) -> list[tuple[str, float]]:
    return list(zip(answer.heads, answer.padding.tolist(), strict=True))


def _block_table(one: Pass) -> Any:
    from napari_sightline.evaluate.console import table

    made = table(f"Blocks of {one.model}", "block", "name", "heads", "queries", "keys")
    for number, call in enumerate(one.calls):
        row = (str(number), call.label, str(call.heads), str(call.queries), str(call.keys))
        made.add_row(*row)
    return made


def _token_table(answer: Any) -> Any:
    from napari_sightline.evaluate.console import table

    made = table(f"{answer.query} · {answer.block}", "token", *answer.heads)
    for number, name in enumerate(answer.tokens.names):
        made.add_row(name, *(f"{100 * float(v):.1f} %" for v in answer.weights[:, number]))
    return made


def _show_structures(answer: Any, volume: Volume, path: Path) -> dict[str, Any]:
    """Print attention by structure, one column a head."""
    import numpy as np

    from napari_sightline.attention.structure import by_structure
    from napari_sightline.evaluate.console import show, table
    from napari_sightline.io import load_labels

    labels, legend = load_labels(path)
    if labels.shape != volume.shape or not np.allclose(labels.affine, volume.affine, atol=1e-2):
        raise BadInput(f"{path.name} does not lie on the scan's grid; give labels made on it.")
    names = dict(getattr(legend, "names", legend))
    found = by_structure(answer, volume, labels.data, names)
    columns = ("share of what is seen", *found.heads)
    made = table("Attention by structure", "structure", *columns)
    for number, name in enumerate(found.names):
        even = found.volumes[number]
        cells = ["" if np.isnan(even) else f"{100 * even:.1f} %"]
        cells += [f"{100 * float(v):.1f} %" for v in found.shares[:, number]]
        made.add_row(name, *cells)
    show(made)
    return {
        name: [round(float(v), 6) for v in found.shares[:, number]]
        for number, name in enumerate(found.names)
    }


def _show_faithful(probe: Probe, answer: Any, randoms: int, steps: int) -> dict[str, Any]:
    """Print deletion and insertion of the map, of gradients and of Grad-CAM, beside chance."""
    from napari_sightline.attention.faithful import SCORES, TESTS, faithfulness
    from napari_sightline.attention.gradcam import seg_grad_cam
    from napari_sightline.attention.relevance import run_with_gradients
    from napari_sightline.evaluate.console import progress, show, table

    with progress("faithfulness") as tell:
        tell(0.0, "gradients")
        run = run_with_gradients(probe)
        maps: dict[str, Any] = {"this map": answer, "gradient": run.saliency}
        maps["Seg-Grad-CAM"] = seg_grad_cam(probe, run.mask)
        found = faithfulness(probe, maps, run.mask, randoms, steps, progress=tell)
    tests = [(test, score) for score in SCORES for test in TESTS]
    columns = [
        f"{test}, {score} ({'low' if test == 'deletion' else 'high'})" for test, score in tests
    ]
    made = table("Faithfulness", "order", *columns, "agreement")
    areas: dict[str, Any] = {}

    def add(name: str, each: list[tuple[float, float | None]], agree: float | None = None) -> None:
        cells = [f"{mean:.3f}" + ("" if sd is None else f" ± {sd:.3f}") for mean, sd in each]
        made.add_row(name, *cells, "" if agree is None else f"{agree:.2f}")
        areas[name] = {score: {} for score in SCORES}
        for (test, score), (mean, _) in zip(tests, each, strict=True):
            areas[name][score][test] = mean
        if agree is not None:
            areas[name]["agreement"] = agree

    for name, curve in found.maps.items():
        pair = found.agreement.get(("this map", name))
        add(name, [(curve.area(test, score), None) for test, score in tests], pair)
    add("chance, scattered", [found.chance(test, score) for test, score in tests])
    add("chance, this map moved", [found.chance(test, score, "this map") for test, score in tests])
    show(made)
    return areas


def evaluate_attention(
    cases: Annotated[Path, typer.Option(help="Cases file.", show_default=False)],
    randoms: Annotated[int, typer.Option(help="Runs of each kind of chance.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps of deletion and insertion.")] = 10,
    limit: Annotated[int | None, typer.Option(help="At most so many cases.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Another weights file of sightline-3d.")
    ] = None,
    device: Annotated[str, _DEVICE] = "auto",
    json: Annotated[Path | None, _JSON] = None,
) -> None:
    """Measure how faithful maps of sightline-3d are, after one click into each structure."""
    from napari_sightline.evaluate.attention import evaluate, tables_of
    from napari_sightline.evaluate.cases import read_cases
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.models import load_model

    check_target(json)
    found = read_cases(cases)[:limit]
    model = load_model("sightline-3d", device, weights)
    with progress("faithfulness") as tell:
        result = evaluate(found, model, randoms, steps, tell)
    show(*tables_of(result))
    print(f"{result['n_cases']} cases, {result['n']} structures; {result['machine']}")
    if json is not None:
        write_json(json, result)


def bench_attention(
    repeats: Annotated[int, typer.Option(help="Timed queries.")] = 30,
    side: Annotated[int, typer.Option(help="Side of the region and of the window, voxels.")] = 96,
    tokens: Annotated[int, typer.Option(help="Tokens of the large row.")] = 131072,
    json: Annotated[Path | None, _JSON] = None,
) -> None:
    """Time a voxel query over all blocks, and measure the recorder's memory against whole maps."""
    from napari_sightline.evaluate.bench_attention import bench, table_of
    from napari_sightline.evaluate.console import progress, show
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    with progress("timing") as tell:
        result = bench(repeats, side, tokens, tell)
    show(table_of(result))
    print(f"{result['machine']}, {result['threads']} threads, version {result['version']}")
    if json is not None:
        write_json(json, result)
