"""Make a DICOM series of the phantom, open it, and write labels back as a DICOM segmentation.

    python examples/read_dicom.py [FOLDER or ZIP]

Without an argument the phantom becomes a CT series in a temporary folder. Labels are written
to the working folder as ``bone.seg.nrrd``, ``bone.stl`` and, where highdicom is installed,
``bone.dcm``.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_sightline import Volume, load, phantom, save
from napari_sightline.io import load_labels
from napari_sightline.io.dicom import list_series


def write_series(folder: Path, scan: Volume) -> None:
    """Write one file a slice, in no order; Hounsfield units are stored plus 1024."""
    study, series, frame_of_reference = (generate_uid() for _ in range(3))
    stored = (scan.to_file(scan.data) + 1024).astype(np.uint16)
    lps = np.diag([-1.0, -1, 1, 1]) @ scan.file_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    turn = lps[:3, :2] / spacing[:2]
    for number, index in enumerate(np.random.default_rng(0).permutation(stored.shape[2])):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.FrameOfReferenceUID = frame_of_reference
        ds.Modality, ds.SeriesDescription, ds.InstanceNumber = "CT", "phantom", number + 1
        ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        ds.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
        ds.SliceThickness = f"{spacing[2]:.10g}"
        ds.ImageOrientationPatient = [f"{value:.10g}" for value in turn.T.ravel()]
        ds.ImagePositionPatient = [f"{v:.10g}" for v in lps[:3] @ [0, 0, index, 1]]
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        plane = np.ascontiguousarray(stored[:, :, index].T)
        ds.Rows, ds.Columns = plane.shape
        ds.PixelData = plane.tobytes()
        ds.save_as(folder / f"IM{number:04d}", enforce_file_format=True)


def show(source: Path) -> None:
    for one in list_series(source):
        print(f"series {one.name!r}: {one.modality}, {len(one.frames)} slices")
    scan = load(source, series=0)
    print(scan)
    for note in scan.notes:
        print(note)

    bone = (scan.data > 300).astype(np.uint8)
    endings = [".seg.nrrd", ".stl", *([".dcm"] if find_spec("highdicom") else [])]
    for ending in endings:
        path = save(f"bone{ending}", bone, scan, {1: "mandible"})
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    again, names = load_labels("bone.seg.nrrd")
    assert np.array_equal(again.data, bone)
    assert np.allclose(again.affine, scan.affine)
    print(f"{names[1]!r} came back voxel by voxel, at the same millimetres")


def main() -> None:
    if len(sys.argv) > 1:
        show(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        scan = phantom((32, 48, 48))[0]
        write_series(Path(folder), scan)
        again = load(folder)
        assert np.array_equal(again.data, scan.data)
        assert np.allclose(again.affine, scan.affine)
        show(Path(folder))


if __name__ == "__main__":
    main()
