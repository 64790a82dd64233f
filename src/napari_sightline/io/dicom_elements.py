"""Data elements of DICOM files, read without trusting them: numbers, lines of text, or nothing."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from napari_sightline.errors import BadInput
from napari_sightline.io.quiet import quiet

__all__ = ["numbers", "parse", "text"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_RATIO = 100  # scans pack 2 to 4 times, blank ones more


def parse(stream: Any, name: str, tags: Sequence[str] | None = None, pixels: bool = False) -> Any:
    """Read a DICOM file with pydicom, whatever it holds.

    Parameters
    ----------
    stream : mmap or BytesIO
        As `Files.open` gives it. Left at the pixel data where `pixels` is false.
    name : str
        Of the file, for messages.
    tags : sequence of str, optional
        Keywords to keep; all by default.
    pixels : bool
        Whether to read the pixel data, too.

    Returns
    -------
    pydicom.Dataset

    Raises
    ------
    BadInput
        If it is no DICOM file or is damaged.
    """
    import pydicom

    try:
        with quiet():
            _refuse_bomb(stream, name)
            dataset = pydicom.dcmread(
                stream, stop_before_pixels=not pixels, force=True, specific_tags=_tags(tags)
            )
            if not len(dataset):
                raise ValueError
    except BadInput:
        raise
    except Exception:  # pydicom meets damage with nearly every kind of error
        raise BadInput(f"{name} is damaged or no DICOM file; copy or export it again.") from None
    return dataset


def _refuse_bomb(stream: Any, name: str) -> None:
    """Refuse a deflated file that unpacks to far more than a scan would."""
    start = stream.read(2048)
    stream.seek(0)
    if _DEFLATED.encode() not in start:
        return
    import pydicom

    meta = pydicom.filereader.read_preamble(stream, force=True)
    del meta
    pydicom.filereader._read_file_meta_info(stream)
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    total, packed = 0, 0
    while (piece := unpack.unconsumed_tail or stream.read(2**16)) and not unpack.eof:
        if not unpack.unconsumed_tail:
            packed += len(piece)
        total += len(unpack.decompress(piece, 2**20))
        if total > 2**24 and total > _RATIO * packed:
            raise BadInput(f"{name} unpacks to far more than a scan; export it uncompressed.")
    stream.seek(0)


def numbers(dataset: Any, keyword: str, count: int = 1) -> tuple[float, ...] | None:
    """Read finite numbers from a data element; None where it has none or another count.

    Parameters
    ----------
    dataset : pydicom.Dataset
    keyword : str
    count : int
        How many values there must be; 0 for any.

    Returns
    -------
    tuple of float or None
    """
    if not _holds(dataset, keyword):
        return None
    quick = _decimal_strings(dataset, keyword)
    if quick is not None:
        found = quick
        if (count and len(found) != count) or not all(abs(v) < 1e15 for v in found):
            return None
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = dataset.get(keyword)
            values = [value] if not hasattr(value, "__iter__") or isinstance(value, str) else value
            found = tuple(float(cast(Any, v)) for v in values)
        except Exception:
            return None
    if (count and len(found) != count) or not all(abs(v) < 1e15 for v in found):
        return None
    return found


def _decimal_strings(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    """Read decimal strings out of their bytes: pydicom's objects take most of the time."""
    try:
        raw = dataset.get_item(_tag(keyword))
        if raw.VR not in ("DS", "IS") or not isinstance(raw.value, bytes):
            return None
        return tuple(float(part) for part in raw.value.rstrip(b"\0 ").split(b"\\"))
    except Exception:  # no such element, or damaged: read it as any other
        return None


def _holds(dataset: Any, keyword: str) -> bool:
    """Whether a data set has an element; pydicom takes long to say that it has none."""
    tag = _tag(keyword)
    return dataset is not None and (tag is None or tag in dataset)


def _tags(keywords: Sequence[str] | None) -> Any:
    """Keywords as pydicom's tags: made once, not for every file."""
    return None if keywords is None else [_tag(keyword) for keyword in keywords]


@cache
def _tag(keyword: str) -> Any:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    number = tag_for_keyword(keyword)
    return None if number is None else Tag(number)


def text(dataset: Any, keyword: str) -> str:
    """Read a data element as one line of text; empty where it has none."""
    if not _holds(dataset, keyword):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = dataset.get(keyword)
            joined = "\\".join(map(str, value)) if hasattr(value, "append") else str(value or "")
        except Exception:
            return ""
    return " ".join("".join(c if c.isprintable() else " " for c in joined).split())
