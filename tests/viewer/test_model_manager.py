"""The model manager and its form, with models made on the spot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from model_making import INFERENCE, METADATA, bundle, swin
from qtpy.QtWidgets import QDialog, QMessageBox

from napari_sightline.errors import ModelError
from napari_sightline.models import catalog, load_segmenter, store
from napari_sightline.viewer import model_manager
from napari_sightline.viewer.model_manager import ModelManager

YES, NO = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No


class Keeper:
    """Somebody with the manager open; answers questions and forms as told."""

    def __init__(self, window: ModelManager, qtbot: Any) -> None:
        self.window, self.qtbot = window, qtbot
        self.changes = 0
        window.changed.connect(self._count)

    def _count(self) -> None:
        self.changes += 1

    def settle(self) -> None:
        self.qtbot.wait(20)
        self.qtbot.waitUntil(lambda: not self.window.worker.jobs, timeout=60_000)

    def press(self, button: Any) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        assert button.isEnabled(), button.text()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.settle()

    @property
    def said(self) -> str:
        return str(self.window.advice.text())


@pytest.fixture
def keeper(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setenv("SIGHTLINE_MODELS", str(tmp_path / "models"))
    window = ModelManager()
    window.show()
    yield Keeper(window, qtbot)
    window.close()


def test_a_bundle_that_says_all_is_added_verified_and_removed(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def agree(form: Any) -> bool:
        shown.append(form)
        form.accept()
        return bool(form.result() == QDialog.DialogCode.Accepted)

    monkeypatch.setattr(model_manager.ModelForm, "exec", agree)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: YES)
    keeper.window.add(bundle(tmp_path / "organs", swin(window_size=2)))
    keeper.settle()
    if shown and not shown[0].result():  # what no file can say is asked
        pytest.fail(shown[0].advice.text())
    assert "organs is ready: liver, spleen" in keeper.said
    assert keeper.window.chosen == "organs"
    assert keeper.changes == 1
    assert "Licence: Apache-2.0" in keeper.window.facts.text()
    assert load_segmenter("organs").spec.labels == {1: "liver", 2: "spleen"}

    keeper.press(keeper.window.check)
    assert store.verify("organs").sha256 in keeper.said
    store.find("organs").path.write_bytes(b"rot")  # type: ignore[union-attr]
    keeper.press(keeper.window.check)
    assert "is not the file that was put there" in keeper.said
    monkeypatch.setattr(QMessageBox, "question", lambda *_: NO)
    keeper.press(keeper.window.drop)
    assert store.find("organs") is not None
    monkeypatch.setattr(QMessageBox, "question", lambda *_: YES)
    keeper.press(keeper.window.drop)
    assert store.find("organs") is None
    assert keeper.changes == 2


def test_a_bare_checkpoint_is_asked_for_its_facts(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.pt"
    torch.save(swin().state_dict(), path)
    sentences: list[str] = []

    def answer(form: Any) -> bool:
        form.accept()  # not all is answered
        sentences.append(form.advice.text())
        form.fill("labels", "1=liver, 2=spleen")
        form.fill("channels", "CT")
        form.fill("overlapping", "no")
        form.fill("orientation", "sideways")
        form.fill("spacing", "1.5 1.5 2")
        form.fill("intensity", "window -175 250")
        if "merging" in form.fields:
            form.fill("merging", form.fields["merging"].itemData(1))
        form.accept()
        sentences.append(form.advice.text())
        assert not form.result()
        form.fill("orientation", "LPS")
        form.accept()
        return bool(form.result() == QDialog.DialogCode.Accepted)

    monkeypatch.setattr(model_manager.ModelForm, "exec", answer)
    keeper.window.add(path)
    keeper.settle()
    assert "no answer yet" in sentences[0]
    assert "orientation" in sentences[1]
    spec = load_segmenter("mine").spec
    assert spec.orientation == "LPS"
    assert spec.spacing == (1.5, 1.5, 2.0)
    assert spec.labels == {1: "liver", 2: "spleen"}


def test_what_is_no_model_is_refused(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harm",))

    evil = tmp_path / "evil.pt"
    evil.write_bytes(pickle.dumps(Evil()))
    for path in (evil, tmp_path / "nothing.pt"):
        keeper.window.add(path)
        keeper.settle()
        assert path.name in keeper.said or str(path) in keeper.said
    assert not (tmp_path / "harm").exists()
    assert keeper.changes == 0
    assert store.installed() == []


def test_licence_comes_before_a_download_which_can_be_stopped(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle(tmp_path / "fetched", swin(), INFERENCE, METADATA)
    asked: list[str] = []
    fetched: list[str] = []

    def refuse(*args: Any) -> Any:
        asked.append(args[2])
        return NO

    def fetch(name: str, progress: Any, cancel: Any) -> Path:
        from napari_sightline.errors import Cancelled

        fetched.append(name)
        progress(0.5, "downloading")
        for _ in range(400):
            if cancel():
                raise Cancelled
            keeper_wait()
        return made

    import time

    keeper_wait = lambda: time.sleep(0.02)  # noqa: E731
    monkeypatch.setattr(QMessageBox, "question", refuse)
    monkeypatch.setattr(catalog, "fetch_files", fetch)
    keeper.window.choose("swin-unetr-btcv")
    keeper.press(keeper.window.get)
    assert "Apache-2.0" in asked[0]
    assert "BTCV" in asked[0]
    assert fetched == []

    monkeypatch.setattr(QMessageBox, "question", lambda *_: YES)
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(keeper.window.get, Qt.MouseButton.LeftButton)
    keeper.qtbot.waitUntil(lambda: bool(fetched) and keeper.window.cancel.isVisible())
    keeper.press(keeper.window.cancel)
    assert "Stopped" in keeper.said
    assert store.installed() == []

    def broken(*_: Any) -> Path:
        raise ModelError("The download of model.pt broke off; try again.")

    monkeypatch.setattr(catalog, "fetch_files", broken)
    keeper.press(keeper.window.get)
    assert "broke off" in keeper.said


def test_shipped_models_cannot_be_removed(keeper: Keeper) -> None:
    keeper.window.choose("sightline-3d")
    assert not keeper.window.drop.isEnabled()
    assert not keeper.window.get.isEnabled()
    assert "BSD-3-Clause" in keeper.window.facts.text()
