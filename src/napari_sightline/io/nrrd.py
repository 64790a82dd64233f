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
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import SIDE_CODES, by_name
from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import as_labels, colour_of, named_labels
from napari_sightline.io.nifti import check_memory, modality_of
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


def read_nrrd_labels(path: str | os.PathLike[str]) -> tuple[Volume, dict[int, str]]:
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
    names : dict of int to str

    Raises
    ------
    BadInput
        As `read_nrrd`; also if the values are not whole numbers.
    """
    path = Path(path)
    nrrd = open_nrrd(path)
    array = _channel_last(nrrd, _read(nrrd))
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int32)
        if not np.array_equal(whole, array):
            raise BadInput(
                f"{path.name} is not a label map (its values are not whole numbers); "
                "give a mask or a label file."
            )
        array = whole
    segments = _segments(nrrd.fields)
    notes: tuple[str, ...] = ()
    if array.ndim == 4:
        array, segments, notes = _flattened(array, segments)
    volume = _volume(path, nrrd, array, notes)
    names = {value: name for _, value, name in segments}
    return replace(volume, modality=None), names


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


def _segments(fields: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """Layer, value and name of each segment."""
    found = []
    for number in range(10_000):
        name = fields.get(f"Segment{number}_Name")
        if name is None:
            break
        try:
            value = int(fields.get(f"Segment{number}_LabelValue", number + 1))
            layer = int(fields.get(f"Segment{number}_Layer", 0))
        except ValueError:
            continue
        found.append((layer, value, str(name)))
    return found


def _flattened(
    array: Array, segments: list[tuple[int, int, str]]
) -> tuple[Array, list[tuple[int, int, str]], tuple[str, ...]]:
    """Put the layers of a segmentation into one label map, segments numbered from 1."""
    if not segments:
        return array[..., 0], segments, (f"Layer 0 of {array.shape[3]} used.",)
    labels = np.zeros(array.shape[:3], np.uint16)
    numbered = []
    overlap = 0
    for number, (layer, value, name) in enumerate(segments, 1):
        if not 0 <= layer < array.shape[3]:
            continue
        mask = array[..., layer] == value
        overlap += int(np.count_nonzero(labels[mask]))
        labels[mask] = number
        numbered.append((0, number, name))
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
    named = named_labels(array, names)
    lines = [
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    grid = volume.to_file(array)
    for number, (value, name) in enumerate(named.items()):
        lines += _segment_lines(number, value, name, grid)
    return _write(Path(path), grid, volume, lines, overwrite)


def write_nrrd_image(path: str | os.PathLike[str], volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels on its file's grid; `BadInput` as `write_nrrd`."""
    data = volume.data.astype(np.float32) if volume.data.dtype == np.float16 else volume.data
    return _write(Path(path), volume.to_file(data), volume, [], overwrite)


def _segment_lines(number: int, value: int, name: str, grid: Array) -> list[str]:
    colour = " ".join(f"{c / 255:.6g}" for c in colour_of(value, name))
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
            f"Anatomy list~SCT^123037004^Anatomical Structure~SCT^{structure.code}^"
            f"{structure.name.capitalize()}{side}~Anatomic codes - DICOM master list~^^~^^|"
        )
    return lines


def _escaped(name: str) -> str:
    return " ".join(name.split()) or "unnamed"


def _write(path: Path, grid: Array, volume: Volume, lines: list[str], overwrite: bool) -> Path:
    if not path.name.lower().endswith(".nrrd"):
        raise BadInput(f"{path.name} is no name for an NRRD file; end it in .nrrd or .seg.nrrd.")
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
    with replacing(path, overwrite) as temporary, temporary.open("wb") as raw:
        raw.write(("\n".join(head) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
            for index in range(grid.shape[2]):  # a slice at a time: no second copy
                cast(Any, packed).write(grid[:, :, index].astype(kind).tobytes(order="F"))
    return path
