"""What the panel saves, and where."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from viewer_making import AFFINES, SIDE, User, ball_scan

from napari_sightline.io import load, load_labels, save_image
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3
Told = Callable[[], list[str]]


@pytest.mark.parametrize("kind", AFFINES)
def test_saved_labels_lie_on_the_files_own_grid(
    kind: str, user: User, tmp_path: Path, told: Told
) -> None:
    volume = Volume.from_array(ball_scan((40, 48, 44)), AFFINES[kind], name="ball")
    path = save_image(tmp_path / "scan.nii.gz", volume)
    (ball,) = user.viewer.open(path, plugin="napari-sightline")
    user.wait()
    opened = load(path)
    voxel = tuple((n - 1) / 2 for n in opened.shape)
    place = tuple(float(v) for v in np.rint(voxel))
    user.click(ball, place)
    (click,) = user.prompts
    # What the file says lies where the user clicked, to the micrometre.
    stored = nib.load(path)
    inside = np.rint(opened.voxel_to_file(np.rint(click.position))).astype(int)
    mm = stored.affine @ [*opened.voxel_to_file(click.position), 1]
    np.testing.assert_allclose(opened.voxel_to_mm(click.position), mm[:3], atol=1e-3)

    user.panel.view.name.setText("ball")
    user.panel.controller.save(tmp_path / "out.nii.gz")
    user.wait()
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.shape == stored.shape
    np.testing.assert_array_equal(written.affine, stored.affine)
    assert np.asarray(written.dataobj)[tuple(inside)] == 1
    labels, names = load_labels(tmp_path / "out.nii.gz")
    assert np.array_equal(labels.data == 1, user.mask)
    assert names == {1: "ball"}
    assert not user.case.unsaved
    assert told() == ["Saved out.nii.gz."]


def test_save_keeps_what_was_painted_by_hand(user: User, scan: Volume, tmp_path: Path) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    user.case.labels.data[0, 0, 0] = 9
    user.panel.controller.accept("ball")
    user.panel.controller.save(tmp_path / "out.nii")  # waits for what was asked before
    user.wait()
    labels, _ = load_labels(tmp_path / "out.nii")
    assert labels.data[0, 0, 0] == 9
    assert (labels.data == 1).any()


def test_save_waits_for_the_click_before_it(
    user: User, scan: Volume, tmp_path: Path, told: Told
) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    with user.slow_model():
        user.click(ball, (24, 24, 3), wait=False)  # far outside the ball
        user.panel.controller.save(tmp_path / "out.nii")
    while len(user.case.session.current.prompts) < 2:  # the window is busy with something else
        time.sleep(0.01)
    time.sleep(0.2)
    user.wait()
    assert len(user.prompts) == 2
    labels, _ = load_labels(tmp_path / "out.nii")
    assert labels.data[24, 24, 3] == 1
    assert np.array_equal(labels.data, user.case.session.label_image())
    assert np.array_equal(labels.data, user.case.labels.data)


def test_save_asks_where(
    user: User, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    ball = user.show(scan)
    user.click(ball, MIDDLE)
    (tmp_path / "mine.nii.gz").write_bytes(b"precious")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])
    monkeypatch.setattr(QMessageBox, "question", lambda *_: next(answers))
    user.panel.view.save.click()
    user.wait()
    assert (tmp_path / "mine.nii.gz").read_bytes() == b"precious"
    user.panel.view.save.click()
    user.wait()
    assert load_labels(tmp_path / "mine.nii.gz")[0].data.any()
