"""The commands `sightline models ...`: what they write, and one sentence for every mistake."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "models"))

from hub_making import Host, hosting
from model_making import bundle, swin

from napari_sightline import cli
from napari_sightline.models import load_segmenter
from napari_sightline.models.cards import CARDS, Card
from napari_sightline.models.download import RemoteFile

Run = Callable[..., tuple[int, str, str]]

SETS = [
    "labels=1=liver, 2=spleen",
    "overlapping=no",
    "orientation=ras",
    "spacing=1.5 1.5 2",
    "intensity=window -175 250",
    "roi=64",
    "merging=merging",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("SIGHTLINE_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save({"state_dict": swin().state_dict()}, tmp_path / "mine.pt")
    return tmp_path / "mine.pt"


def with_sets(*sets: str) -> list[str]:
    return [part for text in sets for part in ("--set", text)]


def sentence(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2, err
    assert err.startswith("sightline: ") and len(err.strip().splitlines()) == 1
    return err


def test_list(run: Run, tmp_path: Path) -> None:
    code, out, err = run("list", "--json", tmp_path / "models.json")
    assert code == 0, err
    for name in CARDS:
        assert name in out
    assert str(tmp_path / "own") in out.replace("\n", "")
    facts = {one["name"]: one for one in json.loads((tmp_path / "models.json").read_text())}
    assert facts["swin-unetr-btcv"]["state"] == "to download"
    assert facts["swin-unetr-btcv"]["sha256"] is None  # not published, so not invented
    assert len(facts["swin-unetr-btcv"]["structures"]) == 13


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['sightline', 'models', 'add', '--help']\n"
        "from napari_sightline.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'numpy', 'requests', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_add_list_verify_remove(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    code, out, err = run("add", checkpoint, "--name", "two organs", *with_sets(*SETS))
    assert code == 0, err
    assert "two-organs: liver, spleen" in out
    spec = load_segmenter("two-organs").spec
    assert (spec.orientation, spec.spacing) == ("RAS", (1.5, 1.5, 2.0))
    assert "two-organs" in run("list")[1]
    code, out, _ = run("verify", "two-organs")
    assert code == 0 and "two-organs: whole, SHA-256 " in out
    assert run("add", checkpoint, "--name", "two organs", "--overwrite", *with_sets(*SETS))[0] == 0
    assert "already" in sentence(run("add", checkpoint, "--name", "two organs", *with_sets(*SETS)))
    assert "say --yes" in sentence(run("remove", "two-organs"))
    assert run("remove", "two-organs", "--yes")[0] == 0
    assert "no model 'two-organs'" in sentence(run("remove", "two-organs", "--yes"))
    assert "no model 'two-organs'" in sentence(run("verify", "two-organs"))


def test_verify_finds_the_damaged_one_among_all(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        assert run("add", checkpoint, "--name", name, *with_sets(*SETS))[0] == 0
    (tmp_path / "own" / "bad" / "model.safetensors").write_bytes(b"other")
    code, out, err = run("verify")
    assert code == 2
    assert "good: whole" in out and "'bad' is not the file" in err and "good" not in err


def test_combine_makes_one_model_of_several(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """As the folds of a cross-validation: one file, which is added like any other model."""
    assert run("add", checkpoint, "--name", "fold", *with_sets(*SETS))[0] == 0
    out = tmp_path / "both.safetensors"
    code, said, _ = run("combine", "fold", "fold", "--out", out)
    assert code == 0 and said.startswith("both.safetensors: 2 networks, ")
    before = out.read_bytes()
    words = sentence(run("combine", "fold", "fold", "fold", "--out", out))
    assert "a file 'both.safetensors' already; give another name or --overwrite" in words
    assert out.read_bytes() == before
    assert "3 networks" in run("combine", *["fold"] * 3, "--out", out, "--overwrite")[1]
    assert len(out.read_bytes()) > 1.4 * len(before)
    assert "end it in .safetensors" in sentence(
        run("combine", "fold", "fold", "--out", tmp_path / "both.pt")
    )
    alone = tmp_path / "alone.safetensors"
    assert "name two or more" in sentence(run("combine", "fold", "--out", alone))
    assert "no model and no file" in sentence(run("combine", "fold", "none", "--out", alone))
    assert not alone.exists()
    assert run("add", out)[0] == 0
    assert run("verify", "both")[0] == 0
    made = load_segmenter("both")
    assert made.spec.name == "both" and len(made.networks) == 3


def test_split_takes_a_combined_model_apart(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("add", checkpoint, "--name", "fold", *with_sets(*SETS))[0] == 0
    both, parts = tmp_path / "both.safetensors", tmp_path / "parts"
    assert run("combine", "fold", "fold", "--out", both)[0] == 0
    assert "no folder" in sentence(run("split", both, "--out", parts))
    parts.mkdir()
    code, said, _ = run("split", both, "--out", parts)
    files = [parts / "both-1.safetensors", parts / "both-2.safetensors"]
    assert code == 0 and said.split() == [str(file) for file in files]
    assert sorted(parts.iterdir()) == files
    before = files[0].read_bytes()
    words = sentence(run("split", both, "--out", parts))
    assert "a file 'both-1.safetensors' already; give another folder or --overwrite" in words
    assert files[0].read_bytes() == before
    assert run("split", both, "--out", parts, "--overwrite")[0] == 0
    assert "'fold' is one network" in sentence(run("split", "fold", "--out", parts))
    assert run("add", files[1])[0] == 0
    assert run("verify", "both-2")[0] == 0


def test_average_makes_one_network_of_several(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("add", checkpoint, "--name", "fold", *with_sets(*SETS))[0] == 0
    out = tmp_path / "mean.safetensors"
    code, said, _ = run("average", "fold", "fold", "--out", out)
    assert code == 0 and said.startswith("mean.safetensors: the average of 2, ")
    before = out.read_bytes()
    assert "or --overwrite" in sentence(run("average", "fold", "fold", "--out", out))
    assert out.read_bytes() == before
    assert run("average", *["fold"] * 3, "--out", out, "--overwrite")[0] == 0
    assert "name two or more" in sentence(
        run("average", "fold", "--out", tmp_path / "a.safetensors")
    )
    assert not (tmp_path / "a.safetensors").exists()
    assert run("add", out)[0] == 0
    assert run("verify", "mean")[0] == 0


def test_look_says_what_is_found_and_open(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    code, out, err = run("add", checkpoint, "--look", "--preset", "btcv")
    assert code == 0, err
    assert "swin_unetr, channels 1 to 3" in out
    assert "orientation RAS" in out and "--set 'merging=merging|" in out
    folder = bundle(tmp_path / "organs", swin())
    code, out, _ = run("add", folder, "--look")
    assert code == 0 and "intensity  window -175 250 0 1" in out and "open" not in out
    assert not (tmp_path / "own").exists()


def test_questions_are_asked_at_a_terminal(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = {text.partition("=")[0]: text.partition("=")[2] for text in SETS}
    answers["spacing"] = "nonsense"

    def prompt(text: str, default: str | None = None, **_: object) -> str:
        asked.append(text)
        for key, start in (("spacing", "Millimetres"), ("merging", "Which version")):
            if text.startswith(start):
                given = answers[key]
                answers["spacing"] = "2 2 2"  # after a first slip
                return given
        return answers["labels"] if text.startswith("Which structure") else str(default or "no")

    monkeypatch.setattr("typer.prompt", prompt)
    monkeypatch.setattr("sys.stdin", Terminal())
    code, _, err = run("add", checkpoint, "--set", "intensity=none")
    assert code == 0, err
    assert "three numbers" in err
    spec = load_segmenter("mine").spec
    assert spec.spacing == (2.0, 2.0, 2.0) and spec.intensity.kind == "none"
    assert not any(text.startswith("How do intensities") for text in asked)


class Terminal(io.StringIO):
    """Somebody sits at it."""

    def isatty(self) -> bool:
        return True


def test_the_page_names_options_and_facts_that_exist(repository: Path) -> None:
    import re

    import typer

    from napari_sightline.models.presets import PRESETS
    from napari_sightline.models.questions import FIELDS
    from napari_sightline.models.swin_unetr import MERGINGS

    group = typer.main.get_command(cli.app).commands["models"]
    known = {
        name
        for one in group.commands.values()
        for item in one.params
        for name in (*item.opts, *item.secondary_opts)
    }
    text = (repository / "docs" / "models.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", text)) <= known
    for word in (*FIELDS, *PRESETS, *MERGINGS):
        assert f"`{word}`" in text or f"--preset {word}" in text, word


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "spacing"], "FACT=ANSWER"),
        (["--set", "colour=red"], "not a fact"),
        (["--set", "spacing=a"], "three numbers"),
        (["--preset", "liver"], "no preset 'liver'"),
        ([], "does not say safely"),
        (with_sets(*SETS, "channels=T1, T2"), "takes 1 channel, "),
        (with_sets(*SETS, "labels=liver"), "gives 3 channels"),
    ],
)
def test_mistakes(run: Run, checkpoint: Path, arguments: list[str], words: str) -> None:
    assert words in sentence(run("add", checkpoint, *arguments))


def test_files_that_are_none(run: Run, tmp_path: Path) -> None:
    assert "missing" in sentence(run("add", tmp_path / "no.pt"))
    (tmp_path / "bad.pt").write_bytes(b"bad")
    assert "damaged" in sentence(run("add", tmp_path / "bad.pt"))


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr("napari_sightline.models.download._WAIT", 0.01)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    torch.save(swin().state_dict(), tmp_path / "served.pt")
    answers = {text.partition("=")[0]: text.partition("=")[2] for text in SETS}
    with hosting() as host:
        host.files["/m.pt"] = (tmp_path / "served.pt").read_bytes()
        files = (RemoteFile("m.pt", f"{host.url}/m.pt"),)
        card = Card("organs", "Two organs", "automatic", ("liver", "spleen"), "CT", "CC-BY-4.0",
                    "a page", files=files, answers=answers)  # fmt: skip
        monkeypatch.setitem(CARDS, "organs", card)
        yield host


def test_get_shows_the_licence_first(run: Run, known: Host) -> None:
    code, out, err = run("get", "organs")
    assert code == 2 and "say --yes" in err
    assert "CC-BY-4.0" in out and "not published" in out
    assert known.ranges == []
    code, out, err = run("get", "organs", "--yes")
    assert code == 0, err
    assert load_segmenter("organs").spec.labels == {1: "liver", 2: "spleen"}
    assert "here already" in sentence(run("get", "organs", "--yes"))


def test_get_without_a_network(run: Run, known: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    known.codes = [503] * 10
    assert "network failed" in sentence(run("get", "organs", "--yes"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in sentence(run("get", "organs", "--yes"))
    assert "not in the catalog" in sentence(run("get", "liver", "--yes"))
