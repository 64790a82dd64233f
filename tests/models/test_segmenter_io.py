"""Files of automatic models: what is written is what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.segmenter import IntensityRule, SegmenterSpec
from napari_sightline.models.segmenter_io import (
    read_segmenter,
    spec_from_dict,
    spec_to_dict,
    write_segmenter,
)
from napari_sightline.models.swin_unetr import SwinUnetrSizes

SPEC = SegmenterSpec(
    "necks",
    {1: "mandible", 2: "spinal cord"},
    roi=(64, 64, 64),
    orientation="SPL",
    spacing=(3.0, 2.0, 2.0),
    intensity=IntensityRule("percentile", 1.0, 99.0, -1.0, 1.0, clip=False),
    overlap=0.25,
    modality="CT",
    licence="CC-BY-4.0",
    source="a phantom",
    notes=("Read this.",),
)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    sizes = SwinUnetrSizes(1, 3, 12, (1, 1, 1, 1), window=(4, 4, 4), merging="merging_before_1_5")
    return sizes.build()


def test_round_trip_in_half_precision(network: nn.Module, tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "m.safetensors", network, SPEC, {"dice": {"cord": 0.75}})
    segmenter, about = read_segmenter(path)
    assert segmenter.spec == SPEC
    assert about == {"dice": {"cord": 0.75}}
    assert not segmenter.network.training
    state = segmenter.network.state_dict()
    assert state.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(state[key], expected), key
        assert state[key].dtype == value.dtype
    assert type(segmenter.network.swinViT.layers1[0].downsample).__name__ == "PatchMergingBefore15"
    # the index of positions is not stored: it is as large as the weights
    assert not any("relative_position_index" in key for key in load_file(path))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_whole_precision_on_request(network: nn.Module, tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "m.safetensors", network, SPEC, half=False)
    state = read_segmenter(path)[0].network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_spec_survives_json() -> None:
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(SPEC)))) == SPEC


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {1: "mandible"}}, "structures need 2"),
        ({"channels": ("T1", "T2")}, "takes 1 channel, but 2 are named"),
        ({"roi": (64, 64, 48)}, "multiples of 32"),
    ],
)
def test_facts_that_do_not_fit_are_refused(
    network: nn.Module, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    spec = SegmenterSpec(**{**SPEC.__dict__, **change})
    with pytest.raises(ModelError, match=words):
        write_segmenter(tmp_path / "m.safetensors", network, spec)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_sentence(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="could not be written"):
        write_segmenter(tmp_path / "no" / "m.safetensors", network, SPEC)


def test_damage_is_one_sentence(network: nn.Module, tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "m.safetensors", network, SPEC)
    with pytest.raises(ModelError, match="missing"):
        read_segmenter(tmp_path / "other.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        read_segmenter(path)
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(ModelError, match="damaged"):
        read_segmenter(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="sightline models add"):
        read_segmenter(path)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not of a Swin-UNETR"):
        write_segmenter(tmp_path / "m.safetensors", nn.Conv3d(1, 2, 1), SPEC)
