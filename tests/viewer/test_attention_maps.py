"""Maps lie on the scan where their tokens are, whatever the axes; scales, names, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from viewer_making import AFFINES, ball_scan

from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.viewer.attention import layers as draw
from napari_sightline.viewer.attention.asking import merge, placed, strongest
from napari_sightline.viewer.attention.state import Scale, Settings, Shown
from napari_sightline.viewer.attention.thumbnails import Look, pictures
from napari_sightline.viewer.attention.words import caption, layer_name
from napari_sightline.viewer.bridge import OVERLAY, image_layer
from napari_sightline.volume import Volume

TOKENS, STRIDE = (3, 4, 5), (2.0, 4.0, 3.0)


def a_map(affine: Any = None, hot: int = 7, heads: int = 2, unseen: int = 0) -> AttentionMap:
    """Attention that lies on one token, of a network whose axes run as `affine` says."""
    grid = TokenGrid.whole(TOKENS, STRIDE)
    shape = tuple(int(n * s) for n, s in zip(TOKENS, STRIDE, strict=True))
    frame = Frame(shape, np.eye(4) if affine is None else affine)  # type: ignore[arg-type]
    count = int(np.prod(TOKENS))
    cells = np.arange(unseen, count)
    weights = np.zeros((heads, len(cells)), np.float32)
    weights[0, hot - unseen] = 0.8
    weights[1:, hot - unseen] = 0.2
    nothing = np.zeros(heads, np.float32)
    return AttentionMap(
        weights,
        cells,
        grid,
        frame,
        nothing + 0.1,
        nothing,
        "voxel (1, 2, 3) attends to",
        "toy",
        "stage 1, block 2, windows of 3 x 4 x 5 on 3 x 4 x 5 tokens",
        tuple(f"head {i + 1}" for i in range(heads)),
    )


NETWORK = {
    "straight": np.diag([1.5, 1.0, 2.0, 1.0]),
    "permuted": np.array([[0, 0, 1.0, 3], [2.0, 0, 0, 4], [0, 1.0, 0, 5], [0, 0, 0, 1]]),
    "flipped": np.array([[0, -1.0, 0, 20], [0, 0, -2.0, 33], [1.0, 0, 0, 2], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("scan", AFFINES)
@pytest.mark.parametrize("network", NETWORK)
def test_the_hot_token_is_drawn_where_it_lies(scan: str, network: str) -> None:
    volume = Volume.from_array(ball_scan((40, 44, 36)), AFFINES[scan], name="scan")
    viewer = ViewerModel()
    data, options, _ = image_layer(volume)
    image = viewer.add_image(data, **options)
    hot = (2, 1, 3)
    answer = a_map(NETWORK[network], int(np.ravel_multi_index(hot, TOKENS)))
    one = placed(answer)
    layer = draw.add_map(
        viewer, image, one.values[0], one.step, one.origin, "map", (0, 1), Settings()
    )
    # By brute force: all voxels of the network that the token covers, put into the volume.
    spans = [np.arange(i * s, (i + 1) * s) for i, s in zip(hot, STRIDE, strict=True)]
    inside = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    voxels = answer.frame.to_volume(inside)
    cell = np.unravel_index(np.nanargmax(layer.data), layer.data.shape)
    np.testing.assert_allclose(
        layer.data_to_world(cell), image.data_to_world(voxels.mean(0)), atol=1e-6
    )
    # Its faces too: half a network voxel beyond the outermost centres.
    half = np.abs(NETWORK[network][:3, :3]).sum(1) / 2
    for sign, ends in ((-0.5, voxels.min(0) - half), (0.5, voxels.max(0) + half)):
        corner = np.array(cell) + sign
        np.testing.assert_allclose(
            layer.data_to_world(corner), image.data_to_world(ends), atol=1e-6
        )
    assert layer.units == image.units
    assert layer.axis_labels == image.axis_labels
    assert OVERLAY in layer.metadata
    image.scale = np.array(image.scale) * 2  # somebody moves the image: the map goes along
    image.translate = (5.0, 6.0, 7.0)
    np.testing.assert_allclose(
        layer.data_to_world(cell), image.data_to_world(voxels.mean(0)), atol=1e-6
    )


def test_maps_hide_with_their_image_and_keep_their_own_choice() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, 8, 9), np.float32))
    one = placed(a_map())
    maps = [
        draw.add_map(viewer, image, one.values[0], one.step, one.origin, "map", (0, 1), Settings())
        for _ in range(2)
    ]
    maps[1].visible = False
    image.visible = False
    assert not maps[0].visible and not maps[1].visible
    image.visible = True
    assert maps[0].visible and not maps[1].visible
    assert viewer.layers.selection.active is image


def test_a_picture_with_two_axes_gets_the_plane_that_holds_it() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((24, 20), np.float32), scale=(2.0, 3.0))
    affine = np.eye(4)
    affine[0, 3] = -2.5  # six network voxels, the picture in the second of three token planes
    one = placed(a_map(affine, int(np.ravel_multi_index((1, 2, 3), TOKENS))))
    layer = draw.add_map(
        viewer, image, one.values[0], one.step, one.origin, "map", (0, 1), Settings()
    )
    assert layer.data.shape == TOKENS[1:]
    assert np.unravel_index(layer.data.argmax(), layer.data.shape) == (2, 3)
    np.testing.assert_allclose(layer.data_to_world((2, 3)), image.data_to_world((9.5, 10.0)))


@given(st.integers(0, 59), st.integers(0, 20), st.sampled_from(sorted(NETWORK)))
@settings(max_examples=30, deadline=None)
def test_placing_loses_and_changes_no_value(hot: int, unseen: int, network: str) -> None:
    unseen = min(unseen, hot)
    answer = a_map(NETWORK[network], hot, unseen=unseen)
    one = placed(answer)
    assert np.isnan(one.values[0]).sum() == unseen
    for mine, theirs in zip(one.values, answer.weights, strict=True):
        np.testing.assert_array_equal(np.sort(mine[np.isfinite(mine)]), np.sort(theirs))
    ends, values = strongest(one, 3)
    assert len(ends) == 1 and values[0] == np.float32(0.8)
    cell = np.array(np.unravel_index(hot, TOKENS))
    centre = answer.frame.to_volume(cell * STRIDE + (np.array(STRIDE) - 1) / 2)
    np.testing.assert_allclose(ends[0], centre, atol=1e-9)


def test_scales_compare_only_where_they_say_so() -> None:
    values = np.array([[[0.1, 0.2, np.nan, 0.4]]], np.float32)
    own, fixed = Scale(percentile=100), Scale(fixed=True, top=0.05)
    assert own.limits(values) == pytest.approx((0, 0.4))
    assert fixed.limits(values) == fixed.limits(values / 7) == (0, 0.05)
    normal = Scale(normalise=True, percentile=100)
    assert np.nanmax(normal.drawn(values)) == 1
    assert own.drawn(values) is values  # off by default: nothing is divided
    assert own.limits(np.full((1, 1, 1), np.nan, np.float32))[1] > 0
    assert own.limits(values, "entropy over heads, 0 to 1") == (0, 1)


@pytest.mark.parametrize("unseen", ["none", "the same", "others", "all", "of one head all"])
@pytest.mark.parametrize(
    "scale", [Scale(), Scale(percentile=80), Scale(fixed=True), Scale(True, normalise=True)]
)
def test_scales_of_all_heads_at_once(scale: Scale, unseen: str) -> None:
    rng = np.random.default_rng(0)
    heads = rng.random((3, 4, 5, 6)).astype(np.float32)
    heads[2] = 0
    if unseen == "the same":
        heads[:, 1] = np.nan
    elif unseen == "others":
        heads[rng.random(heads.shape) < 0.3] = np.nan
    elif unseen == "all":
        heads[:] = np.nan
    elif unseen == "of one head all":
        heads[1] = np.nan
    each = [scale.limits(values) for values in heads]
    np.testing.assert_allclose(scale.limits_each(heads), each, rtol=1e-6)


def test_heads_are_chosen_merged_and_named() -> None:
    answer = a_map(heads=3)
    assert merge(answer, Settings(heads=(1,))).heads == ("head 2",)
    assert merge(answer, Settings(heads=(0, 2), reduction="max")).heads == ("max of 2 heads",)
    mean = merge(answer, Settings(heads=(5,)))  # a head that this block does not have
    assert mean.heads == ("mean of 3 heads",)
    np.testing.assert_allclose(mean.weights.max(), 0.4)
    shown = Shown(answer, mean, placed(mean))
    assert layer_name(shown) == (
        "voxel (1, 2, 3) attends to · toy · stage 1, block 2 · mean of 3 heads"
    )
    said = caption(shown, Settings(scale=Scale(normalise=True)))
    assert "10 % of the attention fell on padding" in said and "Normalised" in said
    part = merge(a_map(unseen=3), Settings())
    assert "not seen" in caption(Shown(answer, part, placed(part)), Settings())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pictures_show_the_hot_token_and_leave_the_unseen_grey(axis: int) -> None:
    hot = (1, 2, 3)
    answer = a_map(hot=int(np.ravel_multi_index(hot, TOKENS)), unseen=20)
    one = placed(answer)
    scan = np.zeros((6, 16, 15), np.float32)
    rows, columns = (a for a in range(3) if a != axis)
    index = int(hot[axis] * STRIDE[axis])
    look = Look(axis, index, rows, columns, axis == 1, (-1.0, 1.0), 0.5)
    colours = np.array([[0, 0, 0], [1, 0, 0]], np.float32)  # ink at the top of the scale only
    made = pictures(scan, one, look, [(0, 0.5), (0, 0.5)], colours)
    assert made.shape[0] == 2 and made.dtype == np.uint8
    size = np.array(made.shape[1:3])
    at = (np.array([hot[rows], hot[columns]]) + 0.5) / np.array([TOKENS[rows], TOKENS[columns]])
    if axis == 1:
        at[0] = 1 - at[0]
    row, column = (at * size).astype(int)
    reds = made[0][..., 0].astype(int) - made[0][..., 1]
    assert reds[row, column] == reds.max() > 20
    if axis == 0:
        unseen = pictures(
            scan, one, Look(0, 0, 1, 2, False, (-1.0, 1.0), 0.5), [(0, 1)] * 2, colours
        )
        assert (unseen[0] == 127).all()  # the first plane of tokens was not seen: only the scan
