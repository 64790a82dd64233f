"""Keys of the panel: bound while it is open, given back when it closes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from napari_sightline.viewer.bridge import bare
from napari_sightline.viewer.windows import PRESETS

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

UNDO, REDO, ACCEPT, CANDIDATE = "Control-Z", "Control-Shift-Z", "Enter", "C"
#: The list of keys: not a key of napari's keymaps, which know no question mark.
LIST = "?"
#: Key and what it does, as tooltips and the list show it. None of them is a key that napari binds
#: for the viewer, images or points, but for `SHARED`. Our own layers bind some of them for
#: drawing: see `KeyRing.lend`.
KEYS: Mapping[str, str] = {
    "P": "click on places",
    "B": "draw boxes",
    "S": "draw strokes",
    "L": "draw lassos",
    "T": "switch between positive and negative",
    UNDO: "undo",
    REDO: "redo",
    "N": "begin another object and leave this one open",
    ACCEPT: "accept the object",
    "R": "drop all prompts of the object",
    CANDIDATE: "go through the candidates after a first prompt",
    "V": "hide the masks, or show them again",
    "Delete": "take the marked prompt away",
    "D": "show the next plane through the place under the pointer",
    "J": "jump to the next prompt of the object",
    "W": "outlines instead of filled masks, and back",
    **{preset.key: f"window for {name}" for name, preset in PRESETS.items()},
}
#: Keys that napari has too, and what they do there: the panel has V while it is open, and C while
#: candidates are offered.
SHARED: Mapping[str, str] = {
    "V": "hides the selected layers",
    CANDIDATE: "sets the contrast of the selected image",
}


def weakly(method: Any) -> Any:
    """Make a function, for napari to keep, that calls a method as long as its object lives."""
    weak = WeakMethod(method)

    def call(*args: Any) -> None:
        alive = weak()
        if alive is not None:
            alive(*args)

    return call


class KeyRing:
    """Binds keys to functions on a viewer.

    Parameters
    ----------
    viewer : Viewer
        Its canvas must have the focus, or a widget that does not want the key.
    actions : mapping of str to callable
        Key to function without arguments.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], None]]) -> None:
        self._viewer = bare(viewer)
        self._actions = dict(actions)
        self._before: dict[str, Any] = {}
        self._lent: list[Any] = []
        self._shared: list[tuple[Any, bool]] = []  # layers whose keys were bound, whether idle
        self._image: Any = None
        self.bound = False

    def bind(self) -> None:
        """Take the keys; what was bound to them comes back with `unbind`."""
        if self.bound:
            return
        self.bound = True
        for key, action in self._actions.items():
            self._before[key] = self._viewer.bind_key(key, _call(action), overwrite=True)

    def unbind(self) -> None:
        """Give the keys back."""
        if not self.bound:
            return
        self.bound = False
        for key, before in self._before.items():
            self._viewer.bind_key(key, before, overwrite=True)
        self._before.clear()
        self.lend(())
        self.offer(None)

    def lend(self, layers: tuple[Layer | None, ...]) -> None:
        """Let the keys work too while one of our layers is selected, unless it is drawn on.

        Such layers bind letters, undo and Enter for napari's own tools. These have the letters and
        Enter as long as one of them is chosen; undo and redo stay ours: what is drawn on our labels
        is a step like any other.
        """
        wanted = [bare(layer) for layer in layers if layer is not None] if self.bound else []
        for layer in self._lent:
            if not any(layer is other for other in wanted):
                layer.events.mode.disconnect(self._share)
                _take_back(layer, self._actions)
        for layer in wanted:
            if not any(layer is other for other in self._lent):
                layer.events.mode.connect(self._share)
        self._lent = wanted
        self._share()

    def _share(self) -> None:
        wanted = [(layer, str(layer.mode) == "pan_zoom") for layer in self._lent]
        if wanted == self._shared:  # to bind all of them takes milliseconds
            return
        self._shared = wanted
        for layer, idle in wanted:
            for key, action in self._actions.items():
                if idle or key in (UNDO, REDO):
                    layer.bind_key(key, _call(action), overwrite=True)
                else:
                    layer.bind_key(key, None)

    def offer(self, image: Any) -> None:
        """Take C from an image as long as candidates are offered; None gives it back."""
        image = bare(image) if self.bound and CANDIDATE in self._actions else None
        if image is self._image:
            return
        if self._image is not None:
            self._image.bind_key(CANDIDATE, None)
        self._image = image
        if image is not None:
            image.bind_key(CANDIDATE, _call(self._actions[CANDIDATE]), overwrite=True)


def _take_back(layer: Any, actions: Mapping[str, Any]) -> None:
    for key in actions:
        layer.bind_key(key, None)


def _call(action: Callable[[], None]) -> Callable[[Any], None]:
    # A plain function: napari binds it to the viewer or layer.
    def run(_: Any) -> None:
        action()

    return run
