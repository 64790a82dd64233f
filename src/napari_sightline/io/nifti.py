"""NIfTI in and out: ``.nii``, ``.nii.gz`` and ``.hdr``/``.img`` pairs, versions 1 and 2.

What is read keeps its type: integers stay integers, an uncompressed file is mapped instead
of read. What is written lies on the grid of the file the volume came from, with that file's
qform, sform and unit.
"""

from __future__ import annotations

import gzip
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import (
    Legend,
    as_labels,
    as_legend,
    plain_voxels,
    whole_numbers,
)
from napari_sightline.io.memory import check_memory
from napari_sightline.io.nifti_header import (
    NiftiFile,
    blank_text,
    file_affine,
    open_stream,
    reading,
)
from napari_sightline.io.nifti_labels import label_names, names_extension
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume, choose_channel

__all__ = [
    "modality_of",
    "read_labels",
    "read_nifti",
    "write_image",
    "write_nifti",
]

_CHUNK = 2**22  # voxels or bytes handled at once
_DRAIN = 2**26  # bytes unpacked beyond the voxels to reach gzip's checksum
_ENDINGS = (".nii.gz", ".nii")
_NIFTI1_LIMIT = 32767  # voxels along an axis
_LABEL_INTENT = 1002
_SCANNER = 1


def read_nifti(path: str | os.PathLike[str], channel: int | None = None) -> Volume:
    """Read a scan.

    Parameters
    ----------
    path : path
        ``.nii``, ``.nii.gz``, or either file of a ``.hdr``/``.img`` pair.
    channel : int, optional
        Entry of the fourth axis (time, contrast); the first by default.

    Returns
    -------
    Volume
        Stored integers stay what they are, mapped from disk where the file is not
        compressed; anything scaled or float becomes float32. ``notes`` say what was chosen.

    Raises
    ------
    BadInput
        If the file is missing, damaged, no NIfTI, or too large for this machine's memory.
    """
    file = NiftiFile.open(Path(path))
    index, chosen = choose_channel(file.channels, channel, file.name)
    with reading(file.data_path):
        flat = _read(file, index)
    grid = flat.reshape(file.shape[: min(file.axes, 3)], order="F")
    volume = Volume.from_array(grid, file.affine, name=file.name)
    return replace(
        volume,
        name=_stem(Path(path)),
        modality=modality_of(volume.data),
        source=Path(path),
        header=file.header,
        notes=(*file.notes, *chosen, *volume.notes),
    )


def read_labels(path: str | os.PathLike[str]) -> tuple[Volume, Legend]:
    """Read a label map and the names stored in it.

    Parameters
    ----------
    path : path
        As for `read_nifti`.

    Returns
    -------
    labels : Volume
        Whole numbers.
    names : Legend
        Names and colours: those in the file, else those in an ITK-SNAP label description of
        the same name beside it (``case.nii.gz``, ``case.label``); empty without either.

    Raises
    ------
    BadInput
        As `read_nifti`; also if the values are not whole numbers.
    """
    volume = read_nifti(path)
    data = whole_numbers(volume.data, Path(path).name)
    return replace(volume, data=data, modality=None), label_names(Path(path))


def write_nifti(
    path: str | os.PathLike[str],
    array_canonical: npt.ArrayLike,
    volume: Volume,
    names: dict[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels on the grid of the file that a volume came from.

    Parameters
    ----------
    path : path
        Ends in ``.nii`` or ``.nii.gz``. A file in its place stays whole until the new one is
        complete.
    array_canonical : array_like of bool or int, shape of `volume`
        Canonical order; stored as the smallest integer type that holds it.
    volume : Volume
        Gives grid, qform, sform and unit.
    names : dict of int to str, optional
        Names of the labels, kept in the file and read by `read_labels`.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the labels are not whole numbers or lie on another grid, or the file cannot be
        written.
    """
    labels = as_labels(array_canonical, volume)
    extension = names_extension(as_legend(names)) if names else b""
    return _write(Path(path), labels, volume, _LABEL_INTENT, extension, overwrite)


def write_image(path: str | os.PathLike[str], volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels on its file's grid.

    Parameters
    ----------
    path, overwrite
        As for `write_nifti`.
    volume : Volume
        float16 is stored as float32, everything else as it is.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    return _write(Path(path), plain_voxels(volume), volume, 0, b"", overwrite)


def _read(file: NiftiFile, index: int) -> Array:
    """Read one channel, flat, in native byte order and with its scaling applied."""
    count = math.prod(file.shape)
    start = file.offset + index * file.channel_bytes
    scaled = (file.slope, file.inter) != (1.0, 0.0)
    as_stored = not scaled and (file.dtype.kind in "iu" or file.dtype == np.float32)
    if as_stored and not file.compressed and file.dtype.isnative:
        # Copy on write: the array may be written to, the file is not.
        return np.memmap(file.data_path, file.dtype, mode="c", offset=start, shape=(count,))
    short = file.dtype.kind in "iu" and file.dtype.itemsize <= 2
    offset_only = scaled and short and file.slope == 1
    offset_only = offset_only and file.inter.is_integer() and abs(file.inter) < 2**31
    keep = as_stored or offset_only or file.dtype.names is not None
    dtype = file.dtype if keep else np.dtype(np.float32)
    check_memory(count * dtype.itemsize, file.name)
    values = np.empty(count, dtype)
    with open_stream(file.data_path, file.compressed) as stream:
        _skip(stream, start)
        for low in range(0, count, _CHUNK):
            piece = values[low : low + _CHUNK]
            raw = piece if keep else np.empty(piece.size, file.dtype)
            _fill(stream, raw)
            if not keep:
                with np.errstate(over="ignore", invalid="ignore"):
                    # In double first: large offsets must not eat small steps.
                    piece[:] = raw * file.slope + file.inter
        if file.compressed:
            _drain(stream)
    if not values.dtype.isnative:
        values = values.byteswap(inplace=True).view(values.dtype.newbyteorder("="))
    return _shifted(values, int(file.inter)) if offset_only else values


def _shifted(values: Array, inter: int) -> Array:
    """Add a whole offset, as CT has it; int16 where that holds the result, else float32."""
    ends = int(values.min()) + inter, int(values.max()) + inter
    if all(_fits(end, np.dtype(np.int16)) for end in ends):
        # 16-bit sums wrap round, so that the result is exact whatever the way there.
        values = values.astype(np.int16) if values.dtype.itemsize == 1 else values.view(np.int16)
        values += np.array(inter % 2**16, np.uint16).view(np.int16)
        return values
    return (values + np.float64(inter)).astype(np.float32)


def _skip(stream: BinaryIO, count: int) -> None:
    """Move forward; a packed stream can only read on."""
    while count > 0:
        piece = stream.read(min(count, _CHUNK))
        if not piece:
            raise EOFError
        count -= len(piece)


def _fill(stream: BinaryIO, target: Array) -> None:
    """Read exactly as many bytes as an array holds."""
    view = memoryview(cast(Any, target.view(np.uint8)))
    filled = 0
    while filled < view.nbytes:
        got = cast(Any, stream).readinto(view[filled:])
        if not got:
            raise EOFError
        filled += got


def _drain(stream: BinaryIO) -> None:
    """Unpack what follows the voxels: gzip compares its checksum at the end only."""
    left = _DRAIN
    try:
        while left > 0 and (piece := stream.read(_CHUNK)):
            left -= len(piece)
    except gzip.BadGzipFile as error:
        # Padding after a complete stream hurts nobody; a wrong checksum does.
        if not str(error).startswith("Not a gzipped file"):
            raise


def modality_of(data: Array) -> str | None:
    """Guess CT from values that look like Hounsfield units; None is the honest rest."""
    thin = data[tuple(slice(None, None, max(1, n // 64)) for n in data.shape)]
    if thin.dtype.kind == "u" or not -5000 < thin.min() <= -900:  # false for NaN too
        return None
    return "CT" if bool(np.all(thin == np.rint(thin))) else None


def _write(
    path: Path, array: Array, volume: Volume, intent: int, extension: bytes, overwrite: bool
) -> Path:
    """Write header, extension and voxels beside `path`, then move them into place."""
    with replacing(path, overwrite, _ENDINGS, "NIfTI file") as temporary:
        grid = volume.to_file(array)
        header = _header(volume, array.dtype, intent)
        tail = (b"\1\0\0\0" if extension else bytes(4)) + extension
        header["vox_offset"] = int(header["sizeof_hdr"]) + len(tail)
        block = header.binaryblock + tail
        with temporary.open("wb") as raw:
            if path.name.lower().endswith(".nii"):
                _pour(raw, block, grid)
            else:  # no name and no time inside: the same labels give the same bytes
                with gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
                    _pour(cast(BinaryIO, packed), block, grid)
    return path


def _pour(stream: BinaryIO, block: bytes, grid: Array) -> None:
    stream.write(block)
    for index in range(grid.shape[2]):  # a slice at a time: no second copy of the volume
        plane = grid[:, :, index]
        stream.write(plane.astype(plane.dtype.newbyteorder("<")).tobytes(order="F"))


def _header(volume: Volume, dtype: np.dtype[Any], intent: int) -> Any:
    """Make a little-endian single-file header with the volume's geometry and nobody's name."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    known = volume.header if isinstance(volume.header, Nifti1Header) else None
    large = max(volume.file_shape) > _NIFTI1_LIMIT
    if known is not None and not (large and not isinstance(known, Nifti2Header)):
        header = known.as_byteswapped("<")
        same = _has_affine(header, volume)
    else:
        header = Nifti2Header() if large else Nifti1Header()
        same = False
    header["magic"] = header.single_magic
    header.set_data_shape(volume.file_shape)
    header.set_data_dtype(dtype)
    if not same:  # cropped, resampled, or never in a file
        code = max(int(header["sform_code"]), int(header["qform_code"])) or _SCANNER
        header.set_qform(volume.file_affine, code)
        header.set_sform(volume.file_affine, code)
        header.set_xyzt_units("mm")
    header["pixdim"][4:] = 0
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"] = intent
    for field in ("intent_p1", "intent_p2", "intent_p3", "toffset", "slice_duration"):
        header[field] = 0
    blank_text(header)
    header["descrip"] = b"napari-sightline"
    return header


def _has_affine(header: Any, volume: Volume) -> bool:
    """Whether the header still says where the volume lies."""
    try:
        affine, _ = file_affine(header, volume.file_shape, volume.name)
    except BadInput:
        return False
    return np.array_equal(affine, volume.file_affine)


def _fits(value: int, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return int(limits.min) <= value <= int(limits.max)


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".nii", ".hdr", ".img"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name
