"""The command line: what it writes, and one sentence with exit code 2 for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "evaluate"))

from evaluation_fakes import FakeSession, scan

from napari_sightline import __version__, cli
from napari_sightline.evaluate.cases import EvaluationCase, write_cases
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.models.promptable import WEIGHTS

Run = Callable[..., tuple[int, str, str]]

needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason="the weights of sightline-3d are not here"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; return exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """Let the command use a session without a network."""
    session = FakeSession()
    monkeypatch.setattr(cli, "_session", lambda *_: session)
    return session


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A scan on disk: file axes left, posterior, superior; blocks at known voxels."""
    return save_image(tmp_path / "scan.nii.gz", scan()[0])


def sentence(result: tuple[int, str, str]) -> str:
    """The one sentence of a refused command."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("sightline: ") and err.endswith(".\n")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    return err


# ---- what works


def test_version_and_help(run: Run) -> None:
    assert run("--version")[:2] == (0, f"sightline {__version__}\n")
    code, out, _ = run("--help")
    assert code == 0
    for command in ("segment", "demo", "evaluate", "bench", "train", "models"):
        assert command in out
    code, out, _ = run("segment", "-h")
    assert code == 0 and "--click" in out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['sightline', '--help']\n"
        "from napari_sightline.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'nibabel', 'napari', 'qtpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_segment_writes_the_mask_on_the_files_grid(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mask.nii.gz"
    # canonical (6, 8, 9) is file (9, 8, 6): this file's axes are the canonical ones backwards
    code, printed, _ = run("segment", image, "--click", "9,8,6", "--out", out, "--name", "block")
    assert code == 0
    assert "block" in printed and "mask.nii.gz" in printed and "1 prompt:" in printed
    (prompt,) = fake.prompts
    assert prompt.position == (6.0, 8.0, 9.0) and prompt.positive
    written, original = nibabel.load(out), nibabel.load(image)
    assert written.shape == original.shape
    np.testing.assert_array_equal(written.affine, original.affine)
    assert np.asarray(written.dataobj)[9, 8, 6] == 1
    assert load_labels(out)[1] == {1: "block"}


def test_prompts_come_in_the_documented_order(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path
) -> None:
    volume = load(image)
    x, y, z = volume.voxel_to_mm((16, 17, 18))
    code, _, err = run(
        "segment", image, "--mm", f"{x},{y},{z}:-", "--click", "9,8,6:+", "--click", "1,2,3:-",
        "--box", "5,4,3,12,11,10", "--out", tmp_path / "m.nii",
    )  # fmt: skip
    assert code == 0, err
    box, first, second, third = fake.prompts
    assert (box.low, box.high) == ((3.0, 4.0, 5.0), (10.0, 11.0, 12.0))
    assert (first.position, first.positive) == ((6.0, 8.0, 9.0), True)
    assert (second.position, second.positive) == ((3.0, 2.0, 1.0), False)
    np.testing.assert_allclose(third.position, (16, 17, 18), atol=1e-4)
    assert not third.positive


def test_segment_with_picture_and_json(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path
) -> None:
    from PIL import Image

    picture, facts = tmp_path / "p.png", tmp_path / "facts.json"
    code, _, err = run(
        "segment", image, "--click", "9,8,6", "--out", tmp_path / "m.nii.gz",
        "--picture", picture, "--json", facts,
    )  # fmt: skip
    assert code == 0, err
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 1000
    assert set(json.loads(facts.read_text())) == {"mask", "name", "volume_ml", "quality", "seconds"}


def test_channel_of_a_4d_image(run: Run, fake: FakeSession, tmp_path: Path) -> None:
    values = np.zeros((22, 24, 20, 2), np.int16)
    values[..., 1] = 5
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, -1, 1, 1])), tmp_path / "4d.nii.gz")
    out = tmp_path / "m.nii.gz"
    code, _, err = run(
        "segment", tmp_path / "4d.nii.gz", "--channel", 1, "--click", "9,8,6", "--out", out
    )
    assert code == 0, err
    assert fake.volume is not None and fake.volume.data.max() == 5
    assert nibabel.load(out).shape == (22, 24, 20)


def test_demo_of_a_scan_with_labels(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path
) -> None:
    volume, labels = scan()
    truth = save(tmp_path / "truth.nii.gz", labels, volume, {1: "near block", 2: "far block"})
    folder, facts = tmp_path / "new" / "out", tmp_path / "facts.json"
    code, out, err = run(
        "demo", "--out", folder, "--image", image, "--labels", truth, "--no-window", "--json", facts
    )
    assert code == 0, err
    assert "near block" in out and "Dice" in out and "picture.png" in out
    assert (folder / "picture.png").is_file()
    assert load_labels(folder / "mask.nii.gz")[1] == {1: "near block", 2: "far block"}
    organs = json.loads(facts.read_text())["organs"]
    assert organs[0]["dsc"][-1] > organs[0]["dsc"][0] > 0


def test_demo_of_a_scan_alone_clicks_even_structures(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path
) -> None:
    code, out, err = run("demo", "--out", tmp_path, "--image", image, "--no-window")
    assert code == 0, err
    assert "structure 1" in out
    labels = load_labels(tmp_path / "mask.nii.gz")[0].data
    truth = scan()[1]
    assert set(np.unique(truth[labels > 0])) == {1, 2}  # both blocks, nothing of the ground


def test_demo_without_a_display_says_so(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "No display" in run("demo", "--out", tmp_path, "--image", image)[1]


def test_demo_opens_napari_where_there_is_a_display(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def started(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("napari_sightline.evaluate.demo.find_spec", lambda name: object())
    monkeypatch.setattr("napari_sightline.evaluate.demo.subprocess.run", started)
    code, out, _ = run("demo", "--out", tmp_path, "--image", image)
    assert code == 0 and "Opening napari" in out
    assert calls[0][1:3] == ["-m", "napari"] and str(tmp_path / "mask.nii.gz") in calls[0]


def test_evaluate(run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "napari_sightline.evaluate.interactive.make_session", lambda *_: FakeSession()
    )
    volume, labels = scan()
    truth = save(tmp_path / "truth.nii.gz", labels, volume)
    case = EvaluationCase(image, truth, {1: "near block"}, "blocks")
    file = write_cases(tmp_path / "cases.json", [case])
    facts = tmp_path / "result.json"
    code, out, err = run(
        "evaluate", "interactive", "--cases", file, "--clicks", 3, "--json", facts, "--details"
    )
    assert code == 0, err
    assert "Dice after each click" in out and "no learning" in out
    result = json.loads(facts.read_text())
    assert len(result["mean"]["dsc"]) == len(result["baseline"]["dsc"]) == 3
    assert result["items"][0]["case"] == "scan"
    code, out, _ = run("evaluate", "interactive", "--cases", file, "--clicks", 1, "--no-baseline")
    assert code == 0 and "no learning" not in out


def test_evaluate_cases(run: Run, shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    code, out, err = run(
        "evaluate", "cases", "--data", shared_data, "--out", file, "--set", "sarcoma"
    )
    assert code == 0, err
    assert "15 cases" in out
    assert {entry["set"] for entry in json.loads(file.read_text())} == {"sarcoma"}


def test_train_passes_its_options_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def train(data: Path, minutes: float, out: Path, **options: object) -> None:
        seen.update(options, data=data, minutes=minutes, out=out)

    monkeypatch.setattr("napari_sightline.train.interactive.train", train)
    out = tmp_path / "w.safetensors"
    code, printed, err = run(
        "train", "interactive", "--data", tmp_path, "--minutes", 1.5, "--out", out, "--no-resume"
    )
    assert code == 0, err
    assert str(out) in printed
    assert (seen["data"], seen["minutes"], seen["resume"], seen["seed"]) == (
        tmp_path,
        1.5,
        False,
        0,
    )


@pytest.mark.parametrize(
    "page", ["command-line.md", "evaluation.md", "automatic.md", "training_automatic.md"]
)
def test_documented_options_exist(repository: Path, page: str) -> None:
    import re

    import typer

    def options(command: object) -> set[str]:
        found = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
        for sub in getattr(command, "commands", {}).values():
            found |= options(sub)
        return found

    known = options(typer.main.get_command(cli.app)) | {"--help"}
    text = (repository / "docs" / page).read_text(encoding="utf-8")
    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", text)) <= known


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to go by"),
        (["--click", "1,2"], "i,j,k"),
        (["--click", "1,2,x"], "i,j,k"),
        (["--click", "1,2,3:!"], "not understood"),
        (["--click", "1,2,3:-:-"], "not understood"),
        (["--click", ""], "not understood"),
        (["--click", "22,1,1"], "outside scan"),
        (["--click", "-1,1,1"], "outside scan"),
        (["--click", "nan,1,1"], "finite"),
        (["--mm", "900,0,0"], "outside scan"),
        (["--box", "1,2,3"], "i0,j0,k0,i1,j1,k1"),
        (["--box", "1,2,3,4,5,99"], "outside scan"),
        (["--click", "1,1,1", "--channel", "3"], "channel"),
        (["--click", "1,1,1", "--picture", "p.jpg"], ".png"),
        (["--click", "1,1,1", "--picture", "no/where/p.png"], "cannot be written"),
        (["--click", "1,1,1", "--json", "no/where/p.json"], "cannot be written"),
    ],
)
def test_bad_prompts_and_options(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    out = tmp_path / "mask.nii.gz"
    assert words in sentence(run("segment", image, "--out", out, *arguments))
    assert not out.exists()
    assert not fake.prompts


@pytest.mark.parametrize("name", ["mask.bmp", "mask", "nowhere/mask.nii.gz"])
def test_out_that_cannot_be_written(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path, name: str
) -> None:
    text = sentence(run("segment", image, "--click", "9,8,6", "--out", tmp_path / name))
    assert Path(name).name in text
    assert not fake.log  # found out before any work


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_of_somebody_else(run: Run, fake: FakeSession, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o500)
    assert "cannot be written" in sentence(
        run("segment", image, "--click", "9,8,6", "--out", folder / "mask.nii.gz")
    )


def test_bad_scans(run: Run, fake: FakeSession, image: Path, tmp_path: Path) -> None:
    whole = image.read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.nii.gz").write_bytes(os.urandom(2000))
    (tmp_path / "text.nii").write_text("not a scan")
    for name in ("cut.nii.gz", "noise.nii.gz", "text.nii", "missing.nii.gz", "."):
        options = ("--click", "1,1,1", "--out", tmp_path / "m.nii.gz")
        sentence(run("segment", tmp_path / name, *options))


def test_empty_mask(run: Run, image: Path, tmp_path: Path, fake: FakeSession) -> None:
    fake.wrong = True
    out = tmp_path / "m.nii.gz"
    assert "empty mask" in sentence(run("segment", image, "--click", "9,8,6", "--out", out))
    assert not out.exists()


def test_unknown_model_and_device_and_weights(run: Run, image: Path, tmp_path: Path) -> None:
    base = ("segment", image, "--click", "9,8,6", "--out", tmp_path / "m.nii.gz")
    assert "'magic'" in sentence(run(*base, "--model", "magic"))
    assert "missing.safetensors" in sentence(run(*base, "--weights", "missing.safetensors"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\0" * 100)
    assert "broken.safetensors" in sentence(run(*base, "--weights", broken))


@needs_weights
def test_unknown_device(run: Run, image: Path, tmp_path: Path) -> None:
    base = ("segment", image, "--click", "9,8,6", "--out", tmp_path / "m.nii.gz")
    assert "'abacus'" in sentence(run(*base, "--device", "abacus"))


TRAIN = ["train", "interactive", "--data", ".", "--minutes", "1", "--out"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "interactive", "--cases", "none.json"], "none.json"),
        (["evaluate", "cases", "--data", "nowhere", "--out", "c.json"], "index.json"),
        (["demo", "--clicks", "0", "--no-window"], "clicks"),
        (["demo", "--labels", "truth.nii.gz", "--no-window"], "--image"),
        (["demo", "--out", "/dev/null/x", "--no-window"], "cannot be made"),
        (
            ["train", "interactive", "--data", ".", "--minutes", "1", "--out", "w.bin"],
            "safetensors",
        ),
        (
            ["train", "interactive", "--data", ".", "--minutes", "1", "--out", "w.safetensors"],
            "ind",
        ),
    ],
)
def test_other_mistakes(
    run: Run, fake: FakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert words in sentence(run(*arguments))


def test_usage_mistakes_end_with_code_2(run: Run, image: Path) -> None:
    for arguments in (["segment", image], ["segmnt"], ["segment", image, "--out"], ["bench", "x"]):
        code, _, err = run(*arguments)
        assert code == 2 and err and "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        sys, "argv", ["sightline", "--debug", "evaluate", "interactive", "--cases", "none.json"]
    )
    with pytest.raises(ValueError, match=r"none\.json"):
        cli.main()


def test_interrupt_ends_with_130(
    run: Run, fake: FakeSession, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "add", interrupted)
    out = tmp_path / "m.nii.gz"
    code, _, err = run("segment", image, "--click", "9,8,6", "--out", out)
    assert code == 130 and "Traceback" not in err
    assert not out.exists()


# ---- with the network itself


@needs_weights
def test_the_network_segments_from_the_shell(run: Run, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    code, printed, err = run(
        "segment", image, "--click", "9,8,6", "--click", "1,2,3:-", "--out", out, "--device", "cpu"
    )
    assert code == 0, err
    mask = np.asarray(nibabel.load(out).dataobj)
    assert mask[9, 8, 6] == 1 and mask[1, 2, 3] == 0
    assert "2 prompts" in printed


@needs_weights
def test_models_list(run: Run) -> None:
    code, out, _ = run("models", "list")
    assert code == 0 and "sightline-3d" in out and "MB" in out


@needs_weights
def test_bench_click(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sightline.evaluate.bench.SIZES", (32, 48))
    facts = tmp_path / "bench.json"
    code, out, err = run("bench", "click", "--repeats", 1, "--no-peer", "--json", facts)
    assert code == 0, err
    assert "32^3" in out
    assert json.loads(facts.read_text())["click"]["32"]["decode_p50_ms"] > 0
