"""DICOM files in a folder, a list or a zip: found, opened and read without trusting them.

Zip entries are read in memory and never written to disk. Patients' names, identifiers and
birth dates are read for one reason: to keep them out of every text.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, cast

from napari_sightline.errors import BadInput
from napari_sightline.io.nifti_header import reading
from napari_sightline.io.quiet import quiet

__all__ = [
    "Files",
    "Item",
    "looks_like_dicom",
    "nameless",
    "numbers",
    "parse",
    "private_words",
    "scrubbed",
]

_MOST_FILES = 100_000
_FREE_SIZE = 2**28  # bytes a zip may unpack to whatever its own size
_ZIP_RATIO = 100  # scans pack 2 to 4 times, blank ones more
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PRIVATE = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames",
    "PatientBirthName",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One DICOM file: on disk, or an entry of a zip.

    Attributes
    ----------
    path : Path
        The file, or the zip.
    entry : str or None
        Name inside the zip.
    """

    path: Path
    entry: str | None = None

    @property
    def name(self) -> str:
        """Short name for messages."""
        return self.path.name if self.entry is None else PurePosixPath(self.entry).name


class Files:
    """What was named by a user, as a list of DICOM files that can be opened.

    Use it in a ``with`` block: zips stay open as long as it lasts.

    Parameters
    ----------
    source : path or sequence of paths
        A folder, a zip, a DICOM file, or several files.

    Raises
    ------
    BadInput
        If nothing there is DICOM, or a zip is damaged or not to be trusted.
    """

    def __init__(self, source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> None:
        single = isinstance(source, str | os.PathLike)
        paths = [Path(source)] if single else [Path(p) for p in source]  # type: ignore[arg-type, union-attr]
        if not paths:
            raise BadInput("No file was named; name a DICOM folder, its files or a zip.")
        self.first = paths[0]
        self.name = paths[0].name if len(paths) == 1 else paths[0].parent.name
        self.name = self.name or "The folder"
        self.many = len(paths) > 1 or paths[0].is_dir()
        self._zips: dict[Path, zipfile.ZipFile] = {}
        self._stack = ExitStack()
        self.items: list[Item] = []
        try:
            for path in paths:
                self._add(path)
        except BaseException:
            self._stack.close()
            raise
        if not self.items:
            self._stack.close()
            kind = "is a folder" if self.first.is_dir() else "is a file"
            raise BadInput(
                f"{self.name} {kind} without DICOM images; name a folder or zip with a series, "
                "or a .nii, .nii.gz, .nrrd or .tif file."
            )

    @classmethod
    def beside(cls, path: Path) -> Files:
        """Take a DICOM file and all others in its folder, not those in folders below."""
        files = cls(path)
        files.items = _in_folder(path.parent, deep=False)
        files.many = True
        return files

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _add(self, path: Path) -> None:
        with reading(path):
            if path.is_dir():
                self.items += _in_folder(path)
                return
            with path.open("rb") as stream:
                start = stream.read(140)
        if path.name.upper() == "DICOMDIR":  # a list of what lies beside and below it
            self.many = True
            self.items += _in_folder(path.parent)
        elif start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            self.many = True
            self.items += [Item(path, name) for name in self._entries(path)]
        else:
            self.items.append(Item(path))

    def _entries(self, path: Path) -> list[str]:
        """Names in a zip that may be images, after the zip as a whole was found harmless."""
        archive = self._zip(path)
        total = 0
        names = []
        for info in archive.infolist():
            inside = PurePosixPath(info.filename.replace("\\", "/"))
            if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] == ("C:",):
                raise BadInput(
                    f"{path.name} holds an entry that leaves its folder; do not trust it, "
                    "and ask its sender for another."
                )
            if info.flag_bits & 1:
                raise BadInput(f"{path.name} is protected by a password; unpack it first.")
            total += info.file_size
            if not info.is_dir() and info.file_size > 132 and not inside.name.startswith("."):
                names.append(info.filename)
        size = path.stat().st_size
        if (total > _FREE_SIZE and total > _ZIP_RATIO * size) or len(names) > _MOST_FILES:
            raise BadInput(
                f"{path.name} would unpack to {total / 2**30:.1f} GB out of {size / 2**20:.1f} MB; "
                "unpack it yourself if you trust it, and open the folder."
            )
        found = []
        for name in sorted(names):
            with _unzipping(path), archive.open(name) as stream:
                if looks_like_dicom(stream.read(140), name):
                    found.append(name)
        return found

    def _zip(self, path: Path) -> zipfile.ZipFile:
        if path not in self._zips:
            with reading(path), _unzipping(path):
                self._zips[path] = self._stack.enter_context(zipfile.ZipFile(path))
        return self._zips[path]

    @contextmanager
    def open(self, item: Item) -> Iterator[Any]:
        """Open a file for reading in bytes; what it gives is never longer than the file.

        Parameters
        ----------
        item : Item

        Yields
        ------
        mmap or BytesIO
        """
        with reading(item.path):
            if item.entry is not None:
                archive = self._zip(item.path)
                with _unzipping(item.path):
                    content = archive.read(item.entry)
                yield io.BytesIO(content)
                return
            with item.path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size == 0:
                    yield io.BytesIO(b"")
                    return
                # A map, because its read() never allocates what a damaged length asks for.
                view = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                try:
                    yield view
                finally:
                    with suppress(BufferError):
                        view.close()

    def read_into(self, item: Item, target: Any, offset: int) -> int:
        """Read bytes of a file into a buffer, without a copy where the file is on disk.

        Parameters
        ----------
        item : Item
        target : buffer of bytes
            As many bytes are read as it holds, or as there are.
        offset : int
            First byte in the file.

        Returns
        -------
        int
            Bytes read.
        """
        view = memoryview(target).cast("B")
        if item.entry is not None:
            with self.open(item) as stream:
                stream.seek(offset)
                return int(stream.readinto(view))
        with reading(item.path), item.path.open("rb", buffering=0) as raw:
            raw.seek(offset)
            done = 0
            while done < len(view) and (got := raw.readinto(view[done:])):
                done += got
            return done


def _in_folder(folder: Path, deep: bool = True) -> list[Item]:
    found: list[Item] = []
    count = 0
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        for name in sorted(files):
            count += 1
            if count > _MOST_FILES:
                raise BadInput(
                    f"{folder.name} holds more than {_MOST_FILES} files; name the folder of one "
                    "study."
                )
            path = Path(top) / name
            if name.startswith(".") or name.upper() == "DICOMDIR":
                continue
            try:
                with path.open("rb") as stream:
                    start = stream.read(140)
            except OSError:
                continue
            if looks_like_dicom(start, name):
                found.append(Item(path))
    return found


def looks_like_dicom(start: bytes, name: str = "") -> bool:
    """Whether a file's first 140 bytes (and its name) are those of a DICOM file."""
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in (b"\x02\0", b"\x08\0") or len(start) < 16:
        return False
    # Without a preamble: the first element must be plausible.
    length = int.from_bytes(start[4:8], "little")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or length < 256 or name.lower().endswith((".dcm", ".ima"))


@contextmanager
def _unzipping(path: Path) -> Iterator[None]:
    try:
        yield
    except (BadInput, MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception:  # zipfile meets damage with many kinds of error
        raise BadInput(f"{path.name} is a damaged zip; copy or export it again.") from None


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
        if total > 2**24 and total > _ZIP_RATIO * packed:
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


def private_words(dataset: Any) -> frozenset[str]:
    """Words that identify the patient, lower case: parts of names, identifiers, birth date."""
    words: set[str] = set()
    places = [dataset]
    with suppress(Exception):  # missing or damaged
        places += list(dataset.get("OtherPatientIDsSequence") or ())
    for place in places:
        for keyword in _PRIVATE:
            value = text(place, keyword).casefold()
            words |= {word for word in re.split(r"[\s^=,;\\]+", value) if word}
    born = text(dataset, "PatientBirthDate")
    if len(born) == 8 and born.isdigit():
        year, month, day = born[:4], born[4:6], born[6:]
        for mark in ".-/_":
            words |= {mark.join((year, month, day)), mark.join((day, month, year))}
            words.add(mark.join((month, day, year)))
    return frozenset(words)


def scrubbed(label: str, words: frozenset[str]) -> str:
    """Return a label without the words that identify a patient; empty if nothing is left.

    Words of one or two letters or digits are taken out only where they stand alone.
    """
    for word in sorted(words, key=len, reverse=True):
        pattern = re.escape(word)
        if len(word) < 3 and word.isascii():
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        label = re.sub(pattern, "", label, flags=re.IGNORECASE)
    return " ".join(label.split()).strip(" _-^,")


def nameless(error: BadInput, words: frozenset[str]) -> BadInput:
    """Return an error whose sentence does not identify a patient: names of files may."""
    return BadInput(scrubbed(str(error), frozenset(word for word in words if len(word) > 2)))
