"""Checkpoints of other people, read without running anything that is in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_sightline.errors import BadInput, ModelError

ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors")
#: A checkpoint of the largest Swin-UNETR with its optimiser has about 1 GB.
LARGEST_BYTES = 8 * 2**30

#: Keys under which training scripts keep the weights, best first.
_INNER = ("state_dict", "model_state_dict", "model", "net", "network", "network_weights")
#: What wrappers put before a parameter's name (DataParallel, Lightning, torch.compile).
_WRAPPERS = ("module.", "_orig_mod.", "network.", "_model.", "model.", "net.")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, under their own names.

    Only tensors and plain values are read (``torch.load(weights_only=True)`` or safetensors): a
    file that would run code is refused. Weights are found under the usual keys, and prefixes of
    ``DataParallel``, ``torch.compile`` and training frameworks are taken off.

    Parameters
    ----------
    path : Path
        ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors``.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, floating-point tensors in float32.

    Raises
    ------
    BadInput
        Where the file is missing, or its ending or size is not that of a checkpoint.
    ModelError
        Where it is damaged, holds objects other than tensors, or no weights.
    """
    if not path.is_file():
        raise BadInput(f"The checkpoint {str(path)!r} is missing; give a file that exists.")
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(
            f"The file {path.name!r} is not a checkpoint by its name; "
            f"give one that ends in {', '.join(ENDINGS)}."
        )
    if _size(path) > LARGEST_BYTES:
        raise BadInput(
            f"The checkpoint {path.name!r} is larger than {LARGEST_BYTES // 2**30} GB; "
            "save its weights alone: torch.save(model.state_dict(), ...)."
        )
    content = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch(path)
    state = _without_wrappers(_weights(content, path.name))
    # A few bytes can claim to be a huge tensor (strides of zero), and more is built from its shape.
    if sum(4 * value.numel() for value in state.values()) > LARGEST_BYTES:
        raise ModelError(
            f"The checkpoint {path.name!r} claims more than {LARGEST_BYTES // 2**30} GB of "
            "weights; do not use this file."
        )
    made = {k: v.detach().cpu().float() if v.is_floating_point() else v for k, v in state.items()}
    for key, value in made.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"The checkpoint {path.name!r} holds values in {key!r} that are not finite, as "
                "after a training that diverged; give an earlier checkpoint."
            )
    return made


def saved_before_torch_2_1(path: Path) -> bool:
    """Tell whether a checkpoint was certainly saved by PyTorch before 2.1.

    Since then a file notes the order of its bytes (PyTorch's notes on serialization). MONAI 1.5
    needs PyTorch 2.4.1, so weights in an older file are from before it.
    """
    if path.suffix.lower() == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    return "data.pkl" in names and "byteorder" not in names


def _size(path: Path) -> int:
    """Bytes of a file, or of what a zip (as torch writes) says it unpacks to."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    return size


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            # Copies, so that the file can go.
            return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The checkpoint {path.name!r} is damaged; copy or download the file again."
        ) from error


def _torch(path: Path) -> Any:
    try:
        # Best scores are often kept as numpy scalars; making one runs nothing of the file's.
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The checkpoint {path.name!r} holds more than weights, and reading it could run code; "
            "ask its author for the weights alone: torch.save(model.state_dict(), ...)."
        ) from error
    except Exception as error:  # torch raises what its zip, pickle and tensor code raise
        if "torchscript" in str(error).lower():
            raise ModelError(
                f"The file {path.name!r} is a TorchScript program, not a checkpoint; "
                "ask its author for the weights: torch.save(model.state_dict(), ...)."
            ) from error
        raise ModelError(
            f"The checkpoint {path.name!r} is damaged or no checkpoint of PyTorch; "
            "copy or download the file again."
        ) from error


def _numpy_scalars() -> list[Any]:
    import numpy as np

    scalar: Any = np.float64(0).__reduce__()[0]
    names = ("Float64DType", "Float32DType", "Float16DType", "Int64DType", "Int32DType")
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(getattr(np.dtypes, name) for name in names),
    ]


def _weights(content: Any, name: str) -> dict[str, Tensor]:
    """Find the mapping of names to tensors."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            break
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        inner = next((k for k in _INNER if isinstance(content.get(k), Mapping)), None)
        if tensors and (inner is None or len(tensors) > 8):
            return tensors
        if inner is None:
            break
        content = content[inner]
    raise ModelError(
        f"The checkpoint {name!r} holds no weights under a name that is known "
        f"({', '.join(_INNER)}); save them with torch.save(model.state_dict(), ...)."
    )


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off prefixes that all parameters share, and torch.compile's wherever it stands."""
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    while state:
        prefix = next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key[len(prefix) :]: value for key, value in state.items()}
    return state
