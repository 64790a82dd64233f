"""What the user chose for this plugin in napari's preferences."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any

_log = logging.getLogger(__name__)
_PLUGIN = "napari-sightline"


@dataclass(frozen=True)
class Preferences:
    """Preferences of the panel; the defaults hold where napari knows of none.

    Attributes
    ----------
    device : str
        ``"auto"`` or a torch device.
    precision : str
        ``"auto"``, ``"fp32"`` or ``"bf16"``.
    regions : int
        Encoded regions of a scan that are kept in memory.
    window : str
        Name of a CT window, or ``"as opened"``.
    preview : bool
        Whether a click under the pointer is previewed.
    journal : bool
        Whether sessions are kept against a crash.
    """

    device: str = "auto"
    precision: str = "auto"
    regions: int = 4
    window: str = "as opened"
    preview: bool = False
    journal: bool = True


def preferences() -> Preferences:
    """Read the preferences; what is missing or of another kind is taken from the defaults."""
    from napari.settings import get_plugin_settings

    try:
        panel: Any = get_plugin_settings(_PLUGIN).panel
    except (KeyError, AttributeError):
        _log.debug("napari has no settings of this plugin")
        return Preferences()
    chosen: dict[str, Any] = {}
    for field in fields(Preferences):
        value = getattr(panel, field.name, field.default)
        if isinstance(value, type(field.default)):
            chosen[field.name] = value
    return Preferences(**chosen)
