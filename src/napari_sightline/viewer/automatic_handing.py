"""Organs that an automatic model found become objects of the prompt panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.anatomy import Colour
from napari_sightline.orientation import Array
from napari_sightline.viewer.bridge import bare

if TYPE_CHECKING:
    from napari_sightline.segment.interactive import MaskUpdate, Session
    from napari_sightline.viewer.prompts import PromptPanel


def prompt_panel(viewer: Any) -> PromptPanel:
    """Find the prompt panel of a viewer, or open it."""
    dock, panel = viewer.window.add_plugin_dock_widget("napari-sightline", "Segment with prompts")
    dock.show()
    dock.raise_()
    found: PromptPanel = panel
    return found


def hand_over(
    viewer: Any,
    image: Any,
    layer: Any,
    labels: Array,
    names: Mapping[int, str],
    colours: Mapping[int, Colour],
    returned: Callable[[], None],
    free_only: bool = False,
) -> None:
    """Make objects of a label map, in one step that the prompt panel can undo.

    Where the image has no labels of the prompt panel yet, the layer becomes theirs, so that
    organs are there once; else they are drawn there, and the layer is hidden.

    Parameters
    ----------
    viewer : Viewer
        With a window.
    image, layer : Image, Labels
        What was segmented, and the labels on it.
    labels : ndarray
        Canonical voxels of `layer`.
    names, colours : mapping
        By label value.
    returned : callable
        Called where the layer became theirs and did not stay so, as nothing came of it.
    free_only : bool
        Whether only voxels are taken that no object has.
    """
    control = prompt_panel(viewer).controller
    control.choose(image)
    case = control.case
    if case is None:
        return
    values = labels.copy()

    def step(session: Session, job: Any) -> MaskUpdate:
        taken = session.label_image()
        given = np.where(taken == 0, values, 0) if free_only else values
        return session.import_labels(given, names, colours, job.cancelled)

    if case.labels is None and not any(row.ml > 0 for row in case.state.rows):
        control.borrow(layer, step, returned)
        return
    if case.labels is not layer:
        bare(layer).visible = False
    control.ask(step)
