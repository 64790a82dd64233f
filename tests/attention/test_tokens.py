"""Token grids against what the networks themselves do to an array of indices."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from attention_making import (
    CODES,
    POINTS,
    Reference,
    encoded,
    promptable,
    prompts,
    swin_unetr,
)
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from napari_sightline.attention.frame import Frame
from napari_sightline.attention.maps import AttentionMap, query_voxel
from napari_sightline.attention.tap import Tap
from napari_sightline.attention.tokens import PADDING, TokenGrid

sides = st.tuples(*[st.integers(1, 9)] * 3)


@given(sides, st.integers(1, 5), st.booleans())
def test_windows_are_monais_own(size: tuple[int, int, int], window: int, shifted: bool) -> None:
    from monai.networks.nets.swin_unetr import compute_mask, get_window_size, window_partition

    from napari_sightline.attention.bias import WindowBias

    used, shift = get_window_size(size, (window,) * 3, (window // 2 if shifted else 0,) * 3)
    grid = TokenGrid(size, (2.0, 2.0, 2.0), used, shift)
    # MONAI's own pad, roll and partition, on the numbers of the cells plus one.
    cells = torch.arange(1, int(np.prod(size)) + 1, dtype=torch.float64).view(1, *size, 1)
    pads = [(w - n % w) % w for n, w in zip(size, used, strict=True)]
    cells = F.pad(cells, (0, 0, 0, pads[2], 0, pads[1], 0, pads[0]))
    rolled = torch.roll(cells, [-s for s in shift], (1, 2, 3))
    expected = window_partition(rolled, used)[..., 0].long().numpy() - 1
    assert expected.shape == (grid.count, grid.tokens)
    ours = np.stack([grid.cells(w) for w in range(grid.count)])
    assert np.array_equal(ours, np.where(expected < 0, PADDING, expected))
    for flat in range(int(np.prod(size))):
        cell = tuple(int(v) for v in np.unravel_index(flat, size))
        where = grid.locate(cell)  # type: ignore[arg-type]
        assert expected[where] == flat
    if any(shift):
        mask = compute_mask(list(grid.padded), used, shift, "cpu")
        bias = WindowBias(
            torch.zeros(grid.tokens, 1),
            torch.zeros(grid.tokens, grid.tokens, dtype=torch.long),
            grid,
            torch.float32,
        )
        for w in range(grid.count):
            rows = bias.rows(w, torch.arange(grid.tokens), torch.empty(0))
            assert torch.equal(rows[0], mask[w])


def test_leading_tokens_lie_nowhere() -> None:
    grid = TokenGrid.whole((2, 3, 4), (8.0, 8.0, 8.0), lead=("class",))
    assert grid.tokens == 25
    assert grid.cells(0).tolist() == [-2, *range(24)]
    assert grid.locate((0, 0, 0)) == (0, 1)


def brute_force(
    full: torch.Tensor, numbers: torch.Tensor, voxel: tuple[int, int, int], stride: int
) -> np.ndarray:
    """Attention of a voxel on every voxel, by looking for the numbers of cells one by one.

    `full` is ``(windows, heads, n, n)``, `numbers` ``(windows, n)`` the cell of each token, -1 for
    padding, on a grid of ``(d, h, w)`` tokens that `numbers.grid` counts in C order.
    """
    size = numbers.grid  # type: ignore[attr-defined]
    cell = np.ravel_multi_index([v // stride for v in voxel], size)
    window, token = (numbers == int(cell)).nonzero()[0].tolist()
    out = np.full((full.shape[1], *(n * stride for n in size)), np.nan)
    for other, number in enumerate(numbers[window].tolist()):
        if number >= 0:
            a, b, c = np.unravel_index(number, size)
            block = (slice(i * stride, (i + 1) * stride) for i in (a, b, c))
            out[(slice(None), *block)] = full[window, :, token, other][:, None, None, None]
    return out


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(
    st.tuples(*[st.sampled_from([8, 12, 16, 20, 26])] * 3),
    st.sampled_from([2, 3, 4]),
    st.booleans(),
    st.integers(0, 2**31),
)
@example((8, 26, 26), 2, False, 627)
def test_a_voxels_attention_in_swin_unetr_equals_brute_force(
    size: tuple[int, int, int], window: int, v2: bool, seed: int
) -> None:
    from monai.networks.nets.swin_unetr import get_window_size, window_partition

    # The second version normalises each stage's grid: one token alone has no spread.
    assume(not v2 or np.prod([-(-n // 16) for n in size]) > 1)
    network = swin_unetr(window, v2).swinViT
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(1, 1, *size)).astype(np.float32))
    tap = Tap()
    with torch.inference_mode(), Reference() as reference:
        network(x)
    with (
        torch.inference_mode(),
        tap.record(network, Frame.scaled((0, 0, 0), (1, 1, 1), size)) as one,
    ):
        network(x)
    voxel = tuple(int(rng.integers(n)) for n in size)
    for number, call in enumerate(one.calls):
        stage, block = number // 2, number % 2
        stride = 2 ** (stage + 1)
        grid = tuple(-(-n // stride) for n in size)
        used, shift = get_window_size(grid, (window,) * 3, (window // 2,) * 3)
        cells = torch.arange(1, int(np.prod(grid)) + 1).view(1, *grid, 1).double()
        pads = [(w - n % w) % w for n, w in zip(grid, used, strict=True)]
        cells = F.pad(cells, (0, 0, 0, pads[2], 0, pads[1], 0, pads[0]))
        if block:
            cells = torch.roll(cells, [-s for s in shift], (1, 2, 3))
        numbers = window_partition(cells, used)[..., 0].long() - 1
        numbers.grid = grid  # type: ignore[attr-defined]
        expected = brute_force(reference.maps[number], numbers, voxel, stride)  # type: ignore[arg-type]
        answer = query_voxel(one, voxel, number)
        assert isinstance(answer, AttentionMap)
        box, values = answer.on_volume(size)
        assert [s.stop - s.start for s in box] == list(size)
        for head in range(call.heads):
            _, values = answer.on_volume(size, head)
            whole = tuple(slice(0, n) for n in size)
            by_hand = expected[head][whole]
            # What the mask of a shifted window hides is not seen. By hand it is nearly zero:
            # MONAI takes 100 off its scores, and random weights make scores tens apart.
            hidden = np.isnan(values) & ~np.isnan(by_hand)
            assert np.all(by_hand[hidden] < 1e-6)
            assert not np.any(np.isnan(by_hand) & ~np.isnan(values))
            shown = ~np.isnan(values)
            np.testing.assert_allclose(values[shown], by_hand[shown], atol=1e-5)
        total = answer.weights.sum(1) + answer.padding
        np.testing.assert_allclose(total, 1, atol=1e-4)


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from([(48, 32, 64), (32, 32, 32), (16, 64, 48)]),
    st.tuples(*[st.floats(-5, 5)] * 3),
    st.tuples(*[st.floats(0.4, 2.5)] * 3),
    st.integers(0, 2**31),
)
def test_a_voxels_attention_in_sightline_3d_equals_brute_force(
    size: tuple[int, int, int],
    origin: tuple[float, float, float],
    step: tuple[float, float, float],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    network, tap = promptable(seed % 7), Tap()
    frame = Frame.scaled(origin, step, size)
    with torch.inference_mode():
        features = encoded(network, size, seed % 1000)
        with tap.record(network, frame, "sightline-3d", POINTS, CODES) as one:
            network.decode(features, prompts())
        with Reference() as reference:
            network.decode(features, prompts())
    inside = rng.random(3) * size - 0.5
    position = frame.to_volume(inside)
    grid = [n // 16 for n in size]
    token = np.ravel_multi_index(tuple(((inside + 0.5) // 16).astype(int)), grid)
    for number, call in enumerate(one.calls):
        if call.module.endswith("image_self"):
            answer = query_voxel(one, position, number)
            assert isinstance(answer, AttentionMap)
            expected = reference.maps[number][0, :, token].view(-1, *grid)
            np.testing.assert_allclose(answer.values(), expected, atol=1e-5)
            shape = tuple(int(n) for n in np.ceil(np.array(origin) + np.array(step) * size) + 3)
            box, values = answer.on_volume(shape, 1)  # type: ignore[arg-type]
            # Every voxel of the volume whose centre lies in the region, one by one.
            for _ in range(20):
                voxel = np.array([rng.integers(s.start, s.stop) for s in box])
                place = (voxel - origin) / step
                share = (place + 0.5) / 16
                if np.any(np.abs(share - np.rint(share)) < 1e-4):
                    continue  # on a border between tokens: either will do
                cell = tuple(share.astype(int))
                at = tuple(voxel - [s.start for s in box])
                assert abs(values[at] - float(expected[(1, *cell)])) <= 1e-5
