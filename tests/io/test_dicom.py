"""DICOM series: the right voxels at the right place, and what is odd is said."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_making import enhanced, header, item, pixels, series, write
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.filewriter import dcmwrite

from napari_sightline.errors import BadInput
from napari_sightline.io import load, load_labels, save
from napari_sightline.io.dicom import Study, list_series, read_all_series, read_dicom
from napari_sightline.volume import Volume

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.15) @ np.diag([-0.8, -0.9, 2.5]), [40.5, 71.25, -30]
)
AXIAL = np.array([[-0.8, 0, 0, 50], [0, -0.9, 0, 60], [0, 0, 2.5, -20], [0, 0, 0, 1]])
PHI = ("mustermann", "erika", "778899", "19640812", "1964")


def scan(shape: tuple[int, int, int] = (7, 6, 5), low: int = 0, high: int = 3000) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, shape).astype("i2")


def same(volume: Volume, array: np.ndarray, affine: np.ndarray, atol: float = 1e-5) -> None:
    """A volume shows the array (column, row, slice) at its place."""
    expected = Volume.from_array(array, affine)
    assert volume.shape == expected.shape
    assert np.allclose(volume.affine, expected.affine, atol=atol)
    assert np.array_equal(volume.data, expected.data)


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("way", ["folder", "list", "zip", "enhanced"])
def test_a_series_lies_right(tmp_path: Path, affine: np.ndarray, way: str) -> None:
    array, order = scan(), [3, 0, 4, 1, 2]
    source: object = tmp_path / "s"
    if way == "enhanced":
        source = enhanced(tmp_path / "e.dcm", array, affine, intercept=-1024, order=order)
    else:
        paths = series(tmp_path / "s", array, affine, intercept=-1024, order=order)
        if way == "list":
            source = paths
        elif way == "zip":
            source = tmp_path / "s.zip"
            with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in paths:
                    archive.write(path, f"deep/{path.name}")
                archive.writestr("readme.txt", "hello" * 100)
    volume = load(source)
    same(volume, array - 1024, affine)
    assert (volume.data.dtype, volume.modality, volume.notes) == (np.int16, "CT", ())
    assert volume.name == "thin"


TURNS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize(("axes", "flips"), TURNS)
def test_every_orientation(tmp_path: Path, axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    matrix = np.zeros((4, 4))
    for column, (axis, flip, size) in enumerate(zip(axes, flips, (0.7, 1.1, 3), strict=True)):
        matrix[axis, column] = flip * size
    matrix[:, 3] = 5, -7, 11, 1
    array = scan((4, 5, 3))
    series(tmp_path, array, matrix, order=[2, 0, 1])
    same(load(tmp_path), array, matrix)


@given(
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    sizes=st.tuples(*[st.floats(0.2, 6)] * 3),
    handed=st.sampled_from([1, -1]),
    order=st.permutations(range(4)),
    seed=st.integers(0, 100),
)
@settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_place(
    tmp_path: Path, turn: tuple, sizes: tuple, handed: int, order: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    turned = nib.eulerangles.euler2mat(*turn) @ np.diag(sizes) @ np.diag([1, 1, handed])
    affine = nib.affines.from_matvec(turned, rng.uniform(-300, 300, 3))
    array = rng.integers(-1000, 2000, (3, 4, 4)).astype("i2")
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    series(folder, array, affine, order=list(order))
    volume = load(folder)
    expected = Volume.from_array(array, affine)
    where = np.rint(volume.mm_to_voxel(expected.voxel_to_mm(np.argwhere(expected.data > -9999))))
    assert np.array_equal(volume.data[tuple(where.astype(int).T)], expected.data.ravel())
    # A click comes back at the same millimetres.
    for corner in (np.zeros(3), np.array(volume.shape) - 1):
        mm = volume.voxel_to_mm(corner)
        near = expected.voxel_to_mm(np.rint(expected.mm_to_voxel(mm)))
        assert np.allclose(near, mm, atol=1e-3)


@pytest.mark.parametrize("case", ["headneck_ct", "hippocampus_mr", "sarcoma"])
def test_real_volumes_as_nibabel_has_them(shared_data: Path, tmp_path: Path, case: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    pattern = {"headneck_ct": "*_ct", "hippocampus_mr": "*_t1", "sarcoma": "*_ct"}[case]
    image = nib.load(sorted((shared_data / case).glob(f"{pattern}.nii.gz"))[0])
    array = np.rint(np.asanyarray(image.dataobj)[..., :24]).astype("i2")
    rng = np.random.default_rng(0)
    series(tmp_path, array, image.affine, order=list(rng.permutation(array.shape[2])))
    volume = load(tmp_path)
    same(volume, array, image.affine, atol=1e-3)
    # An independent reader.
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    other = reader.Execute()
    matrix = np.eye(4)
    turn = np.reshape(other.GetDirection(), (3, 3)) * np.array(other.GetSpacing())
    matrix[:3] = np.diag([-1, -1, 1]) @ np.column_stack([turn, other.GetOrigin()])
    theirs = Volume.from_array(sitk.GetArrayFromImage(other).T, matrix)
    assert np.allclose(volume.affine, theirs.affine, atol=1e-3)
    assert np.array_equal(volume.data, theirs.data)


# Values


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4"])
def test_voxels_keep_their_type(tmp_path: Path, dtype: str) -> None:
    limits = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(limits.min, limits.max, (4, 5, 3)).astype(dtype)
    series(tmp_path, array, AXIAL, modality="MR")
    volume = load(tmp_path)
    same(volume, array, AXIAL)
    assert volume.data.dtype == np.dtype(dtype)
    assert volume.modality == "MR"


def test_unused_bits_do_not_count(tmp_path: Path) -> None:
    for name, dtype in (("u", "u2"), ("i", "i2")):
        array = scan(high=4000).astype("i4") - (2000 if dtype == "i2" else 0)
        dirty = (array & 0x0FFF) | 0x5000
        series(tmp_path / name, dirty.astype("u2").view(dtype), AXIAL, stored=12)
        same(load(tmp_path / name), array, AXIAL)


def test_rescaling(tmp_path: Path) -> None:
    array = scan()
    series(tmp_path / "a", array, AXIAL, slope=0.5, intercept=-3.25)
    volume = load(tmp_path / "a")
    assert volume.data.dtype == np.float32
    same(volume, (array * 0.5 - 3.25).astype("f4"), AXIAL)
    far = (array.astype("i4") + 30000).astype("u2")
    series(tmp_path / "b", far, AXIAL, intercept=10000)
    same(load(tmp_path / "b"), far.astype("i4") + 10000, AXIAL)
    paths = series(tmp_path / "c", array, AXIAL)
    for number, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        ds.RescaleSlope = number + 1.5
        ds.save_as(path)
    expected = (array * (np.arange(5) + 1.5)).astype("f4")
    same(load(tmp_path / "c"), expected, AXIAL)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("intercept", [-1024, 7, -33000, 40000, 3 * 10**9])
def test_whole_intercepts_are_exact(tmp_path: Path, dtype: str, intercept: int) -> None:
    limits = np.iinfo(dtype)
    array = np.linspace(limits.min, limits.max, 60).astype(dtype).reshape(4, 3, 5)
    paths = series(tmp_path, array, AXIAL, intercept=intercept)
    volume = load(tmp_path)
    exact = Volume.from_array(array.astype("f8") + intercept, AXIAL).data
    kinds = ("i2", "i4") if np.dtype(dtype).itemsize < 4 else ("i4",)
    fits = [k for k in kinds if np.iinfo(k).min <= exact.min() and exact.max() <= np.iinfo(k).max]
    assert volume.data.dtype == np.dtype([*fits, "f4"][0])
    assert np.array_equal(volume.data, exact.astype(volume.data.dtype))
    paths[1].unlink()  # blank slices are as low as the lowest
    gappy = load(tmp_path).data
    assert gappy[1].min() == gappy[1].max() == np.delete(gappy, 1, axis=0).min()


@pytest.mark.parametrize(
    "syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "big", "implicit", "deflated"]
)
@pytest.mark.parametrize("frames", ["classic", "enhanced"])
def test_transfer_syntaxes(tmp_path: Path, syntax: str, frames: str) -> None:
    array = scan((40, 36, 4))
    if frames == "enhanced":
        paths = [enhanced(tmp_path / "e.dcm", array, AXIAL, order=[2, 0, 3, 1])]
    else:
        paths = series(tmp_path, array, AXIAL)
    for path in paths:
        ds = pydicom.dcmread(path)
        if syntax == "big":
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds["PixelData"].VR = "OB"  # pydicom does not swap pixels
            dcmwrite(path, ds, implicit_vr=False, little_endian=False)
        elif syntax == "implicit":
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            ds.save_as(path, implicit_vr=True, little_endian=True)
        elif syntax == "deflated":
            ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
            ds.save_as(path)
        else:
            ds.compress(getattr(pydicom.uid, syntax))
            ds.save_as(path)
    same(load(tmp_path), array, AXIAL)


def test_colour_becomes_grey_and_inverse_grey_is_said(tmp_path: Path) -> None:
    ds = header("US", PhotometricInterpretation="RGB")
    colour = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype("u1")
    pixels(ds, colour[..., 0])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = colour.tobytes()
    volume = load(write(tmp_path / "c.dcm", ds))
    assert "Colour shown as luminance." in volume.notes
    grey = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype("u1")
    assert np.allclose(np.sort(volume.data.ravel()), np.sort(grey.ravel()), atol=1)
    series(tmp_path / "m", scan(), AXIAL, PhotometricInterpretation="MONOCHROME1")
    volume = load(tmp_path / "m")
    same(volume, scan(), AXIAL)
    assert any("MONOCHROME1" in note for note in volume.notes)


def pet(folder: Path, **fields: object) -> Volume:
    tracer = item(
        RadionuclideTotalDose="370000000",
        RadionuclideHalfLife="6586.2",
        RadiopharmaceuticalStartTime="090000",
    )
    usual = {
        "Units": "BQML",
        "CorrectedImage": ["ATTN", "DECY"],
        "DecayCorrection": "START",
        "PatientWeight": "70",
        "SeriesDate": "20240203",
        "SeriesTime": "100000",
        "AcquisitionDate": "20240203",
        "AcquisitionTime": "100500",
        "RadiopharmaceuticalInformationSequence": tracer,
    }
    series(folder, scan(), AXIAL, modality="PT", slope=2.5, **{**usual, **fields})
    return load(folder)


def test_pet_in_suv(tmp_path: Path) -> None:
    volume = pet(tmp_path / "a")
    assert "Values are SUV (body weight)." in volume.notes
    factor = 70000 / (370e6 * 2 ** (-3600 / 6586.2))
    expected = Volume.from_array((scan() * 2.5 * factor).astype("f4"), AXIAL)
    assert np.allclose(volume.data, expected.data, rtol=1e-6)
    assert volume.modality == "PT"
    at_injection = pet(tmp_path / "b", DecayCorrection="ADMIN")
    assert at_injection.data.max() == pytest.approx(scan().max() * 2.5 * 70000 / 370e6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"PatientWeight": None}, "lacks the weight"),
        ({"RadiopharmaceuticalInformationSequence": None}, "lacks the radiopharmaceutical"),
        ({"CorrectedImage": ["ATTN"]}, "lacks a decay correction"),
        ({"Units": "CNTS"}, "unit CNTS"),
        ({"SeriesTime": "", "AcquisitionTime": ""}, "lacks the time"),
    ],
)
def test_pet_without_what_suv_needs(tmp_path: Path, fields: dict, said: str) -> None:
    volume = pet(tmp_path, **fields)
    assert any(said in note for note in volume.notes)
    assert volume.data.max() == scan().max() * 2.5


# What is odd


def test_missing_slices_leave_room(tmp_path: Path) -> None:
    array = scan((5, 6, 9))
    paths = series(tmp_path, array, AXIAL)
    for index in (3, 4, 7):
        paths[index].unlink()
    volume = load(tmp_path)
    assert any("Missing slices: 2 after slice 3, 1 after slice 7" in n for n in volume.notes)
    expected = array.copy()
    expected[:, :, [3, 4, 7]] = np.delete(array, [3, 4, 7], axis=2).min()
    same(volume, expected, AXIAL)


def test_duplicates(tmp_path: Path) -> None:
    array = scan()
    paths = series(tmp_path, array, AXIAL)
    (tmp_path / "copy").write_bytes(paths[1].read_bytes())  # the same slice: not worth a word
    same(load(tmp_path), array, AXIAL)
    assert load(tmp_path).notes == ()
    ds = pydicom.dcmread(paths[2])
    ds.SOPInstanceUID, ds.InstanceNumber = "1.9.9", 50
    ds.PixelData = bytes(len(ds.PixelData))
    write(tmp_path / "other", ds)
    volume = load(tmp_path)
    same(volume, array, AXIAL)
    assert any("Duplicate slices at 1 place;" in note for note in volume.notes)


def test_time_points_are_channels(tmp_path: Path) -> None:
    first, second = scan(), scan() + 7
    series(tmp_path, second, AXIAL, TemporalPositionIdentifier=2, prefix="a")
    series(tmp_path, first, AXIAL, TemporalPositionIdentifier=1, prefix="b")
    same(load(tmp_path), first, AXIAL)
    volume = load(tmp_path, channel=1)
    same(volume, second, AXIAL)
    assert "Channel 1 of 2 used." in volume.notes
    with pytest.raises(BadInput, match="has no channel 2"):
        load(tmp_path, channel=2)


def test_gantry_tilt_is_kept_and_said(tmp_path: Path) -> None:
    tilted = AXIAL.copy()
    tilted[1, 2] = 2.5 * np.tan(np.radians(12))
    series(tmp_path, scan(), tilted)
    volume = load(tmp_path)
    same(volume, scan(), tilted)
    assert any("tilted by 12.0 degrees" in note for note in volume.notes)


def moved(paths: list[Path], heights: list[float]) -> None:
    for path, height in zip(paths, heights, strict=True):
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient[2] = height
        ds.save_as(path)


def test_varying_spacing(tmp_path: Path) -> None:
    paths = series(tmp_path, scan(), AXIAL)
    moved(paths, [0, 2.5, 5.1, 7.5, 10])
    assert any("spacing varies: slices lie 2.4 to 2.6 mm" in n for n in load(tmp_path).notes)
    moved(paths, [0, 2.5, 5, 8.7, 12.4])
    with pytest.raises(BadInput, match=r"thin has slices 2\.5 to 3\.7 mm apart"):
        load(tmp_path)


def test_several_series_by_name_and_no_localiser(tmp_path: Path) -> None:
    series(tmp_path / "a", scan(), AXIAL, uid="1.1", SeriesDescription="soft")
    series(tmp_path / "b", scan((7, 6, 3)), AXIAL, uid="1.2", SeriesDescription="bone")
    scout = AXIAL[:, [2, 1, 0, 3]]
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    series(tmp_path / "c", scan((9, 9, 1)), scout, uid="1.3", ImageType=kind)
    report = header("SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    write(tmp_path / "report", report)
    names = [one.name for one in list_series(tmp_path)]
    assert names == ["soft", "bone"]
    with pytest.raises(BadInput, match=r"holds 2 series: 'soft' \(5\), 'bone' \(3\); name one"):
        load(tmp_path)
    assert load(tmp_path, series="bone").shape == (3, 6, 7)
    assert load(tmp_path, series=0).shape == (5, 6, 7)
    assert load(tmp_path, series="SO").name == "soft"
    assert [volume.name for volume in read_all_series(tmp_path)] == names
    assert any("1 localiser left out" in n for n in load(tmp_path, series=0).notes)
    assert load(tmp_path / "c").shape == Volume.from_array(scan((9, 9, 1)), scout).shape


def test_one_series_turned_two_ways_becomes_two(tmp_path: Path) -> None:
    coronal = AXIAL[:, [0, 2, 1, 3]]
    series(tmp_path, scan(), AXIAL, prefix="a")
    series(tmp_path, scan((7, 6, 4)), coronal, prefix="b")
    assert [one.name for one in list_series(tmp_path)] == ["thin axial", "thin coronal"]


def test_without_positions_numbers_order_the_slices(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        ds = header("OT", InstanceNumber=number)
        pixels(ds, np.full((4, 5), number, "u1"))
        write(tmp_path / f"z{9 - number}", ds)
    volume = load(tmp_path)
    assert sorted(np.unique(volume.data)) == [1, 2, 3]
    assert list(volume.to_file(volume.data)[0, 0]) == [1, 2, 3]
    assert any("no positions" in note for note in volume.notes)


def test_labels_of_a_series_as_nifti(tmp_path: Path) -> None:
    series(tmp_path / "s", scan(), OBLIQUE)
    volume = load(tmp_path / "s")
    labels = (volume.data > 1500).astype("u1")
    again, names = load_labels(save(tmp_path / "l.nii.gz", labels, volume, {1: "high"}))
    assert np.array_equal(again.data, labels)
    assert np.allclose(again.affine, volume.affine, atol=1e-3)
    assert names == {1: "high"}


def test_a_disc_as_hospitals_hand_it_out(tmp_path: Path) -> None:
    series(tmp_path / "DICOM" / "ST1" / "SE1", scan(), AXIAL, uid="1.1", SeriesDescription="a")
    series(tmp_path / "DICOM" / "ST1" / "SE2", scan() + 1, AXIAL, uid="1.2", SeriesDescription="b")
    (tmp_path / "viewer.exe").write_bytes(b"MZ" + bytes(500))
    (tmp_path / "autorun.inf").write_text("[autorun]")
    (tmp_path / ".DS_Store").write_bytes(bytes(200))
    index = pydicom.dataset.Dataset()
    index.file_meta = pydicom.dataset.FileMetaDataset()
    index.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    index.SOPClassUID = index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.SOPInstanceUID, index.FileSetID = "1.2.3", "DISC"
    write(tmp_path / "DICOMDIR", index)
    for source in (tmp_path, tmp_path / "DICOMDIR"):
        assert [one.name for one in list_series(source)] == ["a", "b"]
        same(load(source, series="b"), scan() + 1, AXIAL)


def test_one_file_can_stand_for_its_series(tmp_path: Path) -> None:
    paths = series(tmp_path, scan(), AXIAL, uid="1.1")
    series(tmp_path, scan((7, 6, 3)), AXIAL, uid="1.2", prefix="o")
    series(tmp_path / "below", scan((7, 6, 3)), AXIAL, uid="1.1", prefix="b")
    with Study(paths[2], whole=True) as study:
        (one,) = study.series
        same(study.read(one), scan(), AXIAL)
    with Study(paths[2]) as study:
        assert len(study.series[0].frames) == 1
    many = enhanced(tmp_path / "e.dcm", scan(), AXIAL)
    with Study(many, whole=True) as study:
        assert [len(one.frames) for one in study.series] == [5]


def test_a_syntax_that_is_not_said_right(tmp_path: Path) -> None:
    # The header says deflated or JPEG, the pixels are plain: refused, not shown as noise.
    for syntax in (pydicom.uid.JPEGLSLossless, pydicom.uid.RLELossless):
        path = series(tmp_path / syntax, scan()[..., :1], AXIAL)[0]
        data = path.read_bytes()
        told = data.replace(b"1.2.840.10008.1.2.1\0", str(syntax).encode()[:20].ljust(20, b"\0"))
        assert told != data
        path.write_bytes(told)
        with pytest.raises(BadInput, match=r"is damaged|has damaged pixel data"):
            load(path)


# Nobody's name


def test_no_text_names_the_patient(
    tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "Mustermann_Erika"
    named = "Erika thorax PID-778899"
    paths = series(folder / "x", scan(), AXIAL, SeriesDescription=named, uid="1.1")
    series(folder / "y", scan(), AXIAL, SeriesDescription="Mustermann", uid="1.2")
    texts = []
    with caplog.at_level(0):
        for one in read_all_series(folder):
            texts += [one.name, *one.notes, repr(one)]
        for source, fields in ((folder, {}), (folder, {"series": "nothing"}), (folder / "x", {})):
            try:
                load(source, channel=7, **fields)
            except BadInput as error:
                texts.append(str(error))
        paths[0].write_bytes(paths[0].read_bytes()[:-40])
        with pytest.raises(BadInput) as caught:
            load(folder / "x")
        texts.append(str(caught.value))
    texts += [*capfd.readouterr(), caplog.text]
    assert len(texts) > 8
    for text in texts:
        assert not any(word in text.casefold() for word in PHI), text
    assert read_dicom(folder / "y").name == "CT series 3"


# Zips


def test_zips_that_nobody_should_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = series(tmp_path / "s", scan(), AXIAL)
    path = tmp_path / "bad.zip"
    for name in ("../out", "/etc/x", "a/../../b", "..\\win"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(slices[0], "fine")
            archive.writestr(name, slices[1].read_bytes())
        with pytest.raises(BadInput, match=r"bad\.zip holds an entry that leaves its folder"):
            load(path)
    monkeypatch.setattr("napari_sightline.io.dicom_files._FREE_SIZE", 10**6)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}", bytes(2_000_000))
    with pytest.raises(BadInput, match=r"bad\.zip would unpack to 0\.0 GB out of 0\.0 MB"):
        load(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BadInput, match="is a damaged zip"):
        load(path)
