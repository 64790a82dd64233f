"""The user's own folder of models: one folder a model, whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.download import sha256_of

if TYPE_CHECKING:
    from napari_sightline.models.segmenter import Segmenter, SegmenterSpec

_WEIGHTS = "model.safetensors"
_CARD = "card.json"


@dataclass(frozen=True)
class Installed:
    """A model in the user's folder.

    Attributes
    ----------
    name : str
        Lower case, as it is called on the command line.
    structures : tuple of str
        What it segments.
    licence, source, original : str
        Its terms, where it comes from, and the file it was made of.
    modality : str
        Empty where not known.
    sha256 : str
        Of the file in this folder.
    size : int
        Bytes of that file.
    added : str
        Day, ISO 8601.
    """

    name: str
    structures: tuple[str, ...]
    licence: str
    source: str
    original: str
    modality: str
    sha256: str
    size: int
    added: str

    @property
    def path(self) -> Path:
        """Its file, as `segmenter_io.read_segmenter` reads it."""
        return models_folder() / self.name / _WEIGHTS


def models_folder() -> Path:
    """Tell where models are kept: ``SIGHTLINE_MODELS``, or a folder of the user's own data."""
    named = os.environ.get("SIGHTLINE_MODELS")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return Path(user_data_path("napari-sightline", appauthor=False)) / "models"


def name_of(text: str) -> str:
    """Make a name that every file system takes.

    Raises
    ------
    BadInput
        Where nothing is left of it.
    """
    name = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")[:80]
    if not name:
        raise BadInput(f"{text!r} is no name for a model; use letters and digits.")
    return name


def installed() -> list[Installed]:
    """List the models in the user's folder by name; a folder without a card is left out."""
    folder = models_folder()
    found = []
    for card in sorted(folder.glob(f"*/{_CARD}")) if folder.is_dir() else ():
        with suppress(ModelError):
            if not card.parent.name.startswith("."):
                found.append(_read(card.parent.name))
    return found


def find(name: str) -> Installed | None:
    """Find a model in the user's folder.

    Raises
    ------
    ModelError
        Where its card is damaged.
    """
    if name != name_of(name) or not (models_folder() / name / _CARD).is_file():
        return None
    return _read(name)


def _read(name: str) -> Installed:
    try:
        values = json.loads((models_folder() / name / _CARD).read_text(encoding="utf-8"))
        values["structures"] = tuple(values["structures"])
        return Installed(**{**values, "name": name})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The card of the model {name!r} is damaged; remove the model with "
            f"`sightline models remove {name}` and add it again."
        ) from error


def install(
    model: Segmenter | Path,
    spec: SegmenterSpec,
    original: str,
    name: str | None = None,
    overwrite: bool = False,
) -> Installed:
    """Put a model into the user's folder, whole or not at all.

    Parameters
    ----------
    model : Segmenter or Path
        The model, kept in float32; or a file of `write_segmenter`, copied as it is.
    spec : SegmenterSpec
        Its facts.
    original : str
        The file it was made of.
    name : str, optional
        By default the model's own.
    overwrite : bool
        Whether a model of that name may be replaced.

    Raises
    ------
    BadInput
        Where there is one of that name already, or the disk refuses.
    """
    name = name_of(name or spec.name)
    folder = models_folder()
    if not overwrite and (folder / name).exists():
        raise BadInput(
            f"There is a model {name!r} already; give another name, or allow overwriting."
        )
    staging = folder / f".{uuid.uuid4().hex}"
    aside = folder / f".{uuid.uuid4().hex}"
    try:
        staging.mkdir(parents=True)
        weights = staging / _WEIGHTS
        if isinstance(model, Path):
            shutil.copyfile(model, weights)
        else:
            from napari_sightline.models.segmenter_io import write_segmenter

            about = {"original": original}
            write_segmenter(weights, model.network, spec, about, half=False, others=model.others)
        card = Installed(
            name,
            tuple(spec.labels.values()),
            spec.licence,
            spec.source,
            original,
            spec.modality or "",
            sha256_of(weights),
            weights.stat().st_size,
            datetime.now(UTC).date().isoformat(),
        )
        text = json.dumps(asdict(card), indent=1) + "\n"
        (staging / _CARD).write_text(text, encoding="utf-8")
        if (folder / name).exists():
            (folder / name).replace(aside)
        staging.replace(folder / name)
    except OSError as error:
        if aside.exists() and not (folder / name).exists():
            aside.replace(folder / name)
        raise BadInput(
            f"The model {name!r} could not be written ({error.strerror}); free space in {folder}, "
            "or set SIGHTLINE_MODELS to another folder."
        ) from error
    finally:
        for temporary in (staging, aside):
            shutil.rmtree(temporary, ignore_errors=True)
    return card


def verify(name: str) -> Installed:
    """Check that a model in the user's folder is what was put there.

    Raises
    ------
    BadInput
        Where there is none of that name.
    ModelError
        Where it changed since.
    """
    card = _needed(name)
    if not card.path.is_file() or sha256_of(card.path) != card.sha256:
        raise ModelError(
            f"The model {name!r} is not the file that was put there; remove it with "
            f"`sightline models remove {name}` and add it again."
        )
    return card


def remove(name: str) -> None:
    """Delete a model from the user's folder.

    Raises
    ------
    BadInput
        Where there is none of that name, or the disk refuses.
    """
    folder = models_folder() / name
    if name != name_of(name) or not folder.is_dir():
        _needed(name)
    gone = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        folder.replace(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise BadInput(
            f"The model {name!r} could not be deleted ({error.strerror}); delete {folder} yourself."
        ) from error


def _needed(name: str) -> Installed:
    card = find(name)
    if card is None:
        have = ", ".join(one.name for one in installed()) or "none"
        raise BadInput(
            f"There is no model {name!r} in {models_folder()} (there: {have}); see "
            "`sightline models list`."
        )
    return card
