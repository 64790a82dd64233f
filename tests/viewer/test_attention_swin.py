"""Swin-UNETR in the panel: a window round the cursor, what it could not see, its bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from viewer_making import ball_scan

from napari_sightline.attention.maps import query_voxel
from napari_sightline.attention.tap import Tap
from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import Segmenter, SegmenterSpec
from napari_sightline.models.swin_unetr import SwinUnetrSizes
from napari_sightline.viewer.attention.asking import blocks_for, placed
from napari_sightline.viewer.attention.kernels import bias_kernels
from napari_sightline.viewer.attention.runs import run_window
from napari_sightline.viewer.attention.state import Settings
from napari_sightline.viewer.worker import Job
from napari_sightline.volume import Volume

PLACE = (24.0, 20.0, 30.0)
SHAPE = (48, 44, 72)


@pytest.fixture(scope="module")
def swin() -> Segmenter:
    """A Swin-UNETR with random weights whose bias is not nearly 0."""
    import torch

    torch.manual_seed(0)
    network = SwinUnetrSizes(1, 2, 12, window=(4, 4, 4)).build()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("relative_position_bias_table"):
                weight.normal_(0, 1)
    spec = SegmenterSpec("toy swin", {1: "ball"}, roi=(64, 32, 32), orientation="RAI")
    return Segmenter(network, spec)


@pytest.fixture(scope="module")
def recorded(swin: Segmenter) -> Any:
    volume = Volume.from_array(ball_scan(SHAPE), spacing=(1.0, 1.0, 1.0), name="ball")
    tap = Tap()
    run_window(volume, swin, PLACE, tap, Job(lambda _: None))
    one = tap.latest
    assert one is not None
    return one


def test_a_window_round_the_cursor_is_seen_and_the_rest_is_not(recorded: Any) -> None:
    assert recorded.frames[0].contains(PLACE)
    numbers = blocks_for(recorded, Settings())
    assert len(numbers) == 8
    labels = [recorded.calls[n].label for n in numbers]
    assert labels[0].startswith("stage 1, block 1, windows of 4 x 4 x 4 on 32 x 16 x 16")
    answer = query_voxel(recorded, PLACE, 0)
    one = placed(answer)
    assert one.values.shape == (3, 16, 16, 32)
    assert np.isfinite(one.values[0]).sum() == 64  # its own window; elsewhere not seen, not 0
    np.testing.assert_allclose(np.nansum(one.values, (1, 2, 3)), 1, atol=1e-5)
    cell = np.rint((np.array(PLACE) - one.origin) / one.step).astype(int)
    assert np.isfinite(one.values[0][tuple(cell)])  # the voxel lies in its own window
    box, values = answer.on_volume(SHAPE)
    rng = np.random.default_rng(1)
    for voxel in rng.integers([s.start for s in box], [s.stop for s in box], (50, 3)):
        token = np.floor((voxel - np.array(one.origin)) / one.step + 0.5).astype(int)
        theirs = values[tuple(voxel - [s.start for s in box])]
        np.testing.assert_array_equal(one.values[0][tuple(token)], theirs)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_kernels_are_what_the_blocks_add_by_distance(recorded: Any, number: int) -> None:
    call = recorded.calls[number]
    kernels = bias_kernels(recorded, number)
    assert kernels.shape == (call.heads, 7, 7, 7)
    import torch

    grid = call.placement.queries
    q = torch.zeros(call.heads, 1, 1)
    linear = np.sign(np.rint(10 * recorded.frames[0].affine[:3, :3]))
    cells = np.stack(np.unravel_index(np.arange(grid.tokens), grid.window), 1)
    rng = np.random.default_rng(number)
    for token in rng.integers(0, grid.tokens, 5):
        added = call.bias.rows(0, torch.tensor([int(token)]), q)[:, 0].numpy()
        hidden = call.bias.hidden(0, int(token))
        for key in rng.integers(0, grid.tokens, 12):
            if hidden is not None and bool(hidden[key]):
                continue
            away = (linear @ (cells[key] - cells[token])).astype(int)  # superior, posterior, left
            np.testing.assert_allclose(
                kernels[(slice(None), *(away + 3))], added[:, key], atol=1e-6
            )


def test_other_models_have_no_such_bias(loaded_model: None) -> None:
    from napari_sightline.viewer import controller
    from napari_sightline.viewer.attention.runs import run_prompt

    tap = Tap()
    volume = Volume.from_array(ball_scan((32, 32, 32)), name="ball")
    model = controller._models["sightline-3d", "auto"]
    _, update = run_prompt(volume, model, (16, 16, 16), tap, Job(lambda _: None))
    assert update.mask[16 - update.box[0].start].any()
    one = tap.latest
    assert one is not None
    with pytest.raises(BadInput, match="no relative position bias"):
        bias_kernels(one, 0)
