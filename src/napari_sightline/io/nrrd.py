"""NRRD in and out, and 3D Slicer's segmentations (``.seg.nrrd``) with names and colours.

Voxels are read here rather than by pynrrd, so that a header cannot ask for more memory than
the file holds.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import SIDE_CODES, Colour, Structure, by_name
from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import (
    Legend,
    as_labels,
    named_labels,
    plain_voxels,
    whole_numbers,
)
from napari_sightline.io.memory import check_memory
from napari_sightline.io.nifti import modality_of
from napari_sightline.io.nifti_header import reading
from napari_sightline.io.nrrd_header import NrrdFile, open_nrrd
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume, choose_channel

__all__ = ["read_nrrd", "read_nrrd_labels", "write_nrrd", "write_nrrd_image"]

_WRITTEN = {
    "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32",
    "i8": "int64", "u8": "uint64", "f4": "float", "f8": "double",
}  # fmt: skip
_CHUNK = 2**22


def read_nrrd(path: str | os.PathLike[str], channel: int | None = None) -> Volume:
    """Read a scan.

    Parameters
    ----------
    path : path
        ``.nrrd``, or ``.nhdr`` with its data in one file beside it.
    channel : int, optional
        Entry of the axis that is not spatial; the first by default.

    Returns
    -------
    Volume
        Doubles become float32, everything else stays.

    Raises
    ------
    BadInput
        If the file is missing, damaged, no NRRD, or too large for this machine's memory.
    """
    path = Path(path)
    nrrd = open_nrrd(path)
    array = _channel_last(nrrd, _read(nrrd))
    count = array.shape[3] if array.ndim == 4 else 1
    index, notes = choose_channel(count, channel, path.name)
    return _volume(path, nrrd, array[..., index] if array.ndim == 4 else array, notes)


def read_nrrd_labels(path: str | os.PathLike[str]) -> tuple[Volume, Legend]:
    """Read a label map, or a segmentation of 3D Slicer with the names of its segments.

    Parameters
    ----------
    path : path
        As for `read_nrrd`.

    Returns
    -------
    labels : Volume
        Whole numbers. Segments in several layers, which may overlap, are numbered anew; where
        they do overlap the later one wins, and a note says so.
    names : Legend
        Names and colours of the segments.

    Raises
    ------
    BadInput
        As `read_nrrd`; also if the values are not whole numbers.
    """
    path = Path(path)
    nrrd = open_nrrd(path)
    array = _channel_last(nrrd, _read(nrrd))
    array = whole_numbers(array, path.name)
    segments = _segments(nrrd.fields, array.shape[3] if array.ndim == 4 else 1)
    notes: tuple[str, ...] = ()
    if array.ndim == 4:
        array, segments, notes = _flattened(array, segments)
    volume = _volume(path, nrrd, array, notes)
    legend = Legend({segment.value: segment.name for segment in segments})
    legend.colours = {one.value: one.colour for one in segments if one.colour is not None}
    return replace(volume, modality=None), legend


def _volume(path: Path, nrrd: NrrdFile, array: Array, notes: tuple[str, ...]) -> Volume:
    volume = Volume.from_array(array, nrrd.affine, name=path.name)
    name = re.sub(r"(\.seg)?\.(nrrd|nhdr)$", "", path.name, flags=re.IGNORECASE)
    notes = (*nrrd.notes, *notes, *volume.notes)
    modality = modality_of(volume.data)
    return replace(volume, name=name, modality=modality, source=path, notes=notes)


def _read(nrrd: NrrdFile) -> Array:
    """Read all voxels, shape as in the header (the first axis the fastest)."""
    count, name = math.prod(nrrd.shape), nrrd.data_path.name
    keep = nrrd.dtype.newbyteorder("=") != np.float64
    target = nrrd.dtype if keep else np.dtype(np.float32)
    if nrrd.encoding == "raw" and keep and nrrd.dtype.isnative:
        with reading(nrrd.data_path):
            # Copy on write: the array may be written to, the file is not.
            flat: Array = np.memmap(
                nrrd.data_path, nrrd.dtype, mode="c", offset=nrrd.offset, shape=(count,)
            )
        return flat.reshape(nrrd.shape, order="F")
    check_memory(count * target.itemsize, name)
    with reading(nrrd.data_path), nrrd.data_path.open("rb") as raw:
        raw.seek(nrrd.offset)
        stream: Any = raw
        if nrrd.encoding == "gzip":
            stream = gzip.GzipFile(fileobj=raw)
        elif nrrd.encoding == "bzip2":
            stream = bz2.BZ2File(raw)
        try:
            flat = np.empty(count, target)
            for low in range(0, count, _CHUNK):
                piece = flat[low : low + _CHUNK]
                got = _exactly(stream, piece.size * nrrd.dtype.itemsize)
                with np.errstate(over="ignore", invalid="ignore"):
                    piece[:] = np.frombuffer(got, nrrd.dtype)
            if nrrd.encoding == "gzip":
                stream.read(1)  # gzip compares its checksum at the end only
        except (EOFError, zlib.error, ValueError, OSError):
            raise BadInput(
                f"{name} is damaged (its voxels cannot be unpacked); copy or export it again."
            ) from None
    if not flat.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
    return flat.reshape(nrrd.shape, order="F")


def _exactly(stream: BinaryIO, length: int) -> bytes:
    parts = []
    while length:
        part = stream.read(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _channel_last(nrrd: NrrdFile, array: Array) -> Array:
    return array if nrrd.list_axis is None else np.moveaxis(array, nrrd.list_axis, -1)


@dataclass(frozen=True)
class _Segment:
    """One segment of 3D Slicer: in which layer, by which value, and what it is."""

    layer: int
    value: int
    name: str
    colour: Colour | None


def _segments(fields: Mapping[str, Any], layers: int) -> list[_Segment]:
    """List the segments that a header names, in its order.

    Files of before 2020 have neither layers nor values: there each segment has a layer of its
    own, in which it is 1.
    """
    keys = (re.fullmatch(r"Segment(\d{1,5})_(Name|ID)", str(key)) for key in fields)
    numbers = sorted({int(match.group(1)) for match in keys if match is not None})
    old = layers > 1 and not any(f"Segment{number}_Layer" in fields for number in numbers)
    found = []
    for number in numbers:
        start = f"Segment{number}_"
        name = fields.get(f"{start}Name", fields.get(f"{start}ID", ""))
        try:
            value = int(fields.get(f"{start}LabelValue", 1 if old else number + 1))
            layer = int(fields.get(f"{start}Layer", number if old else 0))
        except ValueError:
            continue
        if value > 0 and 0 <= layer < layers:
            name = _plain(str(name)) or f"segment {number + 1}"
            found.append(_Segment(layer, value, name, _colour(fields.get(f"{start}Color"))))
    return found


def _colour(text: Any) -> Colour | None:
    """Red, green, blue from three numbers between 0 and 1."""
    try:
        red, green, blue = (round(255 * float(part)) for part in str(text).split())
    except (ValueError, OverflowError):
        return None
    return (red, green, blue) if 0 <= min(red, green, blue) <= max(red, green, blue) < 256 else None


def _flattened(
    array: Array, segments: list[_Segment]
) -> tuple[Array, list[_Segment], tuple[str, ...]]:
    """Put the layers of a segmentation into one label map.

    Values are kept where no two segments share one, else segments are numbered from 1.
    """
    if not segments:
        return array[..., 0], segments, (f"Layer 0 of {array.shape[3]} used.",)
    labels = np.zeros(array.shape[:3], np.uint16)
    values = [segment.value for segment in segments]
    if len(set(values)) < len(values) or max(values) >= 2**16:
        values = list(range(1, len(segments) + 1))
    overlap = 0
    for value, segment in zip(values, segments, strict=True):
        mask = array[..., segment.layer] == segment.value
        overlap += int(np.count_nonzero(labels[mask]))
        labels[mask] = value
    numbered = [replace(one, layer=0, value=v) for v, one in zip(values, segments, strict=True)]
    note = (f"Segments overlap in {overlap} voxels; the later one is kept.",) if overlap else ()
    return labels, numbered, note


def write_nrrd(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    volume: Volume,
    names: Mapping[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels on the scan's own grid, as 3D Slicer writes segmentations.

    Parameters
    ----------
    path : path
        Ends in ``.nrrd``; as ``.seg.nrrd`` 3D Slicer opens it as a segmentation.
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        Gives the grid.
    names : dict of int to str, optional
        Colours and codes are those of the structures with these names.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the labels do not fit the volume or the file cannot be written.
    """
    array = as_labels(labels, volume)
    legend = named_labels(array, names)
    lines = [
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    grid = volume.to_file(array)
    for number, value in enumerate(legend):
        lines += _segment_lines(number, value, legend, grid)
    return _write(Path(path), grid, volume, lines, overwrite)


def write_nrrd_image(path: str | os.PathLike[str], volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels on its file's grid; `BadInput` as `write_nrrd`."""
    return _write(Path(path), volume.to_file(plain_voxels(volume)), volume, [], overwrite)


def _segment_lines(number: int, value: int, legend: Legend, grid: Array) -> list[str]:
    name = legend[value]
    colour = " ".join(f"{c / 255:.6g}" for c in legend.colour(value))
    mask = grid == value
    extent = []
    for axis in range(3):
        hit = np.nonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[0]
        extent += [int(hit[0]), int(hit[-1])] if hit.size else [0, -1]
    start = f"Segment{number}_"
    lines = [
        f"{start}ID:=Segment_{number + 1}",
        f"{start}Name:={_escaped(name)}",
        f"{start}NameAutoGenerated:=0",
        f"{start}Color:={colour}",
        f"{start}ColorAutoGenerated:=0",
        f"{start}Extent:={' '.join(map(str, extent))}",
        f"{start}LabelValue:={value}",
        f"{start}Layer:=0",
    ]
    structure = by_name(name)
    if structure is not None and structure.code is not None:
        side = "~^^"
        if structure.side:
            side = f"~SCT^{SIDE_CODES[structure.side]}^{structure.side.capitalize()}"
        lines.append(
            f"{start}Tags:=TerminologyEntry:Segmentation category and type - 3D Slicer General "
            f"Anatomy list~{_category(structure)}~SCT^{structure.code}^"
            f"{structure.name.capitalize()}{side}~Anatomic codes - DICOM master list~^^~^^|"
        )
    return lines


def _category(structure: Structure) -> str:
    if structure.region == "tumour and lesion":
        return "SCT^49755003^Morphologically Altered Structure"
    return "SCT^123037004^Anatomical Structure"


def _escaped(name: str) -> str:
    """Return a name on one line, with backslashes as the format wants them."""
    return " ".join(name.split()).replace("\\", "\\\\") or "unnamed"


def _plain(text: str) -> str:
    return " ".join(text.replace("\\n", " ").replace("\\\\", "\\").split())


def _write(path: Path, grid: Array, volume: Volume, lines: list[str], overwrite: bool) -> Path:
    lps = np.diag([-1.0, -1, 1, 1]) @ volume.file_affine
    vectors = [f"({','.join(repr(float(v)) for v in lps[:3, axis])})" for axis in range(4)]
    kind = grid.dtype.newbyteorder("<")
    head = [
        "NRRD0005",
        "# Written by napari-sightline.",
        f"type: {_WRITTEN[kind.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, grid.shape))}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
        *lines,
    ]
    endings = (".nrrd", ".seg.nrrd")
    opened = replacing(path, overwrite, endings, "NRRD file")
    with opened as temporary, temporary.open("wb") as raw:
        raw.write(("\n".join(head) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
            for index in range(grid.shape[2]):  # a slice at a time: no second copy
                cast(Any, packed).write(grid[:, :, index].astype(kind).tobytes(order="F"))
    return path
