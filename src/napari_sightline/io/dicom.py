"""DICOM in: a series from a folder, a list of files or a zip, as a `Volume`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_elements import text
from napari_sightline.io.dicom_files import Files, Item
from napari_sightline.io.dicom_geometry import stacked
from napari_sightline.io.dicom_picture import Frame
from napari_sightline.io.dicom_pixels import read_frames
from napari_sightline.io.dicom_privacy import nameless, scrubbed
from napari_sightline.io.dicom_series import Series, find_series
from napari_sightline.io.dicom_suv import suv_factor
from napari_sightline.volume import Volume, choose_channel

__all__ = ["DicomHeader", "Source", "Study", "list_series", "read_all_series", "read_dicom"]

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


class Study:
    """The series among some files, their headers read: choose one, then read its pixels.

    Use it in a ``with`` block: zips stay open as long as it lasts.

    Parameters
    ----------
    source : path or iterable of paths
        A folder (with what is below it), a zip, files of one series, or a multi-frame file.
    whole : bool
        Whether a single file that holds one slice stands for the series it belongs to, whose
        other files are then looked for in its folder.

    Attributes
    ----------
    series : list of Series
        The largest first; at least one.

    Raises
    ------
    BadInput
        If there is no image.
    """

    def __init__(self, source: Source, whole: bool = False) -> None:
        self._files = Files(source)
        try:
            self.series, self._private = find_series(self._files)
            if whole and isinstance(source, str | os.PathLike):
                self._widen(Path(source))
        except BaseException:
            self._files.__exit__(None, None, None)
            raise

    @property
    def name(self) -> str:
        """Name of the folder or zip, without what would identify the patient."""
        return scrubbed(self._files.name, self._private) or "The folder"

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__(None, None, None)

    def _widen(self, path: Path) -> None:
        """Take the whole series that a file with one slice belongs to."""
        if self._files.many or len(self.series[0].frames) > 1:
            return
        around = Files.beside(path)
        if len(around.items) < 2:
            return
        found, private = find_series(around)
        holding = [one for one in found if any(f.picture.item.path == path for f in one.frames)]
        if holding and len(holding[0].frames) > 1:
            self._files, self._private = around, private
            self.series = holding

    def choose(self, wanted: str | int | None) -> Series:
        """Find a series by name, by the beginning of its name, or by place.

        Parameters
        ----------
        wanted : str, int or None
            None where there is only one.

        Returns
        -------
        Series

        Raises
        ------
        BadInput
            If none or several fit; the sentence lists them.
        """
        return _chosen(self.series, wanted, self._files, self._private)

    def read(self, series: Series, channel: int | None = None) -> Volume:
        """Read the pixels of a series.

        Parameters
        ----------
        series : Series
            One of `series`.
        channel : int, optional
            Which of several slices at each place; the first by default.

        Returns
        -------
        Volume
            As `read_dicom` gives it.

        Raises
        ------
        BadInput
            If its files are damaged or do not lie on one grid.
        """
        try:
            return _volume(self._files, series, channel)
        except BadInput as error:
            raise nameless(error, self._private) from None


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
    with Study(source) as study:
        return study.series


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
    with Study(source) as study:
        return study.read(study.choose(series), channel)


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
    with Study(source) as study:
        for one in study.series:
            try:
                volumes.append(study.read(one))
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


def _volume(files: Files, series: Series, channel: int | None) -> Volume:
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
