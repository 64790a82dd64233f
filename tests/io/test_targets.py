"""Targets are refused before any work is done for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_sightline.errors import BadInput
from napari_sightline.io.targets import check_target, write_json


def test_good_targets_pass(tmp_path: Path) -> None:
    check_target(None)
    check_target(tmp_path / "a.json")
    check_target(tmp_path / "A.NII.GZ", (".nii.gz", ".nii"))
    assert not list(tmp_path.iterdir())


def test_bad_targets(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"end it in \.nii\.gz or \.nii"):
        check_target(tmp_path / "a.dcm", (".nii.gz", ".nii"))
    for path in (tmp_path / "none" / "a.nii", tmp_path):
        with pytest.raises(BadInput, match="cannot be written"):
            check_target(path)


def test_json(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert json.loads(file.read_text()) == {"a": [1, 2.5]}
    with pytest.raises(BadInput, match="cannot be written"):
        write_json(tmp_path / "none" / "a.json", {})
