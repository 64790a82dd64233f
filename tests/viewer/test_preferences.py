"""Preferences: napari's own page for this plugin, read when the panel opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.settings
import pytest
from viewer_fakes import Balls
from viewer_making import User, ball_scan

from napari_sightline.segment import predict
from napari_sightline.viewer import controller, windows
from napari_sightline.viewer.preferences import Preferences, preferences
from napari_sightline.volume import Volume


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin's page of preferences, as on a new machine."""
    napari.settings._clear_plugin_settings_cache()
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    monkeypatch.setattr(predict, "CACHED_REGIONS", predict.CACHED_REGIONS)
    monkeypatch.setattr(
        controller, "_models", {("sightline-3d", "auto"): Balls(), ("sightline-3d", "cpu"): Balls()}
    )
    yield napari.settings.get_plugin_settings("napari-sightline").panel
    napari.settings._clear_plugin_settings_cache()


def opened(make_napari_viewer: Any, qtbot: Any) -> User:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    return User(viewer, panel, qtbot)


def test_defaults_are_those_of_the_manifest(settings: Any) -> None:
    assert preferences() == Preferences()


def test_choices_hold_for_a_panel_that_opens(
    settings: Any, make_napari_viewer: Any, qtbot: Any, journals: Path
) -> None:
    settings.device = "cpu"
    settings.precision = "fp32"
    settings.regions = 9
    settings.window = "lung"
    settings.preview = True
    settings.journal = False
    user = opened(make_napari_viewer, qtbot)
    ball = user.show(Volume.from_array(ball_scan(), modality="CT", name="ball"))
    assert user.case.device == "cpu" and user.case.session.model.precision == "fp32"
    assert predict.CACHED_REGIONS == 9
    assert user.panel.view.look.hover.isChecked()
    assert tuple(ball.contrast_limits) == windows.PRESETS["lung"].limits
    user.click(ball, (24, 24, 24))
    assert user.mask.any() and not journals.exists()  # no journal was wanted
    user.panel.shut()


def test_other_images_than_ct_keep_their_grey_levels(
    settings: Any, make_napari_viewer: Any, qtbot: Any
) -> None:
    settings.window = "bone"
    user = opened(make_napari_viewer, qtbot)
    ball = user.show(Volume.from_array(ball_scan(), modality="MR", name="ball"))
    assert tuple(ball.contrast_limits) != windows.PRESETS["bone"].limits
    user.panel.shut()


def test_values_of_another_kind_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page:
        panel = type("Panel", (), {"regions": "many", "window": "liver"})

    monkeypatch.setattr(napari.settings, "get_plugin_settings", lambda name: Page)
    assert preferences() == Preferences(window="liver")
