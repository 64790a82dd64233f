"""MONAI bundles are read as data: facts where they are plain, questions where they are not."""

from __future__ import annotations

import copy
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from model_making import INFERENCE, METADATA, bundle, logits, scan, swin

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.importing import Draft, open_model
from napari_sightline.models.segmenter import IntensityRule

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return swin()


def edited(original: dict[str, Any], change: Change) -> dict[str, Any]:
    made = copy.deepcopy(original)
    change(made)
    return made


def steps(config: dict[str, Any]) -> list[dict[str, Any]]:
    return config["preprocessing"]["transforms"]


def asked(draft: Draft) -> dict[str, str]:
    return {question.key: question.found for question in draft.questions}


@pytest.fixture
def opened(network: nn.Module, tmp_path: Path) -> Callable[..., Draft]:
    def make(
        inference: Change = lambda _: None, metadata: Change = lambda _: None, **more: Any
    ) -> Draft:
        preset = more.pop("preset", None)
        folder = bundle(
            tmp_path / "organs",
            more.pop("network", network),
            edited(INFERENCE, inference),
            edited(METADATA, metadata),
            **more,
        )
        return open_model(folder, preset)

    return make


@pytest.mark.parametrize("yaml", [False, True])
def test_a_bundle_that_says_all_is_asked_nothing(opened: Callable[..., Draft], yaml: bool) -> None:
    draft = opened(yaml=yaml)
    assert draft.questions == ()
    spec = draft.segmenter().spec
    assert spec.name == "organs"
    assert spec.labels == {1: "liver", 2: "spleen"}
    assert (spec.channels, spec.modality, spec.overlapping) == (("CT",), "CT", False)
    assert (spec.orientation, spec.spacing) == ("RAS", (1.5, 1.5, 2.0))
    assert spec.intensity == IntensityRule("window", -175.0, 250.0, 0.0, 1.0, clip=True)
    assert (spec.roi, spec.overlap) == ((64, 64, 64), 0.625)
    assert spec.licence == "Apache-2.0"
    assert any("before 1.5" in note for note in spec.notes)


def test_logits_equal_those_of_monais_own_network(network: nn.Module, tmp_path: Path) -> None:
    """The bundle's own configuration, run by MONAI, is the reference."""
    from monai.bundle import ConfigParser

    inference = edited(INFERENCE, lambda c: c["network_def"].update(downsample="mergingv2"))
    folder = bundle(tmp_path / "organs", swin(downsample="mergingv2"), inference)
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    reference = parser.get_parsed_content("network_def").eval()
    reference.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    segmenter = open_model(folder).segmenter()
    image = scan()
    assert torch.allclose(logits(segmenter.network, image), logits(reference, image), atol=1e-5)


def test_a_zip_and_its_folder_are_the_same(network: nn.Module, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "organs", network)
    archive = tmp_path / "my organs.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in folder.rglob("*"):
            zipped.write(path, path.relative_to(tmp_path))
    one, other = open_model(folder).segmenter(), open_model(archive).segmenter()
    assert other.spec.name == "my organs"
    assert {**vars(other.spec), "name": "organs"} == vars(one.spec)
    assert torch.equal(logits(other.network, scan()), logits(one.network, scan()))


def test_a_zip_with_a_checkpoint_alone(network: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": network.state_dict()}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "fold1.zip", "w") as zipped:
        zipped.write(tmp_path / "model.pt", "fold1/model.pt")
    draft = open_model(tmp_path / "fold1.zip")
    assert draft.name == "fold1"
    assert {"labels", "orientation", "spacing", "intensity", "merging"} <= set(asked(draft))


# ---- the order of merging


@pytest.mark.parametrize(
    ("version", "changelog", "merging"),
    [
        ("1.0.1", {}, "merging_before_1_5"),
        ("1.4.0", {}, "merging_before_1_5"),
        ("1.5.1", {"0.5.4": "update to use monai 1.3.1"}, "merging_before_1_5"),
        ("1.5.1", {}, None),
        ("1.6.0", {"0.2": "update to MONAI 1.6.0"}, None),
        (None, {}, None),
    ],
)
def test_the_order_of_merging_follows_from_versions(
    opened: Callable[..., Draft], version: str | None, changelog: dict[str, str], merging: Any
) -> None:
    draft = opened(metadata=lambda m: m.update(monai_version=version, changelog=changelog))
    assert ("merging" in asked(draft)) == (merging is None)
    segmenter = draft.segmenter({} if merging else {"merging": "merging"})
    stage = segmenter.network.swinViT.layers1[0].downsample
    expected = "PatchMergingBefore15" if merging else "PatchMerging"
    assert type(stage).__name__ == expected


# ---- what cannot be read is asked


def test_expressions_are_never_run(opened: Callable[..., Draft], tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    evil = f"$__import__('os').system('touch {trace}')"

    def change(config: dict[str, Any]) -> None:
        config["imports"] = [evil]
        config["initialize"] = [evil]
        config["pixdim"] = evil
        config["window"]["low"] = evil
        steps(config)[2]["axcodes"] = evil
        config["inferer"]["roi_size"] = evil
        config["inferer"]["overlap"] = evil
        config["network_def"]["feature_size"] = evil

    draft = opened(change)
    found = asked(draft)
    assert set(found) == {"orientation", "spacing", "intensity", "roi"}
    assert all("touch" in text for text in found.values())
    made = draft.segmenter(
        {"orientation": "RAS", "spacing": "scan", "intensity": "none", "roi": "64"}
    )
    assert made.spec.overlap == 0.5  # a matter of patience, so half a window will do
    assert not trace.exists()


def test_unknown_targets_are_never_made(opened: Callable[..., Draft], tmp_path: Path) -> None:
    trace = tmp_path / "was-run"

    def change(config: dict[str, Any]) -> None:
        steps(config).insert(0, {"_target_": "os.system", "command": f"touch {trace}"})
        steps(config).insert(1, {"_target_": "scripts.my_own.Denoised", "keys": "image"})
        steps(config).insert(2, {"_target_": "monai.transforms.MedianSmoothd", "keys": "image"})
        config["network_def"]["_target_"] = "scripts.networks.MyNet"

    draft = opened(change)
    found = asked(draft)
    assert set(found) == {"left_out"}
    for name in ("os.system", "scripts.my_own.Denoised", "MedianSmoothd", "MyNet"):
        assert name in found["left_out"]
    with pytest.raises(BadInput, match="leave out"):
        draft.segmenter()
    draft.segmenter({"left_out": "yes"})
    assert not trace.exists()


def test_an_answer_goes_before_what_was_found(opened: Callable[..., Draft]) -> None:
    spec = opened().segmenter({"spacing": "1 1 1", "overlap": "0.25", "name": "mine"}).spec
    assert (spec.spacing, spec.overlap, spec.name) == ((1.0, 1.0, 1.0), 0.25, "mine")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: steps(c).pop(2), "orientation"),
        (lambda c: c.update(pixdim="@nowhere"), "spacing"),
        (lambda c: c.update(pixdim="@pixdim"), "spacing"),
        (lambda c: c.update(pixdim=[-1, -1, 2.0]), "spacing"),
        (lambda c: c["preprocessing"].update(transforms="$@a + @b"), "intensity"),
        (lambda c: c.pop("preprocessing"), "intensity"),
        (lambda c: steps(c)[4].update(a_min="low"), "intensity"),
        (
            lambda c: steps(c).append({"_target_": "NormalizeIntensityd", "keys": "image"}),
            "intensity",
        ),
        (lambda c: c["inferer"].update(roi_size=[0, 0, 0]) or c["inferer"].pop("overlap"), None),
    ],
)
def test_what_is_not_plain_is_asked(
    opened: Callable[..., Draft], change: Change, key: str | None
) -> None:
    found = asked(opened(change))
    assert key in found if key else not found


def test_a_step_that_is_missing_is_no_step(opened: Callable[..., Draft]) -> None:
    draft = opened(lambda c: steps(c).pop(3))
    assert draft.questions == ()
    assert draft.segmenter().spec.spacing is None


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        (
            {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True},
            IntensityRule("zscore_nonzero"),
        ),
        ({"_target_": "monai.transforms.NormalizeIntensityd"}, IntensityRule("zscore")),
        (
            {"_target_": "NormalizeIntensityd", "subtrahend": 40, "divisor": 80},
            IntensityRule("window", 40.0, 120.0, 0.0, 1.0, clip=False),
        ),
        (
            {"_target_": "ScaleIntensityRangePercentilesd", "lower": 5, "upper": 95,
             "b_min": -1, "b_max": 1, "clip": True},
            IntensityRule("percentile", 5.0, 95.0, -1.0, 1.0, clip=True),
        ),
        (
            {"_target_": "ScaleIntensityRangePercentilesd", "lower": 5, "upper": 95,
             "b_min": 0, "b_max": 1, "relative": True},
            IntensityRule("percentile", 5.0, 95.0, 0.05, 0.95, clip=False),
        ),
        (
            {"_target_": "ScaleIntensityd", "minv": 0, "maxv": 2},
            IntensityRule("percentile", 0.0, 100.0, 0.0, 2.0, clip=False),
        ),
        (
            {"_target_": "ScaleIntensityRangeD", "a_min": 0, "a_max": 100},
            IntensityRule("window", 0.0, 100.0, 0.0, 1.0, clip=False),
        ),
    ],
)  # fmt: skip
def test_rules_of_intensity_do_what_monais_steps_do(
    opened: Callable[..., Draft], step: dict[str, Any], rule: IntensityRule
) -> None:
    import monai.transforms as transforms
    import numpy as np

    draft = opened(lambda c: steps(c).__setitem__(4, {"keys": "image", **step}))
    found = draft.segmenter().spec.intensity
    assert found.kind == rule.kind and found.clip == rule.clip
    np.testing.assert_allclose(
        (found.low, found.high, found.to_low, found.to_high),
        (rule.low, rule.high, rule.to_low, rule.to_high),
    )
    # MONAI's own step, on numbers
    data = np.random.default_rng(0).normal(50, 40, (1, 6, 6, 6)).astype(np.float32)
    data[:, :2] = 0
    arguments = {k: v for k, v in step.items() if k != "_target_"}
    own = getattr(transforms, step["_target_"].rpartition(".")[2])(keys="image", **arguments)
    expected = np.asarray(own({"image": data})["image"])
    if found.kind in ("window", "percentile"):
        limits = (found.low, found.high)
        low, high = limits if found.kind == "window" else np.percentile(data, limits)
        span = found.to_high - found.to_low
        made = (data - low) / (high - low) * span + found.to_low
        made = made.clip(found.to_low, found.to_high) if found.clip else made
    else:
        voxels = data[data != 0] if found.kind == "zscore_nonzero" else data
        made = (data - voxels.mean()) / voxels.std()
        made = np.where(data == 0, 0, made) if found.kind == "zscore_nonzero" else made
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_steps_for_labels_and_disabled_steps_do_not_count(opened: Callable[..., Draft]) -> None:
    def change(config: dict[str, Any]) -> None:
        steps(config).append(
            {"_target_": "ScaleIntensityRanged", "keys": ["label"], "a_min": 0, "a_max": 1}
        )
        steps(config).append(
            {"_target_": "NormalizeIntensityd", "keys": "image", "_disabled_": True}
        )
        steps(config).append({"_target_": "CropForegroundd", "keys": "image"})

    draft = opened(change)
    assert draft.questions == ()
    assert any("foreground" in note for note in draft.notes)


def test_structures_that_overlap(opened: Callable[..., Draft]) -> None:
    def metadata(content: dict[str, Any]) -> None:
        output = content["network_data_format"]["outputs"]["pred"]
        output["channel_def"] = {"0": "tumour core", "1": "whole tumour", "2": "enhancing"}

    def inference(config: dict[str, Any]) -> None:
        config["postprocessing"]["transforms"] = [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
        ]

    spec = opened(inference, metadata).segmenter().spec
    assert spec.overlapping
    assert spec.labels == {1: "tumour core", 2: "whole tumour", 3: "enhancing"}


def test_structures_without_names_are_asked_with_numbers(opened: Callable[..., Draft]) -> None:
    draft = opened(metadata=lambda m: m["network_data_format"].pop("outputs"))
    (question,) = draft.questions
    assert question.key == "labels" and question.value == "1=structure 1, 2=structure 2"


def test_a_preset_fills_what_a_checkpoint_does_not_say(tmp_path: Path) -> None:
    network = swin(in_channels=4)
    torch.save(network.state_dict(), tmp_path / "fold1.pt")
    assert open_model(tmp_path / "fold1.pt").presets == ("brats",)
    draft = open_model(tmp_path / "fold1.pt", "brats")
    assert set(asked(draft)) == {"merging"}
    spec = draft.segmenter({"merging": "merging_before_1_5"}).spec
    assert spec.channels == ("FLAIR", "T1c", "T1", "T2")
    assert spec.overlapping and spec.outputs == 3
    assert (spec.roi, spec.orientation) == ((128, 128, 128), "LPS")
    with pytest.raises(BadInput, match="choose one of btcv, brats, headneck"):
        open_model(tmp_path / "fold1.pt", "liver")


@pytest.mark.parametrize(("preset", "outputs"), [("btcv", 14), ("headneck", 8)])
def test_presets_fit_their_networks(preset: str, outputs: int, tmp_path: Path) -> None:
    torch.save(swin(out_channels=outputs).state_dict(), tmp_path / "m.pt")
    assert open_model(tmp_path / "m.pt").presets == (preset,)
    spec = open_model(tmp_path / "m.pt", preset).segmenter({"merging": "merging"}).spec
    assert spec.outputs == outputs


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_channels": 4}, "in_channels = 4, but its weights have 1"),
        ({"out_channels": 14}, "out_channels = 14"),
        ({"feature_size": 48}, "feature_size = 48"),
        ({"window_size": 7}, "window_size = 7"),
        ({"num_heads": [3, 6, 12, 24]}, "num_heads"),
        ({"use_v2": True}, "use_v2 = True"),
    ],
)
def test_weights_that_are_not_the_configurations_are_refused(
    opened: Callable[..., Draft], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        opened(lambda config: config["network_def"].update(change))


@pytest.mark.parametrize(
    "name", ["../evil.pt", "a/../../evil.pt", "/tmp/evil.pt", "..\\evil.pt", "C:\\evil.pt"]
)
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as zipped:
        zipped.writestr("organs/configs/metadata.json", "{}")
        zipped.writestr(name, "evil")
    with pytest.raises(BadInput, match="leaves its folder"):
        open_model(folder / "bundle.zip")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["bundle.zip", "here", "in"]


def test_a_link_in_a_zip_or_folder_is_refused(network: nn.Module, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("organs/models/model.pt")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as zipped:
        zipped.writestr(entry, "/etc/passwd")
    with pytest.raises(BadInput, match="holds a link"):
        open_model(tmp_path / "bundle.zip")
    folder = bundle(tmp_path / "organs", network)
    outside = tmp_path / "outside.pt"
    (folder / "models" / "model.pt").replace(outside)
    (folder / "models" / "model.pt").symlink_to(outside)
    with pytest.raises(BadInput, match="link that leaves it"):
        open_model(folder)


def test_absurd_sizes_are_refused(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("organs/configs/metadata.json", "{}")
        zipped.writestr("organs/models/model.pt", b"\0" * 20_000_000)
    with pytest.raises(BadInput, match="1000 times its size"):
        open_model(tmp_path / "bomb.zip")
    monkeypatch.setattr("napari_sightline.models.bundle.LARGEST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as zipped:
        zipped.writestr("organs/models/model.pt", b"\0" * 2000)
    with pytest.raises(BadInput, match="unpacks to more than"):
        open_model(tmp_path / "large.zip")


def test_damaged_zips_are_one_sentence(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(BadInput, match="damaged or encrypted"):
        open_model(tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("scan.nii.gz", "x")
    with pytest.raises(BadInput, match="not one bundle"):
        open_model(tmp_path / "other.zip")
    folder = bundle(tmp_path / "organs", network)
    with zipfile.ZipFile(tmp_path / "cut.zip", "w") as zipped:
        for path in folder.rglob("*.*"):
            zipped.write(path, path.relative_to(tmp_path))
    content = bytearray((tmp_path / "cut.zip").read_bytes())
    content[5000:6000] = bytes(1000)
    (tmp_path / "cut.zip").write_bytes(content)
    with pytest.raises(BadInput, match="damaged or encrypted"):
        open_model(tmp_path / "cut.zip")
    with pytest.raises(BadInput, match="missing"):
        open_model(tmp_path / "nowhere.zip")


def test_configurations_made_to_harm_are_one_sentence(network: nn.Module, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "organs", network)
    inference = folder / "configs" / "inference.json"
    for text, words in (
        ("{" * 100, "damaged"),
        ('{"a":' * 100_000, "damaged"),
        ("[1, 2]", "not that of a MONAI bundle"),
        ('{"a": "' + "x" * 5_000_000 + '"}', "larger than"),
    ):
        inference.write_text(text)
        with pytest.raises(BadInput, match=words):
            open_model(folder)
    inference.unlink()
    aliases = "a: &a [x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    (folder / "configs" / "inference.yaml").write_text(aliases)
    with pytest.raises(BadInput, match="aliases"):
        open_model(folder)
    trace = tmp_path / "was-run"
    (folder / "configs" / "inference.yaml").write_text(
        f"a: !!python/object/apply:os.system ['touch {trace}']\n"
    )
    with pytest.raises(BadInput, match="damaged"):
        open_model(folder)
    assert not trace.exists()


def test_a_folder_that_is_no_bundle(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"configs/metadata\.json is missing"):
        open_model(tmp_path)
    folder = bundle(tmp_path / "organs", network)
    (folder / "models" / "model.pt").replace(folder / "models" / "a.pt")
    assert open_model(folder).questions == ()
    (folder / "models" / "b.pt").write_bytes(b"")
    with pytest.raises(BadInput, match="several checkpoints"):
        open_model(folder)
    for name in ("a.pt", "b.pt"):
        (folder / "models" / name).unlink()
    with pytest.raises(BadInput, match="no weights"):
        open_model(folder)


def test_metadata_of_any_shape_do_no_harm(opened: Callable[..., Draft]) -> None:
    def change(content: dict[str, Any]) -> None:
        formats = content["network_data_format"]
        formats["inputs"]["image"] = {"channel_def": ["image"], "spatial_shape": "*"}
        formats["outputs"] = {"pred": {"channel_def": {"a": "b"}}}
        content["changelog"] = "none"

    draft = opened(metadata=change)
    assert set(asked(draft)) == {"labels"}
    assert json.dumps([vars(q) for q in draft.questions])  # plain values, for a form
