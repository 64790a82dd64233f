"""The methods without learning do something sensible with clicks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.baseline import (
    BASELINES,
    GeodesicBaseline,
    GeodesicSettings,
    RandomWalkerBaseline,
    make_baseline,
    settings_for,
)
from napari_sightline.evaluate.metrics import dice
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.prompts import Box, Point, Scribble
from napari_sightline.volume import Volume


@pytest.fixture
def ball() -> tuple[Volume, np.ndarray]:
    """A noisy bright ellipsoid on a darker ground, spacing not equal."""
    rng = np.random.default_rng(0)
    spacing = (2.0, 1.0, 1.0)
    grid = np.indices((30, 50, 50)) * np.reshape(spacing, (3, 1, 1, 1))
    truth = (
        sum((g - c) ** 2 / r**2 for g, c, r in zip(grid, (28, 22, 25), (12, 9, 14), strict=True))
        < 1
    )
    noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.0) * 20
    return Volume.from_array((truth * 100 + noise).astype(np.float32), spacing=spacing), truth


@pytest.mark.parametrize("method", BASELINES)
def test_finds_a_bright_structure(ball: tuple[Volume, np.ndarray], method: str) -> None:
    volume, truth = ball
    baseline = make_baseline(method, volume)
    mask = np.zeros_like(truth)
    scores = []
    for _ in range(4):
        click = simulate_click(mask, truth)
        if click is None:
            break
        mask = baseline.add(click)
        assert mask.shape == truth.shape and mask.dtype == bool
        assert mask[tuple(int(v) for v in click.position)] == click.positive
        scores.append(dice(mask, truth))
    assert scores[0] > 0.6 and min(scores) > 0.5 and max(scores) > 0.85


def test_stays_within_reach_in_millimetres(ball: tuple[Volume, np.ndarray]) -> None:
    volume, truth = ball
    mask = GeodesicBaseline(volume, GeodesicSettings(reach=5.0)).add(Point((14, 22, 25)))
    where = np.argwhere(mask)
    assert 0 < mask.sum() < truth.sum()
    assert (np.abs(where - (14, 22, 25)) * volume.spacing).max() < 5.0


def test_negative_click_takes_back(ball: tuple[Volume, np.ndarray]) -> None:
    volume, _ = ball
    baseline = GeodesicBaseline(volume, GeodesicSettings(reach=150.0))
    before = baseline.add(Point((14, 22, 25)))
    after = baseline.add(Point((14, 22, 45), positive=False))
    assert before[14, 22, 45] and not after[14, 22, 45]
    assert after[14, 22, 25]


def test_negative_click_alone_gives_nothing(ball: tuple[Volume, np.ndarray]) -> None:
    volume, _ = ball
    for method in BASELINES:
        assert not make_baseline(method, volume).add(Point((3, 3, 3), positive=False)).any()


def test_box_limits(ball: tuple[Volume, np.ndarray]) -> None:
    volume, truth = ball
    baseline = GeodesicBaseline(volume)
    mask = baseline.add(Box((8, 13, 11), (20, 31, 39)))
    assert dice(mask, truth) > 0.6
    assert not mask[:8].any() and not mask[:, :, 40:].any()


def test_other_prompts_are_refused(ball: tuple[Volume, np.ndarray]) -> None:
    scribble = Scribble(((1, 1, 1), (2, 2, 2)))
    with pytest.raises(BadInput, match="clicks and boxes"):
        GeodesicBaseline(ball[0]).add(scribble)
    with pytest.raises(BadInput, match="clicks only"):
        RandomWalkerBaseline(ball[0]).add(scribble)


def test_one_slice_and_constant_image() -> None:
    flat = Volume.from_array(np.zeros((1, 20, 20), np.int16), spacing=(1.0, 1.0, 1.0))
    mask = GeodesicBaseline(flat).add(Point((0, 10, 10)))
    assert mask[0, 10, 10]


def test_each_set_has_its_reach() -> None:
    assert settings_for("hippocampus_mr").reach < settings_for("sarcoma").reach
    assert settings_for("unheard of") == GeodesicSettings()
