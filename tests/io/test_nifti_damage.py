"""Files that nobody should trust: each gives one sentence, or is read, and nothing else."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save

SCAN = (np.arange(12 * 13 * 14).reshape(12, 13, 14) % 97).astype("i2")
KINDS = {
    "first version": (nib.Nifti1Image, ".nii"),
    "second version": (nib.Nifti2Image, ".nii"),
    "first version, packed": (nib.Nifti1Image, ".nii.gz"),
    "second version, packed": (nib.Nifti2Image, ".nii.gz"),
}
TURNED = {"sform_code": 0, "qform_code": 1}
LARGEST = 64e6  # bytes, imports included; the scan itself takes 4e3


def healthy(folder: Path, kind: str) -> Path:
    make, ending = KINDS[kind]
    nib.save(make(SCAN, np.diag([-2.0, -2, 3, 1])), folder / "scan.nii")
    volume = load(folder / "scan.nii")
    return save(folder / f"good{ending}", volume.data, volume, {1: "one", 96: "ninety-six"})


def outcome(path: Path) -> str:
    """Read a file by every door; return what was said, or 'read'."""
    said = "read"
    for door in (load, load_labels):
        try:
            volume = door(path)
            if isinstance(volume, tuple):
                volume = volume[0]
            assert volume.data.ndim == 3
            assert np.isfinite(volume.affine).all()
            float(volume.data.ravel()[0])
        except BadInput as error:
            said = str(error)
            assert path.name in said
            assert ": " in said or "; " in said, f"no remedy: {said}"
            assert said.endswith(".")
            assert "\n" not in said
            for foreign in ("Error", "errno", "zlib", "nibabel", "struct", "mmap"):
                assert foreign.lower() not in said.lower(), said
    return said


def resident() -> int:
    """Most memory this process ever had, bytes; 0 where the system does not tell."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(autouse=True)
def _no_blow_up() -> Iterator[None]:
    """Whatever a header claims, memory stays small."""
    before = resident()
    yield
    assert resident() - before < LARGEST


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_anywhere(tmp_path: Path, kind: str) -> None:
    good = healthy(tmp_path, kind)
    data = good.read_bytes()
    bad = tmp_path / f"bad{KINDS[kind][1]}"
    lengths = {*range(0, 700, 9), *np.linspace(0, len(data) - 1, 60).astype(int).tolist()}
    lengths |= {len(data) - 1, len(data) - 8, len(data) - 9}  # only gzip's own tail is missing
    for length in sorted(n for n in lengths if n < len(data)):
        bad.write_bytes(data[:length])
        assert outcome(bad) != "read", length


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "packed" not in kind])
def test_any_header_byte_wrong(tmp_path: Path, kind: str) -> None:
    data = healthy(tmp_path, kind).read_bytes()
    bad = tmp_path / "bad.nii"
    rng = np.random.default_rng(0)
    said = []
    for position in range(640 if "second" in kind else 450):
        values = [0, 255, 128, data[position] ^ 1, int(rng.integers(256))]
        if not 12 <= position < 120:  # shape, type, sizes and scaling get every value
            values = values[position % 5 :][:1]
        for value in {*values} - {data[position]}:
            bad.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            said.append(outcome(bad))
    assert said.count("read") > 50  # a description, a unit, an offset
    assert len({text for text in said if text != "read"}) > 20


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "packed" in kind])
def test_any_packed_byte_wrong(tmp_path: Path, kind: str) -> None:
    data = healthy(tmp_path, kind).read_bytes()
    bad = tmp_path / "bad.nii.gz"
    rng = np.random.default_rng(0)
    read = 0
    for position in [*range(40), *rng.integers(0, len(data), 300).tolist(), *range(-8, 0)]:
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        bad.write_bytes(changed)
        read += outcome(bad) == "read"
    # Only gzip's own header has bytes without consequence: the checksum sees the rest.
    assert read < 60


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "packed" not in kind])
def test_noise_in_the_header(tmp_path: Path, kind: str) -> None:
    data = healthy(tmp_path, kind).read_bytes()
    rng = np.random.default_rng(1)
    plain, packed = tmp_path / "bad.nii", tmp_path / "bad.nii.gz"
    for _ in range(100):
        changed = bytearray(data)
        for position in rng.integers(0, 348, rng.integers(2, 40)):
            if not (position < 12 or position >= 344):  # let it pass for a NIfTI
                changed[position] = int(rng.integers(256))
        plain.write_bytes(changed)
        packed.write_bytes(gzip.compress(bytes(changed), 1))
        outcome(plain)
        outcome(packed)


def test_noise_is_no_scan(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "noise.nii"
    for length in (0, 1, 4, 347, 348, 352, 5000):
        path.write_bytes(rng.bytes(length))
        assert outcome(path).startswith("noise.nii is ")
        path.write_bytes(gzip.compress(rng.bytes(length)))
        assert outcome(path).startswith("noise.nii is ")


def claims(folder: Path, packed: bool, **fields: object) -> Path:
    """A healthy file whose header was changed afterwards."""
    data = bytearray(healthy(folder, "first version").read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for field, value in fields.items():
        header[field] = value
    data[:348] = header.binaryblock
    path = folder / ("bad.nii.gz" if packed else "bad.nii")
    path.write_bytes(gzip.compress(bytes(data)) if packed else data)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"dim": [3, 10000, 10000, 10000, 1, 1, 1, 1]}, r"claims 1\.0e\+12 voxels .*header is"),
        ({"dim": [7, *[32767] * 7]}, r"claims 4\.1e\+31 voxels"),
        ({"dim": [3, 4000, 4000, 1000, 1, 1, 1, 1]}, r"claims 160000\d{5} bytes .*cut off"),
        ({"dim": [4, 12, 13, 14, 9999, 1, 1, 1]}, "claims .* bytes .*cut off"),
        ({"dim": [3, 12, 0, 14, 1, 1, 1, 1]}, r"claims the shape \[12, 0, 14\]"),
        ({"dim": [3, 12, -13, 14, 1, 1, 1, 1]}, r"claims the shape \[12, -13, 14\]"),
        ({"dim": [0, 12, 13, 14, 1, 1, 1, 1]}, "claims 0 axes"),
        ({"dim": [8, 12, 13, 14, 1, 1, 1, 1]}, "claims 8 axes"),
        ({"dim": [1, 12, 1, 1, 1, 1, 1, 1]}, "has 1 axes"),
        ({"dim": [5, 12, 13, 7, 2, 2, 1, 1]}, "has 5 axes"),
        ({"datatype": 77}, "unknown data type 77"),
        ({"datatype": 0}, "unknown data type 0"),
        ({"datatype": 32}, "holds complex64 voxels, .*convert it"),
        ({"datatype": 1536}, "holds float128|unknown data type"),
        ({"vox_offset": 1e30}, r"voxels begin at byte 1e\+30"),
        ({"vox_offset": np.nan}, "voxels begin at byte nan"),
        ({"vox_offset": 12}, "voxels begin at byte 12"),
        ({"scl_slope": 2, "scl_inter": np.inf}, "offset of inf; correct its scl_inter"),
        ({"srow_x": [0, 0, 0, 0]}, "voxels of .* mm"),
        ({"srow_x": [np.nan] * 4}, "affine .*not finite"),
        ({"srow_y": [2, 0, 0, 0], "srow_x": [2, 0, 0, 0]}, "voxels of|not invertible"),
        ({**TURNED, "quatern_b": 0.9, "quatern_c": 0.9}, "qform that is no rotation"),
        ({**TURNED, "pixdim": [1, 0, 2, 2, 0, 0, 0, 0]}, "voxels of .* mm"),
        ({**TURNED, "pixdim": [1, -1, 2, 2, 0, 0, 0, 0]}, "qform that is no rotation"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": np.zeros(8)}, "voxels of .* mm"),
        ({"magic": b"ni1"}, r"is one half of a \.hdr/\.img pair"),
        ({"magic": b"abc"}, "has a damaged or cut off NIfTI header"),
    ],
)
def test_a_claim_that_cannot_be_true(
    tmp_path: Path, packed: bool, fields: dict, fault: str
) -> None:
    path = claims(tmp_path, packed, **fields)
    if packed and fault == "claims .* bytes .*cut off":
        fault = "is damaged"  # within what gzip can pack: noticed while it is unpacked
    with pytest.raises(BadInput, match=rf"^{path.name}.*(?:{fault})"):
        load(path)
    tracemalloc.start()
    outcome(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LARGEST / 4


def test_a_claim_beyond_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = pytest.importorskip("psutil")
    path = healthy(tmp_path, "first version, packed")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 1000}))
    with pytest.raises(BadInput, match=r"good.nii.gz needs 0\.0 GB of memory but 0\.0 GB are free"):
        load(path)
    load(tmp_path / "scan.nii")  # mapped: needs none


def test_files_of_other_kinds(tmp_path: Path) -> None:
    for name, content, fault in (
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(600), "is not a NIfTI file"),
        ("empty.nii", b"", "is empty"),
        ("text.nii", b"hello" * 200, "is not a NIfTI file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=rf"^{name} {fault}; give a \.nii or \.nii\.gz file\.$"):
            load(tmp_path / name)
    with pytest.raises(BadInput, match="is a folder without DICOM images; name a"):
        load(tmp_path)
    with pytest.raises(BadInput, match=r"^gone\.nii does not exist; check its name and folder\.$"):
        load(tmp_path / "gone.nii")
    with pytest.raises(BadInput, match="is no file name"):
        load("a\0b.nii")
    with pytest.raises(BadInput, match="could not be read"):
        load("n" * 400 + ".nii")


def test_padding_after_a_packed_file_hurts_nobody(tmp_path: Path) -> None:
    path = healthy(tmp_path, "first version, packed")
    good = load(path).data
    for padding in (bytes(512), b"padding"):
        path.write_bytes(path.read_bytes() + padding)
        assert np.array_equal(load(path).data, good)


def test_a_broken_extension_costs_only_the_names(tmp_path: Path) -> None:
    data = bytearray(healthy(tmp_path, "first version").read_bytes())
    for size in (0, 7, -5, 2**31 - 1):
        data[352:356] = int(size).to_bytes(4, "little", signed=True)
        (tmp_path / "bad.nii").write_bytes(data)
        labels, names = load_labels(tmp_path / "bad.nii")
        assert names == {}
        assert np.array_equal(labels.to_file(labels.data), SCAN)
