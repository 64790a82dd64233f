"""What one DICOM file says of its images: how they are stored, and where each slice lies.

Headers are read once, with the tags that matter; a classic file gives one slice, an enhanced
multi-frame file one a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_elements import numbers, parse, text
from napari_sightline.io.dicom_files import Files, Item
from napari_sightline.io.dicom_suv import SUV_TAGS

__all__ = ["Frame", "Picture", "frames_of", "read_header"]

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality",
    "SeriesDescription", "SeriesNumber", "ImageType", "InstanceNumber", "AcquisitionNumber",
    "TemporalPositionIdentifier", "TriggerTime", "EchoTime", "DiffusionBValue",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "NumberOfFrames", "GridFrameOffsetVector",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DoseGridScaling",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "PatientName", "PatientID", "PatientBirthDate",
    "OtherPatientIDs", "OtherPatientNames", "OtherPatientIDsSequence", "PatientBirthName",
    *SUV_TAGS,
]  # fmt: skip
_RANK = ("TemporalPositionIdentifier", "TriggerTime", "EchoTime", "DiffusionBValue")
_NO_IMAGES = {"SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "REG", "SEG", "AU", "DOC", "ECG"}
_MOST_FRAMES = 100_000


@dataclass(frozen=True)
class Picture:
    """One file and how its pixels are stored.

    Attributes
    ----------
    item : Item
    header : pydicom.Dataset
        The tags that matter, no pixels.
    offset : int
        Byte at which the pixel data element begins.
    size : int
        Bytes of the file.
    rows, columns, samples, frames, bits, stored : int
        Rows, columns, samples a pixel, frames, bits allocated, bits stored.
    signed : bool
    syntax : str
        Transfer syntax UID.
    """

    item: Item
    header: Any = field(repr=False)
    offset: int
    size: int
    rows: int
    columns: int
    samples: int
    frames: int
    bits: int
    stored: int
    signed: bool
    syntax: str


@dataclass(frozen=True)
class Frame:
    """One slice: see `dicom_geometry.Placed` for place, `rank` and `spacing`."""

    picture: Picture
    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...]
    rank: tuple[float, ...]
    slope: float = 1.0
    intercept: float = 0.0
    segment: int = 0


def read_header(files: Files, item: Item, keep: Sequence[str] = _TAGS) -> Picture | None:
    """Read what one file says of its image; None where it holds none.

    Raises
    ------
    BadInput
        If the file is damaged.
    """
    with files.open(item) as stream:
        size = len(stream) if hasattr(stream, "find") else stream.getbuffer().nbytes
        header = parse(stream, item.name, list(keep))
        offset = stream.tell()
    rows, columns = (numbers(header, key) for key in ("Rows", "Columns"))
    if text(header, "Modality") in _NO_IMAGES and keep is _TAGS:
        return None
    if rows is None and columns is None:
        return None
    fields = {}
    for key, usual in (
        ("SamplesPerPixel", 1), ("NumberOfFrames", 1), ("BitsAllocated", 16),
        ("BitsStored", 0), ("PixelRepresentation", 0),
    ):  # fmt: skip
        value = numbers(header, key)
        fields[key] = int(value[0]) if value else usual
    bits = fields["BitsAllocated"]
    stored = fields["BitsStored"] or bits
    frames = max(1, fields["NumberOfFrames"])
    if rows is None or columns is None or min(rows[0], columns[0]) < 1:
        raise BadInput(f"{item.name} claims no size of its image; export it again.")
    if bits not in (1, 8, 16, 32, 64) or not 1 <= stored <= bits or frames > _MOST_FRAMES:
        raise BadInput(
            f"{item.name} claims {stored} of {bits} bits and {frames} frames, which cannot be; "
            "its header is damaged: export it again."
        )
    if fields["SamplesPerPixel"] not in (1, 3, 4):
        raise BadInput(f"{item.name} has {fields['SamplesPerPixel']} samples a pixel; convert it.")
    return Picture(
        item, header, offset, size, int(rows[0]), int(columns[0]), fields["SamplesPerPixel"],
        frames, bits, stored, fields["PixelRepresentation"] == 1, _syntax(header),
    )  # fmt: skip


def _syntax(header: Any) -> str:
    """Transfer syntax; where the file does not say, as pydicom read it."""
    said = text(getattr(header, "file_meta", None), "TransferSyntaxUID")
    if said:
        return said
    implicit, little = header.original_encoding
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def frames_of(picture: Picture) -> list[Frame]:
    """List the slices of a file, with their places.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    list of Frame
    """
    header = picture.header
    shared = _first(header, "SharedFunctionalGroupsSequence")
    try:
        each = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    except Exception:  # damaged
        each = []
    if each and len(each) != picture.frames:
        raise BadInput(
            f"{picture.item.name} describes {len(each)} frames but claims {picture.frames}; "
            "export it again."
        )
    if each or shared is not None:
        groups = each or [None] * picture.frames
        return [_enhanced(picture, shared, group, i) for i, group in enumerate(groups)]
    first = Frame(
        picture, 0, numbers(header, "ImagePositionPatient", 3),
        numbers(header, "ImageOrientationPatient", 6), _spacing(header, header), _rank(header, 0),
        *_rescale(header),
    )  # fmt: skip
    if picture.frames == 1:
        return [first]
    offsets = numbers(header, "GridFrameOffsetVector", picture.frames)
    if offsets is None or first.position is None or first.orientation is None:
        return [
            replace(first, number=i, position=None, rank=(*first.rank, i))
            for i in range(picture.frames)
        ]
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    origin = np.array(first.position)
    return [  # dose grids; offsets may be absolute, their differences count
        replace(first, number=i, position=tuple(origin + normal * (offset - offsets[0])))
        for i, offset in enumerate(offsets)
    ]


def _enhanced(picture: Picture, shared: Any, group: Any, number: int) -> Frame:
    """Place one frame by its functional groups, else by the shared ones."""

    def part(keyword: str) -> Any:
        found = _first(group, keyword)
        return found if found is not None else _first(shared, keyword)

    header = picture.header
    measures = part("PixelMeasuresSequence")
    content = part("FrameContentSequence")
    segment = numbers(part("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
    rank: list[float] = []
    for sequence, keyword in (
        ("FrameContentSequence", "TemporalPositionIndex"),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        ("MREchoSequence", "EffectiveEchoTime"),
        ("MRDiffusionSequence", "DiffusionBValue"),
    ):
        value = numbers(content if sequence == "FrameContentSequence" else part(sequence), keyword)
        rank.append(value[0] if value else 0.0)
    return Frame(
        picture,
        number,
        numbers(part("PlanePositionSequence"), "ImagePositionPatient", 3),
        numbers(part("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        _spacing(measures, header),
        (*rank, number),
        *_rescale(part("PixelValueTransformationSequence"), header),
        segment=int(segment[0]) if segment else 0,
    )


def _first(dataset: Any, keyword: str) -> Any:
    try:
        return dataset.get(keyword)[0]
    except Exception:  # none, empty, or damaged
        return None


def _spacing(measures: Any, header: Any) -> tuple[float, ...]:
    """Millimetres between rows, columns, slices; 0 where unknown."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        plane = numbers(measures, keyword, 2) or numbers(header, keyword, 2)
        if plane and min(plane) > 0:
            break
    else:
        plane = (0.0, 0.0)
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        between = numbers(measures, keyword) or numbers(header, keyword)
        if between and between[0]:
            return (*plane, abs(between[0]))
    return (*plane, 0.0)


def _rescale(*places: Any) -> tuple[float, float]:
    for place in places:
        slope, intercept = (numbers(place, f"Rescale{k}") for k in ("Slope", "Intercept"))
        if slope or intercept:
            return (slope[0] if slope and slope[0] else 1.0), (intercept[0] if intercept else 0.0)
    scaling = numbers(places[-1], "DoseGridScaling")
    return (scaling[0] if scaling and scaling[0] else 1.0), 0.0


def _rank(header: Any, frame: int) -> tuple[float, ...]:
    values = [numbers(header, keyword) for keyword in (*_RANK, "AcquisitionNumber")]
    number = numbers(header, "InstanceNumber")
    ranks = (value[0] if value else 0.0 for value in values)
    return (*ranks, number[0] if number else 0.0, frame)
