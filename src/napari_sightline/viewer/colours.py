"""Colours of labels: a structure has the same colour everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_sightline.anatomy import Colour, by_name

# For names that the list of structures does not hold: light enough on dark tissue, and told
# apart by people who do not see red and green (after Okabe and Ito).
_OTHERS: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 190, 140),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (90, 130, 255),
    (190, 150, 255),
)
#: Clicks: positive, negative.
POSITIVE: Colour = (60, 220, 110)
NEGATIVE: Colour = (255, 75, 75)


def colour_of(value: int, name: str = "") -> Colour:
    """Colour of a label: its structure's, or the next of a small palette."""
    structure = by_name(name) if name else None
    return structure.colour if structure else _OTHERS[(value - 1) % len(_OTHERS)]


def unit(colour: Colour, alpha: float = 1.0) -> tuple[float, float, float, float]:
    """Red, green, blue, alpha from 0 to 1."""
    r, g, b = (c / 255 for c in colour)
    return r, g, b, alpha


def label_colours(names: Mapping[int, str]) -> Any:
    """Colour map of a labels layer (napari ``DirectLabelColormap``).

    Values without a name have the small palette's colours as long as it lasts, then grey.
    """
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Any] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    for value in range(1, 4 * len(_OTHERS)):
        table[value] = unit(colour_of(value))
    for value, name in names.items():
        table[value] = unit(colour_of(value, name))
    return DirectLabelColormap(color_dict=table)
