"""Segment CT, MR and PET volumes with prompts, in napari or without a window.

Names are imported on first use (PEP 562), so that ``import napari_sightline``
stays cheap: the shell's ``sightline --help`` and napari's plugin discovery
must not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sightline.errors import BadInput, SightlineError
    from napari_sightline.io import load, save
    from napari_sightline.io.sample import phantom
    from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Scribble
    from napari_sightline.segment.interactive import Session
    from napari_sightline.volume import Volume

__version__ = "0.1.0.dev0"

__all__ = [
    "BadInput",
    "Box",
    "Lasso",
    "MaskPrompt",
    "Point",
    "Scribble",
    "Session",
    "SightlineError",
    "Volume",
    "__version__",
    "load",
    "phantom",
    "save",
]

_HOME = {
    "BadInput": "errors",
    "SightlineError": "errors",
    "load": "io",
    "save": "io",
    "phantom": "io.sample",
    "Box": "prompts",
    "Lasso": "prompts",
    "MaskPrompt": "prompts",
    "Point": "prompts",
    "Scribble": "prompts",
    "Session": "segment.interactive",
    "Volume": "volume",
}


def __getattr__(name: str) -> object:
    """Import ``name`` from the module it lives in and keep it here."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
