"""Automatic segmentation from the shell: one scan, a folder, a cluster, measures, figures."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monai")
sys.path.insert(0, str(Path(__file__).parent))

from auto_making import bright_voxels, scan, write_model, write_scans
from napari_sightline import cli
from napari_sightline.evaluate.cases import EvaluationCase, write_cases
from napari_sightline.evaluate.scans import AutoOptions, Job, find_jobs, run_on_cluster, try_file
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.models.segmenter_io import read_segmenter
from napari_sightline.segment.automatic import segment
from napari_sightline.segment.finish import Finish

Run = Callable[..., tuple[int, str, str]]


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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def sentence(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2, err
    assert err.startswith("sightline: ") and err.endswith(".\n")
    assert len(err.strip().splitlines()) == 1
    return err


class TestOne:
    def test_labels_are_those_of_the_engine(self, run: Run, model: Path, tmp_path: Path) -> None:
        image = save_image(tmp_path / "scan.nii.gz", scan())
        out = tmp_path / "organs.nii.gz"
        code, said, _ = run(
            "auto", image, "--out", out, "--model", model, "--precision", "fp32", "--measures",
            "--uncertainty", "--json", tmp_path / "r.json",
        )  # fmt: skip
        assert code == 0 and str(out) in said
        expected = segment(load(image), read_segmenter(model)[0], device="cpu", precision="fp32")
        written, names = load_labels(out)
        assert np.array_equal(written.data, expected.labels)
        assert np.allclose(written.affine, load(image).affine)
        assert names == {1: "brainstem", 2: "spinal cord"}
        with (tmp_path / "organs.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert int(rows[0]["voxels"]) == int((expected.labels == int(rows[0]["value"])).sum())
        unsure = load(tmp_path / "organs_uncertainty.nii.gz").data
        assert unsure.shape == expected.labels.shape and 0 <= unsure.min() < unsure.max() <= 1.001
        assert json.loads((tmp_path / "r.json").read_text())["status"] == "done"

    def test_what_the_facts_of_a_model_ask_for_can_be_overruled(
        self, run: Run, tmp_path: Path
    ) -> None:
        facts = {"fragments": 1.0, "mirror": True, "blank": -2000.0}
        model = write_model(tmp_path, **facts)
        made = scan()
        data = np.array(made.data)
        data[:, : data.shape[1] // 2] = -2000
        image = save_image(tmp_path / "scan.nii.gz", replace(made, data=data))
        loaded, options = read_segmenter(model)[0], {"device": "cpu", "precision": "fp32"}
        assert loaded.spec.mirror and loaded.spec.fragments == 1
        found = []
        for flags, changes in (
            ([], {}),
            (["--no-mirror"], {"mirror": False}),
            (["--no-mirror", "--fragments", "0"], {"mirror": False, "fragments": 0}),
            (
                ["--no-mirror", "--fragments", "0", "--keep-blank"],
                {"mirror": False, "fragments": 0, "keep_blank": True},
            ),
        ):
            out = tmp_path / "out.nii.gz"
            code, _, _ = run(
                "auto", image, "--out", out, "--model", model, "--precision", "fp32", *flags
            )
            expected = segment(load(image), loaded, **options, **changes).labels  # type: ignore[arg-type]
            assert code == 0 and np.array_equal(load_labels(out)[0].data, expected)
            found.append(expected)
        for one, other in pairwise(found):
            assert not np.array_equal(one, other)

    def test_structures_that_overlap_get_a_file_each(self, run: Run, tmp_path: Path) -> None:
        both = write_model(tmp_path, overlapping=True)
        image = save_image(tmp_path / "scan.nii.gz", scan())
        code, _, _ = run(
            "auto", image, "--out", tmp_path / "o.nii.gz", "--model", both, "--precision", "fp32",
        )  # fmt: skip
        assert code == 0
        expected = segment(load(image), read_segmenter(both)[0], device="cpu", precision="fp32")
        for k, name in enumerate(("brainstem", "spinal_cord")):
            mask, names = load_labels(tmp_path / f"o_{name}.nii.gz")
            assert np.array_equal(mask.data > 0, expected.labels[k])
            assert list(names.values()) == [name.replace("_", " ")]

    def test_refusals(self, run: Run, model: Path, tmp_path: Path) -> None:
        image = save_image(tmp_path / "scan.nii.gz", scan())
        good = ("auto", image, "--out", tmp_path / "o.nii.gz", "--model", model)
        assert "no model and no file" in sentence(run(*good[:-1], "nothing"))
        assert "end it in" in sentence(run("auto", image, "--out", tmp_path / "o.txt"))
        assert "choose auto or cpu" in sentence(run(*good, "--device", "xpu"))
        assert "leave --scheduler out" in sentence(run(*good, "--scheduler", "tcp://x:1"))
        assert "give 0 to" in sentence(run(*good, "--smooth", "-1"))
        assert "needs 1 volume (CT) and 2 came" in sentence(run(*good, "--more", image))
        missing = tmp_path / "none.nii.gz"
        assert "none.nii.gz" in sentence(run("auto", missing, *good[2:]))
        assert not (tmp_path / "o.nii.gz").exists()


class TestFolder:
    def test_a_bad_file_does_not_stop_the_rest_and_a_run_goes_on(
        self, run: Run, model: Path, tmp_path: Path
    ) -> None:
        write_scans(tmp_path / "in", 2)
        (tmp_path / "in/broken.nii.gz").write_bytes(b"not a scan")
        (tmp_path / "in/notes.txt").write_text("not a scan either")
        command = (
            "auto", tmp_path / "in", "--out", tmp_path / "out", "--model", model,
            "--precision", "fp32", "--json", tmp_path / "r.json",
        )  # fmt: skip
        code, said, err = run(*command)
        assert code == 1
        assert "2 done, 0 there already, 1 failed" in said
        assert err.startswith("broken.nii.gz: ") and "Traceback" not in err
        made = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert made == ["p0_labels.nii.gz", "p1_labels.nii.gz"]
        states = {Path(r["image"]).name: r["status"] for r in _json(tmp_path / "r.json")}
        assert states == {"broken.nii.gz": "failed", "p0.nii.gz": "done", "p1.nii.gz": "done"}
        # As if stopped after the first: what is there stays as it is.
        before = (tmp_path / "out/p0_labels.nii.gz").stat().st_mtime_ns
        (tmp_path / "out/p1_labels.nii.gz").unlink()
        (tmp_path / "in/broken.nii.gz").unlink()
        code, said, _ = run(*command)
        assert code == 0 and "1 done, 1 there already, 0 failed" in said
        assert (tmp_path / "out/p0_labels.nii.gz").stat().st_mtime_ns == before

    def test_refusals(self, run: Run, model: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "holds no scans" in sentence(
            run("auto", tmp_path / "empty", "--out", tmp_path / "out", "--model", model)
        )
        write_scans(tmp_path / "in", 1)
        command = ("auto", tmp_path / "in", "--model", model, "--out")
        assert "share a folder" in sentence(run(*command, tmp_path / "in"))
        assert "no format for labels" in sentence(
            run(*command, tmp_path / "out", "--ending", ".jpg")
        )
        save_image(tmp_path / "in/p0.nrrd", scan())
        assert "several scans named 'p0'" in sentence(run(*command, tmp_path / "out"))

    def test_a_fault_of_the_program_costs_its_scan_only(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from napari_sightline.evaluate import scans

        def broken(*_: object) -> None:
            raise KeyError("odd")

        monkeypatch.setattr(scans, "segment_file", broken)
        job = Job(tmp_path / "a.nii.gz", tmp_path / "a_labels.nii.gz")
        outcome = try_file(job, AutoOptions(str(model)))
        assert outcome.status == "failed" and outcome.error == "KeyError: 'odd'"

    def test_a_full_disk_leaves_nothing_half_written(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = write_scans(tmp_path / "in", 1)[0]
        monkeypatch.setattr(os, "fsync", _full)
        job = Job(image, tmp_path / "p0_labels.nii.gz")
        outcome = try_file(job, AutoOptions(str(model), precision="fp32"))
        assert outcome.status == "failed" and "No space left" in outcome.error
        assert [p.name for p in tmp_path.iterdir()] == ["in"]


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


class TestCluster:
    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Iterator[Any]:
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=None,
            local_directory=str(tmp_path / "dask"),
        ) as made:
            yield made

    @pytest.mark.timeout(300)
    @pytest.mark.filterwarnings("ignore")
    def test_a_worker_that_is_killed_loses_nothing(self, cluster: Any, tmp_path: Path) -> None:
        from distributed import Client

        write_scans(tmp_path / "in", 8)
        (tmp_path / "out").mkdir()
        jobs = find_jobs(tmp_path / "in", tmp_path / "out")
        address = cluster.scheduler_address
        outcomes, killed = [], 0
        with Client(address) as watching:
            for outcome in run_on_cluster(jobs, AutoOptions("bright"), address, work=bright_voxels):
                outcomes.append(outcome)
                busy = [worker for worker, tasks in watching.processing().items() if tasks]
                if not killed and busy:
                    killed = watching.run(os.getpid, workers=busy[:1])[busy[0]]
                    os.kill(killed, signal.SIGKILL)
        assert killed
        assert {o.status for o in outcomes} == {"done"}
        assert sorted(Path(o.image).name for o in outcomes) == [f"p{k}.nii.gz" for k in range(8)]
        for job in jobs:
            labels, names = load_labels(job.out)
            assert np.array_equal(labels.data > 0, load(job.image).data > 100)
            assert names == {1: "bright"}
        made = {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
        assert made == {job.out.name for job in jobs}

    def test_what_workers_are_sent(self, model: Path, tmp_path: Path) -> None:
        """The real work goes through pickle, as to another process, and does the job there."""
        image = write_scans(tmp_path / "in", 1)[0]
        job = Job(image, tmp_path / "p0_labels.nii.gz")
        options = AutoOptions(str(model), "cpu", "fp32", finish=Finish(largest=True))
        work, again, same = pickle.loads(pickle.dumps((try_file, job, options)))
        outcome = pickle.loads(pickle.dumps(work(again, same, False)))
        assert outcome.status == "done" and job.out.is_file()

    def test_nobody_answers(self, run: Run, model: Path, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        write_scans(tmp_path / "in", 1)
        command = ("auto", tmp_path / "in", "--out", tmp_path / "out", "--model", model)
        assert "No Dask scheduler answers" in sentence(
            run(*command, "--scheduler", "nonsense://127.0.0.1:1")
        )


class TestMeasure:
    def test_a_table(self, run: Run, tmp_path: Path) -> None:
        volume = scan()
        labels = np.zeros(volume.shape, np.uint8)
        labels[4:9, 8:20, 6:12] = 3
        image = save_image(tmp_path / "scan.nii.gz", volume)
        drawn = save(tmp_path / "l.nii.gz", labels, volume, {3: "liver"})
        code, said, _ = run(
            "measure", drawn, "--image", image, "--out", tmp_path / "m.csv",
            "--json", tmp_path / "m.json",
        )  # fmt: skip
        assert code == 0 and "liver" in said
        (row,) = _json(tmp_path / "m.json")
        assert row["volume_ml"] == pytest.approx(360 * 12 / 1000)
        assert row["mean"] == pytest.approx(float(volume.data[labels == 3].mean()), rel=1e-6)
        assert (tmp_path / "m.csv").read_text().count("\n") == 2

    def test_labels_of_another_scan(self, run: Run, tmp_path: Path) -> None:
        volume = scan()
        image = save_image(tmp_path / "scan.nii.gz", scan(shape=(20, 40, 36)))
        drawn = save(tmp_path / "l.nii.gz", np.ones(volume.shape, np.uint8), volume)
        assert "give the scan that the labels were drawn on" in sentence(
            run("measure", drawn, "--image", image)
        )


def test_evaluate(run: Run, model: Path, tmp_path: Path) -> None:
    image = save_image(tmp_path / "scan.nii.gz", scan())
    found = segment(load(image), read_segmenter(model)[0], device="cpu", precision="fp32")
    labels = save(tmp_path / "truth.nii.gz", found.labels, load(image))
    case = EvaluationCase(image, labels, {1: "brainstem", 2: "cord", 9: "tumour"})
    cases = write_cases(tmp_path / "cases.json", [case])
    code, said, _ = run(
        "evaluate", "automatic", "--cases", cases, "--model", model, "--precision", "fp32",
        "--json", tmp_path / "e.json",
    )  # fmt: skip
    assert code == 0 and "brainstem" in said
    result = _json(tmp_path / "e.json")
    assert result["mean"]["dice"] == 1 and result["mean"]["nsd"] == 1
    assert set(result["structures"]) == {"brainstem", "cord"}  # by another name too


def test_finish_shapes_each_structure_and_takes_nothing_from_others() -> None:
    labels = np.zeros((12, 20, 20), np.uint8)
    labels[2:9, 2:10, 2:10] = 1
    labels[5, 5, 5] = 0  # a hole
    labels[6, 6, 6] = 2  # another structure inside, its smaller part
    labels[2:6, 12:18, 12:18] = 2
    labels[10, 18, 1] = 1  # an island
    spacing = (1.0, 1.0, 1.0)
    assert Finish().apply(labels, spacing) is labels
    largest = Finish(largest=True).apply(labels, spacing)
    assert largest[10, 18, 1] == 0 and largest[6, 6, 6] == 0 and largest[5, 5, 5] == 0
    filled = Finish(holes=True).apply(labels, spacing)
    assert filled[5, 5, 5] == 1 and filled[6, 6, 6] == 2
    both = Finish(largest=True, holes=True, smooth_mm=0.8).apply(labels, spacing)
    assert both[5, 5, 5] == 1 and set(np.unique(both)) == {0, 1, 2}
    masks = np.stack([labels == 1, labels == 2])
    apart = Finish(largest=True).apply(masks, spacing)
    assert np.array_equal(apart[0], largest == 1) and np.array_equal(apart[1], largest == 2)


class TestTrain:
    def test_options_are_passed_on(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: dict[str, Any] = {}

        def train(out: Path, minutes: float, **options: Any) -> None:
            seen.update(options, out=out, minutes=minutes)

        monkeypatch.setattr("napari_sightline.train.automatic.train", train)
        monkeypatch.setattr(
            "napari_sightline.train.automatic.left_out", lambda out: {"p3": ["larynx"]}
        )
        start = ["train", "automatic", "--minutes", 2, "--out", tmp_path / "m.safetensors"]
        code, out, err = run(*start, "--data", tmp_path, "--roi", "96,64,32", "--spacing", 2.5)
        assert code == 0, err
        assert "larynx" in out and "left out" in out
        assert seen["roi"] == (96, 64, 32) and seen["spacing"] == (2.5, 2.5, 2.5)
        assert seen["data"] == tmp_path and seen["minutes"] == 2 and not seen["complete"]
        assert seen["rate"] == 8e-4
        assert (seen["network"], seen["teachers"], seen["teach"]) == (None, (), 0.5)
        code, _, err = run(
            *start, "--network", "dynunet", "--teacher", "a", "--teacher", "b", "--teach", 0.25
        )
        assert code == 0, err
        assert seen["network"] == "dynunet" and seen["teach"] == 0.25
        assert seen["teachers"] == (Path("a"), Path("b"))
        code, _, err = run(*start, "--warm-start", tmp_path / "w", "--roi", 64, "--complete")
        assert code == 0, err
        assert seen["roi"] == (64, 64, 64) and seen["spacing"] is None and seen["complete"]
        assert seen["rate"] == 1e-4
        for option, text in (
            ("--roi", "64,64"),
            ("--roi", "6.5"),
            ("--roi", ""),
            ("--spacing", "2,y,2"),
        ):
            assert f"The answer {text!r} for {option[2:]}" in sentence(run(*start, option, text))
        assert "give millimetres" in sentence(run(*start, "--spacing", "scan"))
