"""Python's search for garbage, kept from stopping the window while somebody clicks.

A whole search looks at every object: with napari and PyTorch loaded a million of them, which takes
.1 to .25 seconds whenever Python thinks it is time. What such a search has left alive is set aside
(`gc.freeze`), so that the next one looks at newer objects only. What is set aside and dies in a
cycle afterwards would stay for good: therefore it is taken back when something large has died,
which is then looked for at once, and now and then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

#: Seconds after which a whole search may be as long as it takes.
_WHOLE_EVERY = 900.0


class _Garbage:
    """Sets aside what searches leave, as long as somebody asks for it."""

    def __init__(self) -> None:
        self._users = 0
        self._whole = 0.0
        self._thawed = False

    def begin(self) -> None:
        """Keep searches short from now on; each call wants one of `end`."""
        self._users += 1
        if self._users == 1:
            self._whole = time.monotonic()
            gc.callbacks.append(self._searched)

    def end(self) -> None:
        """Leave all to Python again, once nobody asks any more."""
        self._users -= 1
        if not self._users:
            self._thawed = False
            gc.callbacks.remove(self._searched)
            gc.unfreeze()

    def settle(self) -> None:
        """Set aside all that is alive now: the program has been loaded."""
        if self._users and not self._thawed:
            self._whole = time.monotonic()
            gc.freeze()

    def thaw(self) -> None:
        """Take back what was set aside, until `search`: something large is about to die."""
        if self._users:
            self._thawed = True
            gc.unfreeze()

    def search(self) -> None:
        """Look at everything now, if something large has died since the last time."""
        if self._thawed:
            self._thawed = False
            gc.collect()

    def _searched(self, phase: str, about: Mapping[str, Any]) -> None:
        if phase != "stop" or about["generation"] < 2 or self._thawed:
            return
        now = time.monotonic()
        if not gc.get_freeze_count():
            self._whole = now
        elif now - self._whole > _WHOLE_EVERY:
            gc.unfreeze()
            return
        gc.freeze()


_garbage = _Garbage()
begin, end, settle = _garbage.begin, _garbage.end, _garbage.settle
thaw, search = _garbage.thaw, _garbage.search
