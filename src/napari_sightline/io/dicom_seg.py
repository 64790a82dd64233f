"""DICOM segmentations: labels out with references to their series, and in again.

Written through highdicom, with SNOMED CT codes where a name is known; read without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sightline.anatomy import SIDE_CODES, Colour, by_name
from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.dicom import DicomHeader
from napari_sightline.io.dicom_elements import numbers, parse, text
from napari_sightline.io.dicom_files import Files
from napari_sightline.io.dicom_geometry import stacked
from napari_sightline.io.dicom_picture import Frame, Picture, frames_of, read_header
from napari_sightline.io.dicom_privacy import private_words, scrubbed
from napari_sightline.io.legend import Legend, as_labels, named_labels
from napari_sightline.io.memory import check_memory
from napari_sightline.io.quiet import quiet
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume

__all__ = ["read_dicom_seg", "write_dicom_seg"]

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SegmentSequence",
    "SegmentationType", "MaximumFractionalValue", "Rows", "Columns", "SamplesPerPixel",
    "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PatientName",
    "PatientID", "PatientBirthDate",
]  # fmt: skip
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
_EMPTY_ALLOWED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_FULL = 2**25  # bytes up to which empty frames are written too, so that the grid stays whole
_VALUE = "label "  # tracking identifier that keeps the label's number


def read_dicom_seg(path: str | os.PathLike[str]) -> tuple[Volume, Legend]:
    """Read a DICOM segmentation.

    Parameters
    ----------
    path : path
        One file: binary, fractional (cut at one half) or a label map.

    Returns
    -------
    labels : Volume
        uint8 or uint16, on the grid that its frames span: files without their empty frames
        cover less than the scan. Where segments overlap the later one wins, and a note says so.
    names : Legend
        Labels of the segments, and the colours recommended for them.

    Raises
    ------
    BadInput
        If the file is damaged or its frames do not lie on one grid.
    """
    path = Path(path)
    with Files(path) as files:
        item = files.items[0]
        picture = read_header(files, item, _TAGS)
        if picture is None or text(picture.header, "Modality") != "SEG":
            raise BadInput(f"{path.name} is no DICOM segmentation; open it as a scan.")
        frames = frames_of(picture)
        with files.open(item) as stream:
            dataset = parse(stream, path.name, ["PixelData", *_PIXELS], pixels=True)
    values = _segment_values(picture.header)
    names = Legend({values[n]: name for n, name in _segment_names(picture.header).items()})
    names.colours = {values[n]: rgb for n, rgb in _segment_colours(picture.header).items()}
    spacing = _between(picture.header) or frames[0].spacing[2] or None
    heights: dict[tuple[float, ...], int] = {}
    for frame in frames:
        heights.setdefault(frame.position or (), len(heights))
    places = [next(f for f in frames if (f.position or ()) == key) for key in heights]
    if any(place.position is None for place in places):
        raise BadInput(f"{path.name} gives no positions of its frames; export it again.")
    stack = stacked(places, path.name, spacing)
    shape = (len(stack.levels), picture.rows, picture.columns)
    kind = np.uint8 if max(values.values(), default=1) < 256 else np.uint16
    check_memory(int(np.prod(shape)) * np.dtype(kind).itemsize, path.name)
    level_of = {level[0]: index for index, level in enumerate(stack.levels) if level}
    labels = np.zeros(shape, kind)
    overlap = 0
    for frame in frames:
        target = labels[level_of[heights[frame.position or ()]]]
        overlap += _paint(target, frame, dataset, values, path.name)
    notes = stack.notes
    if overlap:
        notes = (*notes, f"Segments overlap in {overlap} voxels; the later one is kept.")
    volume = Volume.from_array(labels.T, stack.affine, name=path.name)
    name = scrubbed(path.stem, private_words(picture.header)) or "segmentation"
    return replace(volume, name=name, source=path, notes=notes), names


_PIXELS = [
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SOPClassUID",
]  # fmt: skip


def _paint(target: Array, frame: Frame, dataset: Any, values: Mapping[int, int], name: str) -> int:
    """Put one frame into its slice; return how many voxels were taken already."""
    plane = _plane(frame.picture, dataset, frame.number, name)
    kind = text(frame.picture.header, "SegmentationType").upper()
    if kind == "LABELMAP":
        for number in np.unique(plane[plane > 0]):
            target[plane == number] = values.get(int(number), int(number) % 65536)
        return 0
    if kind == "FRACTIONAL":
        most = numbers(frame.picture.header, "MaximumFractionalValue")
        plane = plane >= (most[0] if most else 255) / 2
    mask = plane > 0
    value = values.get(frame.segment)
    if value is None:
        raise BadInput(f"{name} has a frame of an unknown segment; export it again.")
    taken = int(np.count_nonzero(target[mask]))
    target[mask] = value
    return taken


def _plane(picture: Picture, dataset: Any, number: int, name: str) -> Array:
    damaged = BadInput(f"{name} has damaged pixel data; copy or export it again.")
    pixels = picture.rows * picture.columns
    try:
        with quiet():
            if picture.syntax not in _NATIVE:
                from pydicom.pixels.utils import pixel_array

                return np.asarray(pixel_array(dataset, index=number)).reshape(
                    picture.rows, picture.columns
                )
            data = dataset.PixelData
            if picture.bits == 1:  # frames follow each other bit by bit
                first = number * pixels
                packed = np.frombuffer(data[first // 8 : -(-(first + pixels) // 8)], np.uint8)
                bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:pixels]
                return bits.reshape(picture.rows, picture.columns)
            dtype = np.dtype(f"<u{picture.bits // 8}")
            start = number * pixels * dtype.itemsize
            flat = np.frombuffer(data[start : start + pixels * dtype.itemsize], dtype)
            return flat.reshape(picture.rows, picture.columns)
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # too short, missing, or undecodable
        raise damaged from None


def _between(header: Any) -> float | None:
    """Millimetres between slices, where the file says so; its slices may be sparse."""
    try:
        shared = header.SharedFunctionalGroupsSequence[0]
        found = numbers(shared.PixelMeasuresSequence[0], "SpacingBetweenSlices")
    except Exception:  # none
        return None
    return abs(found[0]) if found and found[0] else None


def _segments(header: Any) -> list[Any]:
    try:
        return list(header.SegmentSequence)[:65535]
    except Exception:  # missing or damaged
        return []


def _segment_names(header: Any) -> dict[int, str]:
    private = private_words(header)
    found = {}
    for place, segment in enumerate(_segments(header), 1):
        number = numbers(segment, "SegmentNumber")
        label = scrubbed(text(segment, "SegmentLabel"), private)
        found[int(number[0]) if number else place] = label or f"segment {place}"
    return {number: name for number, name in found.items() if 0 < number < 65536}


def _segment_colours(header: Any) -> dict[int, Colour]:
    """Turn recommended colours (CIE L*a*b* in 16 bits, as DICOM packs it) into RGB."""
    from skimage.color import lab2rgb

    found: dict[int, Colour] = {}
    for place, segment in enumerate(_segments(header), 1):
        number = numbers(segment, "SegmentNumber")
        packed = numbers(segment, "RecommendedDisplayCIELabValue", 3)
        if packed is None or not all(0 <= part <= 0xFFFF for part in packed):
            continue
        light, a, b = (part / 0xFFFF for part in packed)
        with quiet():  # colours outside sRGB are clipped, and scikit-image says so
            rgb = np.rint(255 * lab2rgb(np.array([100 * light, 255 * a - 128, 255 * b - 128])))
        red, green, blue = (int(part) for part in rgb)
        found[int(number[0]) if number else place] = (red, green, blue)
    return {number: colour for number, colour in found.items() if 0 < number < 65536}


def _segment_values(header: Any) -> dict[int, int]:
    """Label of each segment: its own number, or the one it had where it was written here."""
    numbered = {number: number for number in _segment_names(header)}
    kept = {}
    for segment in _segments(header):
        number, said = numbers(segment, "SegmentNumber"), text(segment, "TrackingID")
        if number and said.startswith(_VALUE) and said[len(_VALUE) :].isdigit():
            kept[int(number[0])] = int(said[len(_VALUE) :][:6])
    whole = kept.keys() == numbered.keys() and len(set(kept.values())) == len(kept)
    return kept if whole and all(0 < v < 65536 for v in kept.values()) else numbered


def write_dicom_seg(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    volume: Volume,
    names: Mapping[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels as a DICOM segmentation that refers to the series they were drawn on.

    Parameters
    ----------
    path : path
        Ends in ``.dcm``.
    labels : array_like of bool or int, shape of `volume`
        Canonical order; at least one voxel must be labelled.
    volume : Volume
        Read from DICOM; its files must still be where they were.
    names : dict of int to str, optional
        Structures with these names give codes, sides and colours.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written. It carries the patient's data of the series, as DICOM demands.

    Raises
    ------
    BadInput
        If the volume is not a whole DICOM series, labels lie where the series has no slice,
        highdicom is not installed, or the file cannot be written.
    """
    path = Path(path)
    array = as_labels(labels, volume, ("u1", "u2"))
    header = volume.header
    if not isinstance(header, DicomHeader) or len(header.slices) != volume.file_shape[2]:
        raise BadInput(
            f"{path.name} must refer to a whole DICOM series, which {volume.name or 'the scan'} "
            "is not; open the series itself, or save as .seg.nrrd or .nii.gz."
        )
    try:
        import highdicom
    except ImportError:
        raise BadInput(
            "DICOM segmentations need highdicom; pip install 'napari-sightline[dicom]'."
        ) from None
    legend = named_labels(array, names)
    named = {v: n for v, n in legend.items() if np.any(array == v)}
    if not named:
        raise BadInput(f"{path.name} would be empty; label something first.")
    grid = volume.to_file(array).transpose(2, 1, 0)
    numbered = np.zeros(grid.shape, np.uint8 if len(named) < 256 else np.uint16)
    for number, value in enumerate(named, 1):
        numbered[grid == value] = number
    sources, planes = _sources(header, numbered, volume)
    bits = len(named) * numbered.size / 8
    try:
        with quiet():
            segmentation = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=planes,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _description(number, value, name, legend.colour(value))
                    for number, (value, name) in enumerate(named.items(), 1)
                ],
                series_instance_uid=highdicom.UID(),
                series_number=900,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="napari-sightline",
                manufacturer_model_name="napari-sightline",
                software_versions=_version(),
                device_serial_number="0",
                content_label="SEGMENTATION",
                series_description="Segmentation",
                omit_empty_frames=bits > _FULL,
            )
    except Exception as error:  # a series that DICOM's own rules do not allow to refer to
        fault = scrubbed(str(error).split("\n")[0][:80], private_words(sources[0]))
        raise BadInput(
            f"{path.name} cannot refer to this series ({fault}); save as .seg.nrrd or .nii.gz."
        ) from None
    with replacing(path, overwrite) as temporary:
        segmentation.save_as(temporary)
    return path


def _sources(header: DicomHeader, planes: Array, volume: Volume) -> tuple[list[Any], Array]:
    """Headers of the source images, and the planes in their order."""
    present = [index for index, place in enumerate(header.slices) if place is not None]
    absent = [index for index, place in enumerate(header.slices) if place is None]
    if absent and planes[absent].any():
        raise BadInput(
            f"Labels lie on slices that {volume.name or 'the series'} lacks; erase them there, "
            "or save as .seg.nrrd or .nii.gz."
        )
    places = [place for place in header.slices if place is not None]
    items = list(dict.fromkeys(item for item, _ in places))
    datasets = []
    with Files(list(dict.fromkeys(item.path for item in items))) as files:
        for item in items:
            with files.open(item) as stream:
                dataset = parse(stream, item.name)
            for keyword in _EMPTY_ALLOWED:
                if keyword not in dataset:
                    setattr(dataset, keyword, "")
            datasets.append(dataset)
    if len(items) == len(places):
        return datasets, planes[present]
    frames = int((numbers(datasets[0], "NumberOfFrames") or (1,))[0])
    if len(items) > 1:
        raise BadInput(
            "A series in several multi-frame files cannot be referred to; save as .seg.nrrd."
        )
    whole = np.zeros((frames, *planes.shape[1:]), planes.dtype)
    for index, (_, frame) in zip(present, places, strict=True):
        whole[frame] = planes[index]
    return datasets, whole


def _description(number: int, value: int, name: str, colour: Colour) -> Any:
    """Describe a segment with codes; what the list does not hold is plain tissue."""
    import highdicom
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    structure = by_name(name)
    tissue = CodedConcept("85756007", "SCT", "Tissue")
    category, kind = tissue, tissue
    if structure is not None and structure.code is not None:
        kind = CodedConcept(structure.code, "SCT", structure.name[:64].capitalize())
        category = CodedConcept("123037004", "SCT", "Anatomical Structure")
        if structure.region == "tumour and lesion":
            category = CodedConcept("49755003", "SCT", "Morphologically Altered Structure")
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=" ".join(name.replace("\\", " ").split())[:64] or f"label {value}",
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="napari-sightline", family=codes.cid7162.ArtificialIntelligence, version=_version()
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=f"{_VALUE}{value}",
        display_color=highdicom.color.CIELabColor.from_rgb(*colour),
    )
    if structure is not None and structure.side and structure.code:
        side = CodedConcept(SIDE_CODES[structure.side], "SCT", structure.side.capitalize())
        sequence = description.SegmentedPropertyTypeCodeSequence[0]
        sequence.SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-sightline")
    except PackageNotFoundError:
        return "0"
