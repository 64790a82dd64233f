"""Models that are known: shipped ones, ones to download, and the user's own.

Importing this loads neither torch nor MONAI.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sightline.errors import BadInput
from napari_sightline.models import store
from napari_sightline.models.cards import CARDS, WEIGHTS, Card
from napari_sightline.models.download import Cancel, Progress, fetch, sha256_of

if TYPE_CHECKING:
    from napari_sightline.models.segmenter import Segmenter

#: The automatic model that ships with the package.
DEFAULT_SEGMENTER = "swin-unetr-headneck-ct"

State = Literal["shipped", "missing", "here", "to download"]


@dataclass(frozen=True)
class Entry:
    """A model as a manager shows it.

    Attributes
    ----------
    card : Card
        Its facts.
    state : {"shipped", "missing", "here", "to download"}
        ``"missing"``: should have been shipped but was not. ``"here"``: in the user's folder.
    path : Path or None
        Its file.
    sha256 : str or None
        As noted when it was added, or as published; None where not known.
    """

    card: Card
    state: State
    path: Path | None = None
    sha256: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def entries() -> list[Entry]:
    """List all models: shipped ones, the user's own, those to download."""
    here = {one.name: one for one in store.installed()}
    made = []
    for card in CARDS.values():
        if card.file is not None:
            path = WEIGHTS / card.file
            made.append(Entry(card, "shipped" if path.is_file() else "missing", path))
        elif card.name not in here:
            digests = [file.sha256 for file in card.files if file.sha256]
            made.append(Entry(card, "to download", None, digests[0] if digests else None))
    for one in here.values():
        known = CARDS.get(one.name)
        card = known or Card(
            name=one.name,
            title=f"{_some(one.structures)} (imported from {one.original})",
            task="automatic",
            structures=one.structures,
            modality=one.modality,
            licence=one.licence or "not known",
            source=one.source,
            size=one.size,
        )
        made.append(Entry(card, "here", one.path, one.sha256, {"added": one.added}))
    return made


def _some(structures: tuple[str, ...]) -> str:
    more = f" and {len(structures) - 3} more" if len(structures) > 4 else ""
    return ", ".join(structures[: 3 if more else 4]) + more


def card_named(name: str) -> Card:
    """Find a model that can be downloaded or is shipped.

    Raises
    ------
    BadInput
        Where there is none of that name.
    """
    if name not in CARDS:
        raise BadInput(
            f"The model {name!r} is not in the catalog; choose one of {', '.join(CARDS)}."
        )
    return CARDS[name]


def download(
    name: str,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    overwrite: bool = False,
    answers: Mapping[str, Any] | None = None,
) -> store.Installed:
    """Download a model of the catalog and put it into the user's folder.

    Show `Card.licence` before. What was fetched of an interrupted download is kept, and the next
    one goes on from there.

    Parameters
    ----------
    name : str
        One of the catalog.
    progress, cancel : callable, optional
        As in `download.fetch`.
    overwrite : bool
        Whether one that is here already may be replaced.
    answers : mapping, optional
        As in `importing.Draft.segmenter`, should its publisher's files say less than they did.

    Raises
    ------
    BadInput, ModelError, Cancelled
        As `download.fetch` and `importing.open_model` do.
    """
    card = card_named(name)
    if not overwrite and store.find(name) is not None:
        raise BadInput(f"The model {name!r} is here already; allow overwriting to renew it.")
    tell = progress or (lambda share, word: None)
    path = fetch_files(name, lambda share, word: tell(0.95 * share, word), cancel)
    tell(0.95, "reading the model")
    known = {"name": card.name, "licence": card.licence, "source": card.source}
    made = _import(
        path,
        card.name,
        card.preset,
        {**card.answers, **known, **(answers or {})},
        overwrite,
        original=card.files[-1].address,
    )
    shutil.rmtree(store.models_folder() / ".downloads" / name, ignore_errors=True)
    tell(1.0, "done")
    return made


def fetch_files(name: str, progress: Progress | None = None, cancel: Cancel | None = None) -> Path:
    """Download the files of a model of the catalog, without importing it.

    Returns
    -------
    Path
        For `importing.open_model`: a bundle's folder, a zip or a checkpoint. `download` goes on
        from there, and deletes it.

    Raises
    ------
    BadInput, ModelError, Cancelled
        As `download.fetch` does.
    """
    card = card_named(name)
    if not card.files:
        raise BadInput(f"The model {name!r} ships with the package; nothing is to be downloaded.")
    folder = store.models_folder() / ".downloads" / name
    paths = fetch(card.files, folder, progress, cancel)
    return folder if len(paths) > 1 else paths[0]


def add(
    path: Path,
    name: str | None = None,
    preset: str | None = None,
    answers: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> store.Installed:
    """Import a model from disk into the user's folder.

    Parameters
    ----------
    path : Path
        A bundle (folder or zip), a checkpoint, or a file of `write_segmenter`.
    name : str, optional
        What it is to be called.
    preset, answers
        As in `importing.open_model` and `importing.Draft.segmenter`.
    overwrite : bool
        Whether a model of that name may be replaced.

    Raises
    ------
    BadInput, ModelError
        As `importing.open_model` does, where facts are missing, or the name is taken.
    """
    if name is not None and name in CARDS:
        raise BadInput(f"{name!r} is a name of the catalog; give another.")
    return _import(path, name, preset, answers or {}, overwrite, path.name)


def _import(
    path: Path,
    name: str | None,
    preset: str | None,
    answers: Mapping[str, Any],
    overwrite: bool,
    original: str,
) -> store.Installed:
    if is_own(path):
        from napari_sightline.models.segmenter_io import read_segmenter

        spec = read_segmenter(path)[0].spec
        return store.install(path, spec, original, name or path.stem, overwrite)
    from napari_sightline.models.importing import open_model

    segmenter = open_model(path, preset).segmenter(answers)
    return store.install(segmenter, segmenter.spec, original, name, overwrite)


def verify(name: str) -> str:
    """Check that a model is whole.

    Returns
    -------
    str
        The SHA-256 of its file.

    Raises
    ------
    BadInput
        Where there is none of that name here.
    ModelError
        Where it is damaged.
    """
    card = CARDS.get(name)
    if card is None or card.file is None:
        return store.verify(name).sha256
    path = WEIGHTS / card.file
    if card.task == "prompts":
        from napari_sightline.models.weights_io import read_weights

        read_weights(path)
    else:
        from napari_sightline.models.segmenter_io import read_segmenter

        read_segmenter(path)
    return sha256_of(path)


def remove(name: str) -> None:
    """Delete a model of the user's folder, and what was fetched of it.

    Raises
    ------
    BadInput
        Where it ships with the package, or there is none of that name.
    """
    card = CARDS.get(name)
    if card is not None and card.file is not None:
        raise BadInput(f"The model {name!r} ships with the package and cannot be removed alone.")
    partly = store.models_folder() / ".downloads" / store.name_of(name)
    if partly.is_dir():
        shutil.rmtree(partly, ignore_errors=True)
        if store.find(name) is None:
            return
    store.remove(name)


def load_segmenter(
    name_or_path: str | Path = DEFAULT_SEGMENTER,
    preset: str | None = None,
    answers: Mapping[str, Any] | None = None,
) -> Segmenter:
    """Load an automatic model.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a model that is shipped or in the user's folder; or a bundle, a checkpoint, or a
        file of `write_segmenter`.
    preset, answers
        For other people's files; see `importing.open_model` and `importing.Draft.segmenter`.

    Returns
    -------
    Segmenter
        In float32 on the CPU, in evaluation mode.

    Raises
    ------
    BadInput
        Where it is not known, not here, or facts are missing.
    ModelError
        Where its weights are missing or damaged.
    """
    from napari_sightline.models.segmenter_io import read_segmenter

    path, name = file_of(name_or_path)
    if path is None:
        from napari_sightline.models.importing import open_model

        return open_model(Path(name_or_path), preset).segmenter(answers)
    segmenter = read_segmenter(path)[0]
    return replace(segmenter, spec=replace(segmenter.spec, name=name)) if name else segmenter


def file_of(name_or_path: str | Path) -> tuple[Path | None, str]:
    """Find the file of an automatic model.

    Returns
    -------
    tuple
        A file of `write_segmenter`, and the name that the user gave the model, where it is one of
        the user's folder. None where `name_or_path` is a bundle or checkpoint of other people.

    Raises
    ------
    BadInput
        Where it is not known or not here.
    """
    name = str(name_or_path)
    card = CARDS.get(name)
    if card is not None and card.file is not None:
        if card.task != "automatic":
            raise BadInput(
                f"The model {name!r} segments what is clicked; choose an automatic one, such as "
                f"{DEFAULT_SEGMENTER}."
            )
        return WEIGHTS / card.file, ""
    one = store.find(name) if isinstance(name_or_path, str) and name == _slug(name) else None
    if one is not None:
        return one.path, one.name
    path = Path(name_or_path)
    if path.exists():
        return (path if is_own(path) else None), ""
    if card is not None:
        raise BadInput(
            f"The model {name!r} is not on this machine; get it with `sightline models get {name}`."
        )
    raise BadInput(
        f"There is no model and no file {name!r}; see `sightline models list`, or give a bundle "
        "or a checkpoint."
    )


def _slug(name: str) -> str:
    try:
        return store.name_of(name)
    except BadInput:
        return ""


def is_own(path: Path) -> bool:
    """Tell whether a file is one of `write_segmenter`."""
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("format") == "sightline-segmenter"
    except (SafetensorError, OSError):
        return False
