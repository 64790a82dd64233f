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
from napari_sightline.io.formats import ending_of, format_of, format_to_write
from napari_sightline.io.legend import Legend
from napari_sightline.io.nifti import read_labels, read_nifti, write_image, write_nifti

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_sightline.volume import Volume

__all__ = ["Legend", "load", "load_labels", "save", "save_each", "save_image"]

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
    if kind == "nrrd":
        from napari_sightline.io.nrrd import read_nrrd

        return read_nrrd(path, channel)
    if kind == "tiff":
        from napari_sightline.io.tiff import read_tiff

        return read_tiff(path, channel)
    if kind == "dicom-seg":
        from napari_sightline.io.dicom_seg import read_dicom_seg

        return read_dicom_seg(path)[0]
    return read_nifti(path, channel)


def load_labels(path: _Path) -> tuple[Volume, Legend]:
    """Open a label map.

    Parameters
    ----------
    path : path
        As for `load`, or a DICOM segmentation.

    Returns
    -------
    labels : Volume
        Whole numbers, canonical order.
    names : Legend
        A dictionary of names by label, with ``colours``: as `save` stored them, or as the
        format has them; empty where it has none.

    Raises
    ------
    BadInput
        If the file cannot be used or does not hold whole numbers.
    """
    kind = format_of(path)
    if kind == "nrrd":
        from napari_sightline.io.nrrd import read_nrrd_labels

        return read_nrrd_labels(path)
    if kind == "tiff":
        from napari_sightline.io.tiff import read_tiff_labels

        return read_tiff_labels(path)
    if kind == "dicom-seg":
        from napari_sightline.io.dicom_seg import read_dicom_seg

        return read_dicom_seg(path)
    if kind == "dicom":
        raise BadInput(
            f"{Path(path).name} holds DICOM images and no label map; give a DICOM segmentation, "
            "a .seg.nrrd or a .nii.gz file."
        )
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
        ``.tif``, ``.ome.tif``, ``.dcm`` (DICOM segmentation), a surface mesh: ``.stl``,
        ``.obj``, ``.ply``; or ``.label``, names and colours alone for ITK-SNAP.
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        The scan they were drawn on.
    names : dict of int to str, optional
        Names of the labels, kept in the file. A `Legend` brings colours, too; without one they
        are those of the structures with these names.
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
    kind = format_to_write(path)
    if kind == "nrrd":
        from napari_sightline.io.nrrd import write_nrrd

        return write_nrrd(path, labels, volume, names, overwrite)
    if kind == "tiff":
        from napari_sightline.io.tiff import write_tiff

        return write_tiff(path, labels, volume, names, overwrite)
    if kind == "dicom-seg":
        from napari_sightline.io.dicom_seg import write_dicom_seg

        return write_dicom_seg(path, labels, volume, names, overwrite)
    if kind == "mesh":
        from napari_sightline.io.mesh import write_mesh

        return write_mesh(path, labels, volume, names, overwrite)
    if kind == "descriptions":
        from napari_sightline.io.label_descriptions import write_descriptions
        from napari_sightline.io.legend import as_labels, named_labels

        return write_descriptions(path, named_labels(as_labels(labels, volume), names), overwrite)
    return write_nifti(path, labels, volume, names, overwrite)


def save_each(
    path: _Path,
    labels: npt.ArrayLike,
    volume: Volume,
    names: dict[int, str] | None = None,
    overwrite: bool = True,
) -> list[Path]:
    """Write one file for each label that occurs.

    Parameters
    ----------
    path : path
        As for `save`; the label's name is put before its ending:
        ``organs.stl`` becomes ``organs_liver.stl``.
    labels, volume, names, overwrite
        As for `save`.

    Returns
    -------
    list of Path
        The files written, in the order of the labels. Voxels keep their label's number.

    Raises
    ------
    BadInput
        As `save`; also if nothing is labelled.
    """
    import numpy as np

    from napari_sightline.io.legend import as_labels, named_labels
    from napari_sightline.io.mesh import file_name

    format_to_write(path)
    array = as_labels(labels, volume)
    ending = ending_of(path)
    stem = Path(path).name[: -len(ending)]
    written: list[Path] = []
    legend = named_labels(array, names)
    for value, name in legend.items():
        if not np.any(array == value):
            continue
        target = Path(path).with_name(f"{stem}_{file_name(name)}{ending}")
        if target in written:
            target = Path(path).with_name(f"{stem}_{file_name(name)}_{value}{ending}")
        alone = np.where(array == value, array, 0).astype(array.dtype)
        one = Legend({value: name}, {value: legend.colour(value)})
        written.append(save(target, alone, volume, one, overwrite))
    if not written:
        raise BadInput(f"{Path(path).name} would be empty; label something first.")
    return written


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
    kind = format_to_write(path)
    if kind == "nrrd":
        from napari_sightline.io.nrrd import write_nrrd_image

        return write_nrrd_image(path, volume, overwrite)
    if kind == "tiff":
        from napari_sightline.io.tiff import write_tiff_image

        return write_tiff_image(path, volume, overwrite)
    if kind != "nifti":
        raise BadInput(
            f"{Path(path).name} cannot hold a scan; end it in .nii.gz, .nii, .nrrd or .tif."
        )
    return write_image(path, volume, overwrite)
