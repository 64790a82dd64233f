"""Files of automatic models: safetensors, with the network's sizes and the model's facts within."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec

_FORMAT = "sightline-segmenter"
#: Follows from the sizes, and is as large as the weights.
_REBUILT = "relative_position_index"


def write_segmenter(
    path: Path,
    network: nn.Module,
    spec: SegmenterSpec,
    about: Mapping[str, Any] | None = None,
    half: bool = True,
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

    Raises
    ------
    ModelError
        Where the network is of a kind that cannot be written, or the facts do not fit it.
    BadInput
        Where the disk refuses.
    """
    from napari_sightline.models.architecture import check_fit, family_of_network, repeated

    family, sizes = family_of_network(network)
    check_fit(sizes, spec)
    again = repeated(network)
    state = {
        key: value.detach().to(torch.float16 if half and value.is_floating_point() else value.dtype)
        for key, value in network.state_dict().items()
        if not key.endswith(_REBUILT) and key not in again
    }
    metadata = {
        "format": _FORMAT,
        "family": family,
        "config": json.dumps(sizes.to_dict()),
        "spec": json.dumps(spec_to_dict(spec)),
        "about": json.dumps(dict(about or {})),
    }
    temporary = path.with_name(f".{uuid.uuid4().hex}.safetensors")
    try:
        save_file(
            {key: value.cpu().contiguous() for key, value in state.items()}, temporary, metadata
        )
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
    from napari_sightline.models.architecture import check_fit, repeated, sizes_from_dict

    metadata = segmenter_metadata(path)
    try:
        sizes = sizes_from_dict(metadata["family"], json.loads(metadata["config"]))
        spec = spec_from_dict(json.loads(metadata["spec"]))
        check_fit(sizes, spec)
        about = json.loads(metadata.get("about", "{}"))
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        network = sizes.build()
        for key, value in network.state_dict().items():
            if key.endswith(_REBUILT):
                state[key] = value
        state |= {again: state[key] for again, key in repeated(network).items()}
        network.load_state_dict(state)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The model file {path.name!r} is damaged; copy or download the file again."
        ) from error
    return Segmenter(network, spec), about


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
