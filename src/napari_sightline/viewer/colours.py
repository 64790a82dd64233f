"""Colours of labels: a structure has the same colour everywhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from napari_sightline.anatomy import Colour
from napari_sightline.io.legend import as_legend, colour_of

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "colour_map",
    "colour_of",
    "colour_table",
    "colours_of",
    "label_colours",
    "unit",
]

_PALETTE = 31  # values without a name that have a colour of their own

#: Clicks: positive, negative.
POSITIVE: Colour = (60, 220, 110)
NEGATIVE: Colour = (255, 75, 75)


def unit(colour: Colour, alpha: float = 1.0) -> tuple[float, float, float, float]:
    """Red, green, blue, alpha from 0 to 1."""
    r, g, b = (c / 255 for c in colour)
    return r, g, b, alpha


def colour_table(
    names: Mapping[int, str],
    own: Mapping[int, Colour] | None = None,
    hidden: Collection[int] = (),
) -> dict[int | None, tuple[float, float, float, float]]:
    """Colours of label values, 0 .. 1; None stands for all others.

    Values without a name have the small palette's colours as long as it lasts, then grey; `own`
    colours go before those of names, and `hidden` values have none.
    """
    table: dict[int | None, tuple[float, float, float, float]] = {
        None: (0.6, 0.6, 0.6, 1.0),
        0: (0.0, 0.0, 0.0, 0.0),
    }
    for value in range(1, _PALETTE + 1):
        table[value] = unit(colour_of(value))
    legend = as_legend(names)
    for value in legend:
        table[value] = unit(legend.colour(value))
    for value, colour in (own or {}).items():
        table[value] = unit(colour)
    for value in hidden:
        table[value] = unit(colour_of(value), 0.0)
    return table


def label_colours(
    names: Mapping[int, str],
    own: Mapping[int, Colour] | None = None,
    hidden: Collection[int] = (),
) -> Any:
    """Colour map of a labels layer (napari ``DirectLabelColormap``); see `colour_table`."""
    return colour_map(colour_table(names, own, hidden))


def colour_map(table: Mapping[int | None, tuple[float, float, float, float]]) -> Any:
    """Make a napari ``DirectLabelColormap`` of a table of colours."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=dict(table))


def colours_of(colormap: Any, names: Mapping[int, str]) -> dict[int, Colour]:
    """Colours that a labels layer gives to named labels; none where they are napari's own."""
    table = getattr(colormap, "color_dict", None) or {}
    found: dict[int, Colour] = {}
    for value in names:
        rgba = table.get(value)
        if rgba is not None:
            red, green, blue = (round(255 * float(part)) for part in rgba[:3])
            found[value] = (red, green, blue)
    return found
