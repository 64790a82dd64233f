"""The commands `sightline models ...`: list, get, add, combine, split, average, verify and remove.

As in `cli`, nothing that takes time is imported before a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sightline.errors import BadInput, SightlineError

if TYPE_CHECKING:
    from napari_sightline.models.importing import Draft

__all__ = ["add_model_commands"]

_NAME = typer.Argument(help="Name of a model; see 'sightline models list'.", show_default=False)
_OVERWRITE = typer.Option(help="Whether a model of that name may be replaced.")
_SEVERAL = typer.Argument(help="Two or more: names, or files of training.")
_OUT = typer.Option(help="File to write, .safetensors.", show_default=False)
_HALF = typer.Option(help="Round weights to half precision, as training does.")
_REPLACE = typer.Option(help="Whether files of that name may be replaced.")
_YES = typer.Option("--yes", "-y", help="Do not ask.")
_SETS = typer.Option(
    "--set",
    help="A fact that the file does not say, such as 'spacing=1.5 1.5 2'. Again for more.",
    metavar="FACT=ANSWER",
)
_JSON = typer.Option("--json", help="Write the facts to this file too.")


def add_model_commands(app: typer.Typer) -> None:
    """Add the commands about models to the command line."""
    models = typer.Typer(
        help="Models that can segment: list, download, import, join, verify and remove them.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in (
        ("list", list_models),
        ("get", get),
        ("add", add),
        ("combine", combine),
        ("split", split),
        ("average", average),
        ("verify", verify),
        ("remove", remove),
    ):
        models.command(name)(command)
    app.add_typer(models, name="models")


def list_models(json: Annotated[Path | None, _JSON] = None) -> None:
    """List models: shipped with the package, in your own folder, and to download.

    'sightline models verify' checks that those here are whole.
    """
    from napari_sightline.evaluate.console import show, table
    from napari_sightline.io.targets import check_target, write_json
    from napari_sightline.models import store
    from napari_sightline.models.catalog import entries

    check_target(json)
    found = entries()
    made = table("Models", "model", "what it segments", "size", "where")
    made.columns[1].justify = "left"
    for entry in found:
        made.add_row(entry.card.name, entry.card.title, entry.card.size_in_words, entry.state)
    show(made)
    print(f"your own models: {store.models_folder()}")
    if json is not None:
        facts = [
            {
                "name": entry.card.name,
                "title": entry.card.title,
                "task": entry.card.task,
                "structures": list(entry.card.structures),
                "modality": entry.card.modality,
                "licence": entry.card.licence,
                "source": entry.card.source,
                "size": entry.card.size,
                "sha256": entry.sha256,
                "state": entry.state,
                "path": str(entry.path) if entry.path else None,
            }
            for entry in found
        ]
        write_json(json, facts)


def get(
    name: Annotated[str, _NAME],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Agree to its licence without being asked.")
    ] = False,
    sets: Annotated[list[str] | None, _SETS] = None,
    overwrite: Annotated[bool, _OVERWRITE] = False,
) -> None:
    """Download a model, after its licence is shown.

    An interrupted download goes on where it stopped. With HF_HUB_OFFLINE set, nothing is
    downloaded; HF_ENDPOINT names a mirror of the Hugging Face hub.
    """
    from napari_sightline.evaluate.console import progress
    from napari_sightline.models.catalog import card_named, download

    card = card_named(name)
    answers = _answers(sets)
    digests = [file.sha256 for file in card.files if file.sha256]
    _tell(
        {
            "model": card.title,
            "structures": ", ".join(card.structures),
            "licence": card.licence,
            "source": card.source,
            "size": card.size_in_words,
            "quality": card.figures,
            "SHA-256": ", ".join(digests) or "not published",
        }
    )
    if card.files:
        _agree(yes, "Download it under these terms?")
    with progress("downloading") as tell:
        made = download(name, tell, overwrite=overwrite, answers=answers)
    print(f"{made.name}: {made.size / 1e6:.1f} MB, SHA-256 {made.sha256}")


def add(
    path: Annotated[
        Path,
        typer.Argument(
            help="A MONAI bundle (folder or .zip) or a checkpoint (.pt, .pth, .safetensors).",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What it is to be called.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Facts of its kind: btcv, brats or headneck.")
    ] = None,
    sets: Annotated[list[str] | None, _SETS] = None,
    look: Annotated[
        bool, typer.Option("--look", help="Say what was found and what is open; add nothing.")
    ] = False,
    overwrite: Annotated[bool, _OVERWRITE] = False,
) -> None:
    """Import a Swin-UNETR, UNETR or DynUNet from disk, without running anything in its files.

    What cannot be read safely is asked at the terminal, or given with --set.
    """
    from napari_sightline.models import catalog
    from napari_sightline.models.importing import open_model

    answers = _answers(sets)
    if not path.exists():
        raise BadInput(f"The model {str(path)!r} is missing; give a file or folder that exists.")
    if not catalog.is_own(path):
        draft = open_model(path, preset)
        if look:
            _look(draft)
            return
        if sys.stdin.isatty():
            answers |= _ask(draft, answers)
    elif look:
        print(f"{path.name} says all of its model; nothing is open.")
        return
    made = catalog.add(path, name, preset, answers, overwrite)
    print(f"{made.name}: {', '.join(made.structures)}")
    print(made.path)


def combine(
    models: Annotated[list[str], _SEVERAL],
    out: Annotated[Path, _OUT],
    half: Annotated[bool, _HALF] = True,
    overwrite: Annotated[bool, _REPLACE] = False,
) -> None:
    """Make one model of several, such as the folds of a cross-validation.

    It answers with the mean of their logits and takes the time of all. Structures, grid,
    window and intensities must be the same. Its attention is that of the first.
    """
    from napari_sightline.models.ensemble import write_combined

    _check_new(out, overwrite)
    made = write_combined(models, out, half=half)
    print(f"{out.name}: {len(made.networks)} networks, {out.stat().st_size / 1e6:.1f} MB")


def split(
    name: Annotated[
        str, typer.Argument(help="A model of several networks: its name, or its file.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for NAME-1.safetensors and so on.", show_default=False)
    ],
    half: Annotated[bool, _HALF] = True,
    overwrite: Annotated[bool, _REPLACE] = False,
) -> None:
    """Write each network of a combined model into a file of its own."""
    from napari_sightline.models.ensemble import write_apart

    if not out.is_dir():
        raise BadInput(f"There is no folder {str(out)!r}; give one that exists.")
    for file in write_apart(name, out, half, overwrite):
        print(file)


def average(
    models: Annotated[list[str], _SEVERAL],
    out: Annotated[Path, _OUT],
    half: Annotated[bool, _HALF] = True,
    overwrite: Annotated[bool, _REPLACE] = False,
) -> None:
    """Average the weights of models that learnt on from the same ones.

    The result is as fast as one of them. Measure it: the average of networks that began apart
    is worthless, and 'combine' is for those.
    """
    from napari_sightline.models.averaging import write_average

    _check_new(out, overwrite)
    write_average(models, out, half=half)
    print(f"{out.name}: the average of {len(models)}, {out.stat().st_size / 1e6:.1f} MB")


def verify(
    name: Annotated[
        str | None, typer.Argument(help="Name of a model; all that are here by default.")
    ] = None,
) -> None:
    """Check that models are whole: their checksums, or that shipped ones can be read."""
    from napari_sightline.models.catalog import entries
    from napari_sightline.models.catalog import verify as check

    names = [name] if name else [e.card.name for e in entries() if e.state in ("here", "shipped")]
    wrong: list[str] = []
    for one in names:
        try:
            print(f"{one}: whole, SHA-256 {check(one)}")
        except SightlineError as error:
            if name:
                raise
            wrong.append(str(error))
    if wrong:
        raise BadInput(" ".join(wrong))


def remove(
    name: Annotated[str, _NAME],
    yes: Annotated[bool, _YES] = False,
) -> None:
    """Delete a model from your own folder."""
    from napari_sightline.models import catalog

    _agree(yes, f"Delete {name}?")
    catalog.remove(name)
    print(f"{name}: deleted")


def _check_new(out: Path, overwrite: bool) -> None:
    """Refuse a file of weights that cannot be written, or would replace another unasked."""
    from napari_sightline.io.targets import check_target

    check_target(out, (".safetensors",))
    if out.exists() and not overwrite:
        raise BadInput(f"There is a file {out.name!r} already; give another name or --overwrite.")


def _answers(sets: list[str] | None) -> dict[str, str]:
    from napari_sightline.models.questions import parse

    answers: dict[str, str] = {}
    for text in sets or []:
        key, equals, answer = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text!r} is not understood; write --set FACT=ANSWER.")
        parse(key.strip(), answer)
        answers[key.strip()] = answer
    return answers


def _agree(yes: bool, question: str) -> None:
    """Ask at a terminal; without one, --yes must have been said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{question} There is no terminal to answer at; say --yes.")
    if not typer.confirm(question):
        raise typer.Exit(1)


def _ask(draft: Draft, given: Mapping[str, Any]) -> dict[str, str]:
    from napari_sightline.models.questions import parse

    made: dict[str, str] = {}
    for question in draft.questions:
        if question.key in given:
            continue
        hint = f" ({question.found})" if question.found else ""
        choices = f" [{', '.join(question.choices)}]" if question.choices else ""
        while question.key not in made:
            answer = typer.prompt(
                question.text + hint + choices, default=question.value or None, type=str
            )
            try:
                parse(question.key, answer)
            except BadInput as error:
                print(error, file=sys.stderr)
                continue
            made[question.key] = answer
    return made


def _look(draft: Draft) -> None:
    from napari_sightline.models.questions import as_text

    _tell(
        {
            "network": f"{draft.family}, channels {draft.in_channels} to {draft.out_channels}",
            "presets": ", ".join(draft.presets) or "none fits",
            **{key: as_text(key, value) for key, value in draft.values.items()},
        }
    )
    for note in draft.notes:
        print(f"note       {note}")
    for question in draft.questions:
        found = f" ({question.found})" if question.found else ""
        print(f"open       --set '{question.key}={question.example}': {question.text}{found}")


def _tell(facts: Mapping[str, str]) -> None:
    for word, text in facts.items():
        if text:
            print(f"{word:10} {text}")
