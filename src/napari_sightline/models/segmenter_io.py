"""Files of automatic models: safetensors, with the network's sizes and the model's facts within."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec

_FORMAT = "sightline-segmenter"
#: Follows from the sizes, and is as large as the weights.
_REBUILT = "relative_position_index"
#: What stands before the weights of an ensemble's further networks.
_OTHER = "others.{}."


def write_segmenter(
    path: Path,
    network: nn.Module,
    spec: SegmenterSpec,
    about: Mapping[str, Any] | None = None,
    half: bool = True,
    others: Sequence[nn.Module] = (),
) -> Path:
    """Write an automatic model into one file that needs nothing beside it.

    Written to a temporary name first, then moved.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``.
    network : torch.nn.Module
        MONAI's ``SwinUNETR``, ``UNETR`` or ``DynUNet``; its sizes are read from it.
    spec : SegmenterSpec
        The model's facts.
    about : mapping, optional
        What else is worth noting, such as data and measures; plain values.
    half : bool
        Whether weights are rounded to float16.
    others : sequence of torch.nn.Module
        Of an ensemble: the networks that are asked too, see `Segmenter.others`.

    Raises
    ------
    ModelError
        Where the network is of a kind that cannot be written, or the facts do not fit it.
    BadInput
        Where the disk refuses.
    """
    family, config, state = _packed(network, spec, half)
    metadata = {
        "format": _FORMAT,
        "family": family,
        "config": json.dumps(config),
        "spec": json.dumps(spec_to_dict(spec)),
        "about": json.dumps(dict(about or {})),
    }
    further = []
    for number, other in enumerate(others):
        family, config, its = _packed(other, spec, half)
        further.append({"family": family, "config": config})
        state |= {_OTHER.format(number) + key: value for key, value in its.items()}
    if further:
        metadata["others"] = json.dumps(further)
    temporary = path.with_name(f".{uuid.uuid4().hex}.safetensors")
    try:
        save_file(state, temporary, metadata)
        temporary.chmod(0o644)  # safetensors writes for its owner alone; weights are for everyone
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"{path.name} could not be written ({why}); choose another folder or free space."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _packed(
    network: nn.Module, spec: SegmenterSpec, half: bool
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Family, sizes and weights of a network that fits the facts."""
    from napari_sightline.models.architecture import check_fit, family_of_network, repeated

    family, sizes = family_of_network(network)
    check_fit(sizes, spec)
    again = repeated(network)
    state = {}
    for key, value in network.state_dict().items():
        if not key.endswith(_REBUILT) and key not in again:
            kind = torch.float16 if half and value.is_floating_point() else value.dtype
            state[key] = value.detach().to(kind).cpu().contiguous()
    return family, sizes.to_dict(), state


def _unpacked(
    family: str, config: Mapping[str, Any], spec: SegmenterSpec, state: Mapping[str, Tensor]
) -> nn.Module:
    """Build a network and give it its weights."""
    from napari_sightline.models.architecture import check_fit, repeated, sizes_from_dict

    sizes = sizes_from_dict(family, config)
    check_fit(sizes, spec)
    given = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    network = sizes.build()
    given |= {k: v for k, v in network.state_dict().items() if k.endswith(_REBUILT)}
    given |= {again: given[key] for again, key in repeated(network).items()}
    network.load_state_dict(given)
    return network


def read_segmenter(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """Read what `write_segmenter` wrote.

    Returns
    -------
    tuple
        The model, in float32 on the CPU, in evaluation mode, and the facts noted at writing.

    Raises
    ------
    ModelError
        Where the file is missing, damaged, or holds something else.
    """
    metadata = segmenter_metadata(path)
    try:
        spec = spec_from_dict(json.loads(metadata["spec"]))
        about = json.loads(metadata.get("about", "{}"))
        further = json.loads(metadata.get("others", "[]"))
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        parts: list[dict[str, Tensor]] = []
        for prefix in map(_OTHER.format, range(len(further))):
            names = [key for key in state if key.startswith(prefix)]
            parts.append({key.removeprefix(prefix): state.pop(key) for key in names})
        first = _unpacked(metadata["family"], json.loads(metadata["config"]), spec, state)
        others = tuple(
            _unpacked(one["family"], one["config"], spec, part)
            for one, part in zip(further, parts, strict=True)
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The model file {path.name!r} is damaged; copy or download the file again."
        ) from error
    return Segmenter(first, spec, others), about


def segmenter_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file of `write_segmenter` without its weights.

    Raises
    ------
    ModelError
        Where the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise ModelError(f"The model file {str(path)!r} is missing; give another file.")
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The model file {path.name!r} is damaged; copy or download the file again."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise ModelError(
            f"The model file {path.name!r} was not written by `sightline train automatic` or "
            "`sightline models add`; import it first with `sightline models add`."
        )
    return metadata


def spec_to_dict(spec: SegmenterSpec) -> dict[str, Any]:
    """As plain values, which JSON keeps."""
    values = asdict(spec)
    values["labels"] = {str(value): name for value, name in spec.labels.items()}
    return values


def spec_from_dict(values: Mapping[str, Any]) -> SegmenterSpec:
    """Read what `spec_to_dict` gave, after a trip through JSON."""
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    known["labels"] = {int(value): str(name) for value, name in values["labels"].items()}
    known["intensity"] = IntensityRule(**values["intensity"])
    return SegmenterSpec(**known)
