"""A viewer with the panel, and a user in front of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from automatic_making import forget_models, install
from model_making import swin
from viewer_making import User, ball_scan

from napari_sightline.models import load_model
from napari_sightline.viewer import controller, garbage
from napari_sightline.volume import Volume


@pytest.fixture
def scan() -> Volume:
    """A ball as a volume."""
    return Volume.from_array(ball_scan(), spacing=(1.5, 1.0, 1.0), name="ball")


@pytest.fixture(scope="session")
def loaded_model() -> None:
    """Load the embedded model once; panels find it as they find one of an earlier image."""
    controller._models["sightline-3d", "auto"] = load_model()
    # Every viewer's end looks for garbage: not among torch's and napari's own objects each time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def garbage_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `loaded_model` set aside stays so; `test_garbage.py` has the real functions."""
    for name in ("begin", "end", "settle", "thaw", "search"):
        monkeypatch.setattr(garbage, name, lambda: None)


@pytest.fixture
def told() -> Callable[[], list[str]]:
    """Sentences that the user was told since the test began."""
    from napari.utils.notifications import notification_manager

    begun = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[begun:]]


@pytest.fixture
def user(make_napari_viewer: Any, qtbot: Any, loaded_model: None) -> Iterator[User]:
    """A user in front of a viewer with the panel, as the menu opens it."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1000, 700)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    qtbot.wait(50)
    yield User(viewer, panel, qtbot)
    with suppress(RuntimeError):  # the test closed the viewer, and the panel went with it
        panel.shut()


@pytest.fixture(autouse=True)
def journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which sessions are kept against a crash; not the one of whoever runs the tests."""
    folder = tmp_path / "journals"
    monkeypatch.setattr("napari_sightline.segment.journal.state_folder", lambda: folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of models with a real small Swin-UNETR called "tissues"."""
    monkeypatch.setenv("SIGHTLINE_MODELS", str(tmp_path / "models"))
    forget_models()
    install("tissues", swin())
    yield tmp_path / "models"
    forget_models()
