"""Which slices of a pile of DICOM files belong together.

Slices of one series, orientation, size and spacing are one `Series`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_elements import numbers, text
from napari_sightline.io.dicom_files import Files
from napari_sightline.io.dicom_picture import Frame, Picture, frames_of, read_header
from napari_sightline.io.dicom_privacy import nameless, private_words, scrubbed

__all__ = ["Series", "find_series"]

_FEW = 4  # slices; a scout of as many, turned otherwise than a real stack, is left out


@dataclass(frozen=True)
class Series:
    """Slices that make one volume.

    Attributes
    ----------
    name : str
        Unique among those found together; names nobody.
    modality : str
        As DICOM has it: ``CT``, ``MR``, ``PT``, ``US``...
    frames : tuple of Frame
    notes : tuple of str
    """

    name: str
    modality: str
    frames: tuple[Frame, ...] = field(repr=False)
    notes: tuple[str, ...] = ()


def find_series(files: Files) -> tuple[list[Series], frozenset[str]]:
    """Read the headers of files and gather their slices in series.

    Parameters
    ----------
    files : Files

    Returns
    -------
    series : list of Series
        The largest first; localisers are left out where there is anything else.
    private : frozenset of str
        Words that must not appear in any text.

    Raises
    ------
    BadInput
        If no file holds an image.
    """
    pictures: list[Picture] = []
    broken: list[str] = []
    others = 0
    for item in files.items:
        try:
            picture = read_header(files, item)
        except BadInput as error:
            if not files.many:
                raise
            broken.append(str(error))
            continue
        if picture is None:
            others += 1
        else:
            pictures.append(picture)
    patients = {_patient(picture.header): picture.header for picture in pictures}
    private = frozenset().union(*map(private_words, patients.values()))
    if not pictures:
        if broken and not others:
            raise BadInput(broken[0])
        raise BadInput(
            f"{scrubbed(files.name, private)} holds no DICOM image; name a file or folder with "
            "a CT, MR, PET or other image series."
        )
    try:
        groups = _grouped(pictures)
    except BadInput as error:
        raise nameless(error, private) from None
    series = [_named(frames, private) for frames in groups]
    series = _without_scouts(series)
    if broken:
        note = f"{len(broken)} damaged file{'s' * (len(broken) > 1)} left out."
        series = [replace(one, notes=(*one.notes, note)) for one in series]
    return _told_apart(sorted(series, key=lambda s: -len(s.frames))), private


def _patient(header: Any) -> tuple[Any, ...]:
    """Return what tells patients apart, as stored: parsing it in every slice takes long."""
    found = []
    for keyword in ("PatientID", "PatientName", "PatientBirthDate"):
        try:
            found.append(str(header.get_item(keyword).value))
        except Exception:  # missing or damaged
            found.append("")
    return tuple(found)


def _grouped(pictures: list[Picture]) -> list[list[Frame]]:
    """Split by series, size, spacing and orientation; the same slice twice counts once."""
    found: dict[tuple[Any, ...], list[list[Frame]]] = {}
    seen: set[tuple[str, int]] = set()
    for picture in pictures:
        uid = text(picture.header, "SOPInstanceUID")
        if uid and (uid, 0) in seen:
            continue
        seen.add((uid, 0))
        series = text(picture.header, "SeriesInstanceUID")
        for frame in frames_of(picture):
            plane = tuple(round(s, 3) for s in frame.spacing[:2])
            key: tuple[Any, ...] = (series, picture.rows, picture.columns, picture.samples, plane)
            if picture.frames > 1 and not series:
                key = (*key, uid)
            groups = found.setdefault(key, [])
            for group in groups:
                if _parallel(group[0], frame):
                    group.append(frame)
                    break
            else:
                groups.append([frame])
    return [group for groups in found.values() for group in groups]


def _parallel(one: Frame, other: Frame) -> bool:
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return bool(np.allclose(one.orientation, other.orientation, atol=0.005))


def _named(frames: list[Frame], private: frozenset[str]) -> Series:
    header = frames[0].picture.header
    modality = text(header, "Modality")[:16] or "image"
    label = scrubbed(text(header, "SeriesDescription"), private)[:64].strip()
    if not label:
        number = numbers(header, "SeriesNumber")
        label = f"{modality} series" + (f" {number[0]:.0f}" if number else "")
    return Series(label, modality, tuple(frames))


def _without_scouts(series: list[Series]) -> list[Series]:
    """Leave localisers out, unless there is nothing else."""
    most = max(len(one.frames) for one in series)
    kept = []
    for one in series:
        kinds = text(one.frames[0].picture.header, "ImageType").upper()
        small = len(one.frames) < _FEW and most >= 4 * _FEW
        if not ("LOCALIZER" in kinds or (small and _same_series(one, series))):
            kept.append(one)
    if not kept:
        return series
    left = len(series) - len(kept)
    note = (f"{left} localiser{'s' * (left > 1)} left out.",) if left else ()
    return [replace(one, notes=(*one.notes, *note)) for one in kept]


def _same_series(one: Series, all_series: list[Series]) -> bool:
    """Whether a larger stack of the same series lies otherwise: what is small is its scout."""
    uid = text(one.frames[0].picture.header, "SeriesInstanceUID")
    return any(
        text(other.frames[0].picture.header, "SeriesInstanceUID") == uid
        and len(other.frames) > len(one.frames)
        for other in all_series
    )


def _told_apart(series: list[Series]) -> list[Series]:
    """Give series of one name their plane, and a number where that does not help."""
    counts = Counter(one.name for one in series)
    series = [
        replace(one, name=f"{one.name} {_plane(one.frames[0])}") if counts[one.name] > 1 else one
        for one in series
    ]
    counts = Counter(one.name for one in series)
    used: Counter[str] = Counter()
    named = []
    for one in series:
        used[one.name] += 1
        number = f" ({used[one.name]})" if counts[one.name] > 1 else ""
        named.append(replace(one, name=f"{one.name}{number}"))
    return named


def _plane(frame: Frame) -> str:
    if frame.orientation is None:
        return f"{frame.picture.columns} x {frame.picture.rows}"
    normal = np.abs(np.cross(frame.orientation[:3], frame.orientation[3:]))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
