"""The models: one family a file, each behind the same small protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_sightline.errors import BadInput
from napari_sightline.models.catalog import load_segmenter

if TYPE_CHECKING:
    from napari_sightline.models.promptable import Promptable

__all__ = ["PROMPTABLE", "load_model", "load_segmenter"]

#: Promptable models that ship with the package.
PROMPTABLE = ("sightline-3d",)


def load_model(
    name: str = "sightline-3d", device: str = "auto", weights: Path | None = None
) -> Promptable:
    """Load a promptable model.

    Parameters
    ----------
    name : str
        One of `PROMPTABLE`.
    device : str
        ``"auto"`` or a torch device.
    weights : Path, optional
        Another weights file of the same family.

    Raises
    ------
    BadInput
        Where the name or the device is unknown.
    ModelError
        Where the weights are missing or damaged.
    """
    if name not in PROMPTABLE:
        raise BadInput(f"The model {name!r} is not known; choose one of {', '.join(PROMPTABLE)}.")
    from napari_sightline.models.promptable import EmbeddedModel

    return EmbeddedModel.load(weights, device)
