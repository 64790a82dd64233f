"""Files that a command is asked to write."""

from __future__ import annotations

import json
import os
from pathlib import Path

from napari_sightline.errors import BadInput


def check_target(path: Path | None, endings: tuple[str, ...] = ()) -> None:
    """Refuse a file that cannot be written before any work is done for it.

    Parameters
    ----------
    path : Path or None
        The file; None passes.
    endings : tuple of str
        Endings its name may have, lower case; any where there are none.

    Raises
    ------
    BadInput
        Where the ending is another one, or the folder is missing or not writable.
    """
    if path is None:
        return
    if endings and not path.name.lower().endswith(endings):
        raise BadInput(
            f"The name {path.name!r} does not say a format that can be written; "
            f"end it in {' or '.join(endings)}."
        )
    folder = path.parent
    if not folder.is_dir() or path.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(
            f"The file {str(path)!r} cannot be written there; "
            "give a path in a folder that exists and is yours."
        )


def write_json(path: str | os.PathLike[str], content: object) -> Path:
    """Write JSON with a sentence, not a traceback, where that fails."""
    file = Path(path)
    try:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"The file {str(file)!r} cannot be written ({error.strerror}); "
            "give a path in a folder that exists and is yours."
        ) from error
    return file
