"""Lists of cases: files, the split of the shared data, bad input."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from evaluation_fakes import scan

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.cases import (
    EvaluationCase,
    list_cases,
    load_case,
    read_cases,
    write_cases,
)
from napari_sightline.io import save
from napari_sightline.volume import Volume


def test_written_cases_are_read_back(tmp_path: Path, cases: list[EvaluationCase]) -> None:
    file = write_cases(tmp_path / "cases.json", cases)
    assert read_cases(file) == cases
    entry = json.loads(file.read_text())[0]
    assert entry["structures"] == {"1": "near block", "2": "far block"}


def test_relative_paths_and_contoured(tmp_path: Path, cases: list[EvaluationCase]) -> None:
    entry = {
        "image": cases[0].image.name,
        "labels": cases[0].labels.name,
        "structures": {"1": "near block", "2": "far block"},
        "contoured": ["far block"],
    }
    file = tmp_path / "cases.json"
    file.write_text(json.dumps([entry]))
    (found,) = read_cases(file)
    assert found.image == cases[0].image
    assert found.structures == {2: "far block"}
    assert found.set == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not JSON"),
        ("{}", "not a list"),
        ("[]", "not a list"),
        ("[3]", "Case 1"),
        ('[{"image": "scan0.nii.gz"}]', "Case 1"),
        ('[{"image": "gone.nii", "labels": "gone.nii", "structures": {"1": "x"}}]', "not exist"),
        ('[{"image": "scan0.nii.gz", "labels": "truth0.nii.gz", "structures": {}}]', "no struct"),
        ('[{"image": "scan0.nii.gz", "labels": "truth0.nii.gz", "structures": {"a": "x"}}]', "1"),
    ],
)
def test_bad_files(tmp_path: Path, cases: list[EvaluationCase], text: str, fault: str) -> None:
    assert cases
    file = tmp_path / "cases.json"
    file.write_text(text)
    with pytest.raises(BadInput, match=fault):
        read_cases(file)


def test_missing_file_and_folder(tmp_path: Path, cases: list[EvaluationCase]) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_cases(tmp_path / "none.json")
    with pytest.raises(BadInput, match="cannot be written"):
        write_cases(tmp_path / "none" / "cases.json", cases)
    with pytest.raises(BadInput, match=r"index\.json"):
        list_cases(tmp_path)
    with pytest.raises(BadInput, match="split"):
        list_cases(tmp_path, "test")
    with pytest.raises(BadInput, match="set 'lungs'"):
        list_cases(tmp_path, sets=["lungs"])


def test_load_case_on_one_grid(tmp_path: Path, cases: list[EvaluationCase]) -> None:
    volume, labels = load_case(cases[0])
    np.testing.assert_array_equal(labels, scan(0)[1])
    assert labels.shape == volume.shape
    other = Volume.from_array(np.zeros((5, 5, 5), np.int16), spacing=(1.0, 1.0, 1.0))
    save(tmp_path / "other.nii.gz", np.ones((5, 5, 5), np.uint8), other)
    wrong = EvaluationCase(cases[0].image, tmp_path / "other.nii.gz", {1: "x"})
    with pytest.raises(BadInput, match="another grid"):
        load_case(wrong)


def test_split_of_the_shared_data(shared_data: Path) -> None:
    validation, training = list_cases(shared_data), list_cases(shared_data, "training")
    assert Counter(case.set for case in validation) == {
        "headneck_ct": 31,
        "hippocampus_mr": 39,
        "sarcoma": 15,
    }
    assert len(validation) + len(training) == 201 + 195 + 105
    assert not {case.image for case in validation} & {case.image for case in training}
    assert all(case.structures for case in validation)
    sarcoma = [case.name for case in validation if case.set == "sarcoma"]
    assert {name.rsplit("_", 1)[0] for name in sarcoma} == {f"STS_0{k}" for k in range(31, 36)}
    assert Counter(case.modality for case in validation)["PT"] == 5
    only = list_cases(shared_data, sets=["hippocampus_mr"])
    assert only[0].name == "hippocampus_001_t1"
    volume, labels = load_case(only[0])
    assert labels.shape == volume.shape and set(np.unique(labels)) == {0, 1, 2}
