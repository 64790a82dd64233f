"""Files in and out, and the sample.

`load` and `save` are what most callers need; the readers and writers of single formats live
in modules of their own and are imported when a file of theirs is met.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from napari_sightline.errors import BadInput
from napari_sightline.io.formats import format_of, format_to_write
from napari_sightline.io.nifti import read_labels, read_nifti, write_image, write_nifti

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_sightline.volume import Volume

__all__ = ["load", "load_labels", "save", "save_image"]

_Path: TypeAlias = str | os.PathLike[str]


def load(
    path: _Path | Iterable[_Path], channel: int | None = None, series: str | int | None = None
) -> Volume:
    """Open a scan.

    Parameters
    ----------
    path : path or iterable of paths
        NIfTI (``.nii``, ``.nii.gz``, ``.hdr``/``.img``), NRRD, TIFF, or DICOM: a folder, a
        zip, one file or a list of files. The content decides, not the name.
    channel : int, optional
        Entry of the fourth axis; the first by default.
    series : str or int, optional
        Name or number of a DICOM series; needed where there are several.

    Returns
    -------
    Volume
        Canonical order; what had to be chosen or assumed stands in ``notes``.

    Raises
    ------
    BadInput
        If the file cannot be used; the sentence says why and what to do.
    """
    if not isinstance(path, str | os.PathLike):
        paths = list(path)
        if len(paths) == 1:
            return load(paths[0], channel, series)
        path = paths
    kind = format_of(path)
    if kind == "dicom":
        from napari_sightline.io.dicom import read_dicom

        return read_dicom(path, series, channel)
    assert isinstance(path, str | os.PathLike)
    if series is not None:
        raise BadInput(f"{Path(path).name} holds no DICOM series; leave the series out.")
    if kind == "nifti":
        return read_nifti(path, channel)
    return read_nifti(path, channel)


def load_labels(path: _Path) -> tuple[Volume, dict[int, str]]:
    """Open a label map.

    Parameters
    ----------
    path : path
        As for `load`, or a DICOM segmentation.

    Returns
    -------
    labels : Volume
        Whole numbers, canonical order.
    names : dict of int to str
        As `save` stored them, or as the format has them; empty where it has none.

    Raises
    ------
    BadInput
        If the file cannot be used or does not hold whole numbers.
    """
    return read_labels(path)


def save(
    path: _Path,
    labels: npt.ArrayLike,
    volume: Volume,
    names: dict[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels on the scan's own grid.

    Parameters
    ----------
    path : path
        Its ending chooses the format: ``.nii``, ``.nii.gz``, ``.seg.nrrd``, ``.nrrd``,
        ``.tif``, ``.ome.tif``, ``.dcm`` (DICOM segmentation), or a surface mesh: ``.stl``,
        ``.obj``, ``.ply``.
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
    format_to_write(path)
    return write_nifti(path, labels, volume, names, overwrite)


def save_image(path: _Path, volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels on its file's grid.

    Parameters
    ----------
    path : path
        Ends in ``.nii``, ``.nii.gz``, ``.nrrd``, ``.tif`` or ``.ome.tif``.
    volume : Volume
        The voxels and their place.
    overwrite : bool
        As for `save`.

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
