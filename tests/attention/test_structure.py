from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.structure import (
    AIR,
    OUTSIDE,
    PADDING,
    TISSUE,
    TOKENS,
    body_mask,
    by_structure,
)
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.errors import BadInput
from napari_sightline.volume import Volume

SHAPE = (8, 12, 16)


def answer(weights: np.ndarray, cells: np.ndarray, **changes: object) -> AttentionMap:
    grid = TokenGrid.whole((2, 3, 4), (4.0, 4.0, 4.0))
    given = {
        "frame": Frame.scaled((0, 0, 0), (1, 1, 1), (8, 12, 16)),
        "padding": np.zeros(len(weights), np.float32),
        "special": np.zeros(len(weights), np.float32),
    } | changes
    heads = tuple(f"head {i + 1}" for i in range(len(weights)))
    return AttentionMap(
        weights.astype(np.float32),
        cells,
        grid,
        query="q",
        model="m",
        block="b",
        heads=heads,
        **given,  # type: ignore[arg-type]
    )


def scan() -> tuple[Volume, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, SHAPE)
    body = rng.random(SHAPE) > 0.3
    data = np.where(body, 0, -1000).astype(np.int16)
    return Volume.from_array(data, modality="CT"), labels, body


def test_shares_equal_a_sum_over_voxels() -> None:
    volume, labels, body = scan()
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(26), 2)
    made = answer(weights[:, :24], np.arange(24), padding=weights[:, 24], special=weights[:, 25])
    table = by_structure(made, volume, labels, {1: "liver", 3: "bone"}, body)
    assert table.names == ("liver", "label 2", "bone", TISSUE, AIR, OUTSIDE, PADDING, TOKENS)
    np.testing.assert_allclose(table.shares.sum(1), 1, atol=1e-6)
    expected = np.zeros((2, 8))
    for place in np.ndindex(SHAPE):
        token = np.ravel_multi_index(tuple(v // 4 for v in place), (2, 3, 4))
        value = labels[place]
        kind = value - 1 if value else (3 if body[place] else 4)
        expected[:, kind] += weights[:, token] / 64
    expected[:, 6:] = weights[:, 24:]
    np.testing.assert_allclose(table.shares, expected, atol=1e-6)
    assert table.best_head("bone") == (
        int(np.argmax(expected[:, 2])),
        pytest.approx(expected[:, 2].max(), abs=1e-6),
    )
    assert np.isnan(table.volumes[6:]).all()
    np.testing.assert_allclose(table.volumes[:6].sum(), 1, atol=1e-6)
    with pytest.raises(BadInput, match="no 'spleen'"):
        table.best_head("spleen")


def test_what_lies_beyond_the_scan() -> None:
    volume, labels, body = scan()
    # The frame starts four voxels before the scan: its first layer of tokens covers nothing.
    frame = Frame.scaled((-4, 0, 0), (1, 1, 1), (8, 12, 16))
    weights = np.zeros((1, 24))
    weights[0, :12] = 0.75 / 12
    weights[0, 12:] = 0.25 / 12
    table = by_structure(answer(weights, np.arange(24), frame=frame), volume, labels, None, body)
    assert table.shares[0, table.names.index(OUTSIDE)] == pytest.approx(0.75)


def test_tokens_finer_than_voxels_take_the_voxel_they_lie_in() -> None:
    volume, labels, body = scan()
    # Tokens of 4 network voxels of .15 voxels each: .6 voxels, well inside the scan.
    frame = Frame.scaled((2, 3, 4), (0.15, 0.15, 0.15), (8, 12, 16))
    weights = np.random.default_rng(3).dirichlet(np.ones(24), 1)
    made = answer(weights, np.arange(24), frame=frame)
    table = by_structure(made, volume, labels, None, body)
    assert table.shares[0, table.names.index(OUTSIDE)] == pytest.approx(0, abs=1e-6)
    inside = np.zeros(6)
    for token in range(24):
        cell = np.array(np.unravel_index(token, (2, 3, 4)))
        low = np.array((2, 3, 4)) + 0.15 * (cell * 4 - 0.5)
        grid = np.meshgrid(*[np.arange(np.ceil(v), v + 0.6 - 1e-9) for v in low], indexing="ij")
        voxels = np.stack(grid, -1).reshape(-1, 3).astype(int)
        if not len(voxels):
            voxels = np.rint(low + 0.3).astype(int)[None]
        for voxel in voxels:
            value = labels[tuple(voxel)]
            kind = value - 1 if value else (3 if body[tuple(voxel)] else 4)
            inside[kind] += weights[0, token] / len(voxels)
    known = {"label 1": 0, "label 2": 1, "label 3": 2, TISSUE: 3, AIR: 4}
    for name, share in zip(table.names, table.shares[0], strict=True):
        if name in known:
            assert share == pytest.approx(inside[known[name]], abs=1e-6), name


def test_a_column_is_made_to_sum_to_one() -> None:
    volume, labels, body = scan()
    weights = np.full((1, 24), 3.0)
    made = answer(weights, np.arange(24), direction="from", padding=np.array([0.5], np.float32))
    table = by_structure(made, volume, labels, None, body)
    assert table.shares[0, table.names.index(PADDING)] == pytest.approx(0.5)
    np.testing.assert_allclose(table.shares.sum(), 1, atol=1e-6)


def test_the_body_is_what_is_not_air_around() -> None:
    data = np.full((12, 40, 40), -1000, np.int16)
    data[:, 8:30, 8:32] = 20
    data[:, 14:20, 14:20] = -900  # a lung
    data[:, 36, :] = 100  # a thin table, apart
    body = body_mask(Volume.from_array(data, modality="CT"))
    expected = np.zeros(data.shape, bool)
    expected[:, 8:30, 8:32] = True
    assert np.array_equal(body, expected)
    bright = Volume.from_array(np.where(expected, 400.0, 3.0), modality="MR")
    assert np.array_equal(body_mask(bright), expected)


def test_labels_of_another_shape_are_refused() -> None:
    volume, labels, _ = scan()
    with pytest.raises(BadInput, match="do not lie on the scan's grid"):
        by_structure(answer(np.ones((1, 24)), np.arange(24)), volume, labels[1:])
