"""Keys of the panel: bound while it is open, given back when it closes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

UNDO, REDO, ACCEPT = "Control-Z", "Control-Shift-Z", "Enter"
_DRAWING = (UNDO, REDO, ACCEPT)
#: Key and what it does, as tooltips show it. None of them is a key that napari binds for the
#: viewer, images or points. Labels layers bind three of them for drawing: see `KeyRing.lend`.
KEYS: Mapping[str, str] = {
    "T": "switch between positive and negative clicks",
    UNDO: "undo",
    REDO: "redo",
    ACCEPT: "accept the object",
    "R": "drop all clicks of the object",
}


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
        for layer in self._lent:
            layer.events.mode.disconnect(self._share)
            self._take_back(layer)
        self._lent.clear()

    def lend(self, layer: Labels | None) -> None:
        """Let the keys work too while our labels layer is selected, unless it is drawn on.

        Labels layers bind undo, redo and Enter for napari's own drawing tools; these have them
        as long as such a tool is chosen.
        """
        layer = bare(layer)
        if layer is None or not self.bound or any(layer is lent for lent in self._lent):
            return
        self._lent.append(layer)
        layer.events.mode.connect(self._share)
        self._share()

    def _share(self) -> None:
        for layer in self._lent:
            if layer.mode != "pan_zoom":
                self._take_back(layer)
                continue
            for key in _DRAWING:
                layer.bind_key(key, _call(self._actions[key]), overwrite=True)

    @staticmethod
    def _take_back(layer: Any) -> None:
        for key in _DRAWING:
            layer.bind_key(key, None)


def _call(action: Callable[[], None]) -> Callable[[Any], None]:
    # A plain function: napari binds it to the viewer or layer.
    def run(_: Any) -> None:
        action()

    return run
