"""Label descriptions of ITK-SNAP: a text file of names and colours beside a label map."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import Legend, as_legend

__all__ = ["read_descriptions", "write_descriptions"]

_MOST_BYTES = 2**22
# Label, red, green, blue, opacity, visible, visible as a mesh, name.
_ROW = re.compile(r'\s*(\d{1,9})\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"')
_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""


def read_descriptions(path: str | os.PathLike[str]) -> Legend:
    """Read names and colours; empty if the file is missing or is no label description.

    Parameters
    ----------
    path : path

    Returns
    -------
    Legend
    """
    legend = Legend()
    try:
        with Path(path).open("rb") as stream:
            lines = stream.read(_MOST_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return legend
    for line in lines:
        row = _ROW.match(line)
        if row is None:
            continue
        value, red, green, blue = (int(part) for part in row.groups()[:4])
        if value > 0 and max(red, green, blue) < 256:
            legend[value] = row.group(5)
            legend.colours[value] = (red, green, blue)
    return legend


def write_descriptions(
    path: str | os.PathLike[str], names: Mapping[int, str], overwrite: bool = True
) -> Path:
    """Write names and colours as ITK-SNAP's *Import label descriptions* reads them.

    Parameters
    ----------
    path : path
        Ends in ``.label``. Named like a NIfTI label map beside it, it is found by `load_labels`.
    names : dict of int to str
        A `Legend` gives its colours, too.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    path, legend = Path(path), as_legend(names)
    lines = []
    for value, name in sorted(legend.items()):
        red, green, blue = legend.colour(value)
        text = " ".join(name.split()).replace('"', "'")
        lines.append(f'{value:5d}  {red:4d} {green:4d} {blue:4d}        1  1  1    "{text}"\n')
    with replacing(path, overwrite, (".label",), "label description") as temporary:
        temporary.write_text(_HEAD + "".join(lines), encoding="utf-8")
    return path
