"""What an NRRD file says of itself, believed only after it was checked.

pynrrd parses the header; it is imported only when a file is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.nifti_header import reading
from napari_sightline.io.quiet import quiet
from napari_sightline.orientation import Affine

__all__ = ["NrrdFile", "open_nrrd"]

_TYPES = {
    "int8": "i1", "int8_t": "i1", "signed char": "i1",
    "uint8": "u1", "uint8_t": "u1", "uchar": "u1", "unsigned char": "u1",
    "int16": "i2", "int16_t": "i2", "short": "i2", "short int": "i2", "signed short": "i2",
    "signed short int": "i2",
    "uint16": "u2", "uint16_t": "u2", "ushort": "u2", "unsigned short": "u2",
    "unsigned short int": "u2",
    "int32": "i4", "int32_t": "i4", "int": "i4", "signed int": "i4",
    "uint32": "u4", "uint32_t": "u4", "uint": "u4", "unsigned int": "u4",
    "int64": "i8", "int64_t": "i8", "longlong": "i8", "long long": "i8",
    "long long int": "i8", "signed long long": "i8", "signed long long int": "i8",
    "uint64": "u8", "uint64_t": "u8", "ulonglong": "u8", "unsigned long long": "u8",
    "unsigned long long int": "u8", "float": "f4", "double": "f8",
}  # fmt: skip
_SPACES = {  # to RAS
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1), "scanner-xyz": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_MOST_HEADER = 2**22  # bytes
_MOST_VOXELS = 10**11
_GZIP_LIMIT = 1100
_SPATIAL = ("domain", "space", "x", "none?", "???")


@dataclass(frozen=True)
class NrrdFile:
    """A checked header.

    Attributes
    ----------
    fields : dict
        As pynrrd parsed them.
    shape : tuple of int
        Of all axes, the fastest first.
    dtype : numpy.dtype
    affine : ndarray, shape (4, 4)
        Spatial axes to RAS millimetres.
    list_axis : int or None
        Axis that holds channels or layers.
    data_path : Path
    offset : int
    encoding : {'raw', 'gzip', 'bzip2'}
    notes : tuple of str
    """

    fields: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine
    list_axis: int | None
    data_path: Path
    offset: int
    encoding: str
    notes: tuple[str, ...]


def open_nrrd(path: Path) -> NrrdFile:
    """Read and check a header; no voxel is read.

    Raises
    ------
    BadInput
        If the file is missing, is no NRRD, is damaged, or claims more than it can hold.
    """
    import nrrd

    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(_MOST_HEADER)
    if start[:5] != b"NRRD0":
        raise BadInput(f"{path.name} is not an NRRD file; give a .nrrd or .seg.nrrd file.")
    end = re.search(rb"\r?\n\r?\n", start)
    lines = start[: end.start() if end else len(start)].splitlines()
    try:
        with quiet():
            fields = nrrd.read_header(line.decode("utf-8") + "\n" for line in lines)
        shape = tuple(int(n) for n in np.atleast_1d(fields["sizes"]))
        if len(shape) != int(fields["dimension"]):
            raise ValueError
        detached = fields.get("data file", fields.get("datafile"))
        dtype = np.dtype(_TYPES[fields["type"]])
        if dtype.itemsize > 1:
            dtype = dtype.newbyteorder("<" if _little(fields["endian"]) else ">")
        encoding = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}[
            fields["encoding"].lower()
        ]
    except KeyError as error:
        raise BadInput(
            f"{path.name} has a header that lacks or misstates {_field(error)}; "
            "save it again as raw or gzip NRRD."
        ) from None
    except Exception:  # pynrrd meets damage with many kinds of error
        raise BadInput(f"{path.name} has a damaged NRRD header; export it again.") from None
    data_path, offset = path, end.end() if end else len(start)
    if detached is not None:
        data_path, offset = _beside(path, str(detached)), 0
        with reading(data_path):
            size = data_path.stat().st_size
    offset = _skipped(fields, data_path, offset, encoding, path.name)
    affine, list_axis, notes = _geometry(fields, shape, path.name)
    if min(shape) < 1 or math.prod(shape) > _MOST_VOXELS:
        raise BadInput(f"{path.name} claims the shape {list(shape)[:6]}; export it again.")
    claimed = math.prod(shape) * dtype.itemsize
    room = max(0, size - offset)
    if claimed > {"raw": room, "gzip": room * _GZIP_LIMIT}.get(encoding, room * 10_000):
        raise BadInput(
            f"{path.name} claims {claimed} bytes of voxels but is only {size} bytes long; "
            "it is cut off or its header is damaged: copy or export it again."
        )
    return NrrdFile(fields, shape, dtype, affine, list_axis, data_path, offset, encoding, notes)


def _little(endian: str) -> bool:
    """Whether the byte order is little; `KeyError` where it is neither."""
    return {"little": True, "big": False}[endian.lower()]


def _field(error: KeyError) -> str:
    word = str(error.args[0])[:20]
    known = ("sizes", "dimension", "type", "endian", "encoding")
    return f"its {word}" if word in known else "its type, byte order or encoding"


def _beside(path: Path, named: str) -> Path:
    """Path of detached data: one file in the same folder, nothing else."""
    inside = PurePosixPath(named.strip().replace("\\", "/"))
    if inside.name != str(inside).removeprefix("./") or inside.name in ("", ".", "..", "LIST"):
        raise BadInput(
            f"{path.name} keeps its voxels in several files or another folder; "
            "save it as one .nrrd file."
        )
    return path.with_name(inside.name)


def _skipped(fields: Mapping[str, Any], path: Path, offset: int, encoding: str, name: str) -> int:
    """Move past lines and bytes that the header wants skipped."""
    try:
        lines = int(fields.get("line skip", fields.get("lineskip", 0)))
        skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    except (TypeError, ValueError):
        lines = skip = -2
    if lines < 0 or skip < 0 or lines > 1000 or (skip and encoding != "raw"):
        raise BadInput(f"{name} wants bytes skipped in a way that is not read; save it again.")
    if lines:
        with reading(path), path.open("rb") as stream:
            stream.seek(offset)
            for _ in range(lines):
                stream.readline(_MOST_HEADER)
            offset = stream.tell()
    return offset + skip


def _geometry(
    fields: Mapping[str, Any], shape: tuple[int, ...], name: str
) -> tuple[Affine, int | None, tuple[str, ...]]:
    """Affine of the spatial axes, the axis that is none, and notes."""
    if not 2 <= len(shape) <= 4:
        raise BadInput(f"{name} has {len(shape)} axes; give a file with two to four.")
    directions = fields.get("space directions")
    space = str(fields.get("space", "")).lower()
    rows: list[Any] = [None] * len(shape)
    try:
        if directions is not None:
            rows = [
                None if row is None or not np.all(np.isfinite(row)) else np.asarray(row, float)
                for row in directions
            ]
            if len(rows) != len(shape):
                raise ValueError
        spatial = [axis for axis, row in enumerate(rows) if row is not None]
        kinds = [str(kind).lower() for kind in fields.get("kinds", [])]
        list_axis = None
        if len(shape) == 4:
            others = [axis for axis in range(4) if axis not in spatial]
            if len(others) != 1:
                listed = [a for a, k in enumerate(kinds) if k not in (*_SPATIAL, "")]
                others = listed if len(listed) == 1 else [0 if shape[0] <= shape[3] else 3]
            list_axis = others[0]
        axes = [axis for axis in range(len(shape)) if axis != list_axis]
        if all(rows[axis] is not None for axis in axes) and len(rows[axes[0]]) == 3:
            signs = _SPACES.get(space, (-1, -1, 1))
            notes = () if space in _SPACES else ("The file names no space; LPS is assumed.",)
            affine = np.eye(4)
            for column, axis in enumerate(axes):
                affine[:3, column] = np.asarray(rows[axis]) * signs
            if len(axes) == 2:
                normal = np.cross(affine[:3, 0], affine[:3, 1])
                affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
            affine[:3, 3] = np.asarray(fields.get("space origin", (0, 0, 0)), float) * signs
            return affine, list_axis, notes
        spacings = np.atleast_1d(np.asarray(fields.get("spacings", ()), float))
        steps = [1.0, 1.0, 1.0]
        for place, axis in enumerate(axes):
            if rows[axis] is not None:
                steps[place] = float(np.linalg.norm(rows[axis]))
            elif axis < len(spacings) and math.isfinite(spacings[axis]) and spacings[axis]:
                steps[place] = abs(float(spacings[axis]))
    except (TypeError, ValueError, IndexError):
        raise BadInput(
            f"{name} has damaged space directions; correct them or export it again."
        ) from None
    note = "The file gives no orientation; left and right may be swapped."
    return np.diag([-steps[0], -steps[1], steps[2], 1.0]), list_axis, (note,)
