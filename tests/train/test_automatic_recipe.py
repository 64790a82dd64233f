"""The recipe of automatic models on data made on the spot."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_making import SPEC, scene, small, write

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.dynunet import DynUnetSizes
from napari_sightline.models.segmenter import IntensityRule, Segmenter
from napari_sightline.train.automatic import HEADNECK_LAG, _Trainer, left_out
from napari_sightline.train.automatic import train as train_automatic
from napari_sightline.train.automatic_plan import HEADNECK_SPEC, Options, headneck_network, plan
from napari_sightline.train.calibrate import BIAS
from napari_sightline.train.completing import maker_of
from napari_sightline.train.organ_cases import find_pairs
from napari_sightline.train.organ_crops import Mirror, OrganCrop, OrganSampler
from napari_sightline.train.organ_judge import OrganJudge

pytest.importorskip("monai")
from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter


def test_the_embedded_network_fits_its_file(tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "m.safetensors", headneck_network().eval(), HEADNECK_SPEC)
    assert path.stat().st_size <= 16e6
    again, _ = read_segmenter(path)
    assert again.spec == HEADNECK_SPEC
    assert HEADNECK_SPEC.outputs == 8


class TestRun:
    def test_it_tunes_resumes_and_writes(self, pairs: tuple[Path, Path], tmp_path: Path) -> None:
        base = write_segmenter(tmp_path / "base.safetensors", small(3).eval(), SPEC)
        out = tmp_path / "tuned.safetensors"
        common = {"images": pairs[0], "labels": pairs[1], "workers": 1, "precision": "fp32"}
        common["optimiser"] = "muon" if hasattr(torch.optim, "Muon") else "adamw"
        train_automatic(out, 0.05, warm_start=base, **common)  # type: ignore[arg-type]
        log = out.with_suffix(".log.jsonl")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert rows[0]["event"] == "start" and rows[0]["step"] == 0
        assert set(rows[-1]["dice"]) == {"ball", "cube"}
        assert rows[-2]["event"] == "calibration" and len(rows[-2]["offsets"]) == 3
        # They are in the file's last layer, and not in what training goes on from.
        kept = torch.load(out.with_suffix(".ckpt"), weights_only=True)["average"][BIAS]
        added = read_segmenter(out)[0].network.state_dict()[BIAS] - kept
        assert added.tolist() == pytest.approx(rows[-2]["offsets"], abs=2e-3)
        model, about = read_segmenter(out)
        assert dict(model.spec.labels) == {1: "ball", 2: "cube"} and about["step"] >= 1
        assert {float(v) for v in about["offsets"].values()} == {
            x for x in rows[-2]["offsets"] if x
        }
        train_automatic(out, 0.08, warm_start=base, **common)  # type: ignore[arg-type]
        starts = [r for r in map(json.loads, log.read_text().splitlines()) if "load_seconds" in r]
        assert starts[1]["step"] == about["step"]

    def test_what_a_process_finds_wrong_is_said_as_it_is(
        self, pairs: tuple[Path, Path], tmp_path: Path
    ) -> None:
        held = {s.name for s in find_pairs(*pairs)[0] if s.validates}
        name = min({"p0", "p1", "p2", "p3"} - held)
        write(pairs[1] / f"{name}_labels.nii.gz", scene(0)[1][:-1])
        base = write_segmenter(tmp_path / "base.safetensors", small(3).eval(), SPEC)
        out = tmp_path / "tuned.safetensors"
        with pytest.raises(BadInput, match=f"^The labels '{name}_labels.nii.gz' lie on another"):
            train_automatic(out, 0.01, images=pairs[0], labels=pairs[1], warm_start=base, workers=2)
        assert not out.exists()

    def test_a_process_without_trusted_contours_stops(
        self, pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "napari_sightline.train.automatic.doubtful",
            lambda medians, least: {name: tuple(found) for name, found in medians.items()},
        )
        base = write_segmenter(tmp_path / "base.safetensors", small(3).eval(), SPEC)
        with pytest.raises(BadInput, match="belong to other scans, and a process has no others"):
            train_automatic(
                tmp_path / "tuned.safetensors",
                0.01,
                images=pairs[0],
                labels=pairs[1],
                warm_start=base,
                workers=1,
            )

    def test_offsets_are_not_learnt_from(self, pairs: tuple[Path, Path], tmp_path: Path) -> None:
        network = small(3).eval()
        about = {"offsets": {"1": -1.5, "2": 0.5}}
        base = write_segmenter(tmp_path / "base.safetensors", network, SPEC, about)
        out = tmp_path / "tuned.safetensors"
        train_automatic(
            out, 0.01, images=pairs[0], labels=pairs[1], warm_start=base, workers=1, rate=1e-6
        )
        kept = torch.load(out.with_suffix(".ckpt"), weights_only=True)["average"][BIAS]
        expected = network.state_dict()[BIAS] - torch.tensor([0, -1.5, 0.5])
        torch.testing.assert_close(kept, expected, atol=1e-3, rtol=0)

    def test_no_minutes_choose_offsets_and_learn_nothing(
        self, pairs: tuple[Path, Path], tmp_path: Path
    ) -> None:
        network = small(3).eval()
        base = write_segmenter(tmp_path / "base.safetensors", network, SPEC, {"offsets": {"1": 3}})
        out = tmp_path / "again.safetensors"
        common: dict[str, Any] = {"images": pairs[0], "labels": pairs[1], "workers": 1}
        train_automatic(out, 0, warm_start=base, **common)
        (before, _), (after, about) = read_segmenter(base), read_segmenter(out)
        learnt, state = before.network.state_dict(), after.network.state_dict()
        assert all(torch.equal(state[key], learnt[key]) for key in learnt if key != BIAS)
        rows = [json.loads(row) for row in out.with_suffix(".log.jsonl").read_text().splitlines()]
        chosen = rows[-2]["offsets"]
        assert rows[-2]["event"] == "calibration" and chosen[0] == 0 and any(chosen)
        assert {int(k): v for k, v in about["offsets"].items()} == {
            k: v for k, v in enumerate(chosen) if v
        }
        plain = learnt[BIAS] - torch.tensor([0.0, 3.0, 0.0])
        torch.testing.assert_close(state[BIAS], plain + torch.tensor(chosen), atol=4e-3, rtol=0)
        with pytest.raises(BadInput, match="training of 0 minutes cannot run; give more than 0"):
            train_automatic(out, 0, **common)

    def test_no_minutes_teach_no_structures(self, pairs: tuple[Path, Path], tmp_path: Path) -> None:
        other = replace(SPEC, labels={1: "ball"})
        base = write_segmenter(tmp_path / "base.safetensors", small(2).eval(), other)
        out = tmp_path / "w.safetensors"
        common: dict[str, Any] = {"images": pairs[0], "labels": pairs[1], "workers": 1}
        with pytest.raises(BadInput, match="other structures than 'test', which it must learn"):
            train_automatic(out, 0, warm_start=base, **common)
        assert not out.exists()

    @pytest.mark.parametrize(
        "offsets", [{"7": 1.0}, {"-1": 1.0}, {"1": "a"}, {"x": 1.0}, [1.0], {"1": float("nan")}]
    )
    def test_offsets_that_make_no_sense(
        self, pairs: tuple[Path, Path], tmp_path: Path, offsets: object
    ) -> None:
        base = write_segmenter(
            tmp_path / "base.safetensors", small(3).eval(), SPEC, {"offsets": offsets}
        )
        with pytest.raises(ModelError, match="offsets noted in the file of 'test'"):
            train_automatic(
                tmp_path / "w.safetensors",
                0.01,
                images=pairs[0],
                labels=pairs[1],
                warm_start=base,
                workers=1,
            )

    @staticmethod
    def _headneck(tmp_path: Path) -> Path:
        """Write two partly contoured cases, and a model to start from."""
        known = ["Brainstem", "Larynx"]
        index: dict[str, dict[str, object]] = {}
        for k in range(2):
            image, labels = scene(k)
            write(tmp_path / f"headneck_ct/pt_{k}_ct.nii.gz", image)
            organs = np.choose(labels, (0, 1, 6)).astype(np.uint8)
            write(tmp_path / f"headneck_ct/pt_{k}_organs.nii.gz", organs)
            group = "validation-pats" if k else "train-pats"
            index[f"pt_{k}"] = {"group": group, "contoured": known}
        (tmp_path / "index.json").write_text(json.dumps({"headneck_ct": index}))
        spec = replace(HEADNECK_SPEC, roi=SPEC.roi)
        return write_segmenter(tmp_path / "base.safetensors", small(8).eval(), spec)

    def test_what_is_not_contoured_is_filled_in(self, tmp_path: Path) -> None:
        base = self._headneck(tmp_path)
        seen: list[tuple[int, ...]] = []
        draw = OrganSampler.draw

        def noted(sampler: OrganSampler) -> OrganCrop:
            seen.extend(case.source.known for case in sampler.cases)
            assert all(set(case.points) == {1, 6} for case in sampler.cases)
            assert sampler.mirror == Mirror(2, {3: 4, 4: 3}, HEADNECK_LAG)  # of these data only
            return draw(sampler)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OrganSampler, "draw", noted)
            for complete in (True, False):
                train_automatic(
                    tmp_path / f"{complete}.safetensors",
                    0.002,
                    data=tmp_path,
                    warm_start=base,
                    workers=1,
                    complete=complete,
                )
                assert set(seen) == {tuple(range(1, 8)) if complete else (1, 6)}
                seen.clear()

    def test_a_run_that_goes_on_fills_in_no_second_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base, out = self._headneck(tmp_path), tmp_path / "w.safetensors"
        filled: list[str] = []
        logits, learn = OrganJudge.logits, _Trainer.learn

        def noted(judge, network, case, bf16, roi=None):  # type: ignore[no-untyped-def]
            if roi is not None:  # the model that fills in has its own
                filled.append(case.source.name)
            return logits(judge, network, case, bf16, roi)

        learnt: list[np.ndarray] = []

        def watched(trainer: _Trainer, done: float) -> float:
            learnt.append(trainer.sampler.cases[0].labels)
            return learn(trainer, done)

        monkeypatch.setattr(OrganJudge, "logits", noted)
        monkeypatch.setattr(_Trainer, "learn", watched)
        for minutes in (0.002, 0.05):
            before = len(learnt)
            train_automatic(out, minutes, data=tmp_path, warm_start=base, workers=1, complete=True)
            assert len(learnt) > before
        assert learnt[0].max() > 1 and set(np.unique(learnt[0])) - {0, 1, 6}
        assert filled == ["pt_0"] and np.array_equal(learnt[0], learnt[-1])
        assert [p.name for p in out.with_suffix(".filled").iterdir()] == ["pt_0.npz"]

    def test_a_teacher_fills_in_and_is_learnt_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = self._headneck(tmp_path)
        teacher, _ = read_segmenter(base)
        with torch.no_grad():
            teacher.network.out.conv.conv.bias.copy_(torch.tensor([0.0] * 7 + [12.0]))
        spec = replace(teacher.spec, roi=(32, 32, 64))
        offsets = {"offsets": {"7": 2.0}}
        path = write_segmenter(tmp_path / "jaws.safetensors", teacher.network, spec, offsets)
        pulls: dict[float, torch.Tensor] = {}
        known: set[tuple[int, ...]] = set()
        filled: list[bool] = []
        learn = _Trainer.learn

        def watched(trainer: _Trainer, done: float) -> float:
            loss = learn(trainer, done)
            bias = trainer.state.model.output_block.conv.conv.bias  # type: ignore[union-attr]
            # Of the first step, where weights and crop are the same for all shares.
            pulls.setdefault(teach, bias.grad.clone())  # type: ignore[union-attr,operator]
            filled.extend(bool((case.labels == 7).any()) for case in trainer.sampler.cases)
            known.update(case.source.known for case in trainer.sampler.cases)
            return loss

        monkeypatch.setattr(_Trainer, "learn", watched)
        for teach, complete in ((0.0, False), (1.0, False), (0.5, False), (0.0, True)):
            out = tmp_path / f"{teach}{complete}.safetensors"
            train_automatic(
                out,
                0.002,
                data=tmp_path,
                network="dynunet",
                teachers=[path],
                teach=teach,
                complete=complete,
                workers=1,
                roi=(64, 32, 32),
            )
            assert known == {tuple(range(1, 8)) if complete else (1, 6)}
            assert set(filled) == {complete}
            known.clear()
            filled.clear()
        # The teacher sees mandible everywhere; contours leave it open.
        assert pulls[1.0][0] > 0 > pulls[1.0][7] and pulls[0.0][7] > pulls[1.0][7] + 0.5
        half = (pulls[0.0] + pulls[1.0]) / 2
        torch.testing.assert_close(pulls[0.5], half, atol=2e-3, rtol=0.02)
        # It teaches without its offsets, and fills in with them.
        options = Options(
            minutes=1, out=out, data=tmp_path, teachers=(path,), complete=True, workers=1
        )
        given = plan(options)
        assert given.filler is not None
        assert given.filler.network.out.conv.conv.bias[7] == 12
        assert given.teachers[0].out.conv.conv.bias[7] == 10
        model, about = read_segmenter(out)
        assert type(model.network).__name__ == "DynUNet" and about["step"] > 0
        assert model.spec == replace(HEADNECK_SPEC, name="dynunet-headneck-ct", roi=SPEC.roi)

    def test_of_several_networks_the_first_learns_and_all_teach(self, tmp_path: Path) -> None:
        base = self._headneck(tmp_path)
        model, _ = read_segmenter(base)
        other = deepcopy(model.network)
        with torch.no_grad():
            other.out.conv.conv.bias.fill_(5)
        notes = {"offsets": {"7": 2.0}, "others": [{"offsets": {"6": -1.0}}]}
        path = tmp_path / "two.safetensors"
        write_segmenter(path, model.network, model.spec, notes, others=[other])
        given = plan(
            Options(
                minutes=1,
                out=path,
                data=tmp_path,
                warm_start=path,
                teachers=(path,),
                complete=True,
                workers=1,
            )
        )
        before = model.network.out.conv.conv.bias
        assert not given.start.others
        chosen = partial(Options, minutes=1, out=path, data=tmp_path, workers=1)
        with pytest.raises(BadInput, match=r"2 networks of .* 2 are of the kind 'swin-unetr'"):
            plan(chosen(warm_start=path, network="swin-unetr"))
        second = headneck_network("dynunet").eval()
        write_segmenter(path, model.network, model.spec, notes, others=[second])
        learner = plan(chosen(warm_start=path, network="dynunet")).start.network
        found = learner.output_block.conv.conv.bias
        expected = second.output_block.conv.conv.bias + torch.tensor([0.0] * 6 + [1.0, 0])
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
        with pytest.raises(BadInput, match="has a network already; leave --network out"):
            plan(chosen(warm_start=base, network="dynunet"))
        assert given.start.network.out.conv.conv.bias[7] == before[7] - 2
        assert given.filler is not None and len(given.filler.networks) == 2
        found = [one.out.conv.conv.bias for one in given.teachers]
        assert found[0][7] == before[7] - 2 and found[1][6] == 6 and found[1][7] == 5
        assert maker_of(given.filler) != maker_of(Segmenter(given.filler.network, model.spec))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"spacing": (2.0, 2.0, 2.0)}, "has another grid than"),
            ({"intensity": IntensityRule("window", -100, 400)}, "has other intensities than"),
            ({"orientation": "RAS"}, "has axes in another order than"),
            ({"labels": dict(enumerate("abcdefg", 1))}, "has other structures than"),
        ],
    )
    def test_a_teacher_must_see_what_the_model_sees(
        self, tmp_path: Path, change: dict[str, Any], words: str
    ) -> None:
        base = self._headneck(tmp_path)
        model, _ = read_segmenter(base)
        other = write_segmenter(
            tmp_path / "other.safetensors", model.network, replace(model.spec, **change)
        )
        with pytest.raises(BadInput, match=f"The teacher 'other.safetensors' {words}"):
            train_automatic(
                tmp_path / "w.safetensors", 1, data=tmp_path, warm_start=base, teachers=[other]
            )

    def test_another_grid_than_the_models_own(self, tmp_path: Path) -> None:
        base = self._headneck(tmp_path)
        shapes: list[tuple[tuple[int, ...], list[float], tuple[int, ...]]] = []
        logits = OrganJudge.logits

        def noted(judge, network, case, bf16, roi=None):  # type: ignore[no-untyped-def]
            shapes.append((case.labels.shape, case.spacing.tolist(), roi or judge.spec.roi))
            return logits(judge, network, case, bf16, roi)

        out = tmp_path / "coarse.safetensors"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OrganJudge, "logits", noted)
            train_automatic(
                out,
                0.002,
                data=tmp_path,
                warm_start=base,
                workers=1,
                roi=(64, 32, 64),
                spacing=(2.0, 4.0, 4.0),
                complete=True,
            )
        # What is missing was filled in on the grid that the model had learnt, the rest is on ours.
        assert shapes[0] == ((35, 29, 32), [2.5] * 3, SPEC.roi)
        assert {s for s, _, _ in shapes[1:]} == {(44, 18, 20)} and len(shapes) > 2
        model, _ = read_segmenter(out)
        assert model.spec.spacing == (2.0, 4.0, 4.0) and model.spec.roi == (64, 32, 64)

    def test_learning_is_guarded_and_halved(
        self, pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = write_segmenter(tmp_path / "base.safetensors", small(3).eval(), SPEC)
        dtypes: dict[str, set[torch.dtype]] = {"scores": set(), "deepest": set()}
        forward = _Trainer.learn

        def watched(trainer: _Trainer, done: float) -> float:
            assert trainer.sampler.mirror == Mirror(0, {})
            for name, module in trainer.state.model.named_modules():
                if name.endswith("attn_drop"):
                    module.register_forward_hook(lambda m, x, y: dtypes["scores"].add(y.dtype))
                if name == "encoder10.layer.conv1.conv":
                    module.register_forward_hook(lambda m, x, y: dtypes["deepest"].add(y.dtype))
            return forward(trainer, done)

        monkeypatch.setattr(_Trainer, "learn", watched)
        train_automatic(
            tmp_path / "w.safetensors",
            0.002,
            images=pairs[0],
            labels=pairs[1],
            warm_start=base,
            workers=1,
            mirror=True,
        )
        assert dtypes == {"scores": {torch.bfloat16}, "deepest": {torch.float32}}

    def test_contours_of_another_image_are_left_out(self, tmp_path: Path) -> None:
        for k in range(13):
            image, labels = scene(k)
            moved = np.roll(labels, 13, 0) if k in (3, 4) else labels
            if k == 4:  # one of the two only
                moved = np.where(labels == 1, 1, np.where(moved == 2, 2, 0))
            write(tmp_path / f"scans/p{k}_ct.nii.gz", image)
            write(tmp_path / f"truth/p{k}_labels.nii.gz", moved.astype(np.uint8))
        base = write_segmenter(tmp_path / "base.safetensors", small(3).eval(), SPEC)
        out = tmp_path / "tuned.safetensors"
        train_automatic(
            out,
            0.005,
            images=tmp_path / "scans",
            labels=tmp_path / "truth",
            warm_start=base,
            workers=1,
        )
        held = find_pairs(tmp_path / "scans", tmp_path / "truth")[0]
        assert not any(s.validates for s in held if s.name in ("p3", "p4"))
        assert left_out(out) == {"p3": ["ball", "cube"], "p4": ["cube"]}

    def test_other_structures_get_a_new_last_layer(
        self, pairs: tuple[Path, Path], tmp_path: Path
    ) -> None:
        spec = replace(SPEC, labels={1: "a", 2: "b", 3: "c", 4: "d"})
        base = write_segmenter(tmp_path / "base.safetensors", small(5).eval(), spec)
        out = tmp_path / "tuned.safetensors"
        train_automatic(
            out, 0.01, images=pairs[0], labels=pairs[1], warm_start=base, workers=1, rate=1e-5
        )
        model, _ = read_segmenter(out)
        assert dict(model.spec.labels) == {1: "label 1", 2: "label 2"}
        before, _ = read_segmenter(base)
        old, new = before.network.state_dict(), model.network.state_dict()
        assert new["out.conv.conv.weight"].shape[0] == 3
        key = "encoder1.layer.conv1.conv.weight"
        torch.testing.assert_close(new[key], old[key], atol=0.01, rtol=0)

    def test_a_dynunet_gets_a_new_last_layer_too(
        self, pairs: tuple[Path, Path], tmp_path: Path
    ) -> None:
        sizes = DynUnetSizes(1, 5, (4, 6, 8), ((3, 3, 3),) * 3, ((1, 1, 1), *((2, 2, 2),) * 2))
        spec = replace(SPEC, labels={1: "a", 2: "b", 3: "c", 4: "d"})
        base = write_segmenter(tmp_path / "base.safetensors", sizes.build(), spec)
        out = tmp_path / "tuned.safetensors"
        train_automatic(out, 0.002, images=pairs[0], labels=pairs[1], warm_start=base, workers=1)
        model, _ = read_segmenter(out)
        assert dict(model.spec.labels) == {1: "label 1", 2: "label 2"}
        key = "output_block.conv.conv.weight"
        assert model.network.state_dict()[key].shape[:2] == (3, 4)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"minutes": 0}, "more than 0"),
            ({"precision": "fp8"}, "choose bf16 or fp32"),
            ({"optimiser": "sgd"}, "choose adamw or muon"),
            ({"out": Path("w.pt")}, "must end in .safetensors"),
            ({"data": None}, "either --data, or"),
            ({"images": Path()}, "either --data, or"),
            ({"data": None, "images": Path()}, "needs both"),
            ({"data": None, "images": Path(), "labels": Path()}, "give --warm-start"),
            ({"complete": True}, "filled in by the model of --warm-start"),
            ({"network": "vnet"}, "choose swin-unetr or dynunet"),
            ({"teach": 1.5}, "give 0 to 1"),
            ({"teach": float("nan")}, "give 0 to 1"),
            ({"roi": (48, 48, 48)}, "multiples of 32"),
            ({"roi": (32, 32, 32)}, "multiples of 32"),
            ({"spacing": (2.0, 0.0, 2.0)}, "0.1 to 20 mm"),
            ({"spacing": (2.0, float("nan"), 2.0)}, "0.1 to 20 mm"),
        ],
    )
    def test_bad_options(self, tmp_path: Path, change: dict[str, object], words: str) -> None:
        options: dict[str, object] = {"minutes": 1, "out": tmp_path / "w.safetensors"}
        options |= {"data": tmp_path} | change
        with pytest.raises(BadInput, match=words):
            train_automatic(**options)  # type: ignore[arg-type]


def test_the_preset_says_what_the_recipe_trains() -> None:
    from napari_sightline.models.presets import preset_named

    values = preset_named("headneck").values
    for key in ("labels", "orientation", "spacing", "intensity", "roi", "overlap", "modality"):
        assert values[key] == getattr(HEADNECK_SPEC, key), key
