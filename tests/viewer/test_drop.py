"""Files and folders dropped on the window, as events that Qt delivers."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))

from dicom_making import series
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QDialogButtonBox, QRadioButton, QTableWidget

from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.viewer import files
from napari_sightline.viewer.bridge import KEY, contrast
from napari_sightline.volume import Volume

#: In file order: columns to the patient's left, rows to the back, slices upwards.
AFFINE = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
SHAPE = (17, 16, 9)
ENDINGS = ("*.nii.gz", "*.nii", "*.nrrd", "*.dcm", "*.tif")
Act = Callable[[QDialog], None]


@pytest.fixture
def viewer(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shown viewer whose user chose this plugin for the endings that napari knows, too."""
    chosen = dict.fromkeys(ENDINGS, "napari-sightline")
    monkeypatch.setattr(get_settings().plugins, "extension2reader", chosen)
    return make_napari_viewer(show=True)


@pytest.fixture
def array() -> np.ndarray:
    """A scan whose front, left and top are brighter than what lies opposite."""
    column, row, level = np.indices(SHAPE)
    return (300 + 10 * column - 15 * row + 40 * level).astype("i2")


def drop(viewer: Any, paths: list[Path], *acts: Act) -> None:
    """Let go of files over the canvas; `acts` answer the dialogs that come, one after another."""
    window = viewer.window._qt_viewer
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    left, answered = list(acts), []

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if dialog is None or dialog in answered:
            if left:
                QTimer.singleShot(20, answer)
            return
        answered.append(dialog)
        act = left.pop(0)
        if left:
            QTimer.singleShot(50, answer)
        act(dialog)

    if left:
        QTimer.singleShot(20, answer)
    middle = QPointF(window.width() / 2, window.height() / 2)
    held = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton)
    keys = Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(middle.toPoint(), *held, keys)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(window, QDropEvent(middle, *held, keys))
    assert not left, "a dialog that should have come did not"


def ours(dialog: QDialog) -> None:
    """Choose this plugin in napari's own list of readers."""
    (button,) = (b for b in dialog.findChildren(QRadioButton) if b.text() == "Sightline")
    button.click()
    press(dialog, "OK")


def press(dialog: QDialog, text: str) -> None:
    (box,) = dialog.findChildren(QDialogButtonBox)
    (button,) = (b for b in box.buttons() if b.text().replace("&", "") == text)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def lies_right(layer: Any, array: np.ndarray, limits: tuple[float, float]) -> None:
    """Axial slices as a radiologist expects them, in millimetres, on the grid of the file."""
    expected = Volume.from_array(array, AFFINE)
    assert np.array_equal(layer.data, expected.data)
    first, last = layer.data[0], layer.data[-1]
    assert last.mean() > first.mean(), "the head end is last"
    assert first[0].mean() > first[-1].mean(), "the front is up"
    assert first[:, -1].mean() > first[:, 0].mean(), "the patient's left is on the right"
    assert tuple(layer.scale) == pytest.approx((2.5, 0.9, 0.8))
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("superior", "posterior", "left")
    assert tuple(layer.contrast_limits) == limits
    centre = (np.array(layer.data.shape) - 1) / 2
    mm = expected.voxel_to_mm(centre)
    assert np.allclose(layer.data_to_world(centre), (mm[2], -mm[1], -mm[0]), atol=1e-3)


HU = (-160.0, 240.0)


def nifti(folder: Path, array: np.ndarray, name: str = "ct.nii.gz") -> Path:
    nib.save(nib.Nifti1Image(array, AFFINE), folder / name)
    return folder / name


@pytest.mark.parametrize("kind", ["folder", "zip", "files", "no endings", "nifti", "nrrd", "tif"])
def test_a_ct(viewer: Any, tmp_path: Path, array: np.ndarray, kind: str) -> None:
    array = array - 1024 if kind in ("nifti", "nrrd", "tif") else array
    volume = Volume.from_array(array, AFFINE)
    name = "thin"
    if kind in ("nifti", "nrrd", "tif"):
        name = "ct"
        if kind == "nifti":
            paths = [nifti(tmp_path, array)]
        else:
            paths = [save_image(tmp_path / f"ct.{kind}", volume)]
        drop(viewer, paths)
    else:
        paths = series(tmp_path / "s", array + 1024, AFFINE, intercept=-1024)
        if kind == "folder":
            drop(viewer, [tmp_path / "s"], ours)
        elif kind == "zip":
            with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
                for path in paths:
                    archive.write(path, path.name)
            drop(viewer, [tmp_path / "s.zip"])
        elif kind == "files":
            drop(viewer, [path.rename(f"{path}.dcm") for path in paths])
        else:
            drop(viewer, paths)
    (layer,) = viewer.layers
    assert layer.name == name
    lies_right(layer, array, HU)
    # Contrast can be widened to bone and lung.
    assert viewer.dims.ndim == 3 and viewer.dims.displayed == (1, 2)


def test_mr_has_contrast_of_its_own(viewer: Any, tmp_path: Path, array: np.ndarray) -> None:
    series(tmp_path, array, AFFINE, modality="MR", SeriesDescription="T1")
    drop(viewer, [tmp_path], ours)
    (layer,) = viewer.layers
    limits = contrast(Volume.from_array(array, AFFINE, modality="MR"))
    assert layer.name == "T1"
    lies_right(layer, array, limits)
    assert array.min() <= limits[0] < limits[1] <= array.max()


def test_inverse_grey_looks_as_it_is_meant(tmp_path: Path, array: np.ndarray) -> None:
    series(tmp_path, array, AFFINE, modality="CR", PhotometricInterpretation="MONOCHROME1")
    ((data, options, _),) = files.read(str(tmp_path))
    assert options["colormap"] == "gray_r"
    assert np.array_equal(data, Volume.from_array(array, AFFINE).data)


def test_labels_with_names_and_colours(viewer: Any, tmp_path: Path, array: np.ndarray) -> None:
    volume = Volume.from_array(array, AFFINE)
    labels = np.zeros(volume.shape, "u1")
    labels[2:5, 3:9, 4:9] = 3
    path = save(tmp_path / "organs.seg.nrrd", labels, volume, {3: "liver"})
    drop(viewer, [path])
    (layer,) = viewer.layers
    assert (type(layer).__name__, layer.name) == ("Labels", "organs")
    assert np.array_equal(layer.data, labels)
    assert dict(zip(layer.features["index"], layer.features["name"], strict=True))[3] == "liver"


def test_one_slice_stands_for_its_series(viewer: Any, tmp_path: Path, array: np.ndarray) -> None:
    paths = series(tmp_path, array, AFFINE, uid="1.1", SeriesDescription="thin")
    series(tmp_path, array[..., :4], AFFINE, uid="1.2", SeriesDescription="other", prefix="o")
    drop(viewer, [paths[3]])
    (layer,) = viewer.layers
    assert layer.name == "thin"
    lies_right(layer, array, HU)
    # The same again only shows where it is.
    viewer.layers.selection.clear()
    drop(viewer, [paths[0], paths[5]])
    assert len(viewer.layers) == 1
    assert viewer.layers.selection == {layer}
    viewer.layers.remove(layer)
    QTest.qWait(50)
    drop(viewer, [paths[0]])
    assert [one.name for one in viewer.layers][-1] == "thin"


def test_a_series_that_cannot_be_used_is_told_once(
    viewer: Any, tmp_path: Path, array: np.ndarray, told: Callable[[], list[str]]
) -> None:
    paths = series(tmp_path, array, AFFINE)
    for path, height in zip(paths, (0, 1, 2, 3.7, 5, 6.1, 7, 8.6, 9), strict=True):
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient[2] = height
        ds.save_as(path)
    drop(viewer, paths)
    assert len(viewer.layers) == 0
    assert len(told()) == 1 and "which no single grid holds" in told()[0]


@pytest.fixture
def study(tmp_path: Path, array: np.ndarray) -> Path:
    """A CT and an MR in one folder."""
    folder = tmp_path / "study"
    series(folder / "a", array, AFFINE, uid="1.1", SeriesDescription="soft tissue")
    series(folder / "b", array[..., :5], AFFINE, uid="1.2", modality="MR", SeriesDescription="T1")
    return folder


def test_several_series_are_offered_by_name(viewer: Any, study: Path) -> None:
    seen: list[list[str]] = []

    def look(dialog: QDialog) -> None:
        (table,) = dialog.findChildren(QTableWidget)
        seen.extend(
            [table.item(row, column).text() for column in range(table.columnCount())]
            for row in range(table.rowCount())
        )
        press(dialog, "Open")

    drop(viewer, [study], ours, look)
    assert seen == [
        ["soft tissue", "CT", "9", "17 × 16", "0.8 × 0.9 × 2.5"],
        ["T1", "MR", "5", "17 × 16", "0.8 × 0.9 × 2.5"],
    ]
    assert [layer.name for layer in viewer.layers] == ["soft tissue"]


def at(table: QTableWidget, row: int, column: int) -> dict[str, Any]:
    return {"pos": table.visualItemRect(table.item(row, column)).center()}


def test_any_of_them_can_be_ticked(viewer: Any, study: Path) -> None:
    def both(dialog: QDialog) -> None:
        (table,) = dialog.findChildren(QTableWidget)
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, **at(table, 1, 1))
        press(dialog, "Open 2")

    drop(viewer, [study], ours, both)
    assert [layer.name for layer in viewer.layers] == ["soft tissue", "T1"]


def test_none_of_them(viewer: Any, study: Path, told: Callable[[], list[str]]) -> None:
    drop(viewer, [study], ours, lambda dialog: press(dialog, "Cancel"))
    assert len(viewer.layers) == 0
    assert told() == []


def test_a_dropped_scan_gives_labels_back_bit_for_bit(
    viewer: Any, tmp_path: Path, array: np.ndarray
) -> None:
    turned = AFFINE.copy()
    turned[:3, :3] = nib.eulerangles.euler2mat(0.2, -0.1, 0.3) @ turned[:3, :3][:, [2, 0, 1]]
    nib.save(nib.Nifti1Image(array.transpose(2, 0, 1), turned), tmp_path / "ct.nii.gz")
    drop(viewer, [tmp_path / "ct.nii.gz"])
    (scan,) = viewer.layers
    drawn = (scan.data % 7 == 0).astype("u1")
    layer = viewer.add_labels(drawn, metadata={KEY: scan.metadata[KEY]}, scale=scan.scale)
    out = tmp_path / "out.nii.gz"
    assert layer.save(str(out), plugin="napari-sightline") == [str(out)]
    before, after = nib.load(tmp_path / "ct.nii.gz"), nib.load(out)
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj) % 7 == 0)
    assert np.array_equal(load_labels(out)[0].data, drawn)


def test_who_reads_names_without_endings(tmp_path: Path, array: np.ndarray) -> None:
    path = series(tmp_path, array[..., :1], AFFINE)[0]
    other = tmp_path / "notes_01"
    other.write_text("hello, this is no scan " * 20)
    assert files.get_reader(str(path)) is files.read
    assert files.get_reader(str(other)) is None
    assert files.get_reader(str(tmp_path / "gone_01")) is None
    assert load(path).shape == (1, 16, 17)
