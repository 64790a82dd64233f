"""Damaged DICOM, NRRD, TIFF and segmentation files: one sentence each, little memory, no hang."""

from __future__ import annotations

import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
import tifffile
from dicom_making import enhanced, series
from test_dicom import AXIAL, PHI

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.volume import Volume

SCAN = (np.arange(12 * 10 * 6).reshape(12, 10, 6) % 97).astype("i2")
LARGEST = 100e6  # bytes, imports included; the scans take some kilobytes
SLACK = 2_000_000  # bytes: caches that fill up
COUNT = 240  # damaged files of each kind


def resident() -> int:
    """Most memory this process ever had, bytes; 0 where the system does not tell."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024


def one_slice(folder: Path) -> Path:
    return series(folder, SCAN[..., :1], AXIAL)[0]


def multi_frame(folder: Path) -> Path:
    return enhanced(folder / "e", SCAN, AXIAL)


def packed(syntax: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        noise = np.random.default_rng(0).integers(0, 500, (40, 36, 1)).astype("u2")
        path = series(folder, noise, AXIAL)[0]
        ds = pydicom.dcmread(path)
        ds.compress(getattr(pydicom.uid, syntax))
        ds.save_as(path)
        return path

    return make


def segmentation(folder: Path) -> Path:
    pytest.importorskip("highdicom")
    series(folder / "s", SCAN[..., :4], AXIAL)
    volume = load(folder / "s")
    labels = (volume.data > 50).astype("u1")
    labels[volume.data > 80] = 2
    return save(folder / "l.dcm", labels, volume, {1: "liver", 2: "spleen"})


def volume() -> Volume:
    return Volume.from_array(SCAN, AXIAL)


def nrrd_raw(folder: Path) -> Path:
    nrrd.write(str(folder / "a.nrrd"), SCAN, {"encoding": "raw", "space": "LPS",
        "space directions": np.eye(3), "space origin": np.zeros(3)})  # fmt: skip
    return folder / "a.nrrd"


def seg_nrrd(folder: Path) -> Path:
    return save(folder / "a.seg.nrrd", (volume().data > 50).astype("u1"), volume(), {1: "one"})


def plain_tiff(folder: Path) -> Path:
    return save_image(folder / "a.tif", Volume.from_array(SCAN.astype("u2"), AXIAL))


def ome_tiff(folder: Path) -> Path:
    return save_image(folder / "a.ome.tif", volume())


def paged_tiff(folder: Path) -> Path:
    tifffile.imwrite(folder / "p.tif", SCAN.T, photometric="minisblack", compression="zlib")
    return folder / "p.tif"


def zipped(folder: Path) -> Path:
    paths = series(folder / "z", SCAN, AXIAL)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.name)
    return folder / "a.zip"


KINDS: dict[str, Callable[[Path], Path]] = {
    "zip": zipped,
    "slice": one_slice,
    "multi-frame": multi_frame,
    "rle": packed("RLELossless"),
    "jpeg 2000": packed("JPEG2000Lossless"),
    "jpeg-ls": packed("JPEGLSLossless"),
    "segmentation": segmentation,
    "nrrd": nrrd_raw,
    "seg.nrrd": seg_nrrd,
    "imagej": plain_tiff,
    "ome": ome_tiff,
    "pages": paged_tiff,
}


def outcome(path: Path, labels: bool) -> str:
    """Read a file; return what was said, or 'read'."""
    start = time.perf_counter()
    try:
        if labels:
            found, names = load_labels(path)
            assert all(isinstance(name, str) for name in names.values())
        else:
            found = load(path)
        assert found.data.ndim == 3
        assert np.isfinite(found.affine).all()
        assert found.data.size < 10**7
        float(found.data[0, 0, 0])
        said = [*found.notes, found.name]
        result = "read"
    except BadInput as error:
        result = str(error)
        said = [result]
        assert result.endswith(".")
        assert ": " in result or "; " in result, f"no remedy: {result}"
        assert "\n" not in result
        for foreign in ("Error", "errno", "zlib", "pydicom", "struct", "mmap", "Traceback"):
            assert foreign.lower() not in result.lower(), result
    assert time.perf_counter() - start < 10
    for text in said:
        assert not any(word in text.casefold() for word in PHI), text
    return result


@contextmanager
def measured() -> Iterator[list[int]]:
    """Most bytes that Python and numpy held inside the block."""
    most: list[int] = []
    tracemalloc.start()
    try:
        yield most
        most.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def damages(data: bytes, rng: np.random.Generator, head: int) -> list[bytes]:
    """Cut off, single bytes wrong, noise, wrong lengths, pieces left out or twice."""
    made = [data[:n] for n in np.linspace(0, len(data) - 1, COUNT // 4).astype(int)]
    for _ in range(COUNT // 4):
        changed = bytearray(data)
        changed[int(rng.integers(head))] ^= 1 << int(rng.integers(8))
        made.append(bytes(changed))
    for _ in range(COUNT // 4):
        changed = bytearray(data)
        at = int(rng.integers(max(1, head - 4)))
        changed[at : at + 4] = rng.choice(
            [b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f", rng.bytes(4), b"9999"]
        ).ljust(4, b"\0")
        made.append(bytes(changed))
    for _ in range(COUNT - 3 * (COUNT // 4)):
        low, high = sorted(rng.integers(0, head, 2))
        made.append(data[:low] + (data[low:high] * 2 if rng.random() < 0.5 else b"") + data[high:])
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_damage(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path)
    labels = "seg" in kind
    assert outcome(path, labels) == "read"
    data = path.read_bytes()
    with measured() as honest:
        outcome(path, labels)
    before = resident()
    said = [
        outcome(bad, labels)
        for number, content in enumerate(
            damages(data, np.random.default_rng(0), min(len(data), 3000))
        )
        if (bad := tmp_path / f"bad{number}{''.join(path.suffixes)}").write_bytes(content) >= 0
    ]
    assert len(said) >= 200
    assert resident() - before < LARGEST
    # Each again, a few of them, to the byte: no claim makes us take more than honest voxels do.
    with measured() as most:
        for number in range(0, COUNT, 6):
            outcome(tmp_path / f"bad{number}{''.join(path.suffixes)}", labels)
    assert most[0] < 4 * honest[0] + SLACK
    told = {text for text in said if text != "read"}
    assert len(told) > 3
    assert said.count("read") < len(said) * 0.9


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Rows": 60000, "Columns": 60000}, "fewer pixels than its header claims"),
        ({"Rows": 0}, "claims no size"),
        ({"BitsAllocated": 12}, "which cannot be"),
        ({"BitsStored": 40}, "which cannot be"),
        ({"NumberOfFrames": 10**6}, "which cannot be"),
        ({"NumberOfFrames": 5000}, "fewer pixels than its header claims"),
        ({"SamplesPerPixel": 7}, "7 samples a pixel"),
        ({"PixelSpacing": [1e9, 1e9]}, "affine has voxels of"),
        ({"PixelData": b"\0\0"}, "fewer pixels"),
    ],
)
def test_claims_that_cannot_be_true(tmp_path: Path, fields: dict, fault: str) -> None:
    path = one_slice(tmp_path)
    ds = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.save_as(path)
    before = resident()
    with pytest.raises(BadInput, match=fault):
        load(path)
    assert resident() - before < LARGEST


@pytest.mark.parametrize(
    "tag",
    ["Rows", "Columns", "BitsAllocated", "PixelData", "ImagePositionPatient", "PixelSpacing",
     "ImageOrientationPatient", "Modality", "SeriesInstanceUID", "SOPInstanceUID",
     "RescaleSlope", "InstanceNumber", "PhotometricInterpretation", "SamplesPerPixel",
     "PixelRepresentation", "BitsStored", "HighBit", "SeriesDescription", "ImageType"],
)  # fmt: skip
def test_missing_tags(tmp_path: Path, tag: str) -> None:
    for path in series(tmp_path, SCAN, AXIAL):
        ds = pydicom.dcmread(path)
        delattr(ds, tag)
        ds.save_as(path)
    said = outcome(tmp_path, False)
    if tag == "PixelSpacing":
        assert any("no size of its pixels" in note for note in load(tmp_path).notes)
    assert (said == "read") == (tag not in ("Rows", "Columns", "PixelData"))


def test_a_compressed_stream_of_another_size(tmp_path: Path) -> None:
    path = packed("JPEG2000Lossless")(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 8] = (2**31 - 1).to_bytes(4, "big") * 2
    path.write_bytes(data)
    with pytest.raises(BadInput, match="has damaged pixel data"):
        load(path)


def test_a_deflated_bomb(tmp_path: Path) -> None:
    path = one_slice(tmp_path)
    ds = pydicom.dcmread(path)
    ds.add_new(0x00091010, "OB", bytes(40_000_000))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.save_as(path)
    with pytest.raises(BadInput, match="unpacks to far more than a scan"):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"sizes: 12 10 6", b"sizes: 12 10 600", r"claims \d+ bytes"),
        (b"sizes: 12 10 6", b"sizes: 99999 99999 99999", "claims the shape"),
        (b"sizes: 12 10 6", b"sizes: 12 -10 6", "claims the shape"),
        (b"sizes: 12 10 6", b"sizes: 12 10", "damaged"),
        (rb"type: \w+", b"type: block", "lacks or misstates"),  # of several names for int16
        (b"encoding: raw", b"encoding: hex", "lacks or misstates"),
        (b"dimension: 3", b"dimension: 9", "damaged"),
    ],
)
def test_nrrd_claims(tmp_path: Path, old: bytes, new: bytes, fault: str) -> None:
    path = nrrd_raw(tmp_path)
    data, count = re.subn(old, new, path.read_bytes())
    assert count == 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=fault):
        load(path)
