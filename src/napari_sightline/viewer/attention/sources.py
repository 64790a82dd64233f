"""Whose attention is shown: clicks of the prompt panel, automatic runs, runs of the panel's own."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from napari_sightline.errors import BadInput
from napari_sightline.segment.interactive import MaskUpdate, Session
from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.tap import Tap
    from napari_sightline.segment.region import Region

#: Memory for what is recorded on one image, MB.
BUDGET_MB = 256
#: Clicks whose passes are found again after undo.
_REMEMBERED = 16
#: The same for an automatic run, all windows of which are to be asked.
RUN_BUDGET_MB = 1024


def new_tap() -> Tap:
    """Make an empty recorder; loads torch, so call it on a worker where nobody has it yet."""
    from napari_sightline.attention.tap import Tap

    return Tap(BUDGET_MB, keep=_REMEMBERED)


class Clicks:
    """Listens to the prompts of a session, as long as it is attached.

    Parameters
    ----------
    session : Session
        Of the prompt panel; its prompts are the user's and are only listened to.
    heard : callable
        Called, on the thread that computes, after each decoding.
    """

    def __init__(self, session: Session, heard: Callable[[], None]) -> None:
        self.session = session
        self._tap: Tap | None = None
        self._heard = heard
        self._seen: MaskUpdate | None = session.last_update
        self._found: OrderedDict[object, tuple[Any, Pass, MaskUpdate]] = OrderedDict()
        session.tap = self

    def detach(self) -> None:
        """Listen no longer: from now on nothing is recorded."""
        if self.session.tap is self:
            self.session.tap = None

    @contextmanager
    def recording(self, network: Any, region: Region, points: Any, codes: Any) -> Iterator[None]:
        """See `napari_sightline.segment.interactive.Tap`."""
        if self._tap is None:
            self._tap = new_tap()
        with self._tap.recording(network, region, points, codes):
            yield
        self._heard()

    def look(self) -> bool:
        """Notice what the session did since; whether there is something new."""
        update = self.session.last_update
        if update is self._seen:
            return False
        self._seen = update
        if update is not None and update.region is not None and self._tap is not None:
            one = self._tap.for_region(update.region)
            key, prompts = self._key(update.object_id)
            if one is not None and key is not None:
                self._found[key] = prompts, one, update
                while len(self._found) > _REMEMBERED:
                    self._found.popitem(last=False)
        return True

    def _key(self, number: int) -> tuple[object, Any]:
        """Give what says that an object's prompts are those of a pass; holds the prompts alive."""
        for item in self.session.objects:
            if item.id == number:
                return (number, *map(id, item.prompts)), item.prompts
        return None, None

    def _now(self) -> tuple[Any, Pass, MaskUpdate]:
        session = self.session
        if not any(item.prompts for item in session.objects):
            raise BadInput(
                "There is no click on this image yet; click in the prompt panel, or choose "
                "'run at the cursor'."
            )
        key, _ = self._key(session.current.id)
        found = self._found.get(key)
        if found is not None:
            return found
        if not session.current.prompts and self._found:
            # A new object was begun: the last click belongs to the one before.
            number, *_ = key_of = next(reversed(self._found))
            if self._key(number)[0] == key_of:
                return self._found[key_of]
        raise BadInput(
            "The last click was not recorded, as this panel was closed or it was taken back; "
            "click once more to see its attention."
        )

    def last(self) -> Pass:
        """Pass of the last click of the object as it is now.

        Raises
        ------
        BadInput
            Where there was no click, or it was not recorded.
        """
        return self._now()[1]

    def update(self) -> MaskUpdate:
        """Mask of that click, with its logits; raises as `last`."""
        return self._now()[2]


# ---- automatic runs

_ALL = 2**20
_watched: WeakSet[Any] = WeakSet()
_runs: WeakKeyDictionary[Any, Tap] = WeakKeyDictionary()


def watch_runs(image: Image, on: bool) -> None:
    """Say whether automatic runs on an image are to be recorded: while the panel is open."""
    (_watched.add if on else _watched.discard)(bare(image))


def tap_for_run(image: Image) -> Callable[[], Tap] | None:
    """Give what makes the tap of an automatic run on an image; None while nobody wants one.

    Whoever starts automatic runs calls this on the main thread before each, and the result on the
    run's worker: making a tap loads torch.
    """
    image = bare(image)
    if image not in _watched:
        return None
    _runs.pop(image, None)  # what is recorded from now on is of the new run
    return partial(_new_run, weakref.ref(image))


def _new_run(image: weakref.ref[Image]) -> Tap:
    from napari_sightline.attention.tap import Tap

    # In half precision twice as many windows are kept; maps differ by a thousandth of a value.
    tap, layer = Tap(RUN_BUDGET_MB, half=True, keep=_ALL), image()
    if layer is not None:
        _runs[layer] = tap
    return tap


def run_on(image: Image) -> Tap | None:
    """Tap of the last automatic run on an image, or None."""
    return _runs.get(bare(image))
