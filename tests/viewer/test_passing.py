"""A first answer is on the screen while the model looks again, and leaves no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from viewer_fakes import Balls
from viewer_making import User

from napari_sightline.viewer import controller
from napari_sightline.volume import Volume

SHAPE = (200, 200, 200)
PLACE = (100, 100, 100)


class Twice(Balls):
    """Its second look at a place waits for `going`."""

    def __init__(self) -> None:
        self.going, self.looks = threading.Event(), 0

    def decode(self, *args: Any) -> Any:
        self.looks += 1
        if self.looks > 1:
            assert self.going.wait(60)
        return super().decode(*args)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Twice]:
    """Panels find a model that finds so little that it must look closer."""
    made = Twice()
    monkeypatch.setattr(controller, "_models", {("sightline-3d", "auto"): made})
    yield made
    made.going.set()


@pytest.fixture
def loaded_model(model: Twice) -> None:
    """Panels find it."""


@pytest.fixture
def image(user: User, model: Twice) -> Any:
    """A scan that was clicked on; the first look is on the screen."""
    image = user.show(Volume.from_array(np.zeros(SHAPE, np.uint8), name="scan"))
    user.click(image, PLACE, wait=False)
    user.qtbot.waitUntil(lambda: bool(user.panel.controller.passing), timeout=60_000)
    user.qtbot.wait(20)
    return image


def test_the_final_mask_takes_the_place_of_the_first(user: User, image: Any, model: Twice) -> None:
    first = user.mask
    assert first[PLACE]
    user.qtbot.waitUntil(lambda: "first look" in user.panel.view.advice.text())
    assert user.case.session.current.mask_box is None  # nothing is done yet
    model.going.set()
    user.wait()
    assert model.looks > 1 and user.mask[PLACE]
    assert not np.array_equal(user.mask, first)
    assert np.array_equal(user.case.labels.data, user.case.session.label_image())
    assert not user.panel.controller.passing
    assert "first look" not in user.panel.view.advice.text()
    user.key("Z", "Control")  # both looks are one step
    assert not user.case.labels.data.any() and not user.case.session.can_undo


def test_undo_takes_the_first_look_back_at_once(user: User, image: Any, model: Twice) -> None:
    user.panel.controller.undo()
    assert not user.case.labels.data.any()
    model.going.set()
    user.wait()
    assert not user.case.labels.data.any()
    assert not user.case.session.can_undo and not user.prompts


def test_a_fault_takes_the_first_look_back(
    user: User, image: Any, model: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Balls, "decode", lambda *_: 1 / 0)
    model.going.set()
    user.wait()
    assert not user.case.labels.data.any() and not user.prompts
    assert "ZeroDivisionError" in user.panel.view.advice.text()


def test_what_was_drawn_by_hand_meanwhile_stays(user: User, image: Any, model: Twice) -> None:
    labels = user.case.labels
    place = tuple(np.argwhere(user.mask)[0])
    labels.data[place] = 9
    model.going.set()
    user.panel.controller.undo()
    assert np.argwhere(labels.data).tolist() == [list(place)]


def test_a_panel_that_closes_leaves_no_first_look(user: User, image: Any, model: Twice) -> None:
    user.panel.shut()
    assert [layer.name for layer in user.viewer.layers] == ["scan"]


def test_an_image_that_goes_takes_its_first_look_along(
    user: User, image: Any, model: Twice
) -> None:
    user.viewer.layers.remove(image)
    user.qtbot.wait(50)
    assert user.case is None and len(user.viewer.layers) == 0
