"""Weights files of the embedded promptable network: safetensors in half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_sightline.errors import ModelError
from napari_sightline.models.sightline3d import Config

_FORMAT = "sightline-3d"


def write_weights(
    path: Path, state: dict[str, Tensor], config: Config, about: dict[str, Any] | None = None
) -> None:
    """Write a state dict as float16, with the network's sizes in the file's metadata.

    Written to a temporary name first, then moved.
    """
    half = {k: v.detach().to(torch.float16).contiguous() for k, v in state.items()}
    metadata = {
        "format": _FORMAT,
        "config": json.dumps(config.to_dict()),
        "about": json.dumps(about or {}),
    }
    temporary = path.with_name(path.name + ".tmp")
    save_file(half, temporary, metadata)
    temporary.chmod(0o644)  # safetensors writes for its owner alone; weights are for everyone
    temporary.replace(path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], Config, dict[str, Any]]:
    """Read what `write_weights` wrote.

    Returns
    -------
    tuple
        State dict in float32, the network's sizes, and the facts noted at writing.

    Raises
    ------
    ModelError
        Where the file is missing, damaged, or holds another kind of model.
    """
    if not path.is_file():
        raise ModelError(
            f"The weights file {path.name!r} is missing; reinstall napari-sightline or give "
            "another file."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise ModelError(
                f"The weights file {path.name!r} is not of a {_FORMAT} network; "
                "give a file that `sightline train interactive` wrote."
            )
        sizes = json.loads(metadata["config"])
        sizes["widths"] = tuple(sizes["widths"])
        config = Config(**sizes)
        about = json.loads(metadata.get("about", "{}"))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"The weights file {path.name!r} is damaged; reinstall napari-sightline or copy the "
            "file again."
        ) from error
    return state, config, about
