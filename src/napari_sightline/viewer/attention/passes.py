"""Recorded passes of one image: which one answers, and how to run its model again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from napari_sightline.errors import BadInput
from napari_sightline.viewer.attention import sources
from napari_sightline.viewer.attention.sources import Clicks
from napari_sightline.viewer.attention.state import Position, Settings
from napari_sightline.viewer.case import Case, case_of

if TYPE_CHECKING:
    from napari_sightline.attention.calls import Pass
    from napari_sightline.attention.tap import Tap
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.interactive import MaskUpdate
    from napari_sightline.viewer.attention.judge import Look


class Passes:
    """What was recorded on an image, or one frame of it, while the panel was open.

    Parameters
    ----------
    image : Image
        The layer.
    frame : tuple of int
        Of the axes before the last three.
    heard : callable
        Called, on the thread that computes, after each decoding of a prompt.
    """

    def __init__(self, image: Any, frame: tuple[int, ...], heard: Callable[[], None]) -> None:
        self._image, self._frame, self._heard = image, frame, heard
        self._clicks: Clicks | None = None
        self.own: Tap | None = None
        self._own_update: MaskUpdate | None = None
        sources.watch_runs(image, True)

    def close(self) -> None:
        """Listen no longer: from now on nothing is recorded."""
        if self._clicks is not None:
            self._clicks.detach()
        sources.watch_runs(self._image, False)

    @property
    def case(self) -> Case | None:
        """What the prompt panel knows of the image."""
        return case_of(self._image, self._frame)

    def look(self) -> bool:
        """Notice what the prompt panel did since; whether there is something new."""
        case = self.case
        if case is not None and (self._clicks is None or self._clicks.session is not case.session):
            if self._clicks is not None:
                self._clicks.detach()
            self._clicks = Clicks(case.session, self._heard)
            return True
        return self._clicks is not None and self._clicks.look()

    def keep(self, tap: Tap, update: MaskUpdate | None) -> None:
        """Take a run of the panel's own."""
        self.own, self._own_update = tap, update

    def recorded(self, settings: Settings, position: Position | None) -> Pass:
        """Pass that answers: of the source, where it saw the voxel.

        Raises
        ------
        BadInput
            Where there is none; the sentence says what to do.
        """
        kind = settings.source
        if kind == "click":
            if self._clicks is None:
                raise BadInput(
                    "Nothing was segmented with prompts on this image yet; click in the prompt "
                    "panel, or press G over a place to run the model there."
                )
            return self._clicks.last()
        tap = self.own if kind == "own" else sources.run_on(self._image)
        latest = None if tap is None else tap.latest
        if tap is None or latest is None:
            raise BadInput(
                "No automatic run on this image was recorded; run one while this panel is open."
                if kind == "automatic"
                else "Nothing was run yet: move the cursor to a place of interest and press G."
            )
        if position is None or settings.mode == "prompt":
            return latest
        found = tap.at(position)
        if found is None and tap.dropped:
            raise BadInput(
                "The window round this voxel is no longer in memory, as the scan has too many; "
                "press G to run the model there."
            )
        return found or latest

    def update(self, settings: Settings) -> MaskUpdate:
        """Mask that the source's model gave, with its logits.

        Raises
        ------
        BadInput
            Where there is none.
        """
        if settings.source == "own" and self._own_update is not None:
            return self._own_update
        if settings.source == "click" and self._clicks is not None:
            return self._clicks.update()
        raise BadInput(
            "There is no mask with probabilities here; choose 'last click' as the source, and "
            "click once."
        )

    def again(
        self,
        settings: Settings,
        position: Position | None,
        segmenters: Iterable[Segmenter],
        embedded: Any,
    ) -> Look:
        """All that is needed to run the source's model again.

        Raises
        ------
        BadInput
            Where there is no pass, or its model is not at hand.
        """
        from napari_sightline.viewer.attention.judge import Look

        one, case = self.recorded(settings, position), self.case
        own = settings.source == "own"
        if settings.source == "automatic" or (own and self._own_update is None):
            from napari_sightline.viewer.automatic_run import remembered

            for segmenter in (*segmenters, *remembered()):
                if segmenter.network is one.network:
                    return Look(one, segmenter, None, position)
            raise BadInput("The model of this pass is not at hand; open its file under 'model'.")
        model = embedded if own or case is None else case.session.model
        if model is None or getattr(model, "network", None) is not one.network:
            raise BadInput("The model of this pass is gone; run it again.")
        return Look(one, model, self.update(settings).region, position)
