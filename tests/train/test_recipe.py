"""The recipe of the promptable network on data made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_sightline.errors import BadInput
from napari_sightline.models.sightline3d import Config, Prediction, Prompts, Sightline3D
from napari_sightline.models.weights_io import read_weights
from napari_sightline.train import simulate
from napari_sightline.train.crops import Crop, real_crop, sampling_grid, window
from napari_sightline.train.datasets import find, read
from napari_sightline.train.interactive import train
from napari_sightline.train.mask_loss import mask_loss, overlap, step_loss
from napari_sightline.train.painted import painted_crop, shape_crop
from napari_sightline.train.sampler import Sampler

SMALL = Config(widths=(8, 16, 24, 36), heads=2, blocks=1, keys=4)


def write(path: Path, data: np.ndarray, mm: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(data, np.diag([mm, mm, mm, 1])).to_filename(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two head-and-neck cases, one contoured in part, and a label map without an image."""
    folder = tmp_path_factory.mktemp("data")
    z, y, x = np.indices((40, 44, 48))
    rng = np.random.default_rng(0)
    organs = np.zeros(z.shape, np.uint8)
    organs[(z - 20) ** 2 + (y - 20) ** 2 + (x - 14) ** 2 < 64] = 1
    organs[(z - 20) ** 2 + (y - 24) ** 2 + (x - 34) ** 2 < 49] = 3
    for k in (1, 2):
        image = rng.normal(0, 20, z.shape) + 100 * (organs == 1) - 80 * (organs == 3)
        write(folder / f"headneck_ct/pt_{k}_ct.nii.gz", image.astype(np.int16))
        write(folder / f"headneck_ct/pt_{k}_organs.nii.gz", organs)
    write(folder / "brain_labels/brain_1.nii.gz", (organs * 7).astype(np.uint16))
    index = {
        "headneck_ct": {
            "pt_1": {"group": "train-pats", "contoured": ["Brainstem"]},
            "pt_2": {"group": "validation-pats", "contoured": ["Brainstem", "RightParotid"]},
        }
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


class TestData:
    def test_only_contoured_structures_are_asked_for(self, data: Path) -> None:
        sources = {s.name: s for s in find(data)}
        assert sources["pt_1"].targets == ((1,),)
        assert sources["pt_2"].targets == ((1,), (3,))
        assert [s.name for s in sources.values() if s.validates] == ["pt_2"]
        case = read(sources["pt_2"])
        assert case.image is not None and case.image.shape == (2, 48, 44, 40)
        assert case.extent[0] == pytest.approx(30, abs=2)

    def test_the_split_of_the_shared_data(self, shared_data: Path) -> None:
        sources = find(shared_data)
        held = {
            g: [s for s in sources if s.group == g and s.validates]
            for g in ("headneck_ct", "hippocampus_mr", "sarcoma", "brain_labels")
        }
        assert {g: len(v) for g, v in held.items()} == {
            "headneck_ct": 31,
            "hippocampus_mr": 39,
            "sarcoma": 15,
            "brain_labels": 0,
        }

    def test_a_folder_without_an_index(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"no readable index.json; give"):
            find(tmp_path)
        (tmp_path / "index.json").write_text("{}")
        with pytest.raises(BadInput, match="holds none of the sets"):
            find(tmp_path)


class TestCrops:
    def test_sampling_grid_is_geometry(self) -> None:
        shape, mm = (20, 24, 28), np.array([2.0, 1.0, 1.5])
        z, y, x = np.indices(shape).astype(np.float32)
        image = torch.from_numpy(np.stack([z, y, x]))[None]
        centre = (np.array([10, 12, 14]) + 0.5) * mm
        matrix = np.array([[0, 0, 1.0], [0, 0.5, 0], [1.5, 0, 0]])
        grid = sampling_grid(shape, mm, centre, matrix, (5, 5, 5))
        seen = F.grid_sample(image, grid, align_corners=False)[0].numpy()
        offset = np.array([1, -2, 2])
        voxel = (centre + matrix @ offset) / mm - 0.5
        np.testing.assert_allclose(seen[:, 3, 0, 4], voxel, atol=1e-4)

    def test_a_window_shows_the_same(self) -> None:
        shape, mm = (60, 70, 80), np.array([2.0, 1.0, 1.5])
        image = torch.randn(1, 1, *shape)
        centre, matrix = np.array([50.0, 40, 70]), np.eye(3) * 1.3
        whole = F.grid_sample(
            image, sampling_grid(shape, mm, centre, matrix, (8, 8, 8)), align_corners=False
        )
        box, moved = window(shape, mm, centre, 12.0)
        part = image[(..., *box)]
        grid = sampling_grid(part.shape[2:], mm, moved, matrix, (8, 8, 8))
        seen = F.grid_sample(part, grid, align_corners=False)
        torch.testing.assert_close(seen, whole, atol=1e-4, rtol=1e-4)

    def test_crops_hold_their_target(self, data: Path) -> None:
        rng = np.random.default_rng(0)
        sources = {s.name: s for s in find(data)}
        real, labels = read(sources["pt_2"]), read(sources["brain_1"])
        made: list[Crop] = []
        for _ in range(25):
            for crop in (
                real_crop(rng, real, (32, 32, 32)),
                painted_crop(rng, labels, (32, 32, 32)),
                shape_crop(rng, (32, 32, 32)),
            ):
                if crop is not None:
                    made.append(crop)
        assert len(made) > 50
        for crop in made:
            assert crop.image.shape == (2, 32, 32, 32)
            assert bool(torch.isfinite(crop.image).all())
            assert int(crop.target.sum()) >= 30
            assert crop.spacing > 0

    def test_the_same_seed_draws_the_same(self, data: Path) -> None:
        sources = [s for s in find(data) if not s.validates]

        def images(seed: int) -> list[torch.Tensor]:
            torch.manual_seed(0)
            sampler = Sampler(sources, 0, 1, seed)
            return [sampler.draw(32).image for _ in range(5)]

        for a, b in zip(images(1), images(1), strict=True):
            assert torch.equal(a, b)
        assert not all(torch.equal(a, b) for a, b in zip(images(1), images(2), strict=True))


class TestLoss:
    def test_perfect_and_wrong(self) -> None:
        target = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
        target[..., 2:6] = True
        known = torch.ones_like(target)
        right = torch.where(target, 20.0, -20.0)
        assert float(mask_loss(right, target, known)) < 1e-3
        assert float(mask_loss(-right, target, known)) > 10
        assert float(overlap(right, target, known)) == 1

    def test_unknown_voxels_do_not_matter(self) -> None:
        target = torch.rand(2, 1, 8, 8, 8) < 0.3
        known = torch.ones_like(target)
        known[:, :, :4] = False
        logits = torch.randn(2, 1, 8, 8, 8)
        changed = logits.clone()
        changed[:, :, :4] = 99
        assert torch.equal(mask_loss(logits, target, known), mask_loss(changed, target, known))
        assert torch.equal(overlap(logits, target, known), overlap(changed, target, known))

    def test_an_empty_answer_is_no_way_out_for_a_small_object(self) -> None:
        target = torch.zeros(1, 1, 32, 32, 32, dtype=torch.bool)
        target[..., :4, :4, :4] = True
        known = torch.ones_like(target)
        empty = torch.full(target.shape, -4.0)
        half = empty.clone()
        half[..., :4, :4, :2] = 4.0
        assert mask_loss(half, target, known) < 0.85 * mask_loss(empty, target, known)

    def test_only_the_best_candidate_learns_much(self) -> None:
        target = torch.rand(1, 1, 8, 8, 8) < 0.4
        logits = torch.randn(1, 4, 8, 8, 8)
        logits[:, 2] = torch.where(target[:, 0], 2.0, -2.0)

        def gradient(values: torch.Tensor, ambiguous: bool) -> torch.Tensor:
            leaf = values.clone().requires_grad_(True)
            prediction = Prediction(leaf, torch.zeros(1, 4))
            which = torch.tensor([ambiguous])
            step_loss(prediction, target, torch.ones_like(target), which).backward()
            assert leaf.grad is not None
            return leaf.grad.flatten(2).norm(dim=2)[0]

        assert gradient(logits, False)[1:].tolist() == [0, 0, 0]
        beaten = gradient(logits, True)
        logits[:, 2] = -5.0  # the best candidate becomes the worst: another one takes over
        leading = gradient(logits, True)
        assert beaten[0] > 0
        taken = int(leading[[1, 3]].argmax()) * 2 + 1
        assert leading[taken] > 10 * beaten[taken]


class TestPrompts:
    def test_first_and_corrective_prompts_lie_where_they_should(self) -> None:
        rng = np.random.default_rng(0)
        target = np.zeros((24, 24, 24), bool)
        target[6:18, 8:16, 4:20] = True
        mask = np.zeros_like(target)
        mask[2:12, 8:16, 4:20] = True
        for _ in range(60):
            prompts = simulate.PromptList()
            simulate.first(rng, target, prompts)
            for point, code in zip(prompts.points, prompts.codes, strict=True):
                if code in (1, 3):
                    assert target[tuple(round(v) for v in point)]
            prompts = simulate.PromptList()
            simulate.correct(rng, mask, target, prompts)
            assert prompts.codes
            for point, code in zip(prompts.points, prompts.codes, strict=True):
                where = tuple(round(v) for v in point)
                assert target[where] == (code in (1, 3))
                assert mask[where] != target[where]

    def test_rough_masks_resemble_the_target(self) -> None:
        rng = np.random.default_rng(0)
        target = torch.zeros(32, 32, 32, dtype=torch.bool)
        target[8:24, 8:24, 8:24] = True
        for _ in range(10):
            mask = simulate.rough_mask(rng, target) > 0
            assert float((mask & target).sum()) > 0.25 * float(target.sum())
            assert not torch.equal(mask, target)


def test_gradients_in_bf16_can_be_trusted_on_the_smallest_region() -> None:
    torch.manual_seed(0)
    network = Sightline3D(Config(widths=(16, 16, 32, 48), heads=2, blocks=1, keys=4))
    image = torch.randn(2, 2, 32, 32, 32)
    prompts = Prompts(torch.full((2, 1, 3), 15.0), torch.ones(2, 1, dtype=torch.long))
    weights = [
        module.weight
        for module in network.encoder.modules()
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3)
    ]

    def gradients(bf16: bool) -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            network(image, torch.ones(2), prompts).logits.square().mean().backward()
        return [w.grad.clone() for w in weights if w.grad is not None]

    exact = gradients(False)
    for _ in range(5):
        # Memory that was used before, so that what is read unwritten shows.
        junk = [torch.full((100_000,), float("nan")) for _ in range(20)]
        del junk
        for got, expected in zip(gradients(True), exact, strict=True):
            assert float((got - expected).norm() / expected.norm()) < 0.5


class TestRun:
    def test_it_learns_resumes_and_writes(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "w.safetensors"
        options = {"workers": 1, "config": SMALL, "precision": "fp32", "rate": 2e-3}
        train(data, 0.12, out, **options)  # type: ignore[arg-type]
        rows = [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]
        assert rows[0]["event"] == "start" and rows[0]["step"] == 0
        assert len(rows[-1]["headneck_ct"]) == 5
        state, config, about = read_weights(out)
        assert config == SMALL and about["step"] >= 1
        network = Sightline3D(config)
        network.load_state_dict(state)
        train(data, 0.16, out, **options)  # type: ignore[arg-type]
        rows = [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]
        second = [r for r in rows if r.get("event") == "start"][1]
        assert second["step"] == about["step"]
        warm = tmp_path / "warm.safetensors"
        train(data, 0.01, warm, warm_start=out, **options)  # type: ignore[arg-type]
        before, after = read_weights(out)[0], read_weights(warm)[0]
        change = sum(float((after[k] - before[k]).norm()) for k in before)
        assert 0 < change < 0.05 * sum(float(v.norm()) for v in before.values())

    def test_two_processes(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "w.safetensors"
        train(data, 0.03, out, workers=2, config=SMALL)
        assert read_weights(out)[2]["step"] >= 1

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"minutes": 0}, "more than 0"),
            ({"precision": "fp8"}, "choose bf16 or fp32"),
            ({"out": Path("w.pt")}, "must end in .safetensors"),
        ],
    )
    def test_bad_options(
        self, data: Path, tmp_path: Path, change: dict[str, object], words: str
    ) -> None:
        options: dict[str, object] = {"minutes": 1, "out": tmp_path / "w.safetensors", **change}
        with pytest.raises(BadInput, match=words):
            train(data, **options)  # type: ignore[arg-type]
