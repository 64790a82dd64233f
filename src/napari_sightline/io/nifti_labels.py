"""Names and colours of labels in a NIfTI file, where other programs look for them.

They are stored as the label table of a CARET header extension (code 30, XML), which Connectome
Workbench reads and of which TotalSegmentator reads and writes a variant. A label description
file of ITK-SNAP beside the image is read where the image itself has none.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from napari_sightline.io.label_descriptions import read_descriptions
from napari_sightline.io.legend import Legend
from napari_sightline.io.nifti_header import (
    MAX_OFFSET,
    SIZES,
    header_and_data,
    is_gzip,
    open_stream,
    parse_header,
    reading,
    voxel_offset,
)

__all__ = ["label_names", "names_extension"]

_CARET = 30  # code of the extension
_COMMENT = 6  # plain text; held the names in files of the first version
_KEY = "napari-sightline"
_MOST_TABLE = 2**22  # bytes of XML
_ENDINGS = (".nii.gz", ".nii", ".hdr", ".img")


def label_names(path: Path) -> Legend:
    """Read names and colours of labels; empty if there are none.

    Parameters
    ----------
    path : Path
        A NIfTI file that `NiftiFile.open` accepts.

    Returns
    -------
    Legend
        Of the header's first label table, else of ``NAME.label`` beside the file.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    first, _ = header_and_data(path)
    with reading(first), open_stream(first, is_gzip(first)) as stream:
        start = stream.read(max(SIZES))
        header, single = parse_header(start, first.name)
        length = int(header["sizeof_hdr"])
        end = voxel_offset(header, single, first.name) if single else MAX_OFFSET
        block = (start + stream.read(max(0, end - len(start))))[length:end]
    for code, content in _extensions(block, header.endianness):
        legend = _decode_comment(content) if code == _COMMENT else _decode_table(content)
        if legend:
            return legend
    return _beside(path)


def names_extension(legend: Legend) -> bytes:
    """Pack names and colours as a CARET header extension, a multiple of 16 bytes long."""
    rows = []
    for value, name in sorted(legend.items()):
        red, green, blue = (f"{part / 255:.6f}" for part in legend.colour(value))
        attributes = (("Key", str(value)), ("Red", red), ("Green", green), ("Blue", blue))
        inside = " ".join(f"{key}={quoteattr(text)}" for key, text in attributes)
        rows.append(f'<Label {inside} Alpha="1">{escape(_clean(name))}</Label>')
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension>\n<VolumeInformation Index="0">\n'
        '<LabelTable>\n<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0">???</Label>\n'
        + "\n".join(rows)
        + "\n</LabelTable>\n<StudyMetaDataLinkSet></StudyMetaDataLinkSet>\n"
        "<VolumeType>Label</VolumeType>\n</VolumeInformation>\n</CaretExtension>\n"
    )
    content = text.encode()
    size = -(-(8 + len(content)) // 16) * 16
    return struct.pack("<ii", size, _CARET) + content.ljust(size - 8, b"\0")


def _clean(name: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(c for c in name if c >= " " and not 0xD800 <= ord(c) <= 0xDFFF)


def _extensions(block: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Walk the extensions of a header; stops in silence where they make no sense."""
    if not block[:1].strip(b"\0"):
        return
    position = 4
    while position + 8 <= len(block):
        size, code = struct.unpack_from(f"{order}ii", block, position)
        if size < 16 or position + size > len(block):
            return
        yield code, block[position + 8 : position + size]
        position += size


def _decode_table(content: bytes) -> Legend:
    """Read a label table, whatever its code says; empty if there is none."""
    content = content.rstrip(b"\0").strip()
    # A table needs no declarations of its own: those could make a small file huge.
    if not content.startswith(b"<") or len(content) > _MOST_TABLE or b"<!DOCTYPE" in content:
        return Legend()
    try:
        table = ElementTree.fromstring(content).find(".//LabelTable")
        rows = [] if table is None else list(table.iter("Label"))
        legend = Legend()
        for row in rows:
            value, name = int(row.attrib["Key"]), " ".join((row.text or "").split())
            if value <= 0 or not name:
                continue
            legend[value] = name
            parts = [float(row.attrib.get(part, "nan")) for part in ("Red", "Green", "Blue")]
            if all(0 <= part <= 1 for part in parts):
                red, green, blue = (round(part * 255) for part in parts)
                legend.colours[value] = (red, green, blue)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError):
        return Legend()
    return legend


def _decode_comment(content: bytes) -> Legend:
    """Read names out of a comment; empty if it is somebody else's."""
    try:
        labels = json.loads(content.rstrip(b"\0").decode())[_KEY]["labels"]
        return Legend({int(value): str(name) for value, name in labels.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Legend()


def _beside(path: Path) -> Legend:
    """Read the label description of the same name, if there is a good one."""
    ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), "")
    return read_descriptions(path.with_name(path.name[: len(path.name) - len(ending)] + ".label"))
