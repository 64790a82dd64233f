"""DICOM in: a series from a folder, a list of files or a zip, as a `Volume`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_files import Files, Item, scrubbed, text
from napari_sightline.io.dicom_geometry import stacked
from napari_sightline.io.dicom_picture import Frame
from napari_sightline.io.dicom_pixels import read_frames
from napari_sightline.io.dicom_series import Series, find_series
from napari_sightline.io.dicom_suv import suv_factor
from napari_sightline.volume import Volume, choose_channel

__all__ = ["DicomHeader", "Source", "list_series", "read_all_series", "read_dicom"]

Source: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_KNOWN = ("CT", "MR", "PT")


@dataclass(frozen=True)
class DicomHeader:
    """Where each slice of a volume came from, for writers that refer to it.

    Attributes
    ----------
    slices : tuple of (Item, int) or None
        File and frame for each index of the file's third axis; None for a blank slice.
    """

    slices: tuple[tuple[Item, int] | None, ...]


def list_series(source: Source) -> list[Series]:
    """List the image series in a folder, a zip or a list of files; no pixels are read.

    Parameters
    ----------
    source : path or iterable of paths

    Returns
    -------
    list of Series
        The largest first. Their names choose one in `read_dicom`.

    Raises
    ------
    BadInput
        If there is no image.
    """
    with Files(source) as files:
        return find_series(files)[0]


def read_dicom(
    source: Source, series: str | int | None = None, channel: int | None = None
) -> Volume:
    """Read one series.

    Parameters
    ----------
    source : path or iterable of paths
        A folder (with what is below it), a zip, files of one series, or a multi-frame file.
    series : str or int, optional
        Which one, by name (or its beginning) or place in `list_series`; needed where there
        are several.
    channel : int, optional
        Which of several slices at each place (time points, echoes); the first by default.

    Returns
    -------
    Volume
        Hounsfield units for CT, SUV (body weight) for PET where the tags allow it. Whole
        numbers stay such. Its file axes are column, row, slice. ``notes`` say what was found.

    Raises
    ------
    BadInput
        If there is no image, there are several series and none was named, or the files are
        damaged or do not lie on one grid.
    """
    with Files(source) as files:
        found, private = find_series(files)
        return _volume(files, _chosen(found, series, files, private), channel, private)


def read_all_series(source: Source) -> list[Volume]:
    """Read every series that can be read.

    Parameters
    ----------
    source : path or iterable of paths

    Returns
    -------
    list of Volume
        The largest first. A series that cannot be used is left out and said in the notes of
        the first.

    Raises
    ------
    BadInput
        If none can be read.
    """
    volumes, faults = [], []
    with Files(source) as files:
        found, private = find_series(files)
        for one in found:
            try:
                volumes.append(_volume(files, one, None, private))
            except BadInput as error:
                faults.append(str(error))
    if not volumes:
        raise BadInput(faults[0])
    volumes[0] = replace(volumes[0], notes=(*volumes[0].notes, *faults))
    return volumes


def _chosen(
    found: list[Series], wanted: str | int | None, files: Files, private: frozenset[str]
) -> Series:
    if wanted is None and len(found) == 1:
        return found[0]
    if isinstance(wanted, int) and 0 <= wanted < len(found):
        return found[wanted]
    if isinstance(wanted, str):
        folded = wanted.casefold()
        exact = [one for one in found if one.name.casefold() == folded]
        begun = [one for one in found if one.name.casefold().startswith(folded)]
        if len(exact or begun) == 1:
            return (exact or begun)[0]
    names = ", ".join(f"{one.name!r} ({len(one.frames)})" for one in found[:12])
    if len(found) > 12:
        names += f" and {len(found) - 12} more"
    name = scrubbed(files.name, private) or "The folder"
    raise BadInput(f"{name} holds {len(found)} series: {names}; name one of them (series=...).")


def _volume(files: Files, series: Series, channel: int | None, private: frozenset[str]) -> Volume:
    name = series.name
    stack = stacked(series.frames, name)
    index, chosen = choose_channel(stack.channels, channel, name)
    frames: list[Frame | None] = [
        series.frames[level[index]] if level else None for level in stack.levels
    ]
    notes = [*series.notes, *stack.notes, *chosen]
    factor = 1.0
    if series.modality == "PT":
        known = [frame for frame in frames if frame is not None]
        earliest = min(
            (frame.picture.header for frame in known),
            key=lambda h: text(h, "AcquisitionDate") + text(h, "AcquisitionTime"),
        )
        factor, note = suv_factor(earliest)
        notes.append(note)
    notes += _colour_notes(series.frames[0])
    array = read_frames(files, frames, name, factor)
    volume = Volume.from_array(array.T, stack.affine, name=name)
    header = DicomHeader(
        tuple((frame.picture.item, frame.number) if frame else None for frame in frames)
    )
    return replace(
        volume,
        name=name,
        modality=series.modality if series.modality in _KNOWN else None,
        source=Path(files.first),
        header=header,
        notes=(*notes, *volume.notes),
    )


def _colour_notes(frame: Frame) -> list[str]:
    kind = text(frame.picture.header, "PhotometricInterpretation").upper()
    if kind == "MONOCHROME1":
        return ["Low values are meant to look bright (MONOCHROME1); values are as stored."]
    if frame.picture.samples > 1 or kind == "PALETTE COLOR":
        return ["Colour shown as luminance."]
    return []
