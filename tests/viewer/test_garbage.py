"""Searches for garbage are short while somebody clicks, and still find what died."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from napari_sightline.viewer import garbage
from napari_sightline.viewer.garbage import _Garbage


class Ring:
    """What only a search finds once nobody holds it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def mine() -> Iterator[_Garbage]:
    made = _Garbage()
    made.begin()
    yield made
    while made._users:
        made.end()
    gc.unfreeze()


def test_what_a_search_leaves_is_set_aside_and_the_next_is_short(mine: _Garbage) -> None:
    kept = [Ring() for _ in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() > len(kept)
    assert len(gc.get_objects()) < 1000


def test_what_died_before_a_search_is_found_by_it(mine: _Garbage) -> None:
    gone = weakref.ref(Ring())
    gc.collect()
    assert gone() is None


def test_what_was_set_aside_and_died_is_found_once_it_is_taken_back(mine: _Garbage) -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    mine.settle()
    del ring
    gc.collect()
    assert gone() is not None
    mine.thaw()
    gc.collect()
    assert gone() is None


def test_it_is_searched_for_once(mine: _Garbage) -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    mine.settle()
    mine.search()  # nothing large has died: nothing is done
    del ring
    assert gone() is not None
    held = Ring()
    late = weakref.ref(held)
    mine.thaw()
    gc.collect()  # as Python may at any time: what is about to die must not be set aside again
    del held
    mine.search()
    assert gone() is None and late() is None
    other = weakref.ref(Ring())
    mine.search()
    assert other() is not None
    gc.collect()


def test_now_and_then_a_search_is_whole(mine: _Garbage, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    mine.settle()
    del ring
    now = garbage.time.monotonic() + garbage._WHOLE_EVERY + 1
    monkeypatch.setattr(garbage.time, "monotonic", lambda: now)
    gc.collect()  # short, and the last short one
    assert gone() is not None and not gc.get_freeze_count()
    gc.collect()
    assert gone() is None and gc.get_freeze_count()


def test_all_is_left_to_python_after_the_last_user(mine: _Garbage) -> None:
    mine.begin()
    mine.settle()
    mine.end()
    assert gc.get_freeze_count() and mine._searched in gc.callbacks
    mine.end()
    assert not gc.get_freeze_count() and mine._searched not in gc.callbacks
    mine.settle()
    assert not gc.get_freeze_count()


def test_a_scan_that_is_removed_is_found(
    user: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In a real window, with the real functions."""
    request.addfinalizer(gc.unfreeze)
    mine = _Garbage()
    monkeypatch.setattr("napari_sightline.viewer.dock._LARGE", scan.data.nbytes)
    for name in ("thaw", "search"):
        monkeypatch.setattr(garbage, name, getattr(mine, name))
    mine.begin()
    request.addfinalizer(mine.end)
    layer = user.show(scan)
    user.click(layer, tuple(n // 2 for n in scan.shape))
    mine.settle()
    gone = weakref.ref(layer)
    user.viewer.layers.remove(layer)
    del layer
    user.wait()
    user.qtbot.waitUntil(lambda: gone() is None)
