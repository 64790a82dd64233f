"""Windows for reading CT: grey levels by their usual names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sightline.viewer.bridge import KEY, bare

if TYPE_CHECKING:
    from napari.layers import Image


@dataclass(frozen=True)
class Preset:
    """A window by its middle and width, HU, and its key."""

    level: float
    width: float
    key: str

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value shown."""
        return self.level - self.width / 2, self.level + self.width / 2


#: Usual windows, level and width in HU.
PRESETS = {
    "soft tissue": Preset(40, 400, "F1"),
    "lung": Preset(-600, 1500, "F2"),
    "bone": Preset(400, 1800, "F3"),
    "brain": Preset(40, 80, "F4"),
    "liver": Preset(60, 160, "F6"),
    "mediastinum": Preset(40, 350, "F7"),
}


def is_ct(image: Image | Any) -> bool:
    """Whether an image's values are known to be HU."""
    volume = bare(image).metadata.get(KEY, {}).get("volume")
    return getattr(volume, "modality", None) == "CT"


def show(image: Image | Any, name: str) -> None:
    """Show an image in a window; its slider reaches that far."""
    layer = bare(image)
    low, high = PRESETS[name].limits
    reach = layer.contrast_limits_range
    if low < reach[0] or high > reach[1]:
        layer.contrast_limits_range = (min(low, reach[0]), max(high, reach[1]))
    layer.contrast_limits = (low, high)


def shown(image: Image | Any) -> str:
    """Name of the window in which an image is shown; empty where it is none of them."""
    limits = tuple(bare(image).contrast_limits)
    return next((name for name, preset in PRESETS.items() if preset.limits == limits), "")
