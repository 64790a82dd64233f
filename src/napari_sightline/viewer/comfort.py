"""Reading comfort: windows, outlines, opacity, hidden masks, planes, jumps to prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

import numpy as np
from qtpy.QtCore import QObject

from napari_sightline.viewer import planes, windows
from napari_sightline.viewer.bridge import bare, voxel_at
from napari_sightline.viewer.layers import show_outlines

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.options_view import LookTab

_OPACITY_STEP = 0.05


class Comfort(QObject):
    """Joins the tab *Look*, and its keys, to the viewer."""

    def __init__(self, viewer: Viewer, tab: LookTab, controller: Controller) -> None:
        super().__init__(controller)
        self._viewer, self._tab, self._control = bare(viewer), tab, controller
        self._watched: Any = None  # weakly: a scan that is removed must not stay in memory
        self._prompt = -1
        self.window = ""  # in which a CT is shown at first
        self._wheel = _Wheel(self._on_wheel)
        tab.window_chosen.connect(self.show_window)
        tab.outline_chosen.connect(self.apply)
        tab.shown_chosen.connect(self.apply)
        tab.opacity_chosen.connect(self._set_opacity)

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """Keys and what they do."""
        return {
            "V": self.toggle_masks,
            "W": self.toggle_outlines,
            "D": self.switch_plane,
            "J": self.jump,
            windows.PRESETS["soft tissue"].key: self.show_soft_tissue,
            windows.PRESETS["lung"].key: self.show_lung,
            windows.PRESETS["bone"].key: self.show_bone,
            windows.PRESETS["brain"].key: self.show_brain,
            windows.PRESETS["liver"].key: self.show_liver,
            windows.PRESETS["mediastinum"].key: self.show_mediastinum,
        }

    def wake(self) -> None:
        """Listen to the wheel."""
        self._viewer.mouse_wheel_callbacks.append(self._wheel)

    def sleep(self) -> None:
        """Give the wheel back."""
        if self._wheel in self._viewer.mouse_wheel_callbacks:
            self._viewer.mouse_wheel_callbacks.remove(self._wheel)
        self._watch(None)

    # ---- grey levels

    def show_window(self, name: str) -> None:
        """Show the scan in one of the usual windows."""
        case = self._control.case
        if case is not None and case.image is not None and not case.image.rgb:
            windows.show(case.image, name)

    def show_soft_tissue(self) -> None:
        """Window for soft tissue."""
        self.show_window("soft tissue")

    def show_lung(self) -> None:
        """Window for the lungs."""
        self.show_window("lung")

    def show_bone(self) -> None:
        """Window for bone."""
        self.show_window("bone")

    def show_brain(self) -> None:
        """Window for the brain."""
        self.show_window("brain")

    def show_liver(self) -> None:
        """Window for the liver."""
        self.show_window("liver")

    def show_mediastinum(self) -> None:
        """Window for the mediastinum."""
        self.show_window("mediastinum")

    # ---- masks

    def toggle_masks(self) -> None:
        """Hide the masks, or show them again."""
        self._tab.shown.toggle()

    def toggle_outlines(self) -> None:
        """Outlines instead of filled masks, and back."""
        self._tab.outline.toggle()

    def apply(self, _: Any = None) -> None:
        """Show masks as the tab says."""
        case = self._control.case
        self._watch(case.image if case is not None else None)
        if case is None or case.labels is None:
            return
        show_outlines(case, self._tab.outline.isChecked())
        if case.labels.visible != self._tab.shown.isChecked():
            case.labels.visible = self._tab.shown.isChecked()
        self._tab.show_opacity(case.labels.opacity)

    def _set_opacity(self, value: float) -> None:
        case = self._control.case
        if case is not None and case.labels is not None:
            case.labels.opacity = value

    def _on_wheel(self, up: bool) -> None:
        case = self._control.case
        if case is not None and case.labels is not None:
            step = _OPACITY_STEP if up else -_OPACITY_STEP
            case.labels.opacity = float(np.clip(case.labels.opacity + step, 0.0, 1.0))
            self._tab.show_opacity(case.labels.opacity)

    @property
    def _image(self) -> Any:
        return None if self._watched is None else self._watched()

    def _watch(self, image: Any) -> None:
        """Follow the grey levels of the scan, whoever changes them."""
        before = self._image
        if image is before:
            return
        if before is not None:
            before.events.contrast_limits.disconnect(self._on_levels)
        self._watched = None if image is None else ref(image)
        if image is not None:
            if self.window and windows.is_ct(image):
                windows.show(image, self.window)
            image.events.contrast_limits.connect(self._on_levels)
            self._on_levels()

    def _on_levels(self, _: Any = None) -> None:
        image = self._image
        if image is not None and not image.rgb:
            self._tab.show_window(windows.shown(image))

    # ---- places

    def switch_plane(self) -> None:
        """Show the next plane, through the place under the pointer."""
        case, viewer = self._control.case, self._viewer
        if case is None or case.image is None or viewer.dims.ndim < 3:
            return
        dims = viewer.dims
        where = voxel_at(case.image, viewer.cursor.position, dims.units, dims.displayed)
        shape = case.volume.shape if case.volume is not None else None
        planes.show(viewer, planes.next_plane(viewer))
        if shape is not None and all(0 <= v <= n - 1 for v, n in zip(where, shape, strict=True)):
            planes.go_to(viewer, case.image, where, case.frame)

    def jump(self) -> None:
        """Go to the next prompt of the object."""
        case = self._control.case
        if case is None or case.image is None or not case.state.prompts:
            return
        self._prompt = (self._prompt + 1) % len(case.state.prompts)
        low, high = case.state.prompts[self._prompt].bounds
        place = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        planes.go_to(self._viewer, case.image, place, case.frame)


class _Wheel:
    """Shift and the wheel; napari keeps this, and it does not keep the panel."""

    def __init__(self, turned: Callable[[bool], None]) -> None:
        self._turned = WeakMethod(turned)

    def __call__(self, _: Any, event: Any) -> None:
        keys = {str(getattr(key, "name", key)) for key in event.modifiers}
        turned = self._turned()
        if keys != {"Shift"} or turned is None:
            return
        delta = float(np.sum(event.delta))
        if delta:
            turned(delta > 0)
        event.handled = True
