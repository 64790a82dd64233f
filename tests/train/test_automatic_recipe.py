"""The recipe of automatic models on data made on the spot."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.dynunet import DynUnetSizes
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.train.automatic import HEADNECK_LAG, _Trainer, left_out
from napari_sightline.train.automatic import train as train_automatic
from napari_sightline.train.automatic_plan import HEADNECK_SPEC, Options, headneck_network, plan
from napari_sightline.train.calibrate import BIAS
from napari_sightline.train.completing import maker_of
from napari_sightline.train.organ_cases import OrganSource, find_headneck, find_pairs, read_case
from napari_sightline.train.organ_crops import Mirror, OrganCrop, OrganSampler, labels_at
from napari_sightline.train.organ_judge import OrganJudge
from napari_sightline.train.partial_loss import partial_loss

pytest.importorskip("monai")
from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter

SPEC = SegmenterSpec(
    "test",
    {1: "ball", 2: "cube"},
    roi=(64, 32, 32),
    orientation="RAS",
    spacing=(2.0, 2.0, 2.0),
    intensity=IntensityRule("window", -200, 400),
    modality="CT",
)


def write(path: Path, data: np.ndarray, mm: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(data, np.diag([mm, mm, mm, 1])).to_filename(path)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.indices((40, 36, 44))
    rng = np.random.default_rng(seed)
    labels = np.zeros(x.shape, np.uint8)
    labels[(x - 12) ** 2 + (y - 18) ** 2 + (z - 22) ** 2 < 64] = 1
    labels[25:33, 12:22, 16:28] = 2
    image = rng.normal(0, 20, x.shape) + 150 * (labels == 1) - 120 * (labels == 2)
    image[:, :3] = -1024
    return image.astype(np.int16), labels


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    for k in range(4):
        image, labels = scene(k)
        write(tmp_path / f"scans/p{k}_ct.nii.gz", image)
        write(tmp_path / f"truth/p{k}_labels.nii.gz", labels)
    return tmp_path / "scans", tmp_path / "truth"


def small(outputs: int) -> torch.nn.Module:
    from monai.networks.nets.swin_unetr import SwinUNETR

    torch.manual_seed(0)
    return SwinUNETR(1, outputs, feature_size=12, depths=(1, 1, 1, 1), window_size=4)


class TestCases:
    def test_the_shared_data(self, shared_data: Path) -> None:
        sources = find_headneck(shared_data)
        assert sum(s.validates for s in sources) == 31 and len(sources) == 201
        partial = next(s for s in sources if not s.validates and 7 not in s.known)
        case = read_case(partial, HEADNECK_SPEC)
        np.testing.assert_allclose(case.spacing, 2.5, atol=0.01)
        assert 7 not in case.points and set(np.unique(case.labels)) <= {0, *partial.known}
        # Left of the patient is high along the last axis.
        assert case.points[4][:, 2].mean() > case.points[3][:, 2].mean()
        # Nothing is contoured in the blank part but for the edge.
        assert (case.labels[case.blank] > 0).mean() < 0.01

    def test_pairs_are_matched_by_name(self, pairs: tuple[Path, Path]) -> None:
        sources, names = find_pairs(*pairs)
        assert [s.name for s in sources] == ["p0", "p1", "p2", "p3"]
        assert sum(s.validates for s in sources) == 1
        assert names == {1: "label 1", 2: "label 2"}
        assert {s.known for s in sources} == {(1, 2)}

    def test_pairs_that_do_not_match(self, pairs: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        with pytest.raises(BadInput, match="labels of the same name"):
            find_pairs(pairs[0], tmp_path / "none")
        with pytest.raises(BadInput, match="does not exist"):
            find_pairs(pairs[0], tmp_path / "nowhere")

    def test_a_contour_that_is_left_out_is_unknown(self, pairs: tuple[Path, Path]) -> None:
        case = read_case(find_pairs(*pairs)[0][0], SPEC)
        medians = case.medians()
        # -200 .. 400 HU are 0 .. 1; a ball of 150 and a cube of -120.
        assert medians[1] == pytest.approx(350 / 600, abs=0.01)
        assert medians[2] == pytest.approx(80 / 600, abs=0.01)
        less = case.without((2,))
        assert less.source.known == (1,) and set(less.points) == {1}
        assert np.array_equal(less.labels, np.where(case.labels == 2, 0, case.labels))
        assert (case.labels == 2).any() and case.source.known == (1, 2)

    def test_axes_spacing_and_unknown_organs(self, pairs: tuple[Path, Path]) -> None:
        image, labels = scene(0)
        source = OrganSource(
            "p0", pairs[0] / "p0_ct.nii.gz", pairs[1] / "p0_labels.nii.gz", (1,), False
        )
        case = read_case(source, replace(SPEC, spacing=None))
        np.testing.assert_array_equal(case.labels, np.where(labels == 1, 1, 0))
        np.testing.assert_allclose(case.image[0], (image + 200.0) / 600, atol=2e-3)
        np.testing.assert_array_equal(case.blank, image == -1024)
        finer = read_case(source, replace(SPEC, spacing=(1.0, 1.0, 2.0), orientation="SPL"))
        assert finer.labels.shape == (88, 72, 40)
        share = (finer.labels == 1).sum() / (case.labels == 1).sum()
        assert share == pytest.approx(4, rel=0.05)
        inside = finer.image[0][finer.labels == 1].mean()
        assert inside == pytest.approx(case.image[0][case.labels == 1].mean(), abs=0.02)

    @pytest.mark.parametrize("mm", [0.8, 1.3, 2.7, 3.6])
    def test_thin_structures_keep_their_volume(self, tmp_path: Path, mm: float) -> None:
        labels = np.zeros((36, 40, 44), np.uint8)
        for z in range(4, 40):  # an oblique cord, two voxels wide, and a shell beside it
            y = 10 + z // 3
            labels[8:10, y : y + 2, z] = 1
        x, y, z = np.indices(labels.shape)
        radius = np.sqrt((x - 24) ** 2 + (y - 20) ** 2 + (z - 20) ** 2)
        labels[(radius > 8) & (radius < 9.5)] = 2
        write(tmp_path / "a_ct.nii.gz", labels.astype(np.int16))
        write(tmp_path / "a_labels.nii.gz", labels)
        source = OrganSource(
            "a", tmp_path / "a_ct.nii.gz", tmp_path / "a_labels.nii.gz", (1, 2), False
        )
        case = read_case(source, replace(SPEC, spacing=(mm, mm, mm)))
        for value in (1, 2):
            before = np.count_nonzero(labels == value) * 2.0**3
            after = np.count_nonzero(case.labels == value) * float(np.prod(case.spacing))
            assert after == pytest.approx(before, rel=0.08)
            # It lies where it lay: the image holds the label values.
            there = case.image[0][case.labels == value].astype(float) * 600 - 200
            assert there.mean() > 0.5 * value


class TestCrops:
    def sampler(self, pairs: tuple[Path, Path], seed: int = 0) -> OrganSampler:
        sources, _ = find_pairs(*pairs)
        cases = [read_case(s, SPEC) for s in sources]
        torch.manual_seed(seed)
        return OrganSampler(cases, SPEC.roi, SPEC.outputs, [seed])

    def test_image_and_labels_stay_together(self, pairs: tuple[Path, Path]) -> None:
        sampler = self.sampler(pairs)
        seen = {1: 0, 2: 0}
        for _ in range(30):
            crop = sampler.draw()
            assert crop.image.shape == (1, *SPEC.roi) and crop.labels.shape == SPEC.roi
            assert float(crop.image.min()) >= 0 and float(crop.image.max()) <= 1
            assert crop.known.tolist() == [True, True, True]
            base = crop.image[0][crop.seen & (crop.labels == 0)]
            for value, sign in ((1, 1), (2, -1)):
                inside = crop.image[0][crop.seen & (crop.labels == value)]
                if len(inside) > 100 and len(base) > 100:
                    seen[value] += 1
                    assert sign * float(inside.mean() - base.mean()) > 0.08
        assert min(seen.values()) > 5

    def test_every_other_crop_is_mirrored_and_sides_change_places(
        self, pairs: tuple[Path, Path]
    ) -> None:
        mirror = Mirror(0, {1: 2, 2: 1})
        sources, _ = find_pairs(*pairs)
        # Of the two sides, only 1 is contoured: of a mirrored crop, only 2 is.
        cases = [read_case(replace(s, known=(1,)), SPEC) for s in sources]
        sampler = OrganSampler(cases, SPEC.roi, SPEC.outputs, [0], mirror)
        kinds = [0, 0]
        for _ in range(40):
            crop = sampler.draw()
            is_mirrored = bool(crop.known[2])
            kinds[is_mirrored] += 1
            assert crop.known.tolist() == [True, not is_mirrored, is_mirrored]
            assert set(crop.labels.unique().tolist()) <= {0, 2 if is_mirrored else 1}
            back = crop.mirrored(mirror)
            # The ball is brighter than its surroundings whichever way it is looked at.
            for one in (crop, back):
                inside = one.image[0][one.seen & (one.labels == (2 if one.known[2] else 1))]
                if len(inside) > 100:
                    assert inside.mean() > one.image[0][one.seen & (one.labels == 0)].mean() + 0.08
            again = back.mirrored(mirror)
            for a, b in zip(
                (crop.image, crop.labels, crop.seen, crop.known),
                (again.image, again.labels, again.seen, again.known),
                strict=True,
            ):
                assert torch.equal(a, b)
        assert min(kinds) > 8

    @pytest.mark.parametrize(("orientation", "axis", "sign"), [("SPL", 2, 1), ("RAS", 0, -1)])
    def test_contours_beside_what_is_seen_stay_on_their_side_when_mirrored(
        self, tmp_path: Path, orientation: str, axis: int, sign: int
    ) -> None:
        # Contours that lie on what is seen, taken for such that lie 3 mm further left.
        shape = (40, 44, 48)
        x, y, z = np.indices(shape)
        ball = ((x - 20) ** 2 + (y - 22) ** 2 + (z - 24) ** 2) < 8**2
        write(tmp_path / "a_ct.nii.gz", np.where(ball, 200, -100).astype(np.int16))
        write(tmp_path / "a_seg.nii.gz", ball.astype(np.uint8))
        source = OrganSource("a", tmp_path / "a_ct.nii.gz", tmp_path / "a_seg.nii.gz", (1,), False)
        spec = replace(SPEC, orientation=orientation, labels={1: "liver"}, spacing=(2.0, 2.0, 2.0))
        mirror = Mirror.of(spec, 3.0)
        assert mirror == Mirror(axis, {}, 3.0 * sign)
        sampler = OrganSampler([read_case(source, spec)], SPEC.roi, 2, [0], mirror)
        beside: dict[bool, list[float]] = {False: [], True: []}
        mirrored = OrganCrop.mirrored
        was: list[bool] = []

        def noted(crop: OrganCrop, by: Mirror) -> OrganCrop:
            was.append(True)
            return mirrored(crop, by)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OrganCrop, "mirrored", noted)
            for _ in range(80):
                was.clear()
                crop = sampler.draw()
                seen = crop.image[0] > 0.5
                if int(seen.sum()) < 200 or seen.sum() > seen[1:-1, 1:-1, 1:-1].sum():
                    continue  # the ball is cut off
                places = [m.nonzero().double().mean(0) for m in (crop.labels == 1, seen)]
                beside[bool(was)].append(float((places[0] - places[1])[axis]) * 2 * sign)
        straight, turned = beside[False], beside[True]
        assert min(len(straight), len(turned)) > 8
        # In a mirrored crop they lie to the left by 6 mm, which scales and turns change a little.
        assert np.mean(straight) == pytest.approx(0, abs=0.4)
        assert np.mean(turned) == pytest.approx(6, abs=0.8)

    def test_the_axis_and_the_partners_come_from_the_facts(self) -> None:
        assert Mirror.of(HEADNECK_SPEC) == Mirror(2, {3: 4, 4: 3})
        assert Mirror.of(replace(SPEC, labels={1: "kidney (L)", 2: "liver"})) == Mirror(0, {})

    def test_the_same_seed_draws_the_same(self, pairs: tuple[Path, Path]) -> None:
        def images(seed: int) -> list[torch.Tensor]:
            sampler = self.sampler(pairs, seed)
            return [sampler.draw().image for _ in range(4)]

        for a, b in zip(images(1), images(1), strict=True):
            assert torch.equal(a, b)
        assert not all(torch.equal(a, b) for a, b in zip(images(1), images(2), strict=True))


class TestLabelsBetweenVoxels:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_greatest_share_wins(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (9, 12, 7)
        labels = np.zeros(shape, np.uint8)
        labels[1:5, 2:9, 0:4] = rng.integers(0, 4, (4, 7, 4)) * (seed > 0)
        if seed > 4:
            labels[-1, -1] = 9  # at the border, which goes on outside
        grid = torch.from_numpy(rng.uniform(-1.3, 1.3, (1, 8, 7, 6, 3))).float()
        # The voxels around each place, and their shares.
        at = (grid[0].numpy()[..., ::-1] + 1) * np.array(shape) / 2 - 0.5
        at = np.clip(at, 0, np.array(shape) - 1)
        first = np.minimum(at.astype(int), np.array(shape) - 2)
        rest = at - first
        shares = np.zeros((10, *at.shape[:3]))
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(corner, rest, 1 - rest), -1)
            np.add.at(
                shares,
                (labels[tuple(np.moveaxis(first + corner, -1, 0))], *np.indices(share.shape)),
                share,
            )
        found = labels_at(labels, grid).numpy()
        order = np.sort(shares, 0)
        clear = order[-1] - order[-2] > 1e-4
        assert clear.mean() > 0.9
        assert np.array_equal(found[clear], shares.argmax(0)[clear])


class TestLoss:
    labels = torch.tensor([0, 1, 2, 0]).view(1, 4, 1, 1)
    seen = torch.ones(1, 4, 1, 1, dtype=torch.bool)

    def loss(self, logits: torch.Tensor, known: list[bool], **change: torch.Tensor) -> float:
        values = {"labels": self.labels, "seen": self.seen} | change
        return float(partial_loss(logits, values["labels"], values["seen"], torch.tensor([known])))

    def test_right_is_better_than_wrong(self) -> None:
        truth = torch.nn.functional.one_hot(self.labels, 3).movedim(-1, 1).float()
        assert self.loss(20 * truth, [True] * 3) < 1e-3
        assert self.loss(-20 * truth, [True] * 3) > 10

    def test_all_known_is_cross_entropy_and_dice(self) -> None:
        logits = torch.randn(1, 3, 4, 1, 1)
        p = logits.softmax(1)
        expected = torch.nn.functional.cross_entropy(logits, self.labels)
        for k in (1, 2):
            t = (self.labels == k).float()
            both, sizes = (p[:, k] * t).sum(), p[:, k].sum() + t.sum()
            expected = expected + 0.5 * (1 - (2 * both + 20) / (sizes + 20))
            expected = expected - 0.5 * 0.1 * p[0, k][t[0] > 0].log().mean()
        assert self.loss(logits, [True] * 3) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("seed", range(12))
    def test_value_and_gradient_are_those_of_its_formula(self, seed: int) -> None:
        torch.manual_seed(seed)
        logits = (4 * torch.randn(2, 5, 6, 5, 4)).requires_grad_()
        known = torch.rand(2, 5) < 0.6
        known[:, 0] = True
        if seed == 0:
            known[:, 1:] = False
        labels = torch.randint(0, 5, (2, 6, 5, 4)) * (torch.rand(2, 6, 5, 4) < 0.5 * (seed != 1))
        labels = torch.stack([x * k[x] for x, k in zip(labels, known, strict=True)])
        seen = torch.rand(labels.shape) < 0.8
        expected = sum(map(self.formula, logits, labels, seen, known)) / 2
        (gradient,) = torch.autograd.grad(expected, logits)
        loss = partial_loss(logits, labels, seen, known)
        torch.testing.assert_close(loss, expected)
        # As the last of other operations, such as the one of a loss that is scaled.
        (3 * loss).backward()
        torch.testing.assert_close(logits.grad, 3 * gradient, atol=1e-6, rtol=1e-4)

    @staticmethod
    def formula(
        logits: torch.Tensor, labels: torch.Tensor, seen: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        p = logits.softmax(0)
        empty = p[0] + p[~known].sum(0)
        target = torch.where(labels == 0, empty, p.gather(0, labels[None])[0])
        weight = torch.where(seen, 1.0, 0.05 * (labels == 0))
        loss = -(weight * target.log()).sum() / weight.sum()
        parts, shares, missed = [], [], []
        for k in range(1, len(p)):
            if known[k]:
                t = (labels == k) & seen
                above, below = 2 * p[k][t].sum() + 20, p[k][seen].sum() + t.sum() + 20
                shares.append(1.0 if t.any() else 0.25)
                parts.append(shares[-1] * (1 - above / below))
                if t.any():
                    missed.append(-p[k][t].log().mean())
        if parts:
            loss = loss + sum(parts) / sum(shares)
        return loss + 0.1 * sum(missed) / len(missed) if missed else loss

    def test_a_small_organ_that_died_out_is_pulled_back(self) -> None:
        labels = torch.zeros(1, 16, 16, 16, dtype=torch.int64)
        labels[0, :8, :8, :8], labels[0, 12, 12, 12:15] = 1, 2
        logits = torch.zeros(1, 3, 16, 16, 16)
        logits[0, 2] = -8
        logits.requires_grad_()
        seen = torch.ones_like(labels, dtype=torch.bool)
        partial_loss(logits, labels, seen, torch.ones(1, 3, dtype=torch.bool)).backward()
        assert logits.grad is not None
        pull = logits.grad[0, 2]
        assert float(pull.sum()) < 0
        # Its voxels count tens of times more than by their number.
        assert float(pull[12, 12, 13]) < -10 / labels.numel()

    def test_an_unknown_structure_is_as_good_as_background(self) -> None:
        labels = torch.tensor([0, 1, 0, 0]).view(1, 4, 1, 1)
        logits = torch.zeros(1, 3, 4, 1, 1)
        logits[0, 1, 1] = 9
        logits[0, 0, 2:] = 9
        logits[0, 0, 0] = 9
        other = logits.clone()
        other[0, 0, 2], other[0, 2, 2] = 0, 9  # says it is the unknown structure
        known = [True, True, False]
        assert self.loss(other, known, labels=labels) == pytest.approx(
            self.loss(logits, known, labels=labels), abs=1e-6
        )
        assert self.loss(other, [True] * 3, labels=labels) > 1

    def test_no_gradient_from_an_unknown_structure_or_unseen_organs(self) -> None:
        logits = torch.randn(1, 3, 4, 1, 1, requires_grad=True)
        seen = self.seen.clone()
        seen[0, 1] = False
        known = torch.ones(1, 3, dtype=torch.bool)
        partial_loss(logits, self.labels, seen, known).backward()
        assert logits.grad is not None
        assert float(logits.grad[0, :, 1].abs().sum()) == 0
        assert float(logits.grad[0, :, 2].abs().sum()) > 0


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
            ({"network": "dynunet", "warm_start": Path("a")}, "has a network already"),
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
