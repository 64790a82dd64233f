"""Structures that nobody contoured, filled in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.scaling import Scaling
from napari_sightline.train.automatic_plan import HEADNECK_SPEC
from napari_sightline.train.completing import Filled, brought, complete, maker_of
from napari_sightline.train.organ_cases import OrganCase, OrganSource

SHAPE = (12, 10, 8)


def case_of(known: tuple[int, ...]) -> OrganCase:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    blank = np.zeros(SHAPE, bool)
    blank[10:] = True
    return OrganCase(
        OrganSource("a", Path("a"), Path("b"), known, False),
        np.zeros((1, *SHAPE), np.float16),
        Scaling(),
        labels,
        blank,
        np.ones(3),
        {1: np.argwhere(labels == 1).astype(np.int16)},
        np.argwhere(~blank).astype(np.int16),
    )


def logits_of(case: OrganCase) -> torch.Tensor:
    """Find 2 in a large part, a fragment, on contours and in blank places, 3 in a box."""
    found = np.zeros(SHAPE, np.int64)
    found[2:12, 2:9, 2:7] = 2
    found[0, 9, 7] = 2
    found[5:7, 0:2, 0:2] = 3
    return torch.nn.functional.one_hot(torch.from_numpy(found), 4).movedim(-1, 0).float()


def test_only_what_is_missing_and_free_and_seen_is_taken() -> None:
    case = case_of((1, 3))
    before = case.labels.copy()
    full = complete(case, logits_of, 4, fragments=0.1)
    assert full.source.known == (1, 2, 3) and case.source.known == (1, 3)
    assert np.array_equal(case.labels, before)
    assert np.array_equal(full.labels == 1, before == 1)
    expected = np.zeros(SHAPE, bool)
    expected[2:10, 2:9, 2:7] = True
    assert np.array_equal(full.labels == 2, expected & (before == 0))
    # 3 is known here, and nobody contoured it: what a model finds of it is no truth.
    assert not (full.labels == 3).any()
    # Crops are drawn round contours.
    assert full.points is case.points
    kept = complete(case, logits_of, 4, fragments=0)
    assert kept.labels[0, 9, 7] == 2 and full.labels[0, 9, 7] == 0


def test_a_case_that_lacks_nothing_stays() -> None:
    case = case_of((1, 2, 3))
    assert complete(case, logits_of, 4, 0.1) is case


def test_what_was_found_is_kept_for_the_same_case_and_maker(tmp_path: Path) -> None:
    asked: list[str] = []

    def noted(case: OrganCase) -> torch.Tensor:
        asked.append(case.source.name)
        return logits_of(case)

    case = case_of((1,))
    kept = Filled(tmp_path / "run.filled", "a")
    first = complete(case, noted, 4, 0.1, kept)
    again = complete(case, noted, 4, 0.1, Filled(tmp_path / "run.filled", "a"))
    assert asked == ["a"] and np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.labels, complete(case, logits_of, 4, 0.1).labels)
    assert [p.name for p in (tmp_path / "run.filled").iterdir()] == ["a.npz"]
    # Another maker, contour, scan or set of contoured structures: found anew.
    moved = replace(case, labels=np.roll(case.labels, 1, 0))
    brighter = replace(case, image=case.image + np.float16(1))
    others = [(case, Filled(kept.folder, "b")), (moved, kept), (brighter, kept)]
    for count, (other, by) in enumerate([*others, (case_of((1, 3)), kept)], start=2):
        found = complete(other, noted, 4, 0.1, by)
        assert len(asked) == count
        assert np.array_equal(found.labels, complete(other, logits_of, 4, 0.1).labels)


@pytest.mark.parametrize("fault", ["cut off", "foreign", "damaged", "pickled", "a folder"])
def test_a_kept_file_that_cannot_be_used_is_made_anew(tmp_path: Path, fault: str) -> None:
    case, kept = case_of((1,)), Filled(tmp_path, "a")
    expected = complete(case, logits_of, 4, 0.1, kept).labels
    path = tmp_path / "a.npz"
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:-40])
    elif fault == "foreign":
        path.write_bytes(b"no archive at all")
    elif fault == "damaged":
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0xFF
        path.write_bytes(data)
    elif fault == "pickled":
        np.savez(path, key=np.array([{"a": 1}], dtype=object), labels=expected)
    else:
        path.unlink()
        path.mkdir()
        with pytest.raises(BadInput, match=r"a\.npz could not be written"):
            complete(case, logits_of, 4, 0.1, kept)
        return
    assert np.array_equal(complete(case, logits_of, 4, 0.1, kept).labels, expected)

    def never(case: OrganCase) -> torch.Tensor:
        raise AssertionError("was written anew")

    assert np.array_equal(complete(case, never, 4, 0.1, kept).labels, expected)


def test_a_maker_is_its_weights_and_facts_and_how_it_works() -> None:
    layer = torch.nn.Conv3d(1, 8, 1)
    model = Segmenter(layer, HEADNECK_SPEC)
    first = maker_of(model, True)
    assert first == maker_of(model, True) != maker_of(model, False)
    assert maker_of(replace(model, spec=replace(HEADNECK_SPEC, overlap=0.25)), True) != first
    with torch.no_grad():
        layer.bias[3] += 1  # type: ignore[index]
    assert maker_of(model, True) != first


def test_chances_come_to_another_grid_of_the_scan() -> None:
    case = case_of((1,))
    fine = replace(
        case,
        labels=np.zeros((24, 10, 5), np.uint8),
        spacing=np.array([0.5, 1.0, 1.6]),
    )

    # Millimetres from the centre of the scan, which both grids share, along each axis.
    def ramps(of: OrganCase) -> torch.Tensor:
        places = [
            (np.arange(n) - (n - 1) / 2) * mm
            for n, mm in zip(of.labels.shape, of.spacing, strict=True)
        ]
        return torch.from_numpy(np.stack(np.meshgrid(*places, indexing="ij"))).float()

    found, expected = brought(ramps(case), case, fine), ramps(fine)
    assert found.shape == (3, 24, 10, 5)
    # Beyond the outer voxels' centres the outer voxel counts.
    limits = torch.tensor([5.5, 4.5, 3.5]).view(3, 1, 1, 1)
    torch.testing.assert_close(found, expected.clamp(-limits, limits))
