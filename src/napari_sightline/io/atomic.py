"""Files are written to a temporary name first, then moved: a reader never sees half a file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_sightline.errors import BadInput

__all__ = ["replacing"]


@contextmanager
def replacing(
    path: Path, overwrite: bool = True, endings: tuple[str, ...] = (), kind: str = "file"
) -> Iterator[Path]:
    """Give a temporary name beside a file, and move what was written there into its place.

    Parameters
    ----------
    path : Path
        The file to make.
    overwrite : bool
        Whether a file at `path` may be replaced.
    endings : tuple of str
        Endings that its name may have, lower case; any where there are none.
    kind : str
        What is written, for messages: "NIfTI file".

    Yields
    ------
    Path
        With the same ending; gone afterwards, whatever happened.

    Raises
    ------
    BadInput
        If its name has none of the endings, the file exists and must stay, or the disk refuses.
    """
    if endings and not path.name.lower().endswith(endings):
        raise BadInput(f"{path.name} is no name for {_a(kind)}; end it in {' or '.join(endings)}.")
    if not overwrite and path.exists():
        raise BadInput(f"{path.name} exists already; choose another name or allow overwriting.")
    ending = "".join(path.suffixes[-2:])[-16:]
    temporary = path.with_name(f".{uuid.uuid4().hex}{ending}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(
            f"{path.name} could not be written ({why}); choose another folder or free space."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _a(kind: str) -> str:
    return f"{'an' if kind.startswith('NRRD') else 'a'} {kind}"
