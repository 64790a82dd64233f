"""Checkpoints and bundles of MONAI's DynUNet give its own logits."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import model_making
from model_making import INFERENCE, bundle, logits, scan

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.architecture import repeated
from napari_sightline.models.dynunet import DynUnetSizes
from napari_sightline.models.importing import open_model
from napari_sightline.models.segmenter import IntensityRule, SegmenterSpec
from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter

ANSWERS = {**model_making.ANSWERS, "roi": "32"}
SPEC = SegmenterSpec(
    name="tissues",
    labels={1: "liver", 2: "spleen"},
    channels=("CT",),
    roi=(32, 32, 32),
    orientation="RAS",
    spacing=(1.5, 1.5, 2.0),
    intensity=IntensityRule("window", -175, 250),
)
UNEVEN: dict[str, Any] = {
    "kernel_size": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "upsample_kernel_size": [[1, 2, 2], [2, 2, 2]],
}


def dynunet(**changes: Any) -> nn.Module:
    from monai.networks.nets import DynUNet

    torch.manual_seed(3)
    even = {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3}
    arguments = {"filters": [4, 6, 8, 10], **even, **changes}
    arguments["filters"] = arguments["filters"][: len(arguments["strides"])]
    network = DynUNet(3, 1, 3, **arguments).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.copy_((value + 0.1 * torch.randn_like(value)).half().float())
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {},
        UNEVEN,
        {"norm_name": "instance", "res_block": True, "trans_bias": True},
        {"norm_name": "batch", "deep_supervision": True, "deep_supr_num": 2},
    ],
)
def test_a_checkpoint_gives_monais_logits(changes: dict[str, Any], tmp_path: Path) -> None:
    network = dynunet(**changes)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "model.pt")
    draft = open_model(tmp_path / "model.pt")
    assert (draft.family, draft.in_channels, draft.out_channels) == ("dynunet", 1, 3)
    assert any("as MONAI has them by default" in note for note in draft.notes)
    segmenter = draft.segmenter(ANSWERS)
    image = scan(shape=(32, 32, 32))
    assert torch.equal(logits(segmenter.network, image), logits(network, image))


def test_weights_without_their_second_names(tmp_path: Path) -> None:
    network = dynunet()
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("skip_layers.")}
    assert len(state) < len(network.state_dict())
    torch.save(state, tmp_path / "model.pt")
    image = scan(shape=(32, 32, 32))
    made = open_model(tmp_path / "model.pt").segmenter(ANSWERS).network
    assert torch.equal(logits(made, image), logits(network, image))


def test_a_file_keeps_each_weight_once(tmp_path: Path) -> None:
    network = dynunet(**UNEVEN)
    path = write_segmenter(tmp_path / "tissues.safetensors", network, SPEC)
    once = sum(p.numel() for p in network.parameters())
    assert 2 * once < path.stat().st_size < 2 * once + 8192
    segmenter, _ = read_segmenter(path)
    assert segmenter.spec == SPEC
    image = scan(shape=(32, 32, 32))
    assert torch.equal(logits(segmenter.network, image), logits(network, image))
    assert all("skip_layers" in name for name in repeated(segmenter.network))


def test_sizes_survive_json() -> None:
    sizes = DynUnetSizes(
        1, 3, (4, 6, 8), ((1, 3, 3), *((3, 3, 3),) * 2), ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    )
    assert DynUnetSizes.from_dict(json.loads(json.dumps(sizes.to_dict()))) == sizes
    assert sizes.strides == (2, 4, 4)


def _inference(**network: Any) -> dict[str, Any]:
    even = {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3}
    given = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "filters": [4, 6, 8, 10]}
    changed = deepcopy(INFERENCE)
    changed["network_def"] = {"_target_": "DynUNet", **given, **even, **network}
    return changed


def test_a_bundle_is_read_and_compared(tmp_path: Path) -> None:
    network = dynunet()
    right = open_model(bundle(tmp_path / "right", network, _inference()))
    assert right.family == "dynunet" and "left_out" not in {q.key for q in right.questions}
    image = scan(shape=(32, 32, 32))
    answers = {q.key: ANSWERS[q.key] for q in right.questions}
    made = right.segmenter({**answers, "roi": "32"}).network
    assert torch.equal(logits(made, image), logits(network, image))
    with pytest.raises(ModelError, match="says filters"):
        open_model(bundle(tmp_path / "wrong", network, _inference(filters=[4, 6, 8, 12])))
    with pytest.raises(ModelError, match="says strides"):
        open_model(bundle(tmp_path / "steps", network, _inference(strides=[1, 2, 2, [1, 2, 2]])))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"norm_name": ["group", {"num_groups": 2}]}, "the normalisation 'group'"),
        ({"act_name": "relu"}, "the activation 'relu'"),
        ({"act_name": ["leakyrelu", {"negative_slope": 0.2}]}, "the activation"),
        ({"strides": [[2, 2, 2], 2, 2, 2]}, "the first stride"),
    ],
)
def test_what_shapes_do_not_tell_is_refused(
    network: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        open_model(bundle(tmp_path / "other", dynunet(), _inference(**network)))


def test_the_usual_arguments_are_taken(tmp_path: Path) -> None:
    same = ["leakyrelu", {"inplace": True, "negative_slope": 0.01}]
    usual = _inference(norm_name="INSTANCE", act_name=same)
    draft = open_model(bundle(tmp_path / "usual", dynunet(norm_name="instance"), usual))
    assert "left_out" not in {q.key for q in draft.questions}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("bottleneck.conv1.conv.weight"), "lacks 'bottleneck.conv1.conv.weight'"),
        (lambda s: s.pop("bottleneck.conv2.conv.weight"), "lacks 'bottleneck.conv2.conv.weight'"),
        (lambda s: s.update({"input_block.gate": torch.ones(2)}), "'input_block.gate' that MONAI"),
        (
            lambda s: s.update(
                {"bottleneck.conv1.conv.weight": torch.ones(1).expand(4000, 8, 3, 3, 3)}
            ),
            "4000 channels",
        ),
        (
            lambda s: s.update({"downsamples.0.conv1.conv.weight": torch.ones(6, 4, 3, 3)}),
            "for 2D pictures",
        ),
        (
            lambda s: s.update({f"downsamples.{n}.x": torch.ones(1) for n in range(40)}),
            "42 levels",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(change: Any, words: str, tmp_path: Path) -> None:
    state = dynunet().state_dict()
    change(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=words) as caught:
        open_model(tmp_path / "model.pt").segmenter(ANSWERS)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_window_fits_each_axis(tmp_path: Path) -> None:
    torch.save(dynunet(**UNEVEN).state_dict(), tmp_path / "model.pt")
    draft = open_model(tmp_path / "model.pt")
    assert draft.segmenter({**ANSWERS, "roi": "2 32 36"}).spec.roi == (2, 32, 36)
    with pytest.raises(ModelError, match="choose multiples of 2, 4, 4"):
        draft.segmenter({**ANSWERS, "roi": "32 32 34"})
    with pytest.raises(BadInput):
        draft.segmenter({**ANSWERS, "roi": "many"})
