"""The dock widget with a table of measures: follows edits, jumps to structures, writes CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QModelIndex, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.segment.measure import Measure, measure, write_csv
from napari_sightline.viewer.automatic_control import canonical, names_in
from napari_sightline.viewer.bridge import KEY, bare, grid_like, is_scan, source
from napari_sightline.viewer.buttons import Chooser, button, list_in
from napari_sightline.viewer.colours import colour_of, colours_of
from napari_sightline.viewer.dock import DockPanel
from napari_sightline.viewer.label_digest import Digest
from napari_sightline.viewer.measure_table import MeasureModel, sortable
from napari_sightline.viewer.planes import step_to
from napari_sightline.viewer.status import Advice
from napari_sightline.viewer.worker import Job, Worker
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    import napari.viewer

#: ms without an edit before structures are measured again.
_PAUSE = 500
_READING = "Measuring …"


class MeasurePanel(DockPanel):
    """Table of measures of a labels layer on an image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari.
    """

    short = "Measures"

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.worker = Worker(self)
        self.rows: list[Measure] = []
        self._labels: Any = None
        self._image: Any = None
        self._layers: list[Any] = []
        self._images: list[Any] = []
        self._measured: tuple[Any, Any, Digest, Volume] | None = None
        self._job: Job[Any] | None = None
        self._alarm = ""
        self._build()
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self.renew)
        self.wake()
        self._on_settled()

    def _build(self) -> None:
        self.advice = Advice()
        self.labels_box = Chooser("Labels to measure", least=5)
        self.image_box = Chooser("Image whose values are measured", least=5)
        self.labels_box.activated.connect(lambda k: self.choose(self._layers[k], None))
        self.image_box.activated.connect(lambda k: self.choose(self._labels, self._images[k]))
        self.model = MeasureModel(self)
        self.table = QTableView()
        self.sorted = sortable(self.model, self.table)
        self.table.setModel(self.sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # the order of values
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setToolTip("Click a row to go to the structure")
        down = self.table.verticalHeader()
        if down is not None:
            down.setVisible(False)
            down.setDefaultSectionSize(22)
        across = self.table.horizontalHeader()
        if across is not None:
            across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            across.setSectionsClickable(True)
        self.table.setMinimumHeight(90)
        self.table.clicked.connect(self._on_row)
        self.save = button("CSV …", "Write the table for a spreadsheet", self.ask_and_save)
        row = QHBoxLayout()
        row.setSpacing(4)
        for box in (self.labels_box, self.image_box):
            row.addWidget(box, 1)
        row.addWidget(self.save)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 4)
        column.setSpacing(4)
        column.addWidget(self.advice)
        column.addLayout(row)
        column.addWidget(self.table, 1)
        self.setMinimumWidth(288)

    def _end(self) -> None:
        self._pause.stop()
        self._follow(None)
        self.worker.stop()

    # ---- what is measured

    def choose(self, labels: Any, image: Any = None) -> None:
        """Measure a labels layer on an image; without one, on the one that has its grid."""
        labels, image = bare(labels), bare(image)
        self._follow(labels)
        self._image = image if image is not None else self._match(labels)
        self._measured, self._alarm = None, ""
        self.rows = []
        self.renew()

    def _match(self, labels: Any) -> Any:
        """Image on the labels' grid; None where there is none."""
        for image in self._images:
            if labels is not None and _same_grid(labels, image):
                return image
        return None

    def _follow(self, labels: Any) -> None:
        if labels is self._labels:
            return
        if self._labels is not None:
            for event in _edits(self._labels):
                event.disconnect(self._on_edit)
        self._labels = labels
        if labels is not None:
            for event in _edits(labels):
                event.connect(self._on_edit)

    def _on_edit(self, _: Any = None) -> None:
        self._pause.start()

    def _on_settled(self) -> None:
        layers = self._viewer.layers
        self._layers = [one for one in reversed(layers) if isinstance(one, Labels)]
        self._images = [one for one in reversed(layers) if is_scan(one)]
        if self._labels not in self._layers or self._image not in self._images:
            labels = self._labels if self._labels in self._layers else None
            if labels is None:
                active = layers.selection.active
                first = self._layers[0] if self._layers else None
                labels = active if active in self._layers else first
            self.choose(labels)
        self._refresh()

    # ---- measuring

    @property
    def busy(self) -> bool:
        """Whether something is measured, or will be in a moment."""
        return bool(self.worker.jobs) or self._pause.isActive() or self._settled.isActive()

    def renew(self) -> None:
        """Measure what is new since the last time."""
        labels, image, dims = self._labels, self._image, self._viewer.dims
        if self._job is not None:
            self._job.forget()
            self._job = None
        if labels is None or image is None:
            self._put([])
            return
        try:
            data = canonical(labels)
            made_on = (labels.metadata.get(KEY) or {}).get("frame")
            described = source(image, dims.point, dims.units, made_on)
        except SightlineError as error:
            self._fail(error)
            return
        names = names_in(labels)
        before = self._measured
        if before is not None and (before[0] is not labels or before[1] is not image):
            before = None
        kept = {row.value: row for row in self.rows} if before is not None else {}

        def work(job: Job[Any]) -> Any:
            volume = before[3] if before is not None else described.read()
            digest = Digest.of(data, before[2] if before is not None else None)
            values = set(digest.voxels)
            if before is not None:
                values &= digest.changed(before[2]) | (values - set(kept))
            fresh = {one.value: one for one in measure(data, volume, names, sorted(values))}
            rows = []
            for value in digest.voxels:
                one = fresh.get(value) or kept.get(value)
                if one is not None:
                    rows.append(_named(one, names.get(value, f"label {value}")))
            return digest, volume, rows

        def done(found: Any) -> None:
            digest, volume, rows = found
            if labels is self._labels and image is self._image:
                self._measured, self._alarm = (labels, image, digest, volume), ""
                self._put(rows)

        self._job = self.worker.submit(Job(work, done, self._fail, "measure"))
        self._refresh()

    def _put(self, rows: list[Measure]) -> None:
        labels = self._labels
        if rows != self.rows or not rows:
            self.rows = rows
            names = names_in(labels) if labels is not None else {}
            colours = colours_of(labels.colormap, names) if labels is not None else {}
            volume = self._measured[3] if self._measured is not None else None
            unit = "HU" if volume is not None and volume.modality == "CT" else ""
            shown = {
                row.value: colours.get(row.value) or colour_of(row.value, row.name) for row in rows
            }
            value = self._selected()
            self.model.show(rows, shown, unit)
            self._select(value)
        self._refresh()

    def _fail(self, error: Exception) -> None:
        if isinstance(error, SightlineError):
            self._alarm = str(error)
        elif isinstance(error, MemoryError):
            self._alarm = "The memory is full; close other programs, or crop the scan."
        else:
            raise error
        show_error(self._alarm)
        self._put([])

    # ---- the user asks

    def _row_at(self, index: QModelIndex) -> Measure:
        return self.model.rows[self.sorted.mapToSource(index).row()]

    def _selected(self) -> int | None:
        chosen = self.table.selectionModel()
        indices = chosen.selectedRows() if chosen is not None else []
        return self._row_at(indices[0]).value if indices else None

    def _select(self, value: int | None) -> None:
        for row, one in enumerate(self.model.rows):
            if one.value == value:
                self.table.selectRow(self.sorted.mapFromSource(self.model.index(row, 0)).row())

    def _on_row(self, index: QModelIndex) -> None:
        """Go to the slice of the longest diameter, where the structure is seen best."""
        one, labels = self._row_at(index), self._labels
        if labels is None or labels not in self._viewer.layers:
            return
        voxel = (one.slice, one.centroid[1], one.centroid[2])[3 - labels.data.ndim :]
        place = labels.data_to_world(voxel)
        ndim = self._viewer.dims.ndim
        step_to(self._viewer, range(ndim - len(place), ndim), place)
        labels.selected_label = one.value

    def ask_and_save(self) -> None:
        """Ask where, and write the table."""
        if not self.rows:
            return
        name = f"{self._labels.name if self._labels is not None else 'labels'}.csv"
        folder = Path.home()
        volume = self._measured[3] if self._measured is not None else None
        if volume is not None and volume.source is not None:
            folder = volume.source.parent
        proposed = folder / "".join(c if c.isalnum() or c in " ._-" else "_" for c in name)
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save measures", str(proposed), "Tables (*.csv)"
        )
        if not chosen:
            return
        path = Path(chosen)
        if path.suffix.lower() != ".csv":
            path = path.with_name(f"{path.name}.csv")
            if path.exists():
                self._fail_to_save(
                    BadInput(f"{path.name} exists already; choose it in the dialog to replace it.")
                )
                return
        rows = list(self.rows)
        self.worker.submit(
            Job(
                lambda _: write_csv(path, rows),
                lambda path: show_info(f"Saved {path.name}."),
                self._fail_to_save,
                "save",
                lasting=True,
            )
        )

    def _fail_to_save(self, error: Exception) -> None:
        if not isinstance(error, SightlineError):
            raise error
        self._alarm = str(error)
        show_error(self._alarm)
        self._refresh()

    def _refresh(self) -> None:
        layers, images = self._layers, self._images
        here = layers.index(self._labels) if self._labels in layers else -1
        list_in(self.labels_box, [one.name for one in layers], here)
        here = images.index(self._image) if self._image in images else -1
        list_in(self.image_box, [one.name for one in images], here)
        self.save.setEnabled(bool(self.rows))
        self.advice.say(self._alarm or self._say(), bool(self._alarm))

    def _say(self) -> str:
        if not self._layers:
            return "There are no labels; segment something first."
        if not self._images:
            return "There is no image; open the scan of these labels."
        if self._image is None:
            return "No image lies on the grid of these labels; open their scan."
        if any(job.kind == "measure" for job in self.worker.jobs) and not self.rows:
            return _READING
        if not self.rows:
            return "The labels are empty."
        return "Click a row to go there. The table follows your edits."


def _named(one: Measure, name: str) -> Measure:
    from dataclasses import replace

    return one if one.name == name else replace(one, name=name)


def _same_grid(labels: Any, image: Any) -> bool:
    import numpy as np

    shape = (image.data[0] if image.multiscale else image.data).shape
    shape = shape[:-1] if image.rgb else shape
    if tuple(shape[-labels.data.ndim :]) != tuple(labels.data.shape):
        return False
    grid = grid_like(image)
    return all(
        np.allclose(getattr(labels, key), grid[key]) for key in ("scale", "translate")
    ) and np.allclose(np.asarray(labels.affine), grid["affine"])


def _edits(layer: Any) -> list[Any]:
    events = layer.events
    return [events.paint, events.labels_update, events.data, events.set_data, events.features]
