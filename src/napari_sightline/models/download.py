"""Files of models from the network: with progress, resumed where they stopped, verified.

Addresses on the Hugging Face hub are made by `huggingface_hub`, so that ``HF_ENDPOINT`` (a mirror),
``HF_HUB_OFFLINE`` and a login are honoured.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sightline.errors import BadInput, Cancelled, ModelError

Progress = Callable[[float, str], None]
Cancel = Callable[[], bool]

#: Nothing larger is a model that is known here.
LARGEST_BYTES = 8 * 2**30
_CHUNK = 2**14  # a chunk that is cut off is lost
_TOLD = 2**18  # bytes between two reports
_TRIES = 4  # in a row without a byte
_WAIT = 1.0  # seconds after the first of them, then doubled
_TIMEOUT = (15, 60)  # seconds to connect, and between bytes


@dataclass(frozen=True)
class RemoteFile:
    """A file somewhere else.

    Attributes
    ----------
    path : str
        Where it goes, within the download's folder.
    url : str
        Its address, or its path in the hub's repository.
    repository, revision : str
        Of the Hugging Face hub; empty for a plain address.
    sha256 : str or None
        None where its publisher does not say; the hub's own digest is used there.
    """

    path: str
    url: str
    repository: str = ""
    revision: str = "main"
    sha256: str | None = None

    @property
    def address(self) -> str:
        """Where it is fetched from."""
        if not self.repository:
            return self.url
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.repository, self.url, revision=self.revision))


def offline() -> bool:
    """Tell whether the network is switched off by ``HF_HUB_OFFLINE``."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def fetch(
    files: Sequence[RemoteFile],
    folder: Path,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[Path]:
    """Fetch files into a folder.

    A file appears under its name when it is whole and verified; until then it grows beside it,
    and a later call goes on from there.

    Parameters
    ----------
    files : sequence of RemoteFile
        What to fetch.
    folder : Path
        Where to; made where it is missing.
    progress : callable, optional
        Told the share done, 0 .. 1, and a word.
    cancel : callable, optional
        Asked often; what was fetched is kept.

    Raises
    ------
    Cancelled
        Where `cancel` said so.
    BadInput
        Where the network is switched off, or the disk refuses.
    ModelError
        Where the network or its other end fails, or the file is not the one that was published.
    """
    if offline():
        raise BadInput(
            "HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, or copy the file here by "
            "other means and import it with `sightline models add`."
        )
    made = []
    for number, file in enumerate(files):
        target = folder / file.path
        if not target.is_file():

            def tell(share: float, word: str, start: int = number) -> None:
                if progress is not None:
                    progress((start + share) / len(files), word)

            with _alone(target):
                _Download(file, target, tell, cancel or (lambda: False)).run()
        made.append(target)
    return made


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process or thread at a time write a file."""
    from filelock import FileLock, Timeout

    path = target.with_name(target.name + ".lock")
    lock = FileLock(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadInput(
            f"{target.name!r} is being downloaded already; wait until that is done."
        ) from error
    except OSError as error:
        raise BadInput(
            f"{target.parent} cannot be written to ({error.strerror}); set SIGHTLINE_MODELS to "
            "another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            path.unlink()


class _Download:
    """One file on its way."""

    def __init__(self, file: RemoteFile, target: Path, tell: Progress, cancel: Cancel) -> None:
        self.file = file
        self.target = target
        self.tell = tell
        self.cancel = cancel
        self.part = target.with_name(target.name + ".part")
        self.mark = target.with_name(target.name + ".part.json")
        self.digest = file.sha256
        self.total: int | None = None

    def run(self) -> None:
        """Fetch, verify, move."""
        import requests

        try:
            failures = 0
            while True:
                before = self._have()
                try:
                    self._once()
                    break
                except _transient() as error:
                    failures = 1 if self._have() > before else failures + 1
                    if failures >= _TRIES:
                        raise self._lost() from error
                    self._pause(_WAIT * 2 ** (failures - 1))
            self._verify()
            self.part.replace(self.target)
            self.mark.unlink(missing_ok=True)
        except requests.RequestException as error:
            raise self._lost() from error
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise BadInput(
                f"The download of {self.target.name!r} could not be written ({what}); free space "
                f"in {self.target.parent}, and run it again to go on."
            ) from error

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _once(self) -> None:
        """Ask for what is missing, and append it."""
        import requests

        headers = {"Accept-Encoding": "identity", **self._login()}
        have, validator = self._have(), self._validator()
        if have and validator:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with requests.get(
            self.file.address, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            if response.status_code == 416:  # all is here already, or what is here is too long
                self.part.unlink(missing_ok=True)
                raise _Broken
            if response.status_code in (408, 429, 500, 502, 503, 504):
                raise _Broken
            if response.status_code >= 400:
                raise self._refused(response.status_code)
            resumed = response.status_code == 206
            if not resumed:
                have = 0
            self._note(response)
            length = response.headers.get("Content-Length")
            self.total = have + int(length) if length and length.isdigit() else None
            self._check_size()
            with self.part.open("ab" if resumed else "wb") as stream:
                told = have
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    have += len(chunk)
                    if have - told >= _TOLD or have == self.total:
                        told = have
                        self._told(have)
                stream.flush()
                os.fsync(stream.fileno())
            if self.total is not None and have != self.total:
                raise _Broken

    def _told(self, have: int) -> None:
        if have > LARGEST_BYTES:
            self._drop()
            raise self._too_large()
        share = have / self.total if self.total else 0.0
        total = f" of {self.total / 1e6:.0f}" if self.total else ""
        self.tell(min(share, 1.0), f"{self.target.name}, {have / 1e6:.0f}{total} MB")
        self._check_cancel()

    def _check_cancel(self) -> None:
        if self.cancel():
            raise Cancelled(
                "The download was cancelled; what was fetched is kept, and the next one goes on "
                "from there."
            )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._check_cancel()
            time.sleep(min(0.1, seconds))

    def _login(self) -> dict[str, str]:
        if not self.file.repository:
            return {}
        from huggingface_hub import get_token

        token = get_token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _validator(self) -> str | None:
        """Tell what names the version of which a part is here."""
        with suppress(OSError, ValueError):
            noted: Any = json.loads(self.mark.read_text(encoding="utf-8"))
            if isinstance(noted, dict) and noted.get("url") == self.file.address:
                self.digest = self.digest or noted.get("sha256")
                validator = noted.get("validator")
                return validator if isinstance(validator, str) else None
        return None

    def _note(self, response: Any) -> None:
        """Note the version, and the digest that the hub says."""
        etag = response.headers.get("ETag", "")
        validator = response.headers.get("Last-Modified") if etag[:2] in ("", "W/") else etag
        if self.file.sha256 is None and self.file.repository:
            # The hub sends a large file's SHA-256 as its tag, before it leads on to a server.
            for hop in (*response.history, response):
                tag = hop.headers.get("X-Linked-ETag") or hop.headers.get("ETag") or ""
                if re.fullmatch(r"[0-9a-f]{64}", tag.strip('"')):
                    self.digest = tag.strip('"')
                    break
        noted = {"url": self.file.address, "validator": validator, "sha256": self.digest}
        self.mark.write_text(json.dumps(noted), encoding="utf-8")

    def _check_size(self) -> None:
        if self.total is None:
            return
        if self.total > LARGEST_BYTES:
            raise self._too_large()
        needed, free = self.total - self._have(), shutil.disk_usage(self.target.parent).free
        if needed > free:
            raise BadInput(
                f"{self.target.name!r} needs {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are "
                f"free in {self.target.parent}; free space, or set SIGHTLINE_MODELS to another "
                "folder."
            )

    def _verify(self) -> None:
        if self.digest is None:
            return
        self.tell(1.0, f"verifying {self.target.name}")
        if sha256_of(self.part) != self.digest.lower():
            self._drop()
            raise ModelError(
                f"The download of {self.target.name!r} is not the file that was published (its "
                "checksum is another), so it was deleted; download it again, and tell its "
                "publisher if that does not help."
            )

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)

    def _lost(self) -> ModelError:
        total = f" of {self.total / 1e6:.0f}" if self.total else ""
        return ModelError(
            f"The download of {self.target.name!r} stopped at {self._have() / 1e6:.0f}{total} MB, "
            "since the network failed; run it again to go on from there."
        )

    def _refused(self, code: int) -> ModelError:
        if code in (401, 403):
            return ModelError(
                f"The source of {self.target.name!r} asks for a login; accept its licence on its "
                "page and log in with `hf auth login`."
            )
        return ModelError(
            f"{self.target.name!r} is not at {self.file.address} (answer {code}); look for it on "
            "its publisher's page and import it with `sightline models add`."
        )

    def _too_large(self) -> ModelError:
        return ModelError(
            f"{self.target.name!r} is larger than {LARGEST_BYTES // 2**30} GB, so it was not "
            "downloaded; it is no model that is known here."
        )


class _Broken(Exception):
    """The connection ended early, or the other end is busy: worth another try."""


def _transient() -> tuple[type[Exception], ...]:
    """List the errors that another try may not meet."""
    from requests import exceptions

    return (
        _Broken,
        exceptions.ConnectionError,
        exceptions.Timeout,
        exceptions.ChunkedEncodingError,
    )


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
