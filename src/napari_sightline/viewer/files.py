"""What napari calls to open and to save files, and to open the sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error, show_info

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.io.formats import format_of
from napari_sightline.orientation import Array
from napari_sightline.viewer.bridge import KEY, image_layer, placed
from napari_sightline.viewer.colours import label_colours
from napari_sightline.viewer.worker import apart
from napari_sightline.volume import Volume

LayerData = tuple[Any, dict[str, Any], str]
#: What a reader returns when it has told the user itself why there is nothing to show.
_NOTHING: list[tuple[None]] = [(None,)]
_MOST_LABELS = 4096
_SLICES = (".dcm", ".ima")
_ENDINGS = (*_SLICES, ".nii", ".nii.gz", ".nrrd", ".nhdr", ".tif", ".tiff", ".zip")


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """Offer to read scans and labels (npe2 reader).

    Parameters
    ----------
    path : str or sequence of str
        One file or folder, or several; several become a layer each, but several DICOM files
        are slices of series.

    Returns
    -------
    callable or None
    """
    paths = [path] if isinstance(path, str) else list(path)
    known = all(name.lower().endswith(_ENDINGS) or Path(name).is_dir() for name in paths)
    return read if known else None


def read(path: str | Sequence[str]) -> list[Any]:
    """Open scans as image layers, label maps as labels layers.

    Each DICOM series becomes a layer; what is odd about one is told. A file that cannot be
    used is told in one sentence and left out.
    """
    paths = [path] if isinstance(path, str) else list(path)
    layers: list[Any] = []
    slices = [name for name in paths if name.lower().endswith(_SLICES)]
    together = [slices] if len(slices) > 1 else []
    for source in (*together, *(name for name in paths if not together or name not in slices)):
        try:
            layers += apart(lambda source=source: _open(source))  # type: ignore[misc]
        except SightlineError as error:
            show_error(str(error))
    return layers or list(_NOTHING)


def _open(source: str | list[str]) -> list[LayerData]:
    """Read one file, or one pile of DICOM files, as layer data."""
    kind = format_of(source)
    if kind == "dicom":
        from napari_sightline.io.dicom import read_all_series

        volumes = read_all_series(source)
        for volume in volumes:
            if volume.notes:
                show_info(f"{volume.name}: {' '.join(volume.notes)}")
        return [image_layer(volume) for volume in volumes]
    assert isinstance(source, str)
    if kind == "dicom-seg" or source.lower().endswith(".seg.nrrd"):
        return [labels_layer(*load_labels(source))]
    volume = load(source)
    if looks_like_labels(volume):
        return [labels_layer(*load_labels(source))]
    return [image_layer(volume)]


def looks_like_labels(volume: Volume) -> bool:
    """Whether a file holds a label map: said so in its header, or whole numbers in plateaus.

    Images are grainy: neighbours are rarely equal. In a label map nearly all are.
    """
    intent = getattr(volume.header, "get", lambda _: 0)("intent_code")
    if intent is not None and int(intent) == 1002:
        return True
    data = volume.data
    slices = np.unique(np.linspace(0, data.shape[0] - 1, 12).astype(int))
    part = np.asarray(data[slices])
    if part.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = part.astype(np.int64)
        if not np.array_equal(whole, part):
            return False
        part = whole
    if part.min() < 0 or part.max() > np.iinfo(np.uint16).max or not part.any():
        return False
    if len(np.unique(part)) > _MOST_LABELS:
        return False
    left, right = part[..., :-1], part[..., 1:]
    inside = (left > 0) & (right > 0)
    return bool(inside.any() and np.mean((left == right)[inside]) > 0.7)


def labels_layer(
    labels: Volume, names: Mapping[int, str], visible: bool = True, name: str | None = None
) -> LayerData:
    """Layer data tuple that shows a label map with its names and their colours."""
    values = [0, *sorted(names)]
    options: dict[str, Any] = {
        "name": name or labels.name or "labels",
        "metadata": {KEY: {"volume": labels, "names": dict(names)}},
        "opacity": 0.5,
        "visible": visible,
        **placed(labels),
    }
    if names:
        options["features"] = {"index": values, "name": ["", *(names[v] for v in values[1:])]}
        options["colormap"] = label_colours(names)
    return labels.data, options, "labels"


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Save a labels layer on the scan's own grid where it is known (npe2 writer).

    Parameters
    ----------
    path : str
        Its ending chooses the format, see `napari_sightline.save`.
    data : ndarray
        Labels in the layer's order.
    meta : mapping
        The layer's attributes.

    Returns
    -------
    list of str
        The file written; empty where it could not be, which is told in one sentence.
    """
    try:
        array = np.asarray(data)
        volume = grid_of(array, meta)
        names = names_of(meta)
        written = apart(lambda: save(path, array.reshape(volume.shape), volume, names))
    except SightlineError as error:
        show_error(str(error))
        return []
    return [os.fspath(written)]


def write_scan(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Save an image layer on its own grid where that is known (npe2 writer).

    Parameters
    ----------
    path, data, meta
        As for `write_labels`.

    Returns
    -------
    list of str
        The file written; empty where it could not be, which is told in one sentence.
    """
    try:
        array = np.asarray(data)
        volume = grid_of(array, meta)
        volume = replace(volume, data=array.reshape(volume.shape))
        written = apart(lambda: save_image(path, volume))
    except SightlineError as error:
        show_error(str(error))
        return []
    return [os.fspath(written)]


def grid_of(labels: Array, meta: Mapping[str, Any]) -> Volume:
    """Volume on whose grid a labels layer lies: its own, or one made from scale and translate.

    Raises
    ------
    BadInput
        If the layer has more than three axes.
    """
    shape = (1,) * (3 - labels.ndim) + labels.shape
    known = meta.get("metadata", {}).get(KEY, {}).get("volume")
    if isinstance(known, Volume) and known.shape == shape:
        return known
    if labels.ndim > 3:
        raise BadInput(f"The labels have {labels.ndim} axes; save one frame with three.")
    scale = [abs(float(s)) for s in meta.get("scale", ())][-3:]
    spacing = (*(1.0,) * (3 - len(scale)), *scale)
    return Volume.from_array(labels.reshape(shape), spacing=spacing, name=str(meta.get("name")))


def names_of(meta: Mapping[str, Any]) -> dict[int, str] | None:
    """Names of the labels: as edited in the layer's features, else as they were opened."""
    table = meta.get("features")
    if table is not None and {"index", "name"} <= set(table):
        pairs = zip(table["index"], table["name"], strict=True)
        named = {int(i): str(n) for i, n in pairs if int(i) and isinstance(n, str) and n}
        if named:
            return named
    return meta.get("metadata", {}).get(KEY, {}).get("names") or None


def open_phantom() -> list[LayerData]:
    """Sample: a head-and-neck CT phantom, and its true labels, not shown at first."""
    from napari_sightline.io.sample import phantom

    volume, truth, names = apart(phantom)
    volume = replace(volume, name="phantom")
    labels = replace(volume, data=truth, name="true labels", modality=None)
    return [image_layer(volume), labels_layer(labels, names, visible=False)]


def default_path(volume: Volume) -> Path:
    """Where to propose to save the labels of a scan: beside it."""
    folder = volume.source.parent if volume.source is not None else Path.home()
    return folder / f"{volume.name or 'scan'}_labels.nii.gz"
