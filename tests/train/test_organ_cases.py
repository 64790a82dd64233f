"""Cases that recipes of automatic models read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recipe_making import SPEC, scene, write

from napari_sightline.errors import BadInput
from napari_sightline.train.automatic_plan import HEADNECK_SPEC
from napari_sightline.train.organ_cases import OrganSource, find_headneck, find_pairs, read_case

pytest.importorskip("monai")


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
