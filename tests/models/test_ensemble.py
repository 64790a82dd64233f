"""Several networks that answer as one: the mean of their logits, in memory and on disk."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from model_making import logits, scan, swin

from napari_sightline.attention.tap import Tap
from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.dynunet import DynUnetSizes
from napari_sightline.models.ensemble import Ensemble, combine, write_apart, write_combined
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter
from napari_sightline.segment.automatic import segment
from napari_sightline.train.calibrate import BIAS, without_offsets
from napari_sightline.volume import Volume

SPEC = SegmenterSpec(
    "organs",
    {1: "liver", 2: "spleen"},
    roi=(64, 32, 32),
    orientation="SPL",
    intensity=IntensityRule("none"),
    overlap=0.0,
)


def convolutional() -> nn.Module:
    """A second network of another family, whose weights half precision keeps."""
    torch.manual_seed(3)
    steps = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
    network = DynUnetSizes(1, 3, (4, 6, 8), ((3, 3, 3),) * 3, steps).build()
    with torch.no_grad():
        for value in network.parameters():
            value.copy_((value + 0.1 * torch.randn_like(value)).half().float())
    return network


def both() -> tuple[Segmenter, Segmenter]:
    return Segmenter(deepcopy(swin()), SPEC), Segmenter(
        convolutional(), replace(SPEC, name="second")
    )


class Heads(nn.Module):
    """Gives several outputs, as with deep supervision; the first counts."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return [torch.cat([image, -image, 2 * image], 1), torch.full_like(image, torch.nan)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_logits_are_the_mean(count: int) -> None:
    members = [swin(), convolutional(), Heads()][:count]
    image = scan()
    found = logits(Ensemble(members), image)
    each = [logits(member, image) for member in members]
    each = [one[0] if isinstance(one, list) else one for one in each]
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-5)
    assert found.dtype == torch.float32
    if count > 1:
        assert (found.argmax(1) != each[0].argmax(1)).any()  # the others have a say


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_run_gives_the_mean_and_its_attention_is_that_of_the_first(overlapping: bool) -> None:
    """Labels are those of MONAI's sliding window with each network, averaged afterwards."""
    from monai.inferers.utils import sliding_window_inference

    first, second = both()
    labels = {1: "a", 2: "b", 3: "c"} if overlapping else SPEC.labels
    spec = replace(SPEC, overlap=0.5, overlapping=overlapping, labels=labels)
    models = [replace(one, spec=spec) for one in (first, second)]
    image = scan(shape=(80, 48, 40))
    with torch.no_grad():
        each = [
            sliding_window_inference(image, spec.roi, 1, one.network, 0.5, "gaussian")
            for one in models
        ]
    expected = torch.stack(each).mean(0)[0]
    tap = Tap(keep=4)
    found = segment(
        Volume.from_array(image[0, 0].numpy(), spacing=(1.0, 1.0, 1.0)),
        combine(models),
        device="cpu",
        precision="fp32",
        probabilities=True,
        tap=tap,
    )
    chances = expected.sigmoid() if overlapping else expected.softmax(0)
    np.testing.assert_allclose(found.probabilities, chances, atol=2e-3)
    answer = (expected > 0).numpy() if overlapping else expected.argmax(0).numpy()
    assert (found.labels == answer).mean() >= 0.9999
    assert tap.latest is not None and tap.latest.network is first.network
    assert tap.latest.model == "organs, the first of 2 networks"
    assert any(call.observable for call in tap.latest.calls)


def test_a_file_holds_all_networks(tmp_path: Path) -> None:
    first, second = both()
    made = combine([first, second, first], "three")
    path = tmp_path / "three.safetensors"
    write_segmenter(path, made.network, made.spec, {"a": 1}, others=made.others)
    read, about = read_segmenter(path)
    assert about == {"a": 1} and read.spec == replace(SPEC, name="three")
    assert [type(one).__name__ for one in read.networks] == ["SwinUNETR", "DynUNet", "SwinUNETR"]
    # Half precision loses nothing here; attention is computed another way.
    assert torch.allclose(logits(read.whole, scan()), logits(made.whole, scan()), atol=1e-5)
    assert not any("relative_position_index" in key for key in load_file(path))
    assert not read.whole.training


@pytest.mark.parametrize("damage", ["lost", "cut", "foreign"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    first, second = both()
    path = tmp_path / "two.safetensors"
    write_segmenter(path, first.network, SPEC, others=[second.network])
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    if damage == "lost":
        del metadata["others"]
    elif damage == "cut":
        state.pop(next(key for key in state if key.startswith("others.0.")))
    else:
        metadata["others"] = json.dumps([{"family": "swin_unetr", "config": {}}])
    save_file(state, path, metadata)
    with pytest.raises(ModelError, match=r"is damaged; copy or download the file again"):
        read_segmenter(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {1: "spleen", 2: "liver"}}, "other structures"),
        ({"spacing": (1.0, 1.0, 2.0)}, "another grid"),
        ({"roi": (64, 64, 32)}, "another window"),
        ({"intensity": IntensityRule("zscore")}, "other intensities"),
        ({"orientation": "RAS"}, "axes in another order"),
    ],
)
def test_models_that_do_not_belong_together(changes: dict[str, Any], words: str) -> None:
    first, second = both()
    other = replace(second, spec=replace(second.spec, **changes))
    with pytest.raises(ModelError, match=f"'second' has {words} than 'organs'; name models that"):
        combine([first, other])
    with pytest.raises(ModelError, match="One model alone is no ensemble; name two or more"):
        combine([first])


def test_offsets_of_each_network_can_be_taken_off_again(tmp_path: Path) -> None:
    """Learning goes on from what the networks were before their offsets."""
    first, second = both()
    names = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    write_segmenter(names[0], first.network, SPEC, {"offsets": {1: 0.5}, "steps": 7})
    write_segmenter(names[1], second.network, second.spec, {"offsets": {2: -1.0}})
    made = write_combined(names, tmp_path / "two.safetensors")
    assert made.spec.name == "two"
    again = write_combined([tmp_path / "two.safetensors", names[1]], tmp_path / "all.safetensors")
    assert len(again.networks) == 3
    read, about = read_segmenter(tmp_path / "all.safetensors")
    assert about["steps"] == 7
    plain = without_offsets(read, about)
    for before, after, offsets in zip(
        read.networks, plain.networks, ([0, 0.5, 0], [0, 0, -1], [0, 0, -1]), strict=True
    ):
        name = BIAS if BIAS in before.state_dict() else "output_block.conv.conv.bias"
        taken = before.state_dict()[name] - after.state_dict()[name]
        assert torch.allclose(taken, torch.tensor(offsets, dtype=torch.float32), atol=1e-3)


def test_a_combined_model_is_taken_apart_again(tmp_path: Path) -> None:
    """Each file is the one that was combined: family, weights, facts and notes."""
    first, second = both()
    names = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    write_segmenter(names[0], first.network, SPEC, {"offsets": {"1": 0.5}, "steps": 7})
    write_segmenter(names[1], second.network, second.spec, {"offsets": {"2": -1.0}})
    write_combined([*names, names[0]], tmp_path / "three.safetensors")
    (tmp_path / "parts").mkdir()
    made = write_apart(tmp_path / "three.safetensors", tmp_path / "parts")
    assert [file.name for file in made] == [f"three-{k}.safetensors" for k in (1, 2, 3)]
    for file, before in zip(made, [*names, names[0]], strict=True):
        (one, about), (other, noted) = read_segmenter(file), read_segmenter(before)
        assert about == noted and not one.others
        assert replace(one.spec, name="") == replace(other.spec, name="")
        assert one.spec.name == file.stem
        state, expected = load_file(file), load_file(before)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("notes", [3, {"offsets": {}}, ["no offsets"], [{"offsets": {"9": 1}}]])
def test_damaged_notes_are_refused(notes: object) -> None:
    made = combine(both())
    with pytest.raises(ModelError, match=r"in the file of 'organs' are damaged; copy it again"):
        without_offsets(made, {"others": notes})


@pytest.mark.parametrize("notes", [3, ["no notes"], [{}, {}]])
def test_a_file_with_damaged_notes_is_neither_combined_nor_taken_apart(
    notes: object, tmp_path: Path
) -> None:
    first, second = both()
    path, out = tmp_path / "two.safetensors", tmp_path / "three.safetensors"
    write_segmenter(path, first.network, SPEC, {"others": notes}, others=[second.network])
    with pytest.raises(ModelError, match=r"in the file of 'two' are damaged; copy it again"):
        write_combined([path, path], out)
    with pytest.raises(ModelError, match=r"in the file of 'two' are damaged; copy it again"):
        write_apart(path, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_belong_is_called_as_it_was_asked_for(tmp_path: Path) -> None:
    for name, roi in (("fold0", (64, 32, 32)), ("fold1", (64, 64, 32))):
        write_segmenter(tmp_path / f"{name}.safetensors", swin(), replace(SPEC, roi=roi))
    files = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match="'fold1' has another window than 'fold0'"):
        write_combined(files, tmp_path / "both.safetensors")
    assert sorted(tmp_path.iterdir()) == files


def test_a_checkpoint_of_others_is_imported_first(tmp_path: Path) -> None:
    torch.save(swin().state_dict(), tmp_path / "theirs.pt")
    out = tmp_path / "two.safetensors"
    with pytest.raises(BadInput, match=r"import it first with `sightline models add`"):
        write_combined([tmp_path / "theirs.pt", tmp_path / "theirs.pt"], out)
    assert not out.exists()
