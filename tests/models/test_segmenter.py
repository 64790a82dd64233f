"""Facts of automatic models."""

from __future__ import annotations

import pytest

from napari_sightline.models.segmenter import SegmenterSpec, partners_of


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["right parotid gland", "mandible", "left parotid gland"], {1: 3, 3: 1}),
        (["Kidney_L", "kidney-R", "liver"], {1: 2, 2: 1}),
        (["kidney (left)", "kidney (right)"], {1: 2, 2: 1}),
        (["left ventricle", "right atrium"], {}),
        (["left kidney", "spleen"], {}),
        (["cleft", "bright spot"], {}),
        ([], {}),
    ],
)
def test_both_sides_are_paired_by_name(names: list[str], pairs: dict[int, int]) -> None:
    assert partners_of({k + 1: name for k, name in enumerate(names)}) == pairs


@pytest.mark.parametrize(("orientation", "axis"), [("RAS", 0), ("SPL", 2), ("PLI", 1)])
def test_which_axis_runs_from_side_to_side(orientation: str, axis: int) -> None:
    assert SegmenterSpec("m", {1: "a"}, orientation=orientation).sides == axis
