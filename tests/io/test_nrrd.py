"""NRRD as other programs write and read it."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.volume import Volume

AFFINE = np.array([[-0.8, 0.1, 0, 50], [0, -0.9, 0.2, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1, 1, 1]) @ AFFINE
SCAN = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype("i2")
HEADER = {
    "space": "left-posterior-superior",
    "space directions": LPS[:3, :3].T,
    "space origin": LPS[:3, 3],
    "kinds": ["domain"] * 3,
}


def same(volume: Volume, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    expected = Volume.from_array(array, affine)
    assert np.array_equal(volume.data, expected.data)
    assert np.allclose(volume.affine, expected.affine)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_pynrrd(tmp_path: Path, encoding: str, order: str) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), SCAN.astype(f"{order}i2"), {**HEADER, "encoding": encoding})
    volume = load(path)
    same(volume, SCAN)
    assert (volume.data.dtype, volume.name, volume.notes) == (np.int16, "a", ())


@pytest.mark.parametrize("space", ["RAS", "LAS", "right-anterior-superior", "scanner-xyz"])
def test_spaces(tmp_path: Path, space: str) -> None:
    flip = np.diag([-1.0 if space == "LAS" else 1.0, 1, 1, 1])
    matrix = flip @ AFFINE
    header = {**HEADER, "space": space, "space directions": matrix[:3, :3].T}
    nrrd.write(str(tmp_path / "a.nrrd"), SCAN, {**header, "space origin": matrix[:3, 3]})
    same(load(tmp_path / "a.nrrd"), SCAN)


def test_detached_data(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nhdr"), SCAN, {**HEADER, "encoding": "raw"}, detached_header=True)
    same(load(tmp_path / "a.nhdr"), SCAN)
    text = (tmp_path / "a.nhdr").read_text()
    for other in ("../a.raw", "/etc/passwd", "LIST", "sub/a.raw"):
        (tmp_path / "b.nhdr").write_text(text.replace("a.raw", other))
        with pytest.raises(BadInput, match=r"b\.nhdr keeps its voxels in several files or another"):
            load(tmp_path / "b.nhdr")


def test_channels_and_no_orientation(tmp_path: Path) -> None:
    both = np.stack([SCAN, SCAN + 1])
    directions = np.vstack([[np.nan] * 3, LPS[:3, :3].T])
    header = {**HEADER, "space directions": directions, "kinds": ["list"] + ["domain"] * 3}
    nrrd.write(str(tmp_path / "a.nrrd"), both, header)
    volume = load(tmp_path / "a.nrrd", channel=1)
    same(volume, SCAN + 1)
    assert "Channel 1 of 2 used." in volume.notes
    nrrd.write(str(tmp_path / "b.nrrd"), SCAN, {"spacings": [0.5, 0.6, 2]})
    volume = load(tmp_path / "b.nrrd")
    assert volume.spacing == (2, 0.6, 0.5)
    assert any("no orientation" in note for note in volume.notes)


def test_what_is_written_pynrrd_reads(tmp_path: Path) -> None:
    volume = Volume.from_array(SCAN, AFFINE)
    data, header = nrrd.read(str(save_image(tmp_path / "a.nrrd", volume)))
    assert np.array_equal(data, SCAN)
    assert np.allclose(header["space directions"], LPS[:3, :3].T)
    assert np.allclose(header["space origin"], LPS[:3, 3])
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert np.allclose(image.GetOrigin(), LPS[:3, 3])
    assert np.allclose(image.GetSpacing(), np.linalg.norm(LPS[:3, :3], axis=0))


def test_a_segmentation_as_slicer_has_it(tmp_path: Path) -> None:
    volume = Volume.from_array(SCAN, AFFINE)
    grid = np.zeros(SCAN.shape, "u1")
    grid[1:3, 2:4, 3:5], grid[3] = 2, 5
    labels = volume.from_file(grid)
    path = save(tmp_path / "a.seg.nrrd", labels, volume, {2: "left kidney", 5: "something"})
    data, header = nrrd.read(str(path))
    assert np.array_equal(data, grid)
    expected = {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "left kidney",
        "Segment0_LabelValue": "2",
        "Segment0_Layer": "0",
        "Segment0_Extent": "1 2 2 3 3 4",
        "Segment1_Name": "something",
        "Segment1_LabelValue": "5",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
    }
    assert {key: header[key] for key in expected} == expected
    colour = [float(c) for c in header["Segment0_Color"].split()]
    assert len(colour) == 3
    assert all(0 <= c <= 1 for c in colour)
    assert "SCT^64033007^Left kidney~SCT^7771000^Left" in header["Segment0_Tags"]
    assert "Segment1_Tags" not in header


def test_layers_of_slicer_that_overlap(tmp_path: Path) -> None:
    layers = np.zeros((2, 4, 5, 6), "u1")
    layers[0, 1:3], layers[1, 2:4] = 1, 1
    header = {
        **HEADER,
        "space directions": np.vstack([[np.nan] * 3, LPS[:3, :3].T]),
        "kinds": ["list"] + ["domain"] * 3,
    }
    for number, name in enumerate(("one", "two")):
        header[f"Segment{number}_Name"] = name
        header[f"Segment{number}_LabelValue"] = "1"
        header[f"Segment{number}_Layer"] = str(number)
    nrrd.write(str(tmp_path / "a.seg.nrrd"), layers, header)
    labels, names = load_labels(tmp_path / "a.seg.nrrd")
    expected = np.where(layers[1], 2, layers[0])
    same(labels, expected)
    assert names == {1: "one", 2: "two"}
    assert "Segments overlap in 30 voxels; the later one is kept." in labels.notes


def slicer_file(path: Path, layers: np.ndarray, **fields: str) -> Path:
    """A segmentation with the header that 3D Slicer 5 writes."""
    header = {
        "space": "left-posterior-superior",
        "space directions": np.vstack([[np.nan] * 3, LPS[:3, :3].T]),
        "kinds": ["list", "domain", "domain", "domain"],
        "space origin": LPS[:3, 3],
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
        "Segmentation_ConversionParameters": "Smoothing factor|-0.5|Desired smoothing factor.&",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "12 -3 0",
        **fields,
    }
    if layers.ndim == 3:
        header["space directions"], header["kinds"] = LPS[:3, :3].T, ["domain"] * 3
    nrrd.write(str(path), layers, header)
    return path


def segment(number: int, name: str, value: int, layer: int, colour: str) -> dict[str, str]:
    start = f"Segment{number}_"
    return {
        f"{start}Color": colour,
        f"{start}ColorAutoGenerated": "1",
        f"{start}Extent": "0 3 0 4 0 5",
        f"{start}ID": f"Segment_{number}",
        f"{start}LabelValue": str(value),
        f"{start}Layer": str(layer),
        f"{start}Name": name,
        f"{start}NameAutoGenerated": "1",
        f"{start}Tags": "TerminologyEntry:Segmentation category and type - 3D Slicer General "
        "Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master "
        "list~^^~^^|",
    }


def test_a_shared_labelmap_of_slicer(tmp_path: Path) -> None:
    grid = np.zeros(SCAN.shape, "u1")
    grid[1:3], grid[3, 2:] = 1, 2
    fields = {
        **segment(0, "liver", 1, 0, "0.866667 0.509804 0.396078"),
        **segment(1, "spleen", 2, 0, "0.615686 0.423529 0.635294"),
    }
    labels, legend = load_labels(slicer_file(tmp_path / "a.seg.nrrd", grid, **fields))
    # The offset of the extent belongs to Slicer's own index space: the origin says all.
    same(labels, grid)
    assert legend == {1: "liver", 2: "spleen"}
    assert legend.colours == {1: (221, 130, 101), 2: (157, 108, 162)}


def test_layers_of_slicer_keep_values_that_differ(tmp_path: Path) -> None:
    layers = np.zeros((2, *SCAN.shape), "u1")
    layers[0, 1], layers[0, 3], layers[1, 2] = 1, 4, 7
    fields = {
        **segment(0, "one", 1, 0, "1 0 0"),
        **segment(1, "four", 4, 0, "0 1 0"),
        **segment(2, "seven", 7, 1, "0 0 1"),
    }
    labels, legend = load_labels(slicer_file(tmp_path / "a.seg.nrrd", layers, **fields))
    same(labels, layers.max(axis=0))
    assert legend == {1: "one", 4: "four", 7: "seven"}
    assert legend.colours[7] == (0, 0, 255)
    assert labels.notes == ()


def test_old_files_of_slicer_have_a_layer_for_each_segment(tmp_path: Path) -> None:
    layers = np.zeros((2, *SCAN.shape), "u1")
    layers[0, 1], layers[1, 2] = 1, 1
    fields = {"Segment0_ID": "first", "Segment1_ID": "b", "Segment1_Name": "second"}
    labels, legend = load_labels(slicer_file(tmp_path / "a.seg.nrrd", layers, **fields))
    same(labels, np.where(layers[1], 2, layers[0]))
    assert legend == {1: "first", 2: "second"}


def test_what_slicer_needs_is_written(tmp_path: Path) -> None:
    volume = Volume.from_array(SCAN, AFFINE)
    labels = volume.from_file(np.full(SCAN.shape, 3, "u1"))
    path = save(tmp_path / "a.seg.nrrd", labels, volume, {3: "tumour", 8: "nothing\nyet"})
    _, header = nrrd.read(str(path))
    assert header["space"] == "left-posterior-superior"
    assert header["kinds"] == ["domain"] * 3
    assert header["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert header["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert "SCT^49755003^Morphologically Altered Structure~SCT^" in header["Segment0_Tags"]
    # An empty segment has an extent that holds nothing.
    assert header["Segment1_Name"] == "nothing yet"
    assert header["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    identifiers = [value for key, value in header.items() if key.endswith("_ID")]
    assert len(set(identifiers)) == len(identifiers) == 2


def test_a_hand_that_space_does_not_say(tmp_path: Path) -> None:
    left = LPS.copy()
    left[:3, 2] *= -1
    header = {**HEADER, "space directions": left[:3, :3].T, "encoding": "gzip"}
    nrrd.write(str(tmp_path / "a.nrrd"), SCAN, header)
    affine = AFFINE.copy()
    affine[:3, 2] *= -1
    same(load(tmp_path / "a.nrrd"), SCAN, affine)
