"""Which reader or writer a file is for: content decides on reading, the ending on writing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_files import looks_like_dicom
from napari_sightline.io.nifti_header import reading

__all__ = ["LABEL_ENDINGS", "Format", "ending_of", "format_of", "format_to_write"]

Format: TypeAlias = Literal["nifti", "dicom", "dicom-seg", "nrrd", "tiff", "mesh", "descriptions"]

#: Endings that labels can be written to, longest first.
LABEL_ENDINGS: dict[str, Format] = {
    ".seg.nrrd": "nrrd",
    ".ome.tiff": "tiff",
    ".ome.tif": "tiff",
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".dcm": "dicom-seg",
    ".stl": "mesh",
    ".obj": "mesh",
    ".ply": "mesh",
    ".label": "descriptions",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SEGMENTATION = b"1.2.840.10008.5.1.4.1.1.66.4"


def format_of(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Format:
    """Tell what a file is by its first bytes.

    Parameters
    ----------
    source : path or iterable of paths
        A folder, a zip and several files can only be DICOM.

    Returns
    -------
    str
        ``nifti`` where nothing else fits: its reader says what is wrong.

    Raises
    ------
    BadInput
        If the file is missing or cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        return "dicom"
    path = Path(source)
    if "\0" in str(path):
        raise BadInput(f"{str(path)!r} is no file name; name a scan.")
    with reading(path):
        if path.is_dir():
            return "dicom"
        with path.open("rb") as stream:
            start = stream.read(2048)
    if start[:4] in _TIFF:
        return "tiff"
    if start[:5] == b"NRRD0":
        return "nrrd"
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return "dicom"
    if looks_like_dicom(start[:140], path.name):
        return "dicom-seg" if _SEGMENTATION in start else "dicom"
    return "nifti"


def ending_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a file name that a writer knows, lower case; empty if none does."""
    name = Path(path).name.lower()
    return next((ending for ending in LABEL_ENDINGS if name.endswith(ending)), "")


def format_to_write(path: str | os.PathLike[str]) -> Format:
    """Tell what to write by a file's name; `BadInput` for an ending that no writer knows."""
    ending = ending_of(path)
    if not ending:
        raise BadInput(
            f"{Path(path).name} has no ending that can be written; end it in one of "
            f"{', '.join(LABEL_ENDINGS)}."
        )
    return LABEL_ENDINGS[ending]
