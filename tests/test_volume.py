from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from napari_sightline.errors import BadInput
from napari_sightline.volume import Volume

SPL = nib.orientations.axcodes2ornt("SPL")


@st.composite
def affines(draw: st.DrawFn, oblique: bool = True) -> np.ndarray:
    """Permuted, flipped, anisotropic, left- and right-handed affines, oblique and sheared."""
    matrix = np.eye(3)[:, draw(st.permutations([0, 1, 2]))]
    matrix = matrix * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    if oblique:
        axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
        assume(np.linalg.norm(axis) > 0.1)
        axis /= np.linalg.norm(axis)
        cross = np.cross(np.eye(3), axis)
        angle = draw(st.floats(-np.pi, np.pi))
        matrix = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ matrix
        matrix = matrix + np.array(draw(st.tuples(*[st.floats(-0.2, 0.2)] * 9))).reshape(3, 3)
        assume(abs(np.linalg.det(matrix)) > 0.2)
    affine = np.eye(4)
    affine[:3, :3] = matrix * draw(st.tuples(*[st.floats(0.1, 20)] * 3))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return affine


shapes = st.tuples(*[st.integers(1, 6)] * 3)


def scan(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, Volume]:
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    return array, Volume.from_array(array, affine)


# The way in and back


@given(affines(), shapes)
def test_the_way_back_is_exact_and_copies_nothing(affine: np.ndarray, shape: tuple) -> None:
    array, volume = scan(affine, shape)
    assert np.array_equal(volume.to_file(volume.data), array)
    assert np.array_equal(volume.to_file(volume.from_file(array)), array)
    for view in (volume.data, volume.to_file(volume.data), volume.from_file(array)):
        assert np.shares_memory(view, array)
    assert volume.data.dtype == array.dtype
    assert (volume.file_shape, volume.shape) == (shape, volume.data.shape)
    assert np.array_equal(volume.file_affine, affine)


@given(affines(), shapes)
def test_the_order_is_that_of_nibabel(affine: np.ndarray, shape: tuple) -> None:
    array, volume = scan(affine, shape)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), SPL)
    assert np.array_equal(volume.data, nib.orientations.apply_orientation(array, turn))
    expected = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    assert np.allclose(volume.affine, expected, rtol=1e-12, atol=1e-9)


@given(affines(oblique=False), shapes)
def test_axes_run_superior_posterior_left(affine: np.ndarray, shape: tuple) -> None:
    _, volume = scan(affine, shape)
    assert nib.aff2axcodes(volume.affine) == ("S", "P", "L")
    off_axis = np.delete(volume.affine[:3, :3].ravel(), [2, 4, 6])  # rows R, A, S
    assert not off_axis.any()


@given(affines(), shapes, st.tuples(*[st.floats(-50, 50)] * 3))
def test_a_position_is_the_same_place_in_every_frame(
    affine: np.ndarray, shape: tuple, point: tuple
) -> None:
    _, volume = scan(affine, shape)
    voxel = volume.file_to_voxel(point)
    place = apply_affine(affine, point)
    scale = np.abs(affine).max() * 50
    assert np.allclose(volume.voxel_to_mm(voxel), place, rtol=1e-6, atol=1e-9 * scale)
    assert np.allclose(volume.mm_to_voxel(place), voxel, atol=1e-6 * scale)
    assert np.allclose(volume.voxel_to_file(voxel), point, rtol=0, atol=1e-12)
    many = np.array([point, (0, 0, 0), (1, 2, 3)])
    assert np.array_equal(volume.file_to_voxel(many)[0], voxel)
    places = volume.voxel_to_mm(volume.file_to_voxel(many))
    assert np.allclose(places, apply_affine(affine, many), rtol=1e-6, atol=1e-9 * scale)


@given(affines(), shapes, st.data())
def test_a_file_voxel_keeps_its_value(
    affine: np.ndarray, shape: tuple, data: st.DataObject
) -> None:
    array, volume = scan(affine, shape)
    index = data.draw(st.tuples(*(st.integers(0, n - 1) for n in shape)))
    voxel = volume.file_to_voxel(index)
    assert volume.data[tuple(voxel.astype(int))] == array[index]


@given(affines())
def test_spacing_is_that_of_the_axes(affine: np.ndarray) -> None:
    _, volume = scan(affine, (2, 3, 4))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    assert volume.spacing == pytest.approx(lengths[list(volume.orientation.axes)], rel=1e-12)


# Crop and resample


@given(affines(), st.tuples(*[st.integers(2, 7)] * 3), st.data())
def test_a_crop_keeps_every_voxel_in_its_place(
    affine: np.ndarray, shape: tuple, data: st.DataObject
) -> None:
    array, volume = scan(affine, shape)
    box = []
    for n in volume.shape:
        low = data.draw(st.integers(0, n - 1))
        box.append(slice(low, data.draw(st.integers(low + 1, n))))
    part = volume.crop(tuple(box))
    assert np.shares_memory(part.data, array)
    assert np.array_equal(part.data, volume.data[tuple(box)])
    corner = np.array([piece.start for piece in box])
    inside = np.array([(0, 0, 0), np.array(part.shape) - 1])
    scale = np.abs(affine).max() * 10
    assert np.allclose(
        part.voxel_to_mm(inside), volume.voxel_to_mm(inside + corner), atol=1e-9 * scale
    )
    # Its own file grid is a piece of the first one's, voxel for voxel.
    piece = part.to_file(part.data)
    assert piece.shape == part.file_shape
    start = volume.voxel_to_file(volume.mm_to_voxel(apply_affine(part.file_affine, (0, 0, 0))))
    cut = tuple(slice(int(a), int(a) + n) for a, n in zip(np.rint(start), piece.shape, strict=True))
    assert np.array_equal(piece, array[cut])


def test_a_crop_takes_open_and_overlong_slices() -> None:
    _, volume = scan(np.eye(4), (4, 5, 6))
    assert volume.crop((slice(None), slice(1, None), slice(-2, 99))).shape == (6, 4, 2)


@pytest.mark.parametrize("box", [(slice(2, 2),) * 3, (slice(0, 4, 2),) * 3, (slice(9, 12),) * 3])
def test_an_empty_crop_is_refused(box: tuple) -> None:
    _, volume = scan(np.eye(4), (4, 4, 4))
    with pytest.raises(BadInput, match=r"holds no voxels .*; give slices inside it"):
        volume.crop(box)


def blobs(volume_shape: tuple, centres: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume_shape), indexing="ij"), -1)
    total = np.zeros(volume_shape)
    for centre in centres:
        total += np.exp(-0.5 * np.sum(((grid - centre) * spacing / 3) ** 2, axis=-1))
    return total


@settings(max_examples=12)
@given(affines(), st.tuples(*[st.floats(0.7, 1.6)] * 3), st.sampled_from([1, 3]))
def test_landmarks_stay_where_they_are_when_resampled(
    affine: np.ndarray, factors: tuple, order: int
) -> None:
    affine = affine.copy()
    affine[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)  # 1 mm: landmarks of 3 mm are smooth
    _, grid = scan(affine, (30, 31, 32))
    landmark = np.array(grid.shape) / 2 + (1.3, -2.2, 0.4)
    array = grid.to_file(blobs(grid.shape, landmark[None], np.ones(3)))
    volume = Volume.from_array(array, affine)
    other = volume.resample(tuple(np.array(volume.spacing) * factors), order=order)
    assert other.spacing == pytest.approx(np.array(volume.spacing) * factors, rel=1e-9)
    weights = other.data / other.data.sum()
    axes = np.meshgrid(*(np.arange(n) for n in other.shape), indexing="ij")
    centre = np.array([np.sum(weights * axis) for axis in axes])
    assert np.allclose(other.voxel_to_mm(centre), volume.voxel_to_mm(landmark), atol=0.12)
    # Both grids share their middle, and the way back to the file is still one of flips alone.
    middle = other.voxel_to_mm((np.array(other.shape) - 1) / 2)
    assert np.allclose(middle, volume.voxel_to_mm((np.array(volume.shape) - 1) / 2), atol=1e-6)
    corner = other.file_to_voxel((0, 0, 0))
    place = apply_affine(other.file_affine, (0, 0, 0))
    assert np.allclose(other.voxel_to_mm(corner), place, atol=1e-6)


def test_labels_resample_without_new_values() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 3, 200], np.uint8), (9, 8, 7))
    other = Volume.from_array(labels, spacing=(2, 2, 2)).resample((1.3, 3, 0.9), order=0)
    assert other.data.dtype == np.uint8
    assert set(np.unique(other.data)) <= {0, 3, 200}


def test_fine_detail_does_not_alias_when_resampled() -> None:
    stripes = np.zeros((2, 2, 200), np.float32)
    stripes[..., ::2] = 100
    coarse = Volume.from_array(stripes, spacing=(1, 1, 1)).resample((1, 1, 8))
    assert coarse.data.dtype == np.float32
    assert np.ptp(coarse.data[..., 2:-2]) < 5
    assert coarse.data[..., 2:-2].mean() == pytest.approx(50, abs=2)


def test_resampling_to_the_same_spacing_changes_nothing() -> None:
    array = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    volume = Volume.from_array(array, spacing=(3, 2, 1))
    same = volume.resample(volume.spacing)
    assert np.allclose(same.data, array, atol=1e-6)
    assert np.allclose(same.affine, volume.affine)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, np.nan, 1), (1, 1), (1, 1, np.inf)])
def test_a_spacing_must_be_above_zero(spacing: tuple) -> None:
    with pytest.raises(BadInput, match="not three millimetres above 0; correct it"):
        Volume.from_array(np.zeros((2, 2, 2)), spacing=(1, 1, 1)).resample(spacing)
    if len(spacing) == 3:
        with pytest.raises(BadInput, match=r"spacing .* is not three millimetres"):
            Volume.from_array(np.zeros((2, 2, 2)), spacing=spacing)


def test_a_resampling_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(BadInput, match="choose a coarser one"):
        Volume.from_array(np.zeros((50, 50, 50)), spacing=(9, 9, 9)).resample((0.01, 0.01, 0.01))


# What comes in


def test_without_an_affine_an_array_is_canonical_already() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    volume = Volume.from_array(array, spacing=(3, 2, 1), name="scan", modality="CT")
    assert np.array_equal(volume.data, array)
    assert np.shares_memory(volume.data, array)
    assert volume.spacing == (3, 2, 1)
    assert nib.aff2axcodes(volume.affine) == ("S", "P", "L")
    assert (volume.name, volume.modality, volume.source) == ("scan", "CT", None)
    assert repr(volume) == "<Volume 'scan' 2 x 3 x 4 float64, 3 x 2 x 1 mm>"
    assert Volume.from_array(array).spacing == (1, 1, 1)


def test_a_picture_is_one_slice() -> None:
    picture = np.arange(12.0).reshape(3, 4)
    volume = Volume.from_array(picture, spacing=(0.5, 0.25))
    assert volume.shape == (1, 3, 4)
    assert volume.spacing == (1, 0.5, 0.25)
    in_file = Volume.from_array(picture, np.diag([-2, -2, 5, 1]))
    assert (in_file.file_shape, in_file.shape) == ((3, 4, 1), (1, 4, 3))
    assert in_file.spacing == (5, 2, 2)


def test_the_fourth_axis_is_chosen_from() -> None:
    array = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 5))
    first, third = Volume.from_array(array), Volume.from_array(array, np.eye(4), channel=3)
    assert np.array_equal(first.data, array[..., 0])
    assert first.notes == ("Channel 0 of 5 used.",)
    assert np.array_equal(third.to_file(third.data), array[..., 3])
    assert np.shares_memory(third.data, array)
    for channel in (5, -1):
        with pytest.raises(BadInput, match=f"no channel {channel}; choose one of 0 to 4"):
            Volume.from_array(array, channel=channel)
    with pytest.raises(BadInput, match="no channel 1"):
        Volume.from_array(array[..., 0], channel=1)


def test_colour_is_shown_as_luminance() -> None:
    colours = np.zeros((1, 2, 2, 3), np.uint8)
    colours[0, 0, 0], colours[0, 0, 1] = (255, 0, 0), (0, 255, 0)
    colours[0, 1, 0], colours[0, 1, 1] = (0, 0, 255), (200, 200, 200)
    expected = [[[76, 150], [29, 200]]]  # ITU-R BT.601
    volume = Volume.from_array(colours, rgb=True)
    assert volume.data.dtype == np.uint8
    assert volume.data.tolist() == expected
    assert volume.notes == ("Colour shown as luminance.",)
    picture = Volume.from_array(colours[0], rgb=True)
    assert picture.data.tolist() == expected
    alpha = np.concatenate([colours, np.full((1, 2, 2, 1), 9, np.uint8)], axis=-1)
    assert Volume.from_array(alpha, rgb=True).data.tolist() == expected
    stored = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert Volume.from_array(colours.view(stored)[..., 0]).data.tolist() == expected
    floats = Volume.from_array(colours / np.float32(255), rgb=True)
    assert np.allclose(floats.data, np.array(expected) / 255, atol=0.01)
    with pytest.raises(BadInput, match="no colour image"):
        Volume.from_array(np.zeros((4, 4, 2)), rgb=True)


def test_a_mask_becomes_small_numbers_without_a_copy() -> None:
    mask = np.eye(3, dtype=bool)[None]
    volume = Volume.from_array(mask)
    assert volume.data.dtype == np.uint8
    assert np.shares_memory(volume.data, mask)


def test_foreign_byte_order_becomes_the_machines_own() -> None:
    array = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    volume = Volume.from_array(array)
    assert volume.data.dtype.isnative
    assert np.array_equal(volume.data, array)


def test_values_that_are_not_finite_are_let_in() -> None:
    array = np.array([[[1, np.nan, np.inf]]], np.float32)
    assert np.array_equal(Volume.from_array(array).data, array, equal_nan=True)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.zeros(5), "has 1 axes"),
        (np.zeros((1, 1, 1, 1, 1)), "has 5 axes"),
        (np.float32(3), "has 0 axes"),
        (np.zeros((3, 0, 2)), "is empty"),
        (np.zeros((2, 2, 2), complex), "holds complex128"),
        (np.array([[[None]]]), "holds object"),
        (np.array([[["a"]]]), "holds <U1"),
        (np.zeros((2, 2, 2), "datetime64[s]"), "holds datetime64"),
        ([[[1, 2], [3]]], "is not a regular array"),
        (np.zeros((2, 2), [("x", "f4")]), "holds fields"),
    ],
)
def test_what_is_no_scan_is_named(array: object, fault: str) -> None:
    with pytest.raises(BadInput, match=f"^knee {fault}.*[;:,].*\\.$"):
        Volume.from_array(array, name="knee")


@pytest.mark.parametrize(
    ("affine", "fault"),
    [
        (np.zeros((4, 4)), "does not end in the row"),
        (np.diag([1, 1, 0, 1]), "voxels of"),
        (np.diag([1, np.nan, 1, 1]), "not finite"),
        (np.diag([1, np.inf, 1, 1]), "not finite"),
        (np.diag([1, 1e-30, 1, 1]), "voxels of"),
        (np.diag([1, 1e30, 1, 1]), "voxels of"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "not invertible"),
        (np.eye(3), "has shape"),
        ("affine", "not made of numbers"),
    ],
)
def test_an_affine_that_leads_nowhere_is_named(affine: object, fault: str) -> None:
    remedy = "; correct it, or give a spacing instead."
    with pytest.raises(BadInput, match=f"^knee's affine .*{fault}.*{remedy}$"):
        Volume.from_array(np.zeros((2, 2, 2)), affine, name="knee")


def test_affine_and_spacing_together_are_refused() -> None:
    with pytest.raises(BadInput, match="give one of them"):
        Volume.from_array(np.zeros((2, 2, 2)), np.eye(4), spacing=(1, 1, 1))


def test_the_affine_is_the_volumes_own() -> None:
    affine = np.eye(4)
    volume = Volume.from_array(np.zeros((2, 2, 2)), affine)
    affine[0, 3] = 99
    assert volume.file_affine[0, 3] == 0


def test_arrays_and_positions_of_another_shape_are_refused() -> None:
    _, volume = scan(np.diag([-1, -1, 2, 1]), (2, 3, 4))
    with pytest.raises(BadInput, match="made on this volume"):
        volume.to_file(np.zeros((2, 3, 4)))
    with pytest.raises(BadInput, match="made on this volume"):
        volume.from_file(np.zeros((4, 3, 2)))
    with pytest.raises(BadInput, match=r"give \(3,\) or \(N, 3\)"):
        volume.voxel_to_mm((1, 2))


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ((0, 0, 0), True),
        ((-0.5, -0.5, -0.5), True),
        ((1.49, 2.49, 3.49), True),
        ((1.5, 0, 0), False),
        ((0, -0.51, 0), False),
        ((0, 0, np.nan), False),
    ],
)
def test_contains_ends_where_the_outer_voxels_end(point: tuple, inside: bool) -> None:
    assert Volume.from_array(np.zeros((2, 3, 4))).contains(point) is inside
