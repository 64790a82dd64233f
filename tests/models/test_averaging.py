"""The mean of the weights of models that learnt on from the same ones."""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from model_making import logits, scan, swin

from napari_sightline.errors import ModelError
from napari_sightline.models.averaging import average, write_average
from napari_sightline.models.dynunet import DynUnetSizes
from napari_sightline.models.ensemble import combine
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter
from napari_sightline.train.calibrate import BIAS, without_offsets

SPEC = SegmenterSpec(
    "first", {1: "liver", 2: "spleen"}, roi=(64, 32, 32), intensity=IntensityRule("none")
)


def moved(network: nn.Module, by: float, seed: int = 5) -> nn.Module:
    """Copy a network that learnt on a little; half precision keeps its weights."""
    made = deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in made.parameters():
            step = by * torch.randn(value.shape, generator=generator)
            value.copy_((value + step).half().float())
    return made


def dynunet(norm: str = "instance", filters: tuple[int, ...] = (4, 6, 8)) -> nn.Module:
    torch.manual_seed(3)
    steps = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
    return DynUnetSizes(1, 3, filters, ((3, 3, 3),) * 3, steps, norm=norm).build()


def named(network: nn.Module, name: str, **facts: Any) -> Segmenter:
    return Segmenter(network, replace(SPEC, name=name, **facts))


@pytest.mark.parametrize("begun", [swin, dynunet])
def test_every_weight_is_the_mean(begun: Any) -> None:
    models = [named(moved(begun(), 0.1, seed), f"fold{seed}") for seed in range(3)]
    made = average(models)
    assert made.spec == models[0].spec and not made.others
    states = [one.network.state_dict() for one in models]
    for key, value in made.network.state_dict().items():
        if value.is_floating_point():
            expected = sum(state[key].double() for state in states) / 3
            assert torch.allclose(value.double(), expected, atol=1e-7), key
        else:
            assert torch.equal(value, states[0][key]), key
    assert not made.network.training
    assert average(models, "mean").spec.name == "mean"


def test_near_the_mean_of_the_answers_where_networks_began_as_one() -> None:
    """That is what the average is for: the price of one network."""
    image, begun = scan(), swin()
    models = [named(moved(begun, 0.003, seed), str(seed)) for seed in range(2)]
    each = [logits(one.network, image) for one in models]
    found = logits(average(models).network, image)
    apart = (each[0] - each[1]).abs().mean()
    assert (found - torch.stack(each).mean(0)).abs().mean() < 0.2 * apart


def test_the_answer_of_one_averaged_with_itself_is_its_own() -> None:
    one = named(swin(), "a")
    found, expected = logits(average([one, one]).network, scan()), logits(swin(), scan())
    assert torch.allclose(found, expected, atol=1e-5)  # attention is computed another way


def test_offsets_are_averaged_and_come_off_again(tmp_path: Path) -> None:
    begun = swin()
    plain = [moved(begun, 0.01, seed) for seed in range(2)]
    offsets: list[dict[int, float]] = [{1: 0.5}, {1: -1.0, 2: 2.0}]
    files = []
    for number, (network, added) in enumerate(zip(plain, offsets, strict=True)):
        shifted = deepcopy(network)
        with torch.no_grad():
            for output, offset in added.items():
                shifted.get_parameter(BIAS)[output] += offset
        files.append(tmp_path / f"{number}.safetensors")
        about = {"offsets": added, "steps": number}
        write_segmenter(files[-1], shifted, SPEC, about, half=False)
    write_average(files, tmp_path / "mean.safetensors", half=False)
    read, about = read_segmenter(tmp_path / "mean.safetensors")
    assert read.spec.name == "mean"
    assert about == {"offsets": {"1": -0.25, "2": 1.0}, "steps": 0}
    expected = average([named(network, "a") for network in plain]).network.state_dict()
    for key, value in without_offsets(read, about).network.state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6), key


def test_half_precision_by_default(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for number, file in enumerate(files):
        write_segmenter(file, moved(swin(), 0.01, number), SPEC)
    write_average(files, tmp_path / "mean.safetensors")
    assert (tmp_path / "mean.safetensors").stat().st_size <= 1.01 * files[0].stat().st_size


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (named(swin(feature_size=24), "b"), "'b' is a network of another size than 'first'"),
        (named(swin(downsample="mergingv2"), "b"), "'b' is a network of another size than"),
        (named(dynunet(), "b"), "'b' is a network of another size than 'first'; average models"),
        (named(swin(), "b", roi=(64, 64, 32)), "'b' has another window than 'first'"),
        (named(swin(), "b", labels={1: "spleen", 2: "liver"}), "'b' has other structures than"),
        (combine([named(swin(), "b")] * 2), r"'b' is several networks; take it apart first with"),
    ],
)
def test_what_has_no_average(other: Segmenter, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        average([named(swin(), "first"), other])


def test_batch_statistics_have_no_mean() -> None:
    model = named(dynunet("batch"), "b")
    with pytest.raises(ModelError, match=r"batch normalisation, .* `sightline models combine`"):
        average([model, model])


def test_one_alone_has_none() -> None:
    with pytest.raises(ModelError, match="One model alone has no average; name two or more"):
        average([named(swin(), "a")])


@pytest.mark.parametrize("notes", [3, {"1": "much"}])
def test_damaged_offsets_are_one_sentence(notes: object, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_segmenter(path, swin(), SPEC, {"offsets": notes})
    with pytest.raises(ModelError, match="offsets noted in the file of 'a' are damaged"):
        write_average([path, path], tmp_path / "mean.safetensors")
    assert list(tmp_path.iterdir()) == [path]
