"""Other people's models: what a checkpoint or a bundle says, what must be asked, and the result."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_sightline.errors import BadInput
from napari_sightline.models import dynunet
from napari_sightline.models.architecture import check_fit, filled, find_network, sizes_of
from napari_sightline.models.bundle import BundleFacts, compare, read_bundle, unpack
from napari_sightline.models.checkpoint import read_checkpoint, saved_before_torch_2_1
from napari_sightline.models.presets import PRESETS, preset_named
from napari_sightline.models.questions import FIELDS, Question, parse, question
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.models.swin_unetr import SwinUnetrSizes
from napari_sightline.models.unetr import ANCHOR as UNETR_ANCHOR
from napari_sightline.models.unetr import PATCH

#: Facts that a model cannot run without, in the order in which a form shows them.
_NEEDED = ("labels", "channels", "overlapping", "orientation", "spacing", "intensity", "roi")
_USUAL = {"orientation": "RAS", "overlap": 0.5, "roi": (96, 96, 96)}


@dataclass(frozen=True)
class Draft:
    """A model that was read safely as far as that goes.

    Attributes
    ----------
    name : str
        Of the file or bundle.
    family : str
        One of `architecture.FAMILIES`.
    in_channels, out_channels : int
        Of the network.
    values : mapping
        Facts found, by the keys of `questions.FIELDS`.
    questions : tuple of Question
        What must be answered before the model can run; empty where all was found.
    notes : tuple of str
        Sentences on what was found or is done otherwise.
    presets : tuple of str
        Presets that fit the network's channels.
    """

    name: str
    family: str
    in_channels: int
    out_channels: int
    values: Mapping[str, Any]
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    presets: tuple[str, ...]
    _state: Mapping[str, Tensor] = field(repr=False)
    _hints: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def segmenter(self, answers: Mapping[str, Any] | None = None) -> Segmenter:
        """Make the model.

        Parameters
        ----------
        answers : mapping, optional
            Values, or answers in words (`questions.parse`), by the keys of `questions.FIELDS`.
            They go before what was found.

        Raises
        ------
        BadInput
            Where an answer is missing or not understood.
        ModelError
            Where the weights or the facts do not fit the network.
        """
        given = {key: parse(key, answer) for key, answer in (answers or {}).items()}
        open_ones = [q for q in self.questions if q.key not in given]
        if open_ones:
            first = open_ones[0]
            hint = f" ({first.found})" if first.found else ""
            more = ", ".join(q.key for q in open_ones[1:])
            raise BadInput(
                f"The file of {self.name!r} does not say safely: {first.text}{hint} Answer with "
                f"--set '{first.key}={first.example}'"
                + (f", and {more} likewise." if more else ".")
            )
        values = {**self.values, **given}
        hints = {**self._hints, **{k: values[k] for k in _HINTS if k in values}}
        sizes = sizes_of(self.family, self._state, hints)
        spec = _spec(self.name, values, self.notes, sizes.only_input)
        check_fit(sizes, spec)
        return Segmenter(filled(sizes, self._state, self.name), spec)


_HINTS = ("merging", "heads", "image_size")
_CLASSES = ("SwinUNETR", "UNETR", "DynUNet", "DynUnet", "Dynunet", None)


def open_model(path: Path, preset: str | None = None) -> Draft:
    """Read a model of somebody else's without running anything in it.

    Parameters
    ----------
    path : Path
        A MONAI bundle (folder or zip) or a checkpoint (``.pt``, ``.pth``, ``.ckpt``,
        ``.safetensors``) of a Swin-UNETR, UNETR or DynUNet.
    preset : str, optional
        One of `presets.PRESETS`: facts for what the file does not say.

    Raises
    ------
    BadInput
        Where the file is missing, not a model, or made to do harm.
    ModelError
        Where it is damaged, or of another architecture.
    """
    defaults = dict(preset_named(preset).values) if preset is not None else {}
    if path.is_dir():
        return _draft(path, read_bundle(path), defaults)
    if path.suffix.lower() != ".zip":
        return _draft(path, None, defaults)
    if not path.is_file():
        raise BadInput(f"The model {str(path)!r} is missing; give a file that exists.")
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        unpacked = unpack(path, Path(folder))
        facts = read_bundle(unpacked) if unpacked.is_dir() else None
        if facts is not None:
            facts.values["name"] = path.stem
        return _draft(unpacked, facts, defaults, path.stem)


def _draft(
    path: Path, facts: BundleFacts | None, defaults: Mapping[str, Any], name: str | None = None
) -> Draft:
    weights = facts.weights if facts is not None else path
    state = read_checkpoint(weights)
    name = name or (path.name if path.is_dir() else path.stem)
    family, state = find_network(state, name)
    found = {**defaults, **(facts.values if facts is not None else {})}
    unread = dict(facts.unread) if facts is not None else {}
    for key in unread:
        # What the bundle does otherwise than it says is asked for, even with a preset.
        found.pop(key, None)
    network = dict(facts.network) if facts is not None else {}
    hints = _hints(network)
    notes = list(facts.notes) if facts is not None else []
    asked: list[Question] = []
    if family == "swin_unetr":
        merging, why = _merging(weights, facts, network)
        if merging is None:
            asked.append(question("merging", None, why))
        else:
            hints["merging"] = merging
            notes.append(why)
    if family == "unetr" and "image_size" not in hints:
        _ask_image_size(state, hints, asked)
    sizes = sizes_of(family, state, hints)
    if family == "dynunet":
        dynunet.check_arguments(network)
    if facts is not None:
        compare(facts, _as_arguments(family, sizes))
        if facts.network_class not in _CLASSES:
            facts.unknown.append(f"the network class {facts.network_class}")
    if family == "dynunet" and not network:
        notes.append("Normalisation and activation are taken as MONAI has them by default.")
    if family == "unetr":
        found["roi"] = sizes.only_input
        unread.pop("roi", None)
        if "heads" not in hints:
            asked.append(question("heads", sizes.to_dict()["heads"], "64 channels each, as usual"))
    if sizes.in_channels == 1 and "channels" not in found and "channels" not in unread:
        found["channels"] = (found.get("modality") or "image",)
    asked = [*_open(found, unread, defaults, sizes), *asked]
    if facts is not None and facts.unknown:
        asked.append(question("left_out", None, ", ".join(facts.unknown)))
    if "overlap" not in found:
        found["overlap"] = _USUAL["overlap"]
        notes.append("The overlap of windows is not said; half a window is taken.")
    presets = tuple(
        p.name for p in PRESETS.values() if p.fits(sizes.in_channels, sizes.out_channels)
    )
    return Draft(
        name,
        family,
        sizes.in_channels,
        sizes.out_channels,
        found,
        tuple(asked),
        tuple(notes),
        presets,
        state,
        hints,
    )


def _ask_image_size(
    state: Mapping[str, Tensor], hints: dict[str, Any], asked: list[Question]
) -> None:
    """Ask for the size of a UNETR's window where it is no cube."""
    tokens = int(state[UNETR_ANCHOR].shape[1])
    if round(tokens ** (1 / 3)) ** 3 != tokens:
        hints["image_size"] = (PATCH * tokens, PATCH, PATCH)  # to read the other sizes by
        asked.append(question("image_size", None, f"{tokens} tokens of {PATCH} voxels a side"))


def _open(
    found: Mapping[str, Any], unread: Mapping[str, str], defaults: Mapping[str, Any], sizes: Any
) -> list[Question]:
    """Questions for what is needed and not found."""
    asked = []
    for key in _NEEDED:
        if key in found:
            continue
        value = defaults.get(key, _USUAL.get(key))
        if key == "labels":
            count = sizes.out_channels - (0 if found.get("overlapping") else 1)
            value = value or {n: f"structure {n}" for n in range(1, count + 1)}
        if key == "channels":
            value = value or tuple(f"channel {n}" for n in range(1, sizes.in_channels + 1))
        text = unread.get(key)
        asked.append(question(key, value, f"the file says {text!r}" if text else ""))
    for key in unread.keys() - set(_NEEDED) - {"overlap"}:
        asked.append(question(key, None, f"the file says {unread[key]!r}"))
    return asked


def _hints(network: Mapping[str, Any]) -> dict[str, Any]:
    """Take from the configuration what shapes do not tell."""
    hints: dict[str, Any] = {}
    if isinstance(network.get("normalize"), bool):
        hints["normalize"] = network["normalize"]
    if type(network.get("num_heads")) is int:
        hints["heads"] = network["num_heads"]
    size = network.get("img_size")
    sides = size if isinstance(size, list) else [size] * 3
    if len(sides) == 3 and all(type(n) is int and n > 0 for n in sides):
        hints["image_size"] = tuple(sides)
    return hints


def _merging(
    weights: Path, facts: BundleFacts | None, network: Mapping[str, Any]
) -> tuple[Any, str]:
    """Tell in which order tokens are merged, and why; None where it must be asked.

    The default of MONAI changed in version 1.5, so that metadata of an earlier version, or a
    changelog that speaks of one, tells; a later version alone does not, since metadata are
    renewed while weights stay. So does a file that PyTorch saved before any that MONAI 1.5 takes.
    """
    if network.get("downsample") == "mergingv2":
        return "mergingv2", "Tokens are merged as the bundle's network says (mergingv2)."
    if saved_before_torch_2_1(weights):
        return (
            "merging_before_1_5",
            "The weights were saved by a PyTorch that is older than MONAI 1.5 takes: tokens are "
            "merged in the order that was the default before.",
        )
    if facts is None:
        return None, "a checkpoint does not tell"
    version = _version(facts.monai_version)
    if version is None:
        return None, "the bundle names no version of MONAI"
    named = [_version(v) for v in re.findall(r"monai\s+v?(\d+\.\d+)", facts.changelog.lower())]
    earliest = min([version, *(v for v in named if v is not None)])
    if earliest < (1, 5):
        return (
            "merging_before_1_5",
            f"The bundle knows MONAI {earliest[0]}.{earliest[1]}: tokens are merged in the order "
            "of versions before 1.5.",
        )
    return None, f"the bundle names MONAI {facts.monai_version}, but weights may be older"


def _version(text: str | None) -> tuple[int, int] | None:
    match = re.match(r"v?(\d+)\.(\d+)", text or "")
    return (int(match[1]), int(match[2])) if match else None


def _as_arguments(family: str, sizes: Any) -> dict[str, Any]:
    """Sizes under the names of MONAI's arguments."""
    same = {"in_channels": sizes.in_channels, "out_channels": sizes.out_channels}
    if isinstance(sizes, SwinUnetrSizes):
        return {
            **same,
            "spatial_dims": 3,
            "feature_size": sizes.feature_size,
            "depths": sizes.depths,
            "num_heads": sizes.heads,
            "window_size": sizes.window,
            "patch_size": sizes.patch,
            "mlp_ratio": sizes.mlp_ratio,
            "qkv_bias": sizes.qkv_bias,
            "patch_norm": sizes.patch_norm,
            "use_v2": sizes.use_v2,
        }
    if isinstance(sizes, dynunet.DynUnetSizes):
        return {
            **same,
            "spatial_dims": 3,
            "filters": sizes.filters,
            "kernel_size": sizes.kernels,
            "strides": sizes.steps,
            "upsample_kernel_size": sizes.steps[1:],
            "res_block": sizes.res_block,
            "trans_bias": sizes.trans_bias,
        }
    return {
        **same,
        "spatial_dims": 3,
        "feature_size": sizes.feature_size,
        "hidden_size": sizes.hidden_size,
        "mlp_dim": sizes.mlp_dim,
        "qkv_bias": sizes.qkv_bias,
    }


def _spec(name: str, values: Mapping[str, Any], notes: tuple[str, ...], only: Any) -> SegmenterSpec:
    intensity = values["intensity"]
    if not isinstance(intensity, IntensityRule):
        raise BadInput(f"The intensities of {name!r} are not a rule; answer 'intensity' again.")
    return SegmenterSpec(
        name=values.get("name") or name,
        labels=dict(values["labels"]),
        channels=tuple(values["channels"]),
        roi=only or tuple(values["roi"]),
        orientation=values["orientation"],
        spacing=values["spacing"],
        intensity=intensity,
        overlap=float(values["overlap"]),
        overlapping=bool(values["overlapping"]),
        modality=values.get("modality"),
        licence=values.get("licence", ""),
        source=values.get("source", ""),
        notes=notes,
    )


__all__ = ["FIELDS", "Draft", "Question", "open_model"]
