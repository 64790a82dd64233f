"""Crops that an automatic model learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_making import SPEC, write

from napari_sightline.train.automatic_plan import HEADNECK_SPEC
from napari_sightline.train.organ_cases import OrganSource, find_pairs, read_case
from napari_sightline.train.organ_crops import Mirror, OrganCrop, OrganSampler, labels_at


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
