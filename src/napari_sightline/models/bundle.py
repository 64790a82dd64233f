"""MONAI bundles, folder or zip, read as data: facts of a model, and where its weights lie."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.checkpoint import ENDINGS, LARGEST_BYTES
from napari_sightline.models.config_data import Config, NotPlain, class_name, read_config
from napari_sightline.models.transforms import read_steps

_CONFIGS = (".json", ".yaml", ".yml")
_MOST_ENTRIES = 10_000
#: A zip of text that grows more than this is made to fill a disk.
_LARGEST_GROWTH = 1000
_BACKGROUND = re.compile(r"^\s*(back\s?ground|bg|_?none|unlabell?ed)\s*$", re.IGNORECASE)
_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}


@dataclass
class BundleFacts:
    """What a bundle says of its model.

    Attributes
    ----------
    weights : Path
        The checkpoint.
    values : dict
        Facts by the keys of `questions.FIELDS`, as far as they could be read.
    unread : dict of str to str
        Facts that only running the configuration would give, with its text.
    network : dict
        Literal arguments of the bundle's network; empty where there are none.
    monai_version : str or None
        Of the metadata.
    changelog : str
        Of the metadata, as one text.
    unknown : list of str
        Steps before the network whose effect is not known.
    notes : list of str
        Sentences for the user.
    """

    weights: Path
    values: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    network_class: str | None = None
    monai_version: str | None = None
    changelog: str = ""
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack configuration and weights of a zip into an empty folder.

    Parameters
    ----------
    archive : Path
        The zip.
    folder : Path
        Where to; nothing is ever written outside.

    Returns
    -------
    Path
        The bundle's folder within, or the only checkpoint where there is no configuration.

    Raises
    ------
    BadInput
        Where it is no zip, an entry leaves the folder or is a link, or the size is absurd.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            _check_entries(archive, opened.infolist())
            for entry in entries:
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                # Archives made on a Mac hold a shadow ("._model.pt") of every file.
                shadow = path.name.startswith("._") or path.parts[0] == "__MACOSX"
                if path.suffix.lower() in (*ENDINGS, *_CONFIGS) and not shadow:
                    target = folder.joinpath(*path.parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(entry) as source, target.open("wb") as written:
                        shutil.copyfileobj(source, written, 2**20)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"The zip {archive.name!r} is damaged or encrypted; copy or download the file again."
        ) from error
    except OSError as error:
        raise BadInput(
            f"The zip {archive.name!r} could not be unpacked ({error.strerror}); free space in "
            f"{folder.parent}."
        ) from error
    roots = [p.parent.parent for p in folder.rglob("configs/metadata.json")]
    if len(roots) == 1:
        return roots[0]
    weights = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if len(weights) == 1 and not roots:
        return weights[0]
    raise BadInput(
        f"The zip {archive.name!r} is not one bundle (configs/metadata.json and models/model.pt) "
        "or one checkpoint; give the one that you mean."
    )


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise BadInput(
                f"The zip {archive.name!r} has an entry that leaves its folder "
                f"({entry.filename[:80]!r}); do not use this file."
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BadInput(
                f"The zip {archive.name!r} holds a link ({entry.filename[:80]!r}); "
                "zip the files themselves."
            )
        small = entry.file_size <= _LARGEST_GROWTH * max(entry.compress_size, 1000)
        if not small:
            raise BadInput(
                f"The zip {archive.name!r} holds {entry.filename[:80]!r}, which unpacks to more "
                f"than {_LARGEST_GROWTH} times its size; do not use this file."
            )
    if len(entries) > _MOST_ENTRIES or sum(e.file_size for e in entries) > LARGEST_BYTES:
        raise BadInput(
            f"The zip {archive.name!r} unpacks to more than {LARGEST_BYTES // 2**30} GB or "
            f"{_MOST_ENTRIES} files; give the bundle alone."
        )


def read_bundle(folder: Path) -> BundleFacts:
    """Read what can be read safely of a bundle in a folder.

    Raises
    ------
    BadInput
        Where it is no bundle, or a part of it is damaged.
    """
    configs = _within(folder, folder / "configs")
    metadata_file = configs / "metadata.json"
    if not metadata_file.is_file():
        raise BadInput(
            f"The folder {folder.name!r} is not a MONAI bundle, since configs/metadata.json is "
            "missing; give the bundle's top folder, or a checkpoint."
        )
    facts = BundleFacts(_weights_of(folder))
    facts.values["name"] = folder.name
    _read_metadata(read_config(_within(folder, metadata_file)), facts)
    for name in ("inference", "evaluate", "train"):
        file = next((f for e in _CONFIGS if (f := configs / f"{name}{e}").is_file()), None)
        if file is not None:
            _read_workflow(Config(read_config(_within(folder, file))), facts, name)
            if facts.network and "intensity" in facts.values:
                break
    return facts


def _within(folder: Path, path: Path) -> Path:
    """Refuse a link that leads out of the bundle."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            f"{path.name!r} in the bundle {folder.name!r} is a link that leaves it; copy the file "
            "into the bundle."
        )
    return path


def _weights_of(folder: Path) -> Path:
    models = folder / "models"
    usual = [models / f"model{ending}" for ending in (".safetensors", ".pt", ".pth")]
    found = [p for p in usual if p.is_file()] or sorted(
        p
        for p in (models.iterdir() if models.is_dir() else ())
        if p.suffix.lower() in ENDINGS and "trt" not in p.name
    )
    if not found:
        raise BadInput(
            f"The bundle {folder.name!r} has no weights in its folder models; put model.pt there."
        )
    if len(found) > 1 and found[0] not in usual:
        raise BadInput(
            f"The bundle {folder.name!r} has several checkpoints "
            f"({', '.join(p.name for p in found[:4])}); name one of them model.pt."
        )
    return _within(folder, found[0])


def _read_metadata(metadata: Mapping[str, Any], facts: BundleFacts) -> None:
    values = facts.values
    version = metadata.get("monai_version")
    facts.monai_version = str(version) if version else None
    facts.changelog = " ".join(str(v) for v in _mapping(metadata.get("changelog")).values())
    if metadata.get("license"):
        values["licence"] = str(metadata["license"])[:200]
    for key in ("intended_use", "copyright"):
        if isinstance(metadata.get(key), str):
            facts.notes.append(f"{metadata[key].strip()[:300].rstrip('.')}.")
    formats = _mapping(metadata.get("network_data_format"))
    image = _first(_mapping(formats.get("inputs")))
    prediction = _first(_mapping(formats.get("outputs")))
    modality = _MODALITIES.get(str(image.get("modality", "")).upper())
    if modality is not None:
        values["modality"] = modality
    shape = image.get("spatial_shape")
    if isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape):
        values["roi"] = tuple(shape)
    channels = _numbered(image.get("channel_def"))
    if len(channels) == 1 and modality is not None:
        values["channels"] = (modality,)
    elif channels:
        values["channels"] = tuple(channels[n] for n in sorted(channels))
    labels = _numbered(prediction.get("channel_def"))
    if labels and sorted(labels) == list(range(len(labels))):
        values["overlapping"] = not _BACKGROUND.match(labels[0])
        first = 0 if values["overlapping"] else 1
        values["labels"] = {n + 1 - first: labels[n] for n in range(first, len(labels))}
    elif isinstance(prediction.get("channel_def"), (str, dict)):
        facts.unread["labels"] = str(prediction["channel_def"])[:200]


def _read_workflow(config: Config, facts: BundleFacts, name: str) -> None:
    values = facts.values
    _read_network(config, facts)
    for inferer in config.made("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        for key, argument in (("roi", "roi_size"), ("overlap", "overlap")):
            _read_argument(config, inferer, key, argument, facts)
        if "overlap" not in inferer:
            values.setdefault("overlap", 0.25)  # MONAI's default
        break
    _read_activation(config, values)
    if any(key in values for key in ("intensity", "spacing")):
        return
    listed = _steps(config)
    if isinstance(listed, str):
        for key in ("orientation", "spacing", "intensity"):
            facts.unread.setdefault(key, listed)
    if not isinstance(listed, list):
        return
    steps = read_steps(config, listed, len(values.get("channels", ("",))))
    values.update(steps.values)
    for key, text in steps.unread.items():
        facts.unread[key] = text
        values.pop(key, None)
    if "spacing" not in steps.values and "spacing" not in steps.unread and not steps.unknown:
        values["spacing"] = None
    facts.unknown = steps.unknown
    facts.notes.extend(steps.notes)
    facts.notes.append(f"Steps before the network are those of the bundle's {name} configuration.")


def _read_network(config: Config, facts: BundleFacts) -> None:
    if facts.network_class is not None or "network_def" not in config:
        return
    try:
        network = config.follow(config.content["network_def"])
    except NotPlain as text:
        facts.notes.append(f"The bundle's network is an expression ({str(text)[:80]!r}), not run.")
        return
    if not isinstance(network, Mapping) or "_target_" not in network:
        return
    facts.network_class = class_name(network) or str(network["_target_"])[:120]
    for key, value in network.items():
        try:
            if not key.startswith("_"):
                facts.network[key] = config.plain(value)
        except NotPlain:
            continue  # what is not plain cannot be compared


def _read_argument(
    config: Config, inferer: Mapping[str, Any], key: str, argument: str, facts: BundleFacts
) -> None:
    if argument not in inferer:
        return
    try:
        value = config.plain(inferer[argument])
        if key == "roi":
            sides = value if isinstance(value, list) else [value] * 3
            a, b, c = (int(n) for n in sides)
            if min(a, b, c) > 0:
                facts.values[key] = (a, b, c)
        else:
            share = float(value)
            if 0 <= share < 1:
                facts.values[key] = share
    except NotPlain as text:
        facts.unread[key] = str(text)
        facts.values.pop(key, None)
    except (TypeError, ValueError):
        facts.unread[key] = str(value)[:80]
        facts.values.pop(key, None)


def _read_activation(config: Config, values: dict[str, Any]) -> None:
    for step in config.made("Activationsd", "ActivationsD", "ActivationsDict"):
        if step.get("sigmoid") is True:
            values["overlapping"] = True
        elif step.get("softmax") is True:
            values["overlapping"] = False
    labels = values.get("labels")
    if values.get("overlapping") is False and labels and _BACKGROUND.match(labels[1]):
        values["labels"] = {n - 1: label for n, label in labels.items() if n > 1}


def _steps(config: Config) -> list[Any] | str | None:
    """Find the list of steps before the network; its text where it is an expression."""
    try:
        for key in ("preprocessing", "infer_transforms", "transforms", "validate_preprocessing"):
            if key in config:
                found = config.follow(config.content[key])
                if isinstance(found, Mapping):
                    found = config.follow(found.get("transforms", found.get("preprocessing")))
                if isinstance(found, list):
                    return found
        validate = _mapping(config.content.get("validate")).get("preprocessing")
        if isinstance(validate, Mapping):
            found = config.follow(validate.get("transforms"))
            return found if isinstance(found, list) else None
    except NotPlain as text:
        return str(text)
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take one of several inputs or outputs: by custom it is named image or pred."""
    for key in ("image", "pred"):
        if key in value:
            return _mapping(value[key])
    return _mapping(next(iter(value.values()), {}))


def _numbered(value: Any) -> dict[int, str]:
    """Read a mapping of channel numbers to names; empty where it is not one."""
    try:
        return {int(number): str(name).strip() for number, name in _mapping(value).items()}
    except ValueError:
        return {}


def _says(said: Any, own: Any) -> bool:
    """Whether a value of a configuration means a size; one number stands for all of a list."""
    if not isinstance(own, tuple):
        return bool(said == own)
    if not isinstance(said, list | tuple):
        return all(_says(said, part) for part in own)
    return len(said) == len(own) and all(map(_says, said, own))


def compare(facts: BundleFacts, inferred: Mapping[str, Any]) -> None:
    """Check the bundle's network against the sizes that the weights have.

    Parameters
    ----------
    facts : BundleFacts
        Of `read_bundle`.
    inferred : mapping
        The weights' sizes, under the names of MONAI's arguments.

    Raises
    ------
    ModelError
        Where they differ.
    """
    for key, own in inferred.items():
        if key not in facts.network:
            continue
        if not _says(facts.network[key], own):
            raise ModelError(
                f"The bundle's configuration says {key} = {facts.network[key]!r}, but its weights "
                f"have {own!r}; ask the bundle's author for the right weights."
            )
