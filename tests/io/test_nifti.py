from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.volume import Volume

OBLIQUE = np.array(
    [
        [-1.9, 0.3, 0.2, 91.5],
        [0.35, 1.8, -0.6, -120.25],
        [-0.1, 0.5, 2.9, -33.0],
        [0, 0, 0, 1],
    ]
)
KINDS = (".nii", ".nii.gz")


def ramp(shape: tuple[int, ...] = (5, 6, 7), dtype: str = "i2") -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)


def write(
    path: Path, array: np.ndarray, affine: np.ndarray | None = OBLIQUE, **fields: object
) -> Path:
    """Write with nibabel, then set raw header fields behind its back."""
    kind = fields.pop("kind", nib.Nifti1Image)
    image = kind(array, affine, dtype=array.dtype)
    image.header.set_slope_inter(fields.pop("slope", 1), fields.pop("inter", 0))
    for field, value in fields.items():
        image.header[field] = value
    nib.save(image, path)
    return path


def patch(path: Path, **fields: object) -> Path:
    """Change header fields of an uncompressed NIfTI-1 file as stored."""
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for field, value in fields.items():
        header[field] = value
    data[:348] = header.binaryblock
    path.write_bytes(data)
    return path


def mapped(array: np.ndarray) -> bool:
    base: object = array
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


# Reading


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4"])
def test_voxels_keep_their_type(tmp_path: Path, ending: str, dtype: str) -> None:
    array = ramp(dtype=dtype)
    volume = load(write(tmp_path / f"knee{ending}", array))
    assert volume.data.dtype == np.dtype(dtype)
    assert np.array_equal(volume.to_file(volume.data), array)
    assert mapped(volume.data) is (ending == ".nii")
    assert (volume.name, volume.source) == ("knee", tmp_path / f"knee{ending}")
    assert volume.notes == ()


def test_a_mapped_scan_can_be_written_to_without_changing_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "knee.nii", ramp())
    before = path.read_bytes()
    load(path).data[:] = 7
    assert path.read_bytes() == before


def test_doubles_become_floats(tmp_path: Path) -> None:
    array = ramp(dtype="f8") / 3
    volume = load(write(tmp_path / "knee.nii.gz", array))
    assert volume.data.dtype == np.float32
    assert np.array_equal(volume.to_file(volume.data), array.astype(np.float32))


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_versions_and_byte_orders(tmp_path: Path, ending: str, kind: type, order: str) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype("i2").newbyteorder(order))
    path = tmp_path / f"knee{ending}"
    nib.save(kind(ramp(), OBLIQUE, header), path)
    assert path.stat().st_size > 0
    volume = load(path)
    assert volume.data.dtype == np.int16
    assert volume.data.dtype.isnative
    assert np.array_equal(volume.to_file(volume.data), ramp())
    assert np.array_equal(volume.file_affine, nib.load(path).affine)


@pytest.mark.parametrize("named", ["knee.hdr", "knee.img"])
@pytest.mark.parametrize("packed", [False, True])
def test_pairs(tmp_path: Path, named: str, packed: bool) -> None:
    write(tmp_path / "knee.img", ramp(), kind=nib.Nifti1Pair)
    if packed:
        named += ".gz"
        for half in ("knee.hdr", "knee.img"):
            (tmp_path / f"{half}.gz").write_bytes(gzip.compress((tmp_path / half).read_bytes()))
            (tmp_path / half).unlink()
    volume = load(tmp_path / named)
    assert np.array_equal(volume.to_file(volume.data), ramp())
    assert volume.name == "knee"
    (tmp_path / named.replace("hdr", "img")).unlink()
    with pytest.raises(BadInput, match=r"^knee\.img(\.gz)? does not exist"):
        load(tmp_path / named)


def test_the_content_decides_whether_a_file_is_packed(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.nii", ramp()).rename(tmp_path / "plain.nii.gz")
    packed = write(tmp_path / "packed.nii.gz", ramp()).rename(tmp_path / "packed.nii")
    for path in (plain, packed):
        assert np.array_equal(load(path).data, load(plain).data)


@pytest.mark.parametrize("ending", KINDS)
def test_scaled_voxels_become_floats(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"knee{ending}", ramp(), slope=0.25, inter=-1024.5)
    volume = load(path)
    assert volume.data.dtype == np.float32
    assert np.array_equal(volume.to_file(volume.data), (ramp() * 0.25 - 1024.5).astype("f4"))


@pytest.mark.parametrize(
    ("dtype", "inter", "expected"),
    [("i2", -1024, "i2"), ("u2", -1024, "i2"), ("u1", -1000, "i2"), ("i1", 300, "i2"),
     ("i2", 40000, "f4"), ("i4", -1024, "f4"), ("i2", -1024.5, "f4")],
)  # fmt: skip
@pytest.mark.parametrize("ending", KINDS)
def test_an_offset_alone_keeps_integers_where_they_fit(
    tmp_path: Path, dtype: str, inter: float, expected: str, ending: str
) -> None:
    array = ramp() % 100
    array[0, 0, 0] = 127
    path = write(tmp_path / f"knee{ending}", array.astype(dtype), inter=inter)
    volume = load(path)
    assert volume.data.dtype == np.dtype(expected)
    assert np.array_equal(volume.to_file(volume.data), array.astype("f8") + inter)


def test_an_offset_reaches_the_ends_of_sixteen_bits(tmp_path: Path) -> None:
    array = np.array([0, 1, 65535], "u2").reshape(3, 1, 1)
    volume = load(write(tmp_path / "knee.nii", array, inter=-32768))
    assert volume.data.dtype == np.int16
    assert volume.to_file(volume.data).ravel().tolist() == [-32768, -32767, 32767]


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (np.nan, 5), (np.inf, 0)])
def test_a_slope_that_means_nothing_is_left_out(tmp_path: Path, slope: float, inter: float) -> None:
    path = patch(write(tmp_path / "knee.nii", ramp()), scl_slope=slope, scl_inter=inter)
    assert load(path).data.dtype == np.int16


@pytest.mark.parametrize("ending", KINDS)
def test_a_channel_is_chosen(tmp_path: Path, ending: str) -> None:
    array = ramp((3, 4, 5, 6))
    path = write(tmp_path / f"perfusion{ending}", array)
    for channel in (None, 0, 5):
        volume = load(path, channel)
        assert np.array_equal(volume.to_file(volume.data), array[..., channel or 0])
        assert volume.notes == (f"Channel {channel or 0} of 6 used.",)
    for channel in (6, -1):
        with pytest.raises(BadInput, match=f"no channel {channel}; choose one of 0 to 5"):
            load(path, channel)


def test_empty_axes_do_not_count(tmp_path: Path) -> None:
    assert load(write(tmp_path / "a.nii", ramp((3, 4, 5, 1)))).notes == ()
    vectors = load(write(tmp_path / "b.nii", ramp((3, 4, 5, 1, 3))), channel=2)
    assert np.array_equal(vectors.to_file(vectors.data), ramp((3, 4, 5, 1, 3))[..., 0, 2])
    slab = load(write(tmp_path / "c.nii", ramp((3, 4, 1))))
    assert (slab.file_shape, slab.shape) == ((3, 4, 1), (1, 4, 3))


def test_one_slice_without_a_thickness(tmp_path: Path) -> None:
    path = write(tmp_path / "film.nii", ramp((6, 7)), np.diag([-2, -3, 4, 1.0]))
    patch(path, sform_code=0, pixdim=[1, 2, 3, 0, 0, 0, 0, 0])
    volume = load(path)
    assert volume.file_shape == (6, 7, 1)
    assert volume.spacing == (1, 3, 2)
    again = save(tmp_path / "mask.nii", volume.data > 3, volume)
    assert load(again).spacing == (1, 3, 2)


def test_colour_is_shown_as_luminance(tmp_path: Path) -> None:
    colours = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"], colours["G"], colours["B"] = 255, 100, 50
    nib.save(nib.Nifti1Image(colours, OBLIQUE), tmp_path / "photo.nii.gz")
    volume = load(tmp_path / "photo.nii.gz")
    assert set(np.unique(volume.data)) == {141}
    assert volume.notes == ("Colour shown as luminance.",)


def test_infinite_and_missing_values_are_let_in(tmp_path: Path) -> None:
    array = ramp(dtype="f4")
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    volume = load(write(tmp_path / "knee.nii.gz", array))
    assert np.array_equal(volume.to_file(volume.data), array, equal_nan=True)


# Geometry


def test_sform_comes_before_qform_before_voxel_sizes(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), None)
    image.header.set_sform(OBLIQUE, 2)
    turned = np.diag([-2.0, -3, 4, 1])
    image.header.set_qform(turned, 1)
    nib.save(image, tmp_path / "both.nii")
    assert np.allclose(load(tmp_path / "both.nii").file_affine, OBLIQUE, atol=1e-5)
    path = patch(tmp_path / "both.nii", sform_code=0)
    assert np.allclose(load(path).file_affine, turned, atol=1e-5)
    assert load(path).notes == ()
    path = patch(path, qform_code=0)
    volume = load(path)
    assert volume.notes == ("The file gives no orientation; left and right may be swapped.",)
    assert np.array_equal(volume.file_affine, nib.load(path).affine)
    assert volume.spacing == (4, 3, 2)


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
def test_metres_and_microns_become_millimetres(tmp_path: Path, unit: int, factor: float) -> None:
    path = write(tmp_path / "knee.nii", ramp(), np.diag([-2.0, -3, 4, 1]), xyzt_units=unit + 8)
    volume = load(path)
    assert volume.spacing == pytest.approx((4 * factor, 3 * factor, 2 * factor), rel=1e-6)
    labels = load(save(tmp_path / "mask.nii", volume.data, volume))
    assert np.array_equal(labels.file_affine, volume.file_affine)
    assert nib.load(tmp_path / "mask.nii").header["xyzt_units"] == unit + 8


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ramp() - 1024, "CT"),
        ((ramp() - 1024).astype("f4"), "CT"),
        (ramp(), None),
        (ramp(dtype="f4") - 1024.5, None),
        (ramp(dtype="u2"), None),
        (np.full((3, 3, 3), np.nan, "f4"), None),
    ],
)
def test_ct_is_told_by_its_numbers(tmp_path: Path, array: np.ndarray, expected: str | None) -> None:
    assert load(write(tmp_path / "knee.nii", array)).modality == expected


# Writing


codes = st.integers(0, 4)


@settings(max_examples=40)
@given(
    sform=codes,
    qform=codes,
    unit=st.sampled_from([0, 2, 10, 3]),
    ending=st.sampled_from(KINDS),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    swap=st.permutations([0, 1, 2]),
    order=st.sampled_from(["<", ">"]),
)
def test_labels_lie_on_the_scans_own_grid(
    tmp_path_factory: pytest.TempPathFactory,
    sform: int,
    qform: int,
    unit: int,
    ending: str,
    kind: type,
    flips: tuple,
    swap: list,
    order: str,
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    affine = OBLIQUE.copy()
    affine[:3, :3] = affine[:3, swap] * flips
    image = kind(ramp(), None, kind.header_class(endianness=order))
    image.header.set_data_dtype("i2")
    image.header.set_sform(affine, sform)
    image.header.set_qform(affine, qform)
    image.header["xyzt_units"] = unit
    nib.save(image, folder / "scan.nii")
    volume = load(folder / "scan.nii")
    truth = (ramp() % 5).astype("u1")
    save(folder / f"mask{ending}", volume.from_file(truth), volume)
    mask = nib.load(folder / f"mask{ending}")
    assert np.array_equal(np.asanyarray(mask.dataobj), truth)
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.affine, nib.load(folder / "scan.nii").affine)
    fields = "sform_code qform_code srow_x srow_y srow_z quatern_b quatern_c quatern_d"
    for field in f"{fields} qoffset_x qoffset_y qoffset_z xyzt_units".split():
        assert np.array_equal(mask.header[field], image.header[field]), field
    assert np.array_equal(mask.header["pixdim"][:4], image.header["pixdim"][:4])
    assert type(mask) is kind
    again = load(folder / f"mask{ending}")
    assert np.array_equal(again.data, volume.from_file(truth))
    assert np.array_equal(again.affine, volume.affine)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, "u1"), (0, 255, "u1"), (0, 256, "u2"), (0, 65536, "u4"), (-1, 5, "i1"),
     (-1, 200, "i2"), (0, 2**40, "i8")],
)  # fmt: skip
def test_labels_take_the_smallest_type(tmp_path: Path, low: int, high: int, expected: str) -> None:
    volume = Volume.from_array(ramp())
    labels = np.zeros(volume.shape, np.int64)
    labels[0, 0, :2] = low, high
    path = save(tmp_path / "mask.nii.gz", labels, volume)
    assert nib.load(path).get_data_dtype() == np.dtype(expected)
    assert np.array_equal(load(path).data, labels)


def test_a_mask_of_truth_values(tmp_path: Path) -> None:
    volume = Volume.from_array(ramp())
    path = save(tmp_path / "mask.nii", volume.data > 100, volume)
    labels, names = load_labels(path)
    assert np.array_equal(labels.data, volume.data > 100)
    assert names == {}


def test_a_volume_that_never_was_in_a_file(tmp_path: Path) -> None:
    volume = Volume.from_array(ramp((3, 4, 5)), spacing=(3, 2, 1))
    again = load(save(tmp_path / "mask.nii.gz", volume.data, volume))
    assert np.array_equal(again.data, volume.data)
    assert again.spacing == (3, 2, 1)
    header = nib.load(tmp_path / "mask.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert np.allclose(header.get_qform(), header.get_sform())


def test_a_cropped_volume_is_written_where_it_lies(tmp_path: Path) -> None:
    volume = load(write(tmp_path / "scan.nii", ramp((8, 9, 10))))
    part = volume.crop((slice(2, 6), slice(1, 9), slice(3, 4)))
    again = load(save(tmp_path / "mask.nii", part.data, part))
    assert np.array_equal(again.data, part.data)
    assert np.allclose(again.affine, part.affine, rtol=1e-5, atol=1e-4)
    coarse = volume.resample((4, 4, 4))
    again = load(save_image(tmp_path / "coarse.nii.gz", coarse))
    assert np.array_equal(again.data, coarse.data)
    assert np.allclose(again.affine, coarse.affine, rtol=1e-5, atol=1e-4)


def test_the_grid_is_3d_even_when_the_scan_is_not(tmp_path: Path) -> None:
    volume = load(write(tmp_path / "perfusion.nii.gz", ramp((3, 4, 5, 6))), channel=2)
    mask = nib.load(save(tmp_path / "mask.nii.gz", volume.data > 9, volume))
    assert mask.shape == (3, 4, 5)
    assert np.array_equal(mask.header["dim"], [3, 3, 4, 5, 1, 1, 1, 1])


def test_a_grid_too_long_for_the_first_version(tmp_path: Path) -> None:
    volume = Volume.from_array(np.zeros((1, 1, 40000), np.uint8), spacing=(1, 1, 0.1))
    path = save(tmp_path / "wire.nii.gz", volume.data, volume)
    assert isinstance(nib.load(path), nib.Nifti2Image)
    assert load(path).shape == (1, 1, 40000)


@pytest.mark.parametrize("dtype", ["i2", "f4", "f2", "f8"])
def test_an_image_keeps_its_values(tmp_path: Path, dtype: str) -> None:
    volume = Volume.from_array(
        ramp(dtype=dtype) - np.dtype(dtype).type(100), np.diag([-1, -1, 2, 1])
    )
    path = save_image(tmp_path / "scan.nii.gz", volume)
    assert np.array_equal(load(path).data, volume.data)
    assert nib.load(path).header["intent_code"] == 0


def test_nothing_of_the_patient_is_carried_over(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype("i2")
    for field in ("descrip", "aux_file", "db_name", "intent_name", "data_type"):
        header[field] = b"MISS MARPLE"[: header[field].dtype.itemsize]
    header.extensions.append(nib.nifti1.Nifti1Extension(6, b"MISS MARPLE"))
    nib.save(nib.Nifti1Image(ramp(), OBLIQUE, header), tmp_path / "scan.nii")
    assert b"MARPLE" in (tmp_path / "scan.nii").read_bytes()
    volume = load(tmp_path / "scan.nii")
    assert b"MARP" not in volume.header.binaryblock
    raw = save(tmp_path / "mask.nii", volume.data, volume).read_bytes()
    assert b"MARP" not in raw
    assert b"napari-sightline" in raw[148:228]
    mask = nib.load(tmp_path / "mask.nii").header
    assert mask.get_intent()[0] == "label"
    assert np.frombuffer(raw, "<f4", 2, 112).tolist() == [1, 0]  # slope, offset
    assert (mask["cal_min"], mask["cal_max"], len(mask.extensions)) == (0, 0, 0)


# Names


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_names_travel_with_the_labels(tmp_path: Path, ending: str, kind: type) -> None:
    names = {1: "brainstem", 2: "Ohrspeicheldrüse, links", 300: 'a "quoted" name'}
    volume = load(write(tmp_path / "scan.nii", ramp(), kind=kind))
    path = save(tmp_path / f"mask{ending}", volume.data * 2, volume, names)
    labels, found = load_labels(path)
    assert found == names
    assert np.array_equal(labels.data, volume.data * 2)
    extension = nib.load(path).header.extensions[0]
    assert extension.get_code() == 30  # CARET: Connectome Workbench reads it
    table = ElementTree.fromstring(extension.content.rstrip(b"\0"))
    assert table.tag == "CaretExtension"
    assert table.findtext("VolumeInformation/VolumeType") == "Label"
    rows = table.findall("VolumeInformation/LabelTable/Label")
    assert [row.text for row in rows[1:]] == list(names.values())
    assert rows[1].attrib.keys() == {"Key", "Red", "Green", "Blue", "Alpha"}
    nib.save(nib.load(path), tmp_path / f"again{ending}")  # and survive other tools
    assert load_labels(tmp_path / f"again{ending}")[1] == names


@pytest.mark.parametrize(
    "content", [b"hello", b'{"napari-sightline": 3}', b"[" * 5000, b"\xff\xfe", b'{"labels": {}}']
)
def test_other_peoples_comments_are_no_names(tmp_path: Path, content: bytes) -> None:
    image = nib.Nifti1Image(ramp(), OBLIQUE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, content))
    nib.save(image, tmp_path / "mask.nii.gz")
    assert load_labels(tmp_path / "mask.nii.gz")[1] == {}


def test_labels_stored_as_floats_are_read_as_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.nii", ramp(dtype="f4"))
    labels, _ = load_labels(path)
    assert labels.data.dtype == np.int32
    assert np.array_equal(labels.to_file(labels.data), ramp())
    for wrong in (0.5, np.nan, np.inf):
        path = write(tmp_path / "probability.nii", np.full((2, 3, 4), wrong, "f4"))
        with pytest.raises(BadInput, match=r"probability\.nii is not a label map"):
            load_labels(path)


# What cannot be written


def test_a_file_in_the_way_is_kept_if_asked(tmp_path: Path) -> None:
    volume = Volume.from_array(ramp())
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(b"precious")
    with pytest.raises(BadInput, match="exists already; choose another name"):
        save(path, volume.data, volume, overwrite=False)
    assert path.read_bytes() == b"precious"
    save(path, volume.data, volume)
    assert np.array_equal(load(path).data, volume.data)
    assert [child.name for child in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume.from_array(ramp())
    path = save(tmp_path / "mask.nii.gz", volume.data, volume)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match=r"mask\.nii\.gz could not be written \(No space left"):
        save(path, volume.data + 1, volume)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    volume = Volume.from_array(ramp())
    first = save(tmp_path / "a.nii.gz", volume.data, volume).read_bytes()
    assert save(tmp_path / "b.nii.gz", volume.data, volume).read_bytes() == first


@pytest.mark.parametrize(
    ("name", "labels", "fault"),
    [
        ("mask.png", ramp(), "has no ending that can be written; end it in"),
        ("mask.nii", ramp((5, 6, 8)), "made on this scan"),
        ("mask.nii", ramp((5, 6)), "made on this scan"),
        ("mask.nii", ramp(dtype="f4"), "convert them to whole numbers"),
        ("mask.nii", np.full((5, 6, 7), 2**63, "u8"), "do not fit this format; renumber"),
        ("nowhere/mask.nii", ramp(), "could not be written .*; choose another folder"),
        ("folder.nii", ramp(), "could not be written .*; choose another folder"),
        ("m" * 300 + ".nii", ramp(), "could not be written .*; choose another folder"),
    ],
)
def test_what_cannot_be_written_is_named(
    tmp_path: Path, name: str, labels: np.ndarray, fault: str
) -> None:
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(BadInput, match=fault):
        save(tmp_path / name, labels, Volume.from_array(ramp()))
    assert [child.name for child in tmp_path.iterdir()] == ["folder.nii"]


# Real scans


@pytest.mark.parametrize(
    ("scan", "mask", "axes", "modality"),
    [
        ("hippocampus_mr/*_t1.nii.gz", ("_t1.", "_labels."), "RAS", None),
        ("headneck_ct/*_ct.nii.gz", ("_ct.", "_organs."), "PLI", "CT"),
        ("sarcoma/*_ct.nii.gz", ("_ct.", "_ct_tumour."), "LPS", "CT"),
        ("sarcoma/*_t1.nii.gz", ("_t1.", "_t1_tumour."), "LPS", None),
        ("sarcoma/*_pet.nii.gz", ("_pet.", "_pet_tumour."), "LPS", None),
    ],
)
def test_real_scans_and_their_labels_make_the_round_trip(
    shared_data: Path, tmp_path: Path, scan: str, mask: tuple, axes: str, modality: str | None
) -> None:
    paths = sorted(shared_data.glob(scan))[::25]
    assert paths
    for path in paths:
        volume, image = load(path), nib.load(path)
        assert "".join(nib.aff2axcodes(volume.file_affine)) == axes
        assert nib.aff2axcodes(volume.affine) == ("S", "P", "L")
        assert volume.modality == modality
        assert np.array_equal(volume.to_file(volume.data), np.asanyarray(image.dataobj))
        assert np.array_equal(volume.file_affine, image.affine)
        truth_path = path.with_name(path.name.replace(*mask))
        labels, _ = load_labels(truth_path)
        truth = nib.load(truth_path)
        copy = nib.load(save(tmp_path / "copy.nii.gz", labels.data, labels))
        assert np.asanyarray(copy.dataobj).tobytes() == np.asanyarray(truth.dataobj).tobytes()
        assert copy.get_data_dtype() == truth.get_data_dtype()
        assert np.array_equal(copy.affine, truth.affine)
        for field in ("sform_code", "qform_code", "xyzt_units"):
            assert copy.header[field] == truth.header[field]
        # On the scan's grid the labels lie where the scan's voxels lie.
        assert labels.shape == volume.shape
        assert np.allclose(labels.affine, volume.affine, atol=1e-3)


def test_nothing_heavy_is_imported_before_a_file_is_opened() -> None:
    code = (
        "import sys, napari_sightline.io.sample, napari_sightline.prompts;"
        "print(sorted({'nibabel', 'scipy', 'torch', 'napari'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
