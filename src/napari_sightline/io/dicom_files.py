"""DICOM files in a folder, a list or a zip: found and opened without trusting them.

Zip entries are read in memory and never written to disk.
"""

from __future__ import annotations

import io
import mmap
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from napari_sightline.errors import BadInput
from napari_sightline.io.nifti_header import reading

__all__ = ["Files", "Item", "looks_like_dicom"]

_MOST_FILES = 100_000
_FREE_SIZE = 2**28  # bytes a zip may unpack to whatever its own size
_ZIP_RATIO = 100  # scans pack 2 to 4 times, blank ones more


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
