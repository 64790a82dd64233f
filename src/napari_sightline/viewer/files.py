"""What napari calls to open and to save files, and to open the sample."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.io.formats import format_of
from napari_sightline.io.legend import Legend, as_legend
from napari_sightline.orientation import Array
from napari_sightline.viewer.bridge import KEY, image_layer, placed
from napari_sightline.viewer.colours import colours_of, label_colours
from napari_sightline.viewer.series import choose_series
from napari_sightline.viewer.worker import apart, has_window
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.io.dicom import Study

LayerData = tuple[Any, dict[str, Any], str]
#: What a reader returns when it has told the user itself why there is nothing to show.
_NOTHING: list[tuple[None]] = [(None,)]
_MOST_LABELS = 4096
_SLICES = (".dcm", ".ima")
_ENDINGS = (*_SLICES, ".nii", ".nii.gz", ".nrrd", ".nhdr", ".tif", ".tiff", ".zip")
_SAME_DROP = 5.0  # seconds between the files of one drop, at most


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """Offer to read scans and labels (npe2 reader).

    Parameters
    ----------
    path : str or sequence of str
        One file or folder, or several; several become a layer each, but several DICOM files
        are slices of series. Names without a known ending are offered for where the content
        is DICOM.

    Returns
    -------
    callable or None
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read if all(map(_known, paths)) else None


def _known(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) or Path(name).is_dir() or _is_dicom(name)


def _is_dicom(name: str) -> bool:
    try:
        return format_of(name) in ("dicom", "dicom-seg")
    except BadInput:  # gone, or not to be read: somebody else may say so
        return False


def read(path: str | Sequence[str]) -> list[Any]:
    """Open scans as image layers, label maps as labels layers.

    Of several DICOM series the reader chooses in a list; what is odd about one is told. napari
    names dropped files one by one: a DICOM file with one slice opens its whole series, and the
    others of that series then open nothing more. A file that cannot be used is told in one
    sentence and left out.
    """
    paths = [path] if isinstance(path, str) else list(path)
    layers: list[Any] = []
    slices = [name for name in paths if name.lower().endswith(_SLICES) or _is_slice(name)]
    piles: list[str | list[str]] = [*paths]
    if len(slices) > 1:
        piles = [slices, *(name for name in paths if name not in slices)]
    for source in piles:
        try:
            layers += _open(source)
        except SightlineError as error:
            show_error(str(error))
    return layers or list(_NOTHING)


def _is_slice(name: str) -> bool:
    return not name.lower().endswith(_ENDINGS) and Path(name).is_file() and _is_dicom(name)


def _open(source: str | list[str]) -> list[LayerData]:
    """Read one file, or one pile of DICOM files, as layer data."""
    kind = format_of(source)
    if kind == "dicom":
        return _open_series(source)
    assert isinstance(source, str)
    return apart(lambda: _open_file(source, kind))


def _open_file(source: str, kind: str) -> list[LayerData]:
    if kind == "dicom-seg" or source.lower().endswith(".seg.nrrd"):
        return [labels_layer(*load_labels(source))]
    volume = load(source)
    if looks_like_labels(volume):
        return [labels_layer(*load_labels(source))]
    if volume.notes:
        show_info(f"{volume.name}: {' '.join(volume.notes)}")
    return [image_layer(volume)]


class _Refused:
    """Files of a series that could not be used, told once for all files of a drop."""

    files: frozenset[Path] = frozenset()
    until = 0.0

    @classmethod
    def holds(cls, path: Path) -> bool:
        if path not in cls.files or time.monotonic() > cls.until:
            return False
        cls.until = time.monotonic() + _SAME_DROP
        return True

    @classmethod
    def remember(cls, study: Study) -> None:
        frames = (frame for one in study.series for frame in one.frames)
        cls.files = frozenset(frame.picture.item.path for frame in frames)
        cls.until = time.monotonic() + _SAME_DROP


def _open_series(source: str | list[str]) -> list[LayerData]:
    """Read a DICOM file with its series, or the series of a pile that the reader chooses."""
    from napari_sightline.io.dicom import Study

    single = Path(source) if isinstance(source, str) and Path(source).is_file() else None
    if single is not None and (_Refused.holds(single) or _shown(single)):
        return []
    volumes, faults = [], []
    with apart(lambda: Study(source, whole=True)) as study:
        wanted = study.series
        if len(wanted) > 1 and has_window():
            wanted = choose_series(wanted, study.name)
        for one in wanted:
            try:
                volumes.append(apart(lambda one=one: study.read(one)))  # type: ignore[misc]
            except BadInput as error:
                faults.append(str(error))
        if single is not None and not volumes:
            _Refused.remember(study)
    for fault in faults:
        show_error(fault)
    for volume in volumes:
        if volume.notes:
            show_info(f"{volume.name}: {' '.join(volume.notes)}")
    return [_as_meant(image_layer(volume)) for volume in volumes]


def _as_meant(layer: LayerData) -> LayerData:
    """Show dark what is meant to be dark: MONOCHROME1 has its low values bright."""
    data, options, kind = layer
    volume = options["metadata"][KEY]["volume"]
    if any("MONOCHROME1" in note for note in volume.notes):
        options = {**options, "colormap": "gray_r"}
    return data, options, kind


def _shown(path: Path) -> bool:
    """Whether a file is a slice of a scan that is open; its layer is selected then."""
    from napari import current_viewer

    viewer = current_viewer()
    for layer in () if viewer is None else viewer.layers:
        volume = layer.metadata.get(KEY, {}).get("volume")
        slices = getattr(getattr(volume, "header", None), "slices", ())
        if any(place is not None and place[0].path == path for place in slices):
            viewer.layers.selection = {layer}
            return True
    return False


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
        "metadata": {KEY: {"volume": labels, "names": as_legend(names)}},
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
        named = names_of(meta)
        names = None if named is None else Legend(named, colours_of(meta.get("colormap"), named))
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
