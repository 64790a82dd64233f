"""The commands about attention, on small networks with random weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "attention"))

from attention_making import promptable, swin_unetr

from napari_sightline import cli, models
from napari_sightline.attention.faithful import SCORES, TESTS
from napari_sightline.io import save, save_image
from napari_sightline.models.promptable import EmbeddedModel
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.volume import Volume

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    data = rng.normal(-900, 20, (24, 26, 20))
    data[4:20, 4:22, 3:17] = rng.normal(40, 20, (16, 18, 14))
    data[8:16, 9:17, 6:12] += 150
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    return save_image(
        tmp_path / "scan.nii.gz", Volume.from_array(data.astype(np.int16), affine, modality="CT")
    )


@pytest.fixture(scope="module")
def embedded() -> EmbeddedModel:
    """A small promptable network that finds something everywhere."""
    network = promptable()
    with torch.no_grad():
        network.head.bias.fill_(0.5)  # type: ignore[union-attr]
    return EmbeddedModel(network, "cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, embedded: EmbeddedModel) -> None:
    """Let the command use that network."""
    monkeypatch.setattr(models, "load_model", lambda *_: embedded)


@pytest.mark.usefixtures("small")
def test_attention_of_a_click(run: Run, image: Path, tmp_path: Path) -> None:
    code, out, _ = run("attention", image, "--at", "12,13,9", "--list")
    assert code == 0
    assert "block 2, prompts to image" in out
    labels = np.zeros((20, 26, 24), np.uint8)
    labels[6:12, 9:17, 8:16] = 1
    volume = Volume.from_array(labels, spacing=(2.0, 1.5, 1.5))
    from napari_sightline.io import load

    truth = save(tmp_path / "truth.nii.gz", labels, load(image), {1: "lump"})
    assert volume.shape == load(image).shape
    out_file, picture, facts = (tmp_path / name for name in ("m.nii.gz", "h.png", "f.json"))
    code, out, err = run(
        *("attention", image, "--at", "12,13,9", "--out", out_file, "--png", picture),
        *("--labels", truth, "--json", facts, "--head", "2"),
    )
    assert code == 0, err
    assert "lump" in out
    assert "head 2" in out
    assert picture.stat().st_size > 5000
    values = nibabel.load(out_file).get_fdata()
    assert values.shape == (24, 26, 20)
    assert np.nanmax(values) > 0
    told = json.loads(facts.read_text())
    assert told["heads"] == ["head 1", "head 2", "head 3"]
    shares = np.array(list(told["structures"].values()))
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("mode", ["from", "prompt", "to-prompt", "rollout", "relevance", "gradcam"])
def test_every_mode_gives_a_map(run: Run, image: Path, tmp_path: Path, mode: str) -> None:
    out_file = tmp_path / "m.nii.gz"
    code, _, err = run("attention", image, "--at", "12,13,9", "--mode", mode, "--out", out_file)
    assert code == 0, err
    assert np.isfinite(nibabel.load(out_file).get_fdata()).any()


@pytest.mark.usefixtures("small")
def test_how_faithful_a_map_is(run: Run, image: Path, tmp_path: Path) -> None:
    facts = tmp_path / "f.json"
    code, out, err = run(
        *("attention", image, "--at", "12,13,9", "--mode", "relevance", "--faithful"),
        *("--steps", 2, "--randoms", 1, "--json", facts),
    )
    assert code == 0, err
    assert "this map moved" in out
    areas = json.loads(facts.read_text())["faithful"]
    assert set(areas) == {
        *("this map", "gradient", "Seg-Grad-CAM"),
        *("chance, scattered", "chance, this map moved"),
    }
    for area in areas.values():
        assert all(0 <= area[s][t] <= 1 for s in SCORES for t in TESTS)
    assert areas["chance, scattered"]["overlap"] != areas["this map"]["overlap"]


@pytest.mark.usefixtures("small")
def test_mistakes_cost_one_sentence(run: Run, image: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--at", "90,1,1"), "outside"),
        (("--at", "12,13,9", "--mode", "odd"), "choose one of to, from"),
        (("--at", "12,13,9", "--block", "77"), "choose 0 to 7"),
        (("--at", "12,13,9", "--head", "9"), "heads 1 to 3"),
        (("--at", "12,13,9", "--mode", "prompt", "--prompt", "5"), "choose one of seed"),
        (("--at", "12,13,9", "--block", "3", "--out", tmp_path / "m.nii.gz"), "is no map"),
        (("--at", "12,13,9", "--model", "nothing"), "no model and no file"),
    ):
        code, _, err = run("attention", image, *arguments)
        assert code == 2, arguments
        assert said in err
        assert err.count("\n") == 1


def test_attention_of_an_automatic_model(run: Run, image: Path, tmp_path: Path) -> None:
    from napari_sightline.models.segmenter_io import write_segmenter

    spec = SegmenterSpec("small", {1: "lump"}, roi=(64, 64, 64), orientation="RAS")
    file = write_segmenter(tmp_path / "small.safetensors", swin_unetr(3), spec)
    out_file = tmp_path / "m.nii.gz"
    code, out, err = run(
        *("attention", image, "--at", "12,13,9", "--model", file, "--out", out_file),
        *("--block", "swinViT.layers1.0.blocks.1.attn"),
    )
    assert code == 0, err
    assert "stage 1, block 2, shifted windows of 3 x 3 x 3" in out
    values = nibabel.load(out_file).get_fdata()
    # A window of 3 tokens of 2 voxels; the rest of the scan was not seen.
    assert 0 < np.isfinite(values).sum() <= 6**3
    assert np.isfinite(values[12, 13, 9])


def test_faithfulness_over_cases(run: Run, image: Path, tmp_path: Path, small: None) -> None:
    from napari_sightline.evaluate.cases import EvaluationCase, write_cases
    from napari_sightline.io import load

    labels = np.zeros((20, 26, 24), np.uint8)
    labels[6:12, 9:17, 8:16] = 1
    truth = save(tmp_path / "truth.nii.gz", labels, load(image), {1: "lump"})
    cases = write_cases(
        tmp_path / "cases.json", [EvaluationCase(image, truth, {1: "lump"}, "one", "CT")]
    )
    facts = tmp_path / "f.json"
    code, out, err = run(
        "evaluate", "attention", "--cases", cases, "--randoms", 1, "--steps", 2, "--json", facts
    )
    assert code == 0, err
    assert "Seg-Grad-CAM" in out
    told = json.loads(facts.read_text())
    assert told["n"] == 1
    row = told["maps"]["relevance"]
    for score in ("probability", "overlap"):
        for test, sign in (("deletion", -1), ("insertion", 1)):
            found = row[score][test]
            for chance in ("scattered", "moved"):
                gain = sign * (found["area"] - found[chance]["area"])
                assert found[chance]["gain"] == pytest.approx(gain, abs=2e-4)
                # One case: its bootstrap has nothing to vary.
                assert found[chance]["ci"] == [found[chance]["gain"]] * 2
    assert set(row["agreement"]) == {"gradient", "Seg-Grad-CAM"}


def test_bench_prints_time_and_memory(run: Run, tmp_path: Path, small: None) -> None:
    facts = tmp_path / "f.json"
    code, out, err = run(
        *("bench", "attention", "--repeats", 1, "--side", 64, "--tokens", 2000, "--json", facts)
    )
    assert code == 0, err
    found = json.loads(facts.read_text())["attention"]
    assert set(found) == {
        "sightline-3d",
        "swin-unetr-24",
        *(f"{what}_2000_{unit}" for what in ("row", "product") for unit in ("ms", "mb")),
    }
    assert found["swin-unetr-24"]["memory_ratio"] < 1 / 15
    assert "swin-unetr-24" in out
    assert run("bench", "attention", "--side", 50)[0] == 2
