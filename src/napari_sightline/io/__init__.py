"""Files in and out, and the sample.

`load` and `save` are what most callers need; the readers and writers of single formats live
in modules of their own. Nothing heavy is imported before a file is opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sightline.io.nifti import read_labels, read_nifti, write_image, write_nifti

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_sightline.volume import Volume

__all__ = ["load", "load_labels", "save", "save_image"]


def load(path: str | os.PathLike[str], channel: int | None = None) -> Volume:
    """Open a scan.

    Parameters
    ----------
    path : path
        A NIfTI file (``.nii``, ``.nii.gz``, ``.hdr``/``.img``).
    channel : int, optional
        Entry of the fourth axis; the first by default.

    Returns
    -------
    Volume
        Canonical order; what had to be chosen or assumed stands in ``notes``.

    Raises
    ------
    BadInput
        If the file cannot be used; the sentence says why and what to do.
    """
    return read_nifti(path, channel)


def load_labels(path: str | os.PathLike[str]) -> tuple[Volume, dict[int, str]]:
    """Open a label map.

    Parameters
    ----------
    path : path
        As for `load`.

    Returns
    -------
    labels : Volume
        Whole numbers, canonical order.
    names : dict of int to str
        As `save` stored them; empty for files from elsewhere.

    Raises
    ------
    BadInput
        If the file cannot be used or does not hold whole numbers.
    """
    return read_labels(path)


def save(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    volume: Volume,
    names: dict[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels on the scan's own grid.

    Parameters
    ----------
    path : path
        Ends in ``.nii`` or ``.nii.gz``.
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        The scan they were drawn on.
    names : dict of int to str, optional
        Names of the labels, kept in the file.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the labels do not fit the volume or the file cannot be written.
    """
    return write_nifti(path, labels, volume, names, overwrite)


def save_image(path: str | os.PathLike[str], volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels on its file's grid.

    Parameters
    ----------
    path, overwrite
        As for `save`.
    volume : Volume
        The voxels and their place.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    return write_image(path, volume, overwrite)
