"""A session's steps on disk as they happen, so that a crash loses nothing.

A journal lies in the user's state folder. Of the patient it holds a hash of the scan's geometry and
of some of its voxels, the masks, and the names that were typed; no voxel, no file name. Steps are
appended by a thread of its own and brought to the disk within a second. A file that has grown is
written anew, without the steps that can no longer be undone, beside the old one, whose place it
takes once it is whole. The same records, in one file that the user names, are a saved session.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import queue
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.segment.history import Timeline, Transition
from napari_sightline.segment.records import frame, frames, read
from napari_sightline.segment.state import Scene
from napari_sightline.volume import Volume

_log = logging.getLogger(__name__)
_MAGIC = b"sightline session 1\n"
#: Seconds after which what was written is brought to the disk.
_SYNC = 1.0
#: Bytes from which a journal is written anew; later at twice what it then took. A click takes
#: half a megabyte, and what can be undone `history.HISTORY_BYTES`.
_GROWN = 128 * 2**20
# Journals that sessions of this process write to.
_open: set[Path] = set()


def state_folder() -> Path:
    """Return the folder for journals on this machine, not made yet."""
    import platformdirs

    return platformdirs.user_state_path("napari-sightline", appauthor=False) / "journals"


def fingerprint(volume: Volume) -> str:
    """Hash of a scan's geometry and of some of its voxels: tells whether a session is its own."""
    digest = hashlib.sha256()
    digest.update(str((volume.shape, str(volume.data.dtype))).encode())
    digest.update(np.round(volume.affine, 3).astype("<f8").tobytes())
    first, second, third = (max(1, n // 24) for n in volume.shape)
    for k in range(0, volume.shape[0], max(first, volume.shape[0] // 8)):
        row = np.ascontiguousarray(np.asarray(volume.data[k])[::second, ::third])
        digest.update(row.astype(row.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:32]


def header(volume: Volume) -> bytes:
    """Begin a file of records."""
    import psutil  # type: ignore[import-untyped]

    about = {
        "scan": fingerprint(volume),
        "shape": volume.shape,
        "process": [os.getpid(), psutil.Process().create_time()],
        "time": time.time(),
    }
    return _MAGIC + json.dumps(about).encode() + b"\n"


@dataclass(frozen=True)
class Restored:
    """A session read back.

    Attributes
    ----------
    scene : Scene
        Its objects.
    timeline : Timeline
        What can be undone and redone.
    note : str
        A sentence where something at the end was lost, else empty.
    path : Path
        The file.
    """

    scene: Scene
    timeline: Timeline
    note: str
    path: Path


def dump(volume: Volume, scene: Scene, timeline: Timeline) -> bytes:
    """Write a session as a whole: its beginning, and every step that can be undone or redone."""
    return b"".join(_Whole(header(volume), scene, timeline.steps, timeline.undone).parts())


@dataclass(frozen=True)
class _Whole:
    """A session at a moment, to be written as a whole."""

    header: bytes
    scene: Scene
    steps: tuple[Transition, ...]
    undone: int

    def parts(self) -> Iterator[bytes]:
        """Yield the file piece by piece."""
        base = self.scene
        for step in reversed(self.steps[: len(self.steps) - self.undone]):
            base = step.apply(base, back=True)
        yield self.header
        yield frame(Transition.between(Scene(), base))
        yield from map(frame, self.steps)
        yield from [frame("undo")] * self.undone


def restore(path: Path, data: bytes, volume: Volume) -> Restored:
    """Read a session back, as far as it is whole.

    Raises
    ------
    BadInput
        Where it is no session, of another scan, or damaged at its very beginning.
    """
    about, at = _about(path, data)
    if about.get("scan") != fingerprint(volume):
        raise BadInput(f"{path.name} belongs to another scan; open that scan first.")
    body = data[at:]
    scene, timeline, end, count, whole = Scene(), Timeline(), 0, 0, True
    for end_of, payload in frames(body):
        try:
            record = read(payload, volume.shape)
            if isinstance(record, Transition):
                after: Scene | None = record.apply(scene)
                if count and after is not None:
                    timeline.push(record)
            else:
                after = timeline.undo(scene) if record == "undo" else timeline.redo(scene)
            if after is None or after.need(None).accepted:
                raise BadInput("A step does not fit the one before it.")
        except (BadInput, KeyError, AssertionError, ValueError):
            whole = False
            break
        scene, end, count = after, end_of, count + 1
    if not count:
        raise BadInput(f"{path.name} is damaged from its beginning; use an older copy.")
    note = ""
    if not whole or end < len(body):
        note = (
            f"The end of {path.name} is damaged: the first {count - 1} steps came back, "
            f"{len(body) - end} bytes after them were lost; check the last object."
        )
    return Restored(scene, timeline, note, path)


def _about(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """Header of a file of records, and where it ends."""
    end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + 4096)
    if not data.startswith(_MAGIC) or end < 0:
        raise BadInput(f"{path.name} is no saved session; choose a file that this plugin saved.")
    try:
        about = json.loads(data[len(_MAGIC) : end])
    except ValueError as error:
        raise BadInput(f"{path.name} is damaged at its beginning; use an older copy.") from error
    if not isinstance(about, dict):
        raise BadInput(f"{path.name} is damaged at its beginning; use an older copy.")
    return about, end + 1


class Journal:
    """Appends steps to a file, on a thread of its own.

    Parameters
    ----------
    path : Path
        Of a new file; its folder is made.
    begin : bytes
        What it begins with, see `dump`.

    """

    def __init__(self, path: Path, begin: bytes) -> None:
        self.path = path
        self._shared = _Shared(path)
        self._shared.queue.put(begin)
        self._thread = threading.Thread(
            target=_write, args=(self._shared,), name="sightline-journal", daemon=True
        )
        _open.add(path)
        _journals.add(self)
        # A session that is let go of without `close` leaves no thread behind.
        weakref.finalize(self, _release, self._shared)
        self._thread.start()

    @classmethod
    def start(
        cls, volume: Volume, scene: Scene, timeline: Timeline, folder: Path | None = None
    ) -> Journal:
        """Begin a journal of a session as it is now."""
        name = f"{fingerprint(volume)}-{uuid.uuid4().hex[:8]}.journal"
        return cls((folder or state_folder()) / name, dump(volume, scene, timeline))

    @property
    def fault(self) -> str:
        """A sentence once the disk refused, and nothing is kept any more; else empty."""
        return self._shared.fault

    def append(self, record: Transition | str) -> None:
        """Keep a step, or ``"undo"`` or ``"redo"``; returns at once."""
        self._shared.queue.put(record)

    @property
    def grown(self) -> bool:
        """Whether so much was appended that the session should be written anew, see `renew`."""
        return self._shared.grown

    def renew(self, volume: Volume, scene: Scene, timeline: Timeline) -> None:
        """Write the session as it is now in the place of all steps so far; returns at once."""
        self._shared.grown = False
        whole = _Whole(header(volume), scene, timeline.steps, timeline.undone)
        self._shared.queue.put(whole)

    def flush(self) -> None:
        """Wait until all steps are on the disk."""
        done = threading.Event()
        self._shared.queue.put(done)
        while not done.wait(0.1):
            if not self._thread.is_alive():
                return

    def close(self) -> None:
        """Bring all steps to the disk and let go of the file, which stays."""
        self._shared.queue.put(None)
        self._thread.join()
        _open.discard(self.path)

    def remove(self) -> None:
        """Close, and delete the file: what it held is safe elsewhere."""
        self.close()
        discard(self.path)

    @staticmethod
    def recover(volume: Volume, folder: Path | None = None) -> Restored | None:
        """Read back the latest journal of a scan that a crash left behind.

        Journals that a running session writes to are left alone.

        Parameters
        ----------
        volume : Volume
            The scan.
        folder : Path, optional
            By default the state folder.

        Returns
        -------
        Restored or None
            None where there is none with an object in it.
        """
        folder = folder or state_folder()
        found = sorted(folder.glob(f"{fingerprint(volume)}-*.journal"), key=_modified, reverse=True)
        for path in found:
            if path in _open:
                continue
            try:
                data = path.read_bytes()
                if _is_written(_about(path, data)[0]):
                    continue
                return restore(path, data, volume)
            except (BadInput, OSError) as error:
                _log.warning("The journal %s could not be read: %s", path.name, error)
        return None


def discard(path: Path) -> None:
    """Delete a journal, and what a crash left of one that was to take its place."""
    for file in (path, _beside(path)):
        file.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_suffix(".new")


class _Shared:
    """What a journal and its thread both know."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.fault = ""
        self.grown = False


def _write(shared: _Shared) -> None:
    """Life of a journal's thread."""
    try:
        shared.path.parent.mkdir(parents=True, exist_ok=True)
        file = _File(shared.path)
        try:
            while True:
                try:
                    item = shared.queue.get(timeout=_SYNC if file.dirty else None)
                except queue.Empty:
                    file.sync()
                    continue
                if isinstance(item, _Whole):
                    file.renew(item)
                elif isinstance(item, bytes | str | Transition):
                    file.append(item if isinstance(item, bytes) else frame(item))
                    if file.grown:
                        shared.grown = True
                else:
                    file.sync()
                    if item is None:
                        return
                    item.set()
        finally:
            file.stream.close()
    except OSError as error:
        shared.fault = (
            f"The session is not kept against a crash ({error.strerror or error}); "
            "free space on the disk, and save soon."
        )
        _log.warning(shared.fault)


class _File:
    """A journal's file, on its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stream = path.open("wb")
        self.dirty = False
        self._limit = _GROWN

    def append(self, data: bytes) -> None:
        self.stream.write(data)
        self.stream.flush()
        self.dirty = True

    def sync(self) -> None:
        os.fsync(self.stream.fileno())
        self.dirty = False

    @property
    def grown(self) -> bool:
        return self.stream.tell() > self._limit

    def renew(self, whole: _Whole) -> None:
        """Replace the file; up to the moment at which that happens the old one holds everything."""
        beside = _beside(self._path)
        try:
            with beside.open("wb") as stream:
                for part in whole.parts():
                    stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
                size = stream.tell()
        except OSError as error:  # no room for both: the old one goes on
            _log.warning("The journal could not be written anew: %s", error)
            beside.unlink(missing_ok=True)
            self._limit = 2 * self.stream.tell()
            return
        self.sync()
        self.stream.close()  # Windows replaces no open file
        beside.replace(self._path)
        if os.name == "posix":  # else steps of the new file could be lost with a power cut
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self.stream = self._path.open("ab")
        self._limit = max(_GROWN, 2 * size)


def _release(shared: _Shared) -> None:
    shared.queue.put(None)
    _open.discard(shared.path)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _is_written(about: dict[str, Any]) -> bool:
    """Whether another process that still runs began a journal."""
    import psutil

    try:
        number, created = int(about["process"][0]), float(about["process"][1])
        return number != os.getpid() and psutil.Process(number).create_time() == created
    except (psutil.Error, KeyError, IndexError, TypeError, ValueError):
        return False


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    """Bring to the disk what still waits when the interpreter ends."""
    for journal in list(_journals):
        if journal._thread.is_alive():
            journal.close()
