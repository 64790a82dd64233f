"""The part of a session that outlives it: its journal, and files that hold a whole session."""

from __future__ import annotations

import zipfile
from pathlib import Path

from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.segment.core import SessionCore
from napari_sightline.segment.history import Transition
from napari_sightline.segment.journal import Journal, Restored, discard, dump, restore
from napari_sightline.segment.label_map import LabelMap
from napari_sightline.volume import Volume

#: Name of the records within a saved session, which is a zip file.
_ENTRY = "session.records"
#: Largest records that are read, bytes.
_LARGEST = 4 * 2**30


class KeepCalls(SessionCore):
    """Journal and files of a session. See `Session`."""

    _journal: Journal | None = None
    _journal_folder: Path | None = None
    _journalled = False

    def _clear(self) -> None:
        super()._clear()
        self._let_go()

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _record(self, step: Transition | str) -> None:
        if self._journal is not None:
            self._journal.append(step)
            if self._journal.grown:
                self._journal.renew(self._need().volume, self._scene, self._timeline)
        elif self._journalled:
            # The step is part of what the journal begins with.
            volume = self._need().volume
            self._journal = Journal.start(volume, self._scene, self._timeline, self._journal_folder)

    def keep_journal(self, folder: Path | None = None) -> None:
        """Write every step from now on to a file, so that a crash loses nothing.

        The file appears with the first step and goes with `saved`; see
        `napari_sightline.segment.journal`.

        Parameters
        ----------
        folder : Path, optional
            By default a folder for this plugin among the user's state.
        """
        with self._lock:
            self._journalled, self._journal_folder = True, folder

    @property
    def journal(self) -> Journal | None:
        """The journal that is being written, or None; its `fault` is worth showing."""
        return self._journal

    def saved(self) -> None:
        """Hear that the user saved everything: the journal goes, until the next step."""
        with self._lock:
            journal, self._journal = self._journal, None
            if journal is not None:
                journal.remove()

    def close(self) -> None:
        """Let go of the journal's file, which stays unless `saved` was called."""
        with self._lock:
            self._let_go()

    def recover(self, folder: Path | None = None) -> str:
        """Bring back what a crash left of a session on this volume.

        Objects, masks, prompts and what could be undone are as they were. The old journal goes once
        a new one holds the same.

        Parameters
        ----------
        folder : Path, optional
            As for `keep_journal`.

        Returns
        -------
        str
            A sentence for the user; empty where there was nothing to recover.

        Raises
        ------
        BadInput
            Where no volume is set, or something was done in this session already.
        """
        with self._lock:
            volume = self._need().volume
            if self.can_undo or not self.current.untouched:
                raise BadInput("This session has objects already; recover before the first click.")
            found = Journal.recover(volume, folder)
            if found is None:
                return ""
            self._restore(found)
            count = sum(not item.untouched for item in self.objects)
            self._journalled, self._journal_folder = True, folder
            self._journal = Journal.start(volume, self._scene, self._timeline, folder)
            self._journal.flush()
            if not self._journal.fault:
                discard(found.path)
            what = "1 object was" if count == 1 else f"{count} objects were"
            said = f"{what} brought back from a session that ended without saving."
            return f"{said} {found.note}".strip()

    def save_session(self, path: Path) -> Path:
        """Write objects, prompts, masks and history to one file; the journal goes.

        Parameters
        ----------
        path : Path
            To be made or replaced, at once and as a whole; ``.sightline`` is the usual ending.

        Raises
        ------
        BadInput
            Where no volume is set or the disk refuses.
        """
        with self._lock:
            data = dump(self._need().volume, self._scene, self._timeline)
        path = Path(path)
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_ENTRY, data)
        self.saved()
        return path

    def load_session(self, path: Path, volume: Volume | None = None) -> str:
        """Take a saved session in the place of this one.

        Parameters
        ----------
        path : Path
            Written by `save_session`.
        volume : Volume, optional
            The scan it was made on; by default the present one.

        Returns
        -------
        str
            A sentence where something was lost, else empty.

        Raises
        ------
        BadInput
            Where the file is no session or of another scan; this session is then as it was.
        """
        path = Path(path)
        with self._lock:
            scan = volume if volume is not None else self._need().volume
            try:
                with zipfile.ZipFile(path) as archive:
                    if archive.getinfo(_ENTRY).file_size > _LARGEST:
                        raise BadInput(f"{path.name} is too large for a session; choose another.")
                    data = archive.read(_ENTRY)
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                why = getattr(error, "strerror", None) or "not a session, or damaged"
                raise BadInput(
                    f"{path.name} could not be read ({why}); choose a file that this plugin saved."
                ) from error
            found = restore(path, data, scan)
            self.set_volume(scan)
            self._restore(found)
            return found.note

    def _restore(self, found: Restored) -> None:
        volume = self._need().volume
        labels = LabelMap(volume.shape)
        labels.update(type(found.scene)(), found.scene)
        self._labels, self._scene, self._timeline = labels, found.scene, found.timeline
        self._generation += 1
