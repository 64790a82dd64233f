"""World and voxels: a click in the viewer and a position in the scanner are the same place."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Points
from viewer_making import AFFINES, ball_scan

from napari_sightline.errors import BadInput
from napari_sightline.viewer import bridge
from napari_sightline.volume import Volume

SHAPE = (12, 20, 16)


def opened(volume: Volume) -> Image:
    """An image layer as our reader makes it."""
    data, options, _ = bridge.image_layer(volume)
    return Image(data, **options)


@pytest.mark.parametrize("kind", AFFINES)
def test_voxels_come_back_from_the_world(kind: str) -> None:
    volume = Volume.from_array(ball_scan(SHAPE), AFFINES[kind], name="scan")
    layer = opened(volume)
    rng = np.random.default_rng(0)
    for voxel in rng.uniform(0, 9, (20, 3)):
        found = bridge.voxel_at(layer, layer.data_to_world(voxel))
        np.testing.assert_allclose(found, voxel, atol=1e-9)
    if kind != "oblique":  # its world is not turned: only the middle is in place
        mm = volume.voxel_to_mm((3.0, 4.0, 5.0))
        np.testing.assert_allclose(
            layer.data_to_world((3.0, 4.0, 5.0)), [mm[2], -mm[1], -mm[0]], atol=1e-9
        )
    middle = (np.array(volume.shape) - 1) / 2
    mm = volume.voxel_to_mm(middle)
    np.testing.assert_allclose(layer.data_to_world(middle), [mm[2], -mm[1], -mm[0]], atol=1e-9)


def test_our_layers_give_their_volume_back() -> None:
    volume = Volume.from_array(ball_scan(SHAPE), AFFINES["oblique"], name="scan")
    layer = opened(volume)
    layer.name = "renamed"
    back = bridge.source(layer, (0, 0, 0)).read()
    assert back.data is volume.data and back.name == "renamed"
    np.testing.assert_array_equal(back.file_affine, volume.file_affine)
    layer.data = volume.data * 2  # filtered, on the same grid
    back = bridge.source(layer, (0, 0, 0)).read()
    np.testing.assert_array_equal(back.data, volume.data * 2)
    np.testing.assert_array_equal(back.file_affine, volume.file_affine)


def test_layers_of_any_origin() -> None:
    array = ball_scan(SHAPE)
    layer = Image(array, scale=(3, 2, 1), translate=(10, 20, 30), name="foreign")
    volume = bridge.source(layer, (0, 0, 0)).read()
    assert volume.spacing == (3, 2, 1)
    assert volume.data.shape == SHAPE and np.shares_memory(volume.data, array)
    np.testing.assert_allclose(volume.voxel_to_mm((0, 0, 0)), (-30, -20, 10))
    micro = Image(array, scale=(3, 2, 1), units=("um",) * 3)
    assert bridge.source(micro, (0, 0, 0)).read().spacing == pytest.approx((3e-3, 2e-3, 1e-3))


def test_lazy_and_multiscale_layers_use_the_finest_level() -> None:
    array = ball_scan(SHAPE)
    lazy = Image(da.from_array(array, chunks=8))
    np.testing.assert_array_equal(bridge.source(lazy, (0, 0, 0)).read().data, array)
    levels = Image([array, array[::2, ::2, ::2]], multiscale=True)
    volume = bridge.source(levels, (0, 0, 0)).read()
    np.testing.assert_array_equal(volume.data, array)
    assert volume.notes == ("Finest of 2 levels used (12 x 20 x 16).",)


def test_pictures_and_colours() -> None:
    picture = bridge.source(Image(ball_scan((1, 9, 8))[0], scale=(2, 3)), (0, 0)).read()
    assert picture.shape == (1, 9, 8) and picture.spacing == (1, 2, 3)
    colour = np.zeros((4, 9, 8, 3), np.uint8)
    colour[..., 1] = 100
    volume = bridge.source(Image(colour, rgb=True), (0, 0, 0)).read()
    assert volume.shape == (4, 9, 8) and (volume.data == 59).all()
    assert "luminance" in volume.notes[0]


def test_frame_of_a_series() -> None:
    series = np.stack([ball_scan(SHAPE) + i for i in range(5)])
    layer = Image(series, scale=(10, 1, 1, 1))
    volume = bridge.source(layer, (29, 0, 0, 0)).read()
    np.testing.assert_array_equal(volume.data, series[3])
    assert volume.notes == ("Frame 4 of 5 used.",)
    assert bridge.frame(layer, (999, 0, 0, 0)) == (4,)
    np.testing.assert_allclose(bridge.voxel_at(layer, (29, 3, 4, 5)), (3, 4, 5))


def test_one_axis_is_refused() -> None:
    line = Image(np.zeros((4, 4)))
    line_like = type("Line", (), {"ndim": 1, "multiscale": False, "data": np.zeros(4)})
    assert bridge.source(line, (0, 0)).read().shape == (1, 4, 4)
    instance = line_like()
    instance.name = "line"
    with pytest.raises(BadInput, match="one axis"):
        bridge.source(instance, (0,))


def test_positions_across_the_canvas_are_whole_slices() -> None:
    layer = Image(np.zeros(SHAPE), scale=(2, 1, 1))
    assert bridge.voxel_at(layer, (7.4, 3.2, 4.6), displayed=(1, 2)) == (4, 3.2, 4.6)


def test_world_units_of_the_viewer_are_understood() -> None:
    import pint

    mm, um = (pint.get_application_registry().Unit(u) for u in ("mm", "um"))
    layer = Image(np.zeros(SHAPE), scale=(2, 1, 1), units=("mm",) * 3)
    assert bridge.voxel_at(layer, (8000, 3000, 4000), (um,) * 3) == pytest.approx((4, 3, 4))
    assert bridge.voxel_at(layer, (8, 3, 4), (mm,) * 3) == (4, 3, 4)


@settings(max_examples=10)
@given(
    st.tuples(*[st.floats(0.3, 4)] * 3),
    st.tuples(*[st.floats(-50, 50)] * 3),
    st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_labels_and_clicks_lie_on_the_image(
    scale: tuple[float, ...], translate: tuple[float, ...], voxel: tuple[float, ...]
) -> None:
    image = Image(np.zeros(SHAPE), scale=scale, translate=translate)
    for layer in (
        Labels(np.zeros(SHAPE, np.uint8), **bridge.grid_like(image)),
        Points(bridge.points_on(image, [voxel]), **bridge.grid_like(image)),
    ):
        np.testing.assert_allclose(layer.data_to_world(voxel), image.data_to_world(voxel))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_turned_images_take_their_labels_along() -> None:
    turned = Image(np.zeros(SHAPE), rotate=(10, 20, 30), scale=(1, 2, 3), translate=(4, 5, 6))
    labels = Labels(np.zeros(SHAPE, np.uint8), **bridge.grid_like(turned))
    np.testing.assert_allclose(labels.data_to_world((1, 2, 3)), turned.data_to_world((1, 2, 3)))


def test_contrast() -> None:
    ct = Volume.from_array(ball_scan(SHAPE), modality="CT")
    assert bridge.contrast(ct) == (-160, 240)
    values = np.linspace(0, 100, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    values[0, 0, 0] = np.nan
    low, high = bridge.contrast(Volume.from_array(values))
    assert 0 <= low < 2 and 98 < high <= 100
    assert bridge.contrast(Volume.from_array(np.zeros(SHAPE))) == (0, 1)
    assert bridge.contrast(Volume.from_array(np.full(SHAPE, np.nan))) == (0, 1)
    layer = opened(ct)
    bridge.widen_range(layer)
    assert layer.contrast_limits == [-160, 240]
    assert layer.contrast_limits_range == [-1024, 3071]


def test_slices_are_named_as_the_viewer_shows_them() -> None:
    layer = Image(np.zeros(SHAPE), scale=(2, 1, 1))
    assert bridge.slice_at(layer, (8, 3, 4), (0, 1, 2)) == (0, 4)
    assert bridge.slice_at(layer, (8, 3, 4), (2, 0, 1)) == (2, 4)
    assert bridge.slice_at(layer, (1, 8, 3, 4), (0, 2, 1, 3)) == (1, 3)
    assert bridge.slice_at(Image(np.zeros((5, 5))), (3, 4), (0, 1)) == (0, 0)


def test_memory_mapped_files_stay_mapped(tmp_path: Path) -> None:
    from napari_sightline.io import load, save_image

    path = save_image(tmp_path / "scan.nii", Volume.from_array(ball_scan(SHAPE), AFFINES["usual"]))
    layer = opened(load(path))
    assert bridge.source(layer, (0, 0, 0)).read().data is layer.data
