"""Voxels out of DICOM files, into one array, a slice at a time.

What is stored plainly goes from the disk straight into the volume; compressed frames go
through pydicom's decoders, after what the stream claims was compared with the header.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_elements import parse, text
from napari_sightline.io.dicom_files import Files
from napari_sightline.io.dicom_picture import Frame, Picture
from napari_sightline.io.memory import check_memory
from napari_sightline.io.quiet import quiet
from napari_sightline.orientation import Array

__all__ = ["read_frames"]

_NATIVE: dict[str, tuple[Literal["<", ">"], bool]] = {
    "1.2.840.10008.1.2": ("<", True),
    "1.2.840.10008.1.2.1": ("<", False),
    "1.2.840.10008.1.2.2": (">", False),
    "1.2.840.113619.5.2": ("<", True),
}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LUMINANCE = (0.299, 0.587, 0.114)
_MOST_PIXELS = 2**28  # of one compressed frame
_PIXEL_TAGS = [
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration",
    "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "SOPClassUID", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
]  # fmt: skip


def read_frames(
    files: Files, frames: Sequence[Frame | None], name: str, factor: float = 1.0
) -> Array:
    """Read slices in order.

    Parameters
    ----------
    files : Files
        Where they are.
    frames : sequence of Frame or None
        At least one; None leaves a blank slice.
    name : str
        Of the series, for messages.
    factor : float
        Values are multiplied by it after their own rescaling.

    Returns
    -------
    ndarray, shape (slices, rows, columns)
        Whole numbers where slope and intercept leave them such, else float32. Blank slices
        have the lowest value of the others.

    Raises
    ------
    BadInput
        If pixels are missing or damaged, or do not fit into memory.
    """
    known = [frame for frame in frames if frame is not None]
    whole = factor == 1 and all(f.slope == 1 and float(f.intercept).is_integer() for f in known)
    alike = len({f.intercept for f in known}) == 1
    shift = int(known[0].intercept) if whole and alike else None
    reader = _Reader(files)
    volume: Array | None = None
    low, high = np.inf, -np.inf
    try:
        for index, frame in enumerate(frames):
            if frame is None:
                continue
            if volume is None:
                # The first frame, before the volume is allocated: claims must come true first.
                first = reader.read(frame)
                dtype = first.dtype if shift is not None and first.dtype.kind in "iu" else "f4"
                shape = (len(frames), *first.shape)
                check_memory(int(np.prod(shape)) * np.dtype(dtype).itemsize, name)
                volume = np.empty(shape, dtype)
            plane = volume[index]
            if shift is not None and plane.dtype.kind in "iu":
                reader.into(frame, plane)
            else:
                raw = reader.read(frame).astype(np.float64)
                plane[...] = (raw * frame.slope + frame.intercept) * factor
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
            if shift and plane.dtype.kind in "iu":
                _wrapped(plane, shift)  # while it is in the processor's cache
    except MemoryError:
        raise BadInput(
            f"{name} does not fit into memory; close other programs or open fewer slices."
        ) from None
    finally:
        reader.close()
    assert volume is not None
    if shift and volume.dtype.kind in "iu":
        volume = _settled(volume, int(low), int(high), shift)
        low += shift
    for index, frame in enumerate(frames):
        if frame is None:
            volume[index] = low
    return volume


def _wrapped(plane: Array, shift: int) -> None:
    """Add a whole intercept in place, modulo what the type holds."""
    bits = 8 * plane.dtype.itemsize
    unsigned = plane.view(f"u{plane.dtype.itemsize}")
    unsigned += np.array(shift % 2**bits, np.uint64).astype(unsigned.dtype)


def _settled(volume: Array, low: int, high: int, shift: int) -> Array:
    """Give shifted voxels the type that holds them: int16, else int32, else float32.

    Parameters
    ----------
    volume : ndarray of int
        Shifted modulo what its type holds, so that nothing is lost yet.
    low, high : int
        Of the voxels as they were stored.
    shift : int
        What was added.
    """
    low, high = low + shift, high + shift
    if volume.dtype.itemsize == 2 and low >= -(2**15) and high < 2**15:
        return volume.view(np.int16)  # exact whatever the way there
    _wrapped(volume, -shift)
    if volume.dtype.itemsize <= 2 and low >= -(2**15) and high < 2**15:
        return (volume.astype(np.int32) + np.int32(shift)).astype(np.int16)
    if low >= -(2**31) and high < 2**31 and abs(shift) < 2**31:
        return volume.astype(np.int32) + np.int32(shift)
    return (volume + np.float64(shift)).astype(np.float32)


class _Reader:
    """Reads frames; keeps the file of the last compressed one, as frames share files."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._last: tuple[Picture, Any] | None = None

    def close(self) -> None:
        self._last = None

    def read(self, frame: Frame) -> Array:
        """Read one frame as numbers, shape (rows, columns), unscaled."""
        picture = frame.picture
        if self._plain(picture):
            out = np.empty((picture.rows, picture.columns), _stored_dtype(picture))
            self._native(frame, out)
            return out
        return self._decoded(frame)

    def into(self, frame: Frame, target: Array) -> None:
        """Read one frame into a slice of the volume."""
        picture = frame.picture
        if self._plain(picture) and target.dtype == _stored_dtype(picture):
            self._native(frame, target)
            return
        values = self.read(frame)
        if values.shape != target.shape:
            raise _damaged(frame.picture)
        if values.dtype != target.dtype:
            with np.errstate(all="ignore"):
                kept = values.astype(target.dtype)
            if not np.array_equal(kept, values):
                raise BadInput(
                    f"{picture.item.name} stores its voxels otherwise than the rest of the "
                    "series; open it apart."
                )
            values = kept
        target[...] = values

    @staticmethod
    def _plain(picture: Picture) -> bool:
        colour = picture.samples > 1 or _photometric(picture) == "PALETTE COLOR"
        return (
            picture.syntax in _NATIVE
            and picture.bits in (8, 16, 32)
            and not colour
            and (picture.header.get("FloatPixelData") is None)
        )

    def _native(self, frame: Frame, target: Array) -> None:
        """Read plainly stored pixels from the file, straight into a contiguous array."""
        picture = frame.picture
        order, implicit = _NATIVE[picture.syntax]
        start = bytearray(12)
        got = self._files.read_into(picture.item, start, picture.offset)
        tag = struct.unpack(f"{order}HH", start[:4]) if got == len(start) else (0, 0)
        if tag != (0x7FE0, 0x0010):
            if tag in ((0x7FE0, 0x0008), (0x7FE0, 0x0009)):
                raise BadInput(
                    f"{picture.item.name} holds floating-point pixels, which are not read; "
                    "export it with whole numbers."
                )
            raise BadInput(f"{picture.item.name} has no pixels; copy or export it again.")
        explicit = not implicit and start[4:6].isalpha()
        length = struct.unpack(f"{order}I", start[8:12] if explicit else start[4:8])[0]
        begin = picture.offset + (12 if explicit else 8)
        each = target.nbytes
        enough = length >= each * picture.frames and begin + each * picture.frames <= picture.size
        if enough:
            place = begin + each * frame.number
            enough = self._files.read_into(picture.item, target, place) == each
        if not enough:
            raise BadInput(
                f"{picture.item.name} has fewer pixels than its header claims; it is cut "
                "off: copy or export it again."
            )
        if target.dtype.itemsize > 1 and (order == ">") == (sys.byteorder == "little"):
            target.byteswap(inplace=True)
        unused = picture.bits - picture.stored
        if unused:  # overlays and noise live there; the shift back extends the sign
            np.left_shift(target, unused, out=target)
            np.right_shift(target, unused, out=target)

    def _decoded(self, frame: Frame) -> Array:
        """Decode one frame with pydicom; colour becomes luminance."""
        picture = frame.picture
        pixels = picture.rows * picture.columns
        if pixels > _MOST_PIXELS:
            raise BadInput(
                f"{picture.item.name} claims {pixels:.1e} pixels a slice; its header is damaged: "
                "export it again."
            )
        if self._last is None or self._last[0] is not picture:
            with self._files.open(picture.item) as stream:
                dataset = parse(stream, picture.item.name, _PIXEL_TAGS, pixels=True)
            self._last = (picture, dataset)
        dataset = self._last[1]
        try:
            with quiet():
                values = _decode(dataset, picture, frame.number)
        except (BadInput, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a decoder in Rust panics beside Exception
            if "decompress" in str(error) and "missing dependencies" in str(error):
                raise BadInput(
                    f"{picture.item.name} is compressed in a way that needs more decoders; "
                    "pip install 'napari-sightline[dicom]'."
                ) from None
            raise _damaged(picture) from None
        if values.ndim == 3 and values.shape[-1] in (3, 4):
            grey = sum(np.float32(w) * values[..., i] for i, w in enumerate(_LUMINANCE))
            values = np.rint(grey).astype(values.dtype)
        if values.shape != (picture.rows, picture.columns):
            raise _damaged(picture)
        return values


def _decode(dataset: Any, picture: Picture, number: int) -> Array:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    if picture.syntax not in _NATIVE and picture.syntax != _DEFLATED:
        _check_stream(dataset, picture, number)
    values = np.asarray(pixel_array(dataset, index=number))
    if _photometric(picture) == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        if values.dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
    return values


def _check_stream(dataset: Any, picture: Picture, number: int) -> None:
    """Compare the size in a compressed frame with the header's, before a decoder allocates."""
    from pydicom.encaps import get_frame

    frame = get_frame(
        dataset.PixelData,
        number,
        number_of_frames=picture.frames,
        extended_offsets=None,
    )
    claimed = _stream_size(frame)
    if claimed is not None and claimed != (picture.rows, picture.columns):
        raise _damaged(picture)


def _stream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims; None if it is none."""
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) > 40:
        x1, y1, x0, y0 = struct.unpack(">4I", data[8:24])
        return y1 - y0, x1 - x0
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", data[at + 5 : at + 9])
            return rows, columns
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _photometric(picture: Picture) -> str:
    return text(picture.header, "PhotometricInterpretation").upper()


def _stored_dtype(picture: Picture) -> np.dtype[Any]:
    return np.dtype(f"{'i' if picture.signed else 'u'}{picture.bits // 8}")


def _damaged(picture: Picture) -> BadInput:
    return BadInput(f"{picture.item.name} has damaged pixel data; copy or export the series again.")
