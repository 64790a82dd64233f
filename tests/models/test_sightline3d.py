from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models import load_model
from napari_sightline.models.attention import Attention
from napari_sightline.models.intensity import Intensity
from napari_sightline.models.precision import choose_precision, pick_device
from napari_sightline.models.promptable import WEIGHTS, EmbeddedModel
from napari_sightline.models.sightline3d import (
    BOX_HIGH,
    BOX_LOW,
    NEGATIVE,
    PAD,
    POSITIVE,
    Config,
    Prompts,
    Sightline3D,
    depth_to_space,
    space_to_depth,
)
from napari_sightline.models.weights_io import read_weights, write_weights

SMALL = Config(widths=(8, 16, 24, 36), heads=2, blocks=1, keys=4)


@pytest.fixture(scope="module")
def small() -> Sightline3D:
    torch.manual_seed(0)
    return Sightline3D(SMALL).eval().requires_grad_(False)


def test_folding_and_unfolding_are_inverse() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(depth_to_space(space_to_depth(x)), x)
    # The eight sub-voxels of the first coarse voxel are the first corner of the fine grid.
    assert torch.equal(space_to_depth(x)[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].flatten())


def test_attention_equals_the_formula() -> None:
    torch.manual_seed(0)
    layer = Attention(12, 3)
    query, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    q = layer.q(query).view(2, 5, 3, 4)
    k, v = layer.kv(memory).view(2, 7, 2, 3, 4).unbind(2)
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / 2.0
    rows = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    expected = layer.out(torch.einsum("bhnm,bmhd->bnhd", rows, v).reshape(2, 5, 12))
    torch.testing.assert_close(layer(query, memory, mask), expected)


@pytest.mark.parametrize("cached", [True, False])
def test_shapes(cached: bool) -> None:
    network = Sightline3D(Config(SMALL.widths, 2, 1, 3, 4, cached)).eval()
    prompts = Prompts(torch.full((2, 1, 3), 9.0), torch.full((2, 1), POSITIVE))
    out = network(torch.randn(2, 2, 16, 32, 48), torch.ones(2), prompts)
    assert out.logits.shape == (2, 4, 16, 32, 48)
    assert out.quality.shape == (2, 4)


def test_padding_of_a_batch_changes_nothing(small: Sightline3D) -> None:
    image = torch.randn(1, 2, 32, 32, 32)
    features = small.encode(image, torch.ones(1))
    points, codes = torch.tensor([[[8.0, 9, 10], [20, 3, 7]]]), torch.tensor([[1, 0]])
    plain = small.decode(features, Prompts(points, codes))
    padded = small.decode(
        features,
        Prompts(
            torch.cat([points, torch.randn(1, 3, 3)], 1),
            torch.cat([codes, torch.full((1, 3), PAD)], 1),
        ),
    )
    torch.testing.assert_close(plain.logits, padded.logits, atol=1e-4, rtol=1e-4)


def test_prompt_maps_lie_where_the_prompts_are(small: Sightline3D) -> None:
    features = small.encode(torch.randn(1, 2, 32, 32, 32), torch.ones(1))
    points = torch.tensor([[[8.5, 12.5, 20.5], [25, 4, 4], [2, 6, 10], [13, 17, 29]]]).float()
    codes = torch.tensor([[POSITIVE, NEGATIVE, BOX_LOW, BOX_HIGH]])
    maps = small._prompt_maps(features, Prompts(points, codes))[0]
    for channel, click in ((0, points[0, 0]), (2, points[0, 1])):
        peak = np.unravel_index(int(maps[channel].argmax()), (16, 16, 16))
        assert np.abs(np.array(peak) * 2 + 0.5 - click.numpy()).max() <= 1
    inside = maps[4] > 0.5
    where = inside.nonzero()
    assert where.min(0).values.tolist() == [1, 3, 5]
    assert where.max(0).values.tolist() == [6, 8, 14]
    # Nothing is as similar to the clicked voxel as itself.
    assert float(maps[5, 4, 6, 10]) == pytest.approx(1, abs=1e-4)


def test_the_previous_mask_and_the_spacing_matter(small: Sightline3D) -> None:
    image = torch.randn(1, 2, 32, 32, 32)
    prompts = Prompts(torch.full((1, 1, 3), 15.0), torch.full((1, 1), POSITIVE))
    features = small.encode(image, torch.ones(1))
    first = small.decode(features, prompts).logits
    assert not torch.equal(first, small.decode(features, prompts, first[:, :1] + 3).logits)
    assert not torch.equal(first, small(image, torch.full((1,), 4.0), prompts).logits)


def test_the_main_mask_does_not_depend_on_whether_candidates_are_wanted(
    small: Sightline3D,
) -> None:
    features = small.encode(torch.randn(1, 2, 32, 32, 32), torch.ones(1))
    prompts = Prompts(torch.full((1, 1, 3), 15.0), torch.full((1, 1), POSITIVE))
    every, main = small.decode(features, prompts), small.decode(features, prompts, None, False)
    assert main.logits.shape == (1, 1, 32, 32, 32)
    torch.testing.assert_close(main.logits, every.logits[:, :1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(main.quality, every.quality[:, :1])


def test_unknown_previous_mask_is_zero(small: Sightline3D) -> None:
    image = torch.randn(1, 2, 16, 16, 16)
    prompts = Prompts(torch.full((1, 1, 3), 8.0), torch.full((1, 1), POSITIVE))
    features = small.encode(image, torch.ones(1))
    zero = small.decode(features, prompts, torch.zeros(1, 1, 16, 16, 16)).logits
    assert torch.equal(small.decode(features, prompts).logits, zero)


class TestWeights:
    def test_round_trip(self, tmp_path: Path, small: Sightline3D) -> None:
        path = tmp_path / "w.safetensors"
        write_weights(path, small.state_dict(), SMALL, {"step": 3})
        state, config, about = read_weights(path)
        assert config == SMALL
        assert about == {"step": 3}
        for name, value in small.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize(
        ("content", "word"),
        [(None, "missing"), (b"", "damaged"), (b"\x00" * 100, "damaged"), (b"{}" * 50, "damaged")],
    )
    def test_bad_files(self, tmp_path: Path, content: bytes | None, word: str) -> None:
        path = tmp_path / "bad.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=rf"'bad.safetensors' is {word}.*; "):
            EmbeddedModel.load(path)

    def test_truncated(self, tmp_path: Path, small: Sightline3D) -> None:
        path = tmp_path / "w.safetensors"
        write_weights(path, small.state_dict(), SMALL)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelError, match="damaged"):
            read_weights(path)

    def test_another_network(self, tmp_path: Path, small: Sightline3D) -> None:
        from safetensors.torch import save_file

        path = tmp_path / "w.safetensors"
        save_file({"a": torch.zeros(2)}, path)
        with pytest.raises(ModelError, match="not of a sightline-3d"):
            read_weights(path)
        metadata = {"format": "sightline-3d", "config": json.dumps(SMALL.to_dict())}
        save_file({"a": torch.zeros(2)}, path, metadata)
        with pytest.raises(ModelError, match="does not fit"):
            EmbeddedModel.load(path)


class TestEmbedded:
    def test_weights_are_small_and_load(self) -> None:
        assert WEIGHTS.stat().st_size <= 16e6
        model = load_model()
        assert model.name == "sightline-3d"

    def test_decode_is_deterministic(self) -> None:
        model = load_model(device="cpu")
        rng = np.random.default_rng(0)
        region = rng.normal(0, 1, (32, 32, 32)).astype(np.float32)
        encoded = model.encode(region, Intensity.of(region), 2.0)
        points, codes = np.array([[15.0, 15, 15]]), np.array([POSITIVE])
        first = model.decode(encoded, points, codes, None)
        second = model.decode(encoded, points, codes, None)
        np.testing.assert_array_equal(first.logits, second.logits)
        assert np.all((first.quality >= 0) & (first.quality <= 1))

    def test_unknown_model(self) -> None:
        with pytest.raises(BadInput, match="'nothing' is not known; choose one of sightline-3d"):
            load_model("nothing")


class TestPrecision:
    def test_bf16_that_disagrees_is_not_taken(self) -> None:
        good = torch.linspace(-1, 1, 1000)
        wrong = good.clone()
        wrong[:100] *= -1
        chosen = choose_precision(lambda p: good if p == "fp32" else wrong, torch.device("cpu"))
        assert chosen == "fp32"

    @pytest.mark.parametrize("name", ["quantum", "cuda:99", ""])
    def test_devices_that_are_not_there(self, name: str) -> None:
        with pytest.raises(BadInput, match="choose auto"):
            pick_device(name)

    def test_auto_is_a_device(self) -> None:
        assert pick_device("auto").type in ("cpu", "cuda", "mps", "xpu")
