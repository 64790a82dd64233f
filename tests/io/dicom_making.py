"""DICOM files made of arrays, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

STORAGE = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def header(modality: str = "CT", series: str = "", **fields: object) -> Dataset:
    """A dataset with what every image has, and a patient."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = STORAGE.get(modality, CTImageStorage)
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = "1.2.3.4"
    ds.SeriesInstanceUID = series or "1.2.3.4.5"
    ds.FrameOfReferenceUID = "1.2.3.4.6"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240203", "101112", ""
    ds.ReferringPhysicianName, ds.StudyID = "", "1"
    ds.PatientName, ds.PatientID = "Mustermann^Erika", "PID-778899"
    ds.PatientBirthDate, ds.PatientSex = "19640812", "F"
    ds.Modality, ds.Manufacturer = modality, "made"
    ds.SeriesNumber, ds.SeriesDescription = 3, "thin"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for name, value in fields.items():
        setattr(ds, name, value)
    return ds


def pixels(ds: Dataset, plane: np.ndarray, stored: int = 0) -> None:
    """Put one image (or frames) of whole numbers into a dataset."""
    ds.Rows, ds.Columns = plane.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = plane.dtype.itemsize * 8
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(plane.dtype.kind == "i")
    ds.PixelData = np.ascontiguousarray(plane).tobytes() + b"\0" * (plane.nbytes % 2)


def geometry(affine: np.ndarray) -> tuple[list[float], list[float], np.ndarray]:
    """Orientation, pixel spacing, and LPS affine of a file affine (column, row, slice) in RAS."""
    lps = affine.copy()
    lps[:3] = RAS_TO_LPS @ lps[:3]
    columns, rows = (np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    turn = [*(lps[:3, 0] / columns), *(lps[:3, 1] / rows)]
    return [round(float(v), 12) for v in turn], [float(rows), float(columns)], lps


def write(path: Path, ds: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def text(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.10g}"[:16] if abs(value) > 1e-9 else "0"


def series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    slope: float = 1,
    intercept: float = 0,
    order: list[int] | None = None,
    modality: str = "CT",
    uid: str = "",
    stored: int = 0,
    prefix: str = "i",
    **fields: object,
) -> list[Path]:
    """Write an array (column, row, slice) of stored values as one file a slice."""
    turn, spacing, lps = geometry(affine)
    order = list(range(array.shape[2])) if order is None else order
    paths = []
    for number, index in enumerate(order):
        ds = header(modality, uid, InstanceNumber=number + 1)
        pixels(ds, array[:, :, index].T, stored)
        ds.RescaleSlope, ds.RescaleIntercept = text(slope), text(intercept)
        ds.ImageOrientationPatient = [text(v) for v in turn]
        ds.PixelSpacing = [text(v) for v in spacing]
        ds.SliceThickness = text(float(np.linalg.norm(lps[:3, 2])))
        ds.ImagePositionPatient = [text(v) for v in lps[:3] @ [0, 0, index, 1]]
        for name, value in fields.items():
            setattr(ds, name, value)
        paths.append(write(folder / f"{prefix}{number:04d}", ds))
    return paths


def item(**fields: object) -> Sequence:
    ds = Dataset()
    for name, value in fields.items():
        setattr(ds, name, value)
    return Sequence([ds])


def enhanced(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    slope: float = 1,
    intercept: float = 0,
    order: list[int] | None = None,
) -> Path:
    """Write an array (column, row, slice) as one enhanced multi-frame CT file."""
    turn, spacing, lps = geometry(affine)
    order = list(range(array.shape[2])) if order is None else order
    ds = header("CT", SOPClassUID=EnhancedCTImageStorage, InstanceNumber=1)
    pixels(ds, array.transpose(2, 1, 0)[order])
    ds.NumberOfFrames = len(order)
    ds.SharedFunctionalGroupsSequence = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=[text(v) for v in turn]),
        PixelMeasuresSequence=item(
            PixelSpacing=[text(v) for v in spacing],
            SliceThickness=text(float(np.linalg.norm(lps[:3, 2]))),
        ),
        PixelValueTransformationSequence=item(
            RescaleSlope=text(slope), RescaleIntercept=text(intercept), RescaleType="HU"
        ),
    )
    groups = []
    for index in order:
        position = [text(v) for v in lps[:3] @ [0, 0, index, 1]]
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=position)
        frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=index + 1)
        groups.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return write(path, ds)
