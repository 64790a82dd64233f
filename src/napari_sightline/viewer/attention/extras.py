"""What is computed about a map beside the map: structures, faithfulness, uncertainty, bias.

All of it takes longer than a query, so it runs on a thread of its own, once the cursor rests.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.viewer.attention.control import AttentionControl
from napari_sightline.viewer.attention.plots import Bar
from napari_sightline.viewer.attention.state import ASKED, HeadRow, Shown
from napari_sightline.viewer.attention.words import CAVEAT, STUDY
from napari_sightline.viewer.bridge import KEY, bare
from napari_sightline.viewer.case import voxels
from napari_sightline.viewer.worker import Job
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_sightline.attention.structure import StructureTable

Saved = Callable[[Path], None]
Said = Callable[[str], None]
#: Milliseconds that the cursor rests before structures are counted.
REST = 250
_SHOWN_BARS = 9
_MEASURING = "Measuring: the model runs on blurred copies of its window …"


class Extras(QObject):
    """Computes what the panel's lower pages show.

    Signals
    -------
    structures(list of Bar, str)
        Attention by structure, or why there is none.
    heads(list of HeadRow, str)
        The same for each head of each block.
    trusted(str, Faithfulness or None)
        How faithful the map is.
    kernel(array or None, str)
        A head's relative position bias.
    uncertain(bool, str)
        Whether the layer of uncertainty is there, and a sentence.
    """

    structures = Signal(object, str)
    heads = Signal(object, str)
    trusted = Signal(str, object)
    kernel = Signal(object, str)
    uncertain = Signal(bool, str)

    def __init__(self, viewer: Viewer, control: AttentionControl) -> None:
        super().__init__(control)
        self._viewer, self._control = bare(viewer), control
        self._body: tuple[Any, Any] | None = None
        #: The map that was measured last (see `_key`), what is said of it, and its curves.
        self._trust: tuple[Any, str, Any] | None = None
        self._measuring: tuple[Any, Job[Any]] | None = None  # the map that is being measured
        self.rested = QTimer(self)
        self.rested.setSingleShot(True)
        self.rested.setInterval(REST)

    def _submit(
        self, kind: str, work: Callable[[Job[Any]], Any], done: Callable[[Any], None], failed: Any
    ) -> Job[Any]:
        control = self._control
        for job in control.heavy.jobs:
            if job.kind == kind:
                job.forget()
        image = control.image

        def still() -> bool:
            return control.image is image

        return control.heavy.submit(
            Job(
                work,
                lambda result: done(result) if still() else None,
                lambda error: failed(_sentence(error)) if still() else None,
                kind,
            )
        )

    # ---- structures

    def count(self, shown: Shown | None) -> None:
        """Count the attention of a map in each structure."""
        control = self._control
        if shown is None or control.image is None or control._asker is None:
            self.structures.emit([], "")
            return
        if shown.merged is None:
            tokens, mean = shown.answer.tokens, shown.answer.weights.mean(0)  # type: ignore[union-attr]
            bars = [Bar(name, float(w)) for name, w in zip(tokens.names, mean, strict=True)]
            bars.sort(key=lambda bar: -bar.share)
            self.structures.emit(bars[:_SHOWN_BARS], "Attention on each prompt, mean of the heads.")
            return
        answer, asker = shown.merged, control._asker
        layer = self._labels()

        def work(job: Job[Any]) -> StructureTable:
            from napari_sightline.attention.structure import by_structure

            return by_structure(answer, *self._scene(asker.volume(), layer))

        self._submit(
            "structures",
            work,
            partial(self._counted, _what(layer)),
            partial(self.structures.emit, []),
        )

    def _scene(self, volume: Volume, layer: Labels | None) -> tuple[Any, ...]:
        """Scan, labels, their names and the body, for `by_structure`; on the worker."""
        from napari_sightline.attention.structure import body_mask

        if self._body is None or self._body[0]() is not volume:
            self._body = weakref.ref(volume), body_mask(volume)
        names = {} if layer is None else dict(layer.metadata.get(KEY, {}).get("names", {}))
        return volume, voxels(layer, volume), names, self._body[1]

    def count_heads(self, shown: Shown | None) -> None:
        """Count the attention of every head of every block for the present query."""
        control = self._control
        if shown is None or control.image is None or control._asker is None:
            self.heads.emit([], "Ask for a map first.")
            return
        asker, settings, layer = control._asker, control.settings, self._labels()
        if settings.mode not in ASKED:
            self.heads.emit([], "This map has no heads: follow the cursor, or pin a voxel.")
            return
        try:
            one = control.recorded()
        except SightlineError as error:
            self.heads.emit([], str(error))
            return

        def work(job: Job[Any]) -> list[HeadRow]:
            from napari_sightline.viewer.attention.asking import all_heads

            scene = self._scene(asker.volume(), layer)
            return all_heads(one, settings, shown.position, scene, job.cancelled)

        words = (
            f"Every head by structure ({_what(layer)}). Click a column's name to sort, a row to "
            "see that head."
        )
        self._submit(
            "heads", work, lambda rows: self.heads.emit(rows, words), partial(self.heads.emit, [])
        )

    def _labels(self) -> Labels | None:
        """Labels that tell most structures apart, on the image's grid."""
        from napari.layers import Labels

        image, found = self._control.image, []
        for layer in self._viewer.layers:
            if not isinstance(layer, Labels) or layer.data.shape != image.data.shape:
                continue
            same = np.allclose(layer.scale, image.scale)
            if same and np.allclose(layer.translate, image.translate):
                found.append((len(layer.metadata.get(KEY, {}).get("names", {})), bare(layer)))
        return max(found, key=lambda one: one[0], default=(0, None))[1]

    def _counted(self, what: str, table: StructureTable) -> None:
        bars = []
        for name, share, even in zip(table.names, table.shares[0], table.volumes, strict=True):
            if share >= 0.002 or (np.isfinite(even) and even >= 0.02):
                bars.append(Bar(name, float(share), float(even), _colour(name)))
        bars.sort(key=lambda bar: -bar.share)
        words = f"Share of the attention ({what}); grey: where it would be if it were even."
        self.structures.emit(bars[:_SHOWN_BARS], words)

    # ---- uncertainty

    def follow(self) -> None:
        """Draw the uncertainty anew, where it is shown, after the mask changed."""
        layers = self._control.layers
        if layers is not None and layers.uncertainty is not None:
            self.show_uncertainty(True)

    def show_uncertainty(self, on: bool, jump: bool = False) -> None:
        """Show or hide the mask's uncertainty, and go to its largest, if wanted."""
        control = self._control
        if control.layers is None or control.image is None:
            self.uncertain.emit(False, "Open a scan first.")
            return
        if not on and not jump:
            control.layers.clear_uncertainty()
            self.uncertain.emit(False, "")
            return
        try:
            update = control.update()
        except SightlineError as error:
            control.layers.clear_uncertainty()
            self.uncertain.emit(False, str(error))
            return

        def work(job: Job[Any]) -> Any:
            from napari_sightline.attention.uncertainty import entropy_of_logits, most_uncertain

            if update.logits is None:
                raise BadInput("This mask has no probabilities; click once more.")
            entropy = entropy_of_logits(update.logits)
            return entropy, update.box, most_uncertain(entropy, update.box) if jump else None

        def done(result: Any) -> None:
            if control.layers is None:
                return
            entropy, box, place = result
            if on:
                control.layers.show_uncertainty(entropy, box, control.settings)
            words = ""
            if place is not None:
                self._go(place)
                where = ", ".join(f"{v:.0f}" for v in place)
                words = f"Most uncertain at voxel ({where}): look there, and click if it is wrong."
            self.uncertain.emit(on, words)

        def failed(words: str) -> None:
            if control.layers is not None:
                control.layers.clear_uncertainty()
            self.uncertain.emit(False, words)

        self._submit("uncertainty", work, done, failed)

    def _go(self, place: tuple[float, float, float]) -> None:
        """Show the slices through a voxel, with it in the middle of the canvas."""
        from napari_sightline.viewer.bridge import to_world
        from napari_sightline.viewer.planes import step_to

        image = self._control.image
        world = to_world(image) @ [*place, 1.0]
        k = min(image.ndim, 3)
        dims = self._viewer.dims
        step_to(self._viewer, range(dims.ndim - k, dims.ndim), world[3 - k : 3])
        camera = self._viewer.scene.camera
        shown = [float(world[:3][axis - (dims.ndim - 3)]) for axis in dims.displayed[-2:]]
        camera.center = (*tuple(camera.center)[:-2], *shown)

    # ---- how far to trust it

    def show_trust(self) -> None:
        """Say what is known of the map on the screen."""
        key, now = _key(self._control.shown), self._measuring
        if key is not None and now is not None and now[0] == key and now[1].done is not None:
            self.trusted.emit(_MEASURING, None)
        elif self._trust is not None and key is not None and self._trust[0] == key:
            self.trusted.emit(*self._trust[1:])
        else:
            self.trusted.emit(f"{CAVEAT} {STUDY} This map: not measured.", None)

    def measure(self) -> None:
        """Measure deletion and insertion of the map on the screen, against chance.

        A map that follows the cursor is pinned first, as this takes longer than the cursor rests.
        """
        control = self._control
        shown, asker, key = control.shown, control._asker, _key(control.shown)
        if shown is None or shown.merged is None or asker is None or key is None:
            self.trusted.emit("There is no map on the image to measure; ask for one first.", None)
            return
        answer = shown.merged
        if answer.unit.startswith("entropy"):
            self.trusted.emit("Choose mean or max: entropy over heads ranks no places.", None)
            return
        if control.settings.mode == "cursor":
            control.pinned = shown.position
            control.set(mode="pinned")
        try:
            look = control.look()
        except SightlineError as error:
            self.trusted.emit(str(error), None)
            return

        def work(job: Job[Any]) -> Any:
            from napari_sightline.viewer.attention.judge import faithfulness_of

            return faithfulness_of(look, answer, asker.volume(), job)

        def know(words: str, found: Any = None) -> None:
            self._trust = key, words, found
            if control.shown is None or _key(control.shown) == key:
                self.trusted.emit(words, found)

        def done(judged: Any) -> None:
            from napari_sightline.viewer.attention.judge import verdict

            know(f"{CAVEAT} {verdict(judged)}", judged.found)

        self.trusted.emit(_MEASURING, None)
        self._measuring = key, self._submit("measure", work, done, know)

    # ---- files

    def export(
        self, path: Path, done: Callable[[Path], None], failed: Callable[[str], None]
    ) -> None:
        """Write the map on the screen to NIfTI, on the scan's own grid."""
        shown, asker = self._control.shown, self._control._asker
        if shown is None or shown.merged is None or asker is None:
            failed("There is no map on the image to export; ask for one first.")
            return
        answer = shown.merged

        def work(_: Job[Any]) -> Path:
            from napari_sightline.attention.export import save_map

            return save_map(path, answer, asker.volume())

        self._submit("export", work, done, failed)

    def strip(
        self, path: Path, done: Callable[[Path], None], failed: Callable[[str], None]
    ) -> None:
        """Write the heads, side by side, on the slice of the query, to PNG."""
        control = self._control
        shown, asker = control.shown, control._asker
        if shown is None or shown.merged is None or asker is None:
            failed("There is no map on the image to draw; ask for one first.")
            return
        answer: Any = shown.answer
        place: Any = shown.position or control.cursor
        if place is None:
            place = answer.frame.to_volume((np.array(answer.frame.shape) - 1) / 2)
        same = control.settings.scale.fixed

        def work(_: Job[Any]) -> Path:
            from napari_sightline.attention.export import save_heads

            return save_heads(path, answer, asker.volume(), place, same_scale=same)

        self._submit("export", work, done, failed)

    # ---- the bias of Swin's heads

    def show_bias(self) -> None:
        """Show the relative position bias of the chosen block and head."""
        control = self._control
        try:
            one = control.recorded()
            from napari_sightline.viewer.attention.asking import block_number
            from napari_sightline.viewer.attention.kernels import bias_kernels

            number = block_number(one, control.settings)
            kernels = bias_kernels(one, number)
        except SightlineError as error:
            self.kernel.emit(None, str(error))
            return
        heads = [h for h in control.settings.heads if h < len(kernels)]
        head = heads[0] if heads else 0
        self.kernel.emit(
            kernels[head],
            f"What head {head + 1} adds for a token so far away (offset 0 in the middle), whatever "
            "the picture shows: orange adds, blue takes away.",
        )


def _key(shown: Shown | None) -> tuple[Any, ...] | None:
    """Tell a map from others: by its query and by its values."""
    if shown is None or shown.merged is None:
        return None
    one = shown.merged
    values = one.weights.tobytes(), one.cells.tobytes(), one.frame.affine.tobytes()
    return one.model, one.block, one.heads, one.query, one.direction, values


def _what(layer: Labels | None) -> str:
    return "no labels: organs are not told apart" if layer is None else str(layer.name)


def _colour(name: str) -> tuple[int, int, int] | None:
    from napari_sightline.anatomy import by_name

    found = by_name(name)
    return None if found is None else found.colour


def _sentence(error: Exception) -> str:
    if isinstance(error, SightlineError):
        return str(error)
    return f"That failed ({type(error).__name__}: {error})."


__all__ = ["Extras"]
