"""Asks where labels are to be saved."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_sightline.io.formats import ending_of
from napari_sightline.viewer.files import default_path
from napari_sightline.volume import Volume

_FILTERS = (
    "NIfTI (*.nii.gz *.nii);;3D Slicer segmentation (*.seg.nrrd);;"
    "DICOM segmentation (*.dcm);;Surfaces (*.stl *.obj *.ply);;All files (*)"
)


def ask_where(parent: QWidget, volume: Volume) -> Path | None:
    """Ask for a file for the labels of a volume; None where the user does not want one after all.

    A name without an ending becomes a compressed NIfTI file.
    """
    chosen, _ = QFileDialog.getSaveFileName(
        parent, "Save labels", str(default_path(volume)), _FILTERS
    )
    if not chosen:
        return None
    path = Path(chosen)
    if ending_of(path):
        return path
    # The dialog asked about the name without the ending.
    path = path.with_name(f"{path.name}.nii.gz")
    return path if not path.exists() or _may_replace(parent, path) else None


def _may_replace(parent: QWidget, path: Path) -> bool:
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "Save labels",
        f"{path.name} exists already. Replace it?",
        buttons.Yes | buttons.No,
    )
    return bool(answer == buttons.Yes)
