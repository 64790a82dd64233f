"""Checkpoints of Swin-UNETR and UNETR give MONAI's own logits, in whatever wrapping they come."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import model_making
from model_making import SMALL, logits, scan, swin

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.checkpoint import read_checkpoint
from napari_sightline.models.importing import open_model
from napari_sightline.models.swin_unetr import SwinUnetrSizes, sizes_of_network, sizes_of_state

ANSWERS = {**model_making.ANSWERS, "merging": "merging"}


def imported(path: Path, **answers: str) -> nn.Module:
    return open_model(path).segmenter({**ANSWERS, **answers}).network


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depths": (1, 2, 1, 1), "use_v2": True, "patch_norm": True, "qkv_bias": False},
        {"window_size": (2, 3, 4), "norm_name": ("instance", {"affine": True}), "mlp_ratio": 2.0},
        {"norm_name": "batch", "in_channels": 2, "out_channels": 4},
    ],
)
def test_sizes_follow_from_shapes(changes: dict[str, Any]) -> None:
    network = swin(**changes)
    sizes = sizes_of_state(network.state_dict())
    expected = {**SMALL, **changes}
    window = expected["window_size"]
    assert sizes.window == (window if isinstance(window, tuple) else (window,) * 3)
    assert (sizes.depths, sizes.heads) == (expected["depths"], expected["num_heads"])
    assert (sizes.in_channels, sizes.out_channels) == (
        expected["in_channels"],
        expected["out_channels"],
    )
    assert sizes.use_v2 == expected.get("use_v2", False)
    built = sizes.build()
    built.load_state_dict(network.state_dict())
    image = scan(sizes.in_channels)
    assert torch.allclose(logits(built, image), logits(network, image), atol=1e-5)
    assert SwinUnetrSizes.from_dict(sizes.to_dict()) == sizes


def test_the_usual_window_of_seven_is_read() -> None:
    sizes = sizes_of_state(swin(window_size=7, depths=(2, 2, 2, 2)).state_dict())
    assert sizes.window == (7, 7, 7) and sizes.depths == (2, 2, 2, 2)


def test_flash_attention_is_on_and_changes_nothing() -> None:
    network = swin()
    fast = sizes_of_network(network).build()
    assert fast.swinViT.layers1[0].blocks[0].attn.use_flash_attention
    fast.load_state_dict(network.state_dict())
    assert torch.allclose(logits(fast, scan()), logits(network, scan()), atol=1e-5)


# ---- the order in which tokens are merged


class ReferenceMerging(nn.Module):
    """The default of MONAI 0.9 to 1.4, written out as its documentation of issue 8284 lists it."""

    def __init__(self, dim: int, norm_layer: type = nn.LayerNorm, spatial_dims: int = 3) -> None:
        super().__init__()
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corner, d, h, w = x[:, ::2, ::2, ::2], x[:, 1::2], x[:, :, 1::2], x[:, :, :, 1::2]
        depth, height, width = d[:, :, ::2, ::2], h[:, ::2, :, ::2], w[:, ::2, ::2]
        both, all_three = d[:, :, ::2, 1::2], d[:, :, 1::2, 1::2]
        parts = [corner, depth, height, width, both, height, width, all_three]
        return self.reduction(self.norm(torch.cat(parts, -1)))


@pytest.mark.parametrize("merging", ["merging", "merging_before_1_5", "mergingv2"])
def test_each_order_of_merging_is_computed(merging: str, tmp_path: Path) -> None:
    reference = swin(downsample=ReferenceMerging if merging == "merging_before_1_5" else merging)
    path = tmp_path / "model.pt"
    torch.save(reference.state_dict(), path)
    image = scan()
    expected = logits(reference, image)
    network = imported(path, merging=merging)
    assert torch.allclose(logits(network, image), expected, atol=1e-5)
    assert sizes_of_network(network).merging == merging
    other = "mergingv2" if merging != "mergingv2" else "merging"
    wrong = logits(imported(path, merging=other), image)
    assert float((wrong - expected).abs().max()) > 1e-2


def test_the_order_is_asked_for_where_a_checkpoint_is_all_there_is(tmp_path: Path) -> None:
    torch.save(swin().state_dict(), tmp_path / "model.pt")
    draft = open_model(tmp_path / "model.pt")
    asked = {q.key: q for q in draft.questions}
    assert asked["merging"].value == ""
    assert asked["merging"].choices == ("merging", "merging_before_1_5", "mergingv2")
    without = {key: value for key, value in ANSWERS.items() if key != "merging"}
    with pytest.raises(BadInput, match=r"--set 'merging=merging\|merging_before_1_5\|mergingv2'"):
        draft.segmenter(without)


def test_a_file_of_an_older_pytorch_tells_the_order(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(swin().state_dict(), tmp_path / "new.pt")
    newer = {"byteorder", ".format_version", ".storage_alignment", "serialization_id"}
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(path, "w") as old:
        for entry in new.namelist():
            if entry.rpartition("/")[2] not in newer:
                old.writestr(entry, new.read(entry))
    draft = open_model(path)
    assert "merging" not in {q.key for q in draft.questions}
    assert any("older than MONAI 1.5" in note for note in draft.notes)
    without = {key: value for key, value in ANSWERS.items() if key != "merging"}
    network = draft.segmenter(without).network
    assert sizes_of_network(network).merging == "merging_before_1_5"
    network = draft.segmenter({**without, "merging": "mergingv2"}).network
    assert sizes_of_network(network).merging == "mergingv2"


# ---- wrappings


def _prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "best_acc": np.float64(0.8)},
        lambda s: {"model": s, "optimizer": {"step": torch.ones(1), "groups": [{"lr": 0.1}]}},
        lambda s: {"net": _prefixed(s, "module.")},
        lambda s: {"network": {"state_dict": s}},
        lambda s: _prefixed(s, "module."),
        lambda s: _prefixed(s, "_orig_mod."),
        lambda s: {"state_dict": {**_prefixed(s, "net."), "loss.weight": torch.ones(3)}},
        lambda s: {"state_dict": _prefixed(s, "model.module._orig_mod.")},
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    ],
)
def test_wrappings_come_off(wrap: Any, tmp_path: Path) -> None:
    network = swin()
    torch.save(wrap(network.state_dict()), tmp_path / "model.pth")
    state = imported(tmp_path / "model.pth").state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_data_parallel_and_safetensors(tmp_path: Path) -> None:
    network = swin()
    state = nn.DataParallel(network).state_dict()
    assert all(key.startswith("module.") for key in state)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    made = imported(tmp_path / "model.safetensors")
    assert torch.allclose(logits(made, scan()), logits(network, scan()), atol=1e-5)


def test_an_index_of_positions_that_is_left_out_is_made_again(tmp_path: Path) -> None:
    network = swin()
    state = {k: v for k, v in network.state_dict().items() if "position_index" not in k}
    torch.save(state, tmp_path / "model.pt")
    state = imported(tmp_path / "model.pt").state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


# ---- UNETR


def test_unetr(tmp_path: Path) -> None:
    from monai.networks.nets import UNETR

    torch.manual_seed(0)
    sizes = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 4}
    network = UNETR(1, 3, (48, 32, 32), **sizes).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "unetr.pt")
    draft = open_model(tmp_path / "unetr.pt")
    assert draft.family == "unetr"
    assert {"heads", "image_size"} <= {q.key for q in draft.questions}
    assert "merging" not in {q.key for q in draft.questions}
    answers = {**ANSWERS, "heads": "4", "image_size": "48 32 32"}
    segmenter = draft.segmenter(answers)
    assert segmenter.spec.roi == (48, 32, 32)
    image = scan(shape=(48, 32, 32))
    assert torch.allclose(logits(segmenter.network, image), logits(network, image), atol=1e-5)
    assert segmenter.network.vit.blocks[0].attn.use_flash_attention
    with pytest.raises(ModelError, match="do not divide"):
        draft.segmenter({**answers, "heads": "7"})
    with pytest.raises(ModelError, match="does not fit the checkpoint's 12 tokens"):
        draft.segmenter({**answers, "image_size": "96"})


def test_unetr_of_another_version_of_monai(tmp_path: Path) -> None:
    from monai.networks.nets import UNETR

    torch.manual_seed(0)
    network = UNETR(1, 3, 32, feature_size=4, hidden_size=64, mlp_dim=32, num_heads=1).eval()
    state = {k: v for k, v in network.state_dict().items() if "norm_cross_attn" not in k}
    state["vit.patch_embedding.cls_token"] = torch.zeros(1, 1, 64)
    state["vit.blocks.0.cross_attn.to_q.weight"] = torch.ones(64, 64)
    torch.save(state, tmp_path / "unetr.pt")
    made = imported(tmp_path / "unetr.pt", heads="1")
    image = scan(shape=(32, 32, 32))
    assert torch.allclose(logits(made, image), logits(network, image), atol=1e-5)


# ---- what is refused, in one sentence


class Malicious:
    """Runs a command where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.target}'",)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt"])
def test_a_malicious_pickle_is_not_run(tmp_path: Path, ending: str) -> None:
    trace = tmp_path / "was-run"
    path = tmp_path / f"model{ending}"
    torch.save({**swin().state_dict(), "extra": Malicious(trace)}, path)
    with pytest.raises(ModelError, match="could run code; ask its author for the weights alone"):
        open_model(path)
    assert not trace.exists()
    torch.save({"state_dict": swin().state_dict(), "x": Malicious(trace)}, path,
               _use_new_zipfile_serialization=False)  # fmt: skip
    with pytest.raises(ModelError, match="could run code"):
        open_model(path)
    assert not trace.exists()


def test_objects_of_python_are_not_made(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": swin().state_dict(), "args": argparse.Namespace(a=1)}, path)
    with pytest.raises(ModelError, match="more than weights"):
        open_model(path)
    torch.save(swin(), path)  # the module itself
    with pytest.raises(ModelError, match="more than weights"):
        open_model(path)


def test_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ModelError, match="TorchScript program"):
        open_model(path)


def _without(state: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: _without(s, "decoder5.conv_block.conv1.conv.weight"), "lacks 'decoder5"),
        (lambda s: _without(s, "out.conv.conv.weight"), "not of a Swin-UNETR"),
        (
            lambda s: _without(s, "swinViT.layers3.0.blocks.0.attn.relative_position_bias_table"),
            "lacks 'swinViT.layers3",
        ),
        (lambda s: {**s, "decoder6.weight": torch.ones(2)}, "has 'decoder6.weight' that MONAI"),
        (
            lambda s: {**s, "decoder1.conv_block.conv1.conv.weight": torch.ones(2)},
            "shape \\(2,\\) where",
        ),
        (lambda s: {f"a.{k}": v for k, v in s.items()} | {f"b.{k}": v for k, v in s.items()},
         "holds 2 networks"),
        (lambda s: {**s, "out.conv.conv.bias": torch.full((3,), float("nan"))}, "not finite"),
        (lambda s: {"note": "nothing"}, "no weights under a name"),
        (lambda s: {"layer.weight": torch.ones(2, 2)}, "another architecture"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(change(swin().state_dict()), path)
    with pytest.raises(ModelError, match=words) as caught:
        imported(path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    from monai.networks.nets import SegResNet, UNet

    for other in (
        UNet(3, 1, 2, (4, 8), (2,)),
        SegResNet(init_filters=8),
        swin(spatial_dims=2, depths=(1, 1, 1, 1)),
    ):
        torch.save(other.state_dict(), tmp_path / "model.pt")
        with pytest.raises(ModelError, match="give one"):
            open_model(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"channels": "T1, T2"}, "takes 1 channel, but 2 are named"),
        ({"labels": "1=liver"}, "gives 3 channels"),
        ({"overlapping": "yes"}, "gives 3 channels"),
        ({"roi": "50"}, "multiples of 32"),
        ({"roi": "32"}, "one token"),
    ],
)
def test_wrong_counts_are_refused(answers: dict[str, str], words: str, tmp_path: Path) -> None:
    torch.save(swin().state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match=words):
        imported(tmp_path / "model.pt", **answers)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"orientation": "RAX"}, "three letters"),
        ({"orientation": "RLS"}, "three letters"),
        ({"spacing": "1 2"}, "three numbers"),
        ({"spacing": "0 1 1"}, "three numbers"),
        ({"intensity": "window 5"}, "zscore_nonzero"),
        ({"intensity": "window 5 4"}, "zscore_nonzero"),
        ({"labels": "1=liver, 1=spleen"}, "label=name"),
        ({"overlap": "1.5"}, "from 0 to 0.9"),
        ({"overlapping": "perhaps"}, "choose no, yes"),
        ({"merging": "new"}, "choose merging"),
        ({"colour": "red"}, "not a fact of a model"),
    ],
)
def test_answers_that_are_not_understood(
    answers: dict[str, str], words: str, tmp_path: Path
) -> None:
    torch.save(swin().state_dict(), tmp_path / "model.pt")
    with pytest.raises(BadInput, match=words):
        imported(tmp_path / "model.pt", **answers)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="missing"):
        read_checkpoint(tmp_path / "no.pt")
    (tmp_path / "scan.nii").write_bytes(b"")
    with pytest.raises(BadInput, match="not a checkpoint by its name"):
        read_checkpoint(tmp_path / "scan.nii")
    for name in ("empty.pt", "text.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"not a checkpoint")
        with pytest.raises(ModelError):
            read_checkpoint(tmp_path / name)
    torch.save(swin().state_dict(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("swinViT.patch_embed.proj.weight", (1200, 1, 2, 2, 2), "1200 features"),
        ("swinViT.patch_embed.proj.weight", (13, 1, 2, 2, 2), "13 features"),
        ("swinViT.patch_embed.proj.weight", (12, 5000, 2, 2, 2), "5000 channels in"),
        ("swinViT.patch_embed.proj.weight", (12, 1, 40, 40, 40), "tokens of 40"),
        ("swinViT.layers1.0.blocks.0.attn.relative_position_bias_table", (27, 5), "5 heads"),
        ("swinViT.layers1.0.blocks.0.attn.relative_position_bias_table", (127**3, 1), "no window"),
    ],
)
def test_absurd_shapes_are_refused_before_anything_is_built(
    key: str, shape: tuple[int, ...], words: str, tmp_path: Path
) -> None:
    state = swin().state_dict()
    state.pop("swinViT.layers1.0.blocks.0.attn.relative_position_index")
    state[key] = torch.zeros(1).expand(shape)  # one number on disk
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=words):
        open_model(tmp_path / "model.pt")


def test_a_tensor_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    state = {**swin().state_dict(), "huge": torch.zeros(1, dtype=torch.half).expand(2**40)}
    torch.save(state, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 20_000_000
    with pytest.raises(ModelError, match="claims more than 8 GB"):
        open_model(tmp_path / "model.pt")


def test_an_absurd_size_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(swin().state_dict(), tmp_path / "model.pt")
    monkeypatch.setattr("napari_sightline.models.checkpoint.LARGEST_BYTES", 1000)
    with pytest.raises(BadInput, match="larger than"):
        read_checkpoint(tmp_path / "model.pt")
