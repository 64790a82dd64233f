"""TIFF stacks in and out: plain, ImageJ and OME, with their spacing.

A TIFF does not say how the patient lay: pages run from head to feet reversed, that is axis by
axis in canonical order, unless the file was written here. Then a private tag holds the affine
and the names of labels, and the way back is exact.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.io.atomic import replacing
from napari_sightline.io.legend import (
    Legend,
    as_labels,
    named_labels,
    plain_voxels,
    whole_numbers,
)
from napari_sightline.io.memory import check_memory
from napari_sightline.io.nifti import modality_of
from napari_sightline.io.nifti_header import reading
from napari_sightline.io.quiet import quiet
from napari_sightline.orientation import Array
from napari_sightline.volume import Volume, choose_channel

__all__ = ["read_tiff", "read_tiff_labels", "write_tiff", "write_tiff_image"]

_TAG = 65023  # in the private, reusable range
_KEY = "napari-sightline"
_IMAGEJ_TYPES = ("u1", "u2", "f4")
_LABEL_TYPES = ("u1", "u2", "i1", "i2", "i4", "u4")
_MILLIMETRES = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1000.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3,
    "\\u00b5m": 1e-3, "nm": 1e-6, "nanometer": 1e-6, "inch": 25.4, "in": 25.4,
}  # fmt: skip
_RATIO = 1100  # deflate cannot shrink more


def read_tiff(path: str | os.PathLike[str], channel: int | None = None) -> Volume:
    """Read a stack.

    Parameters
    ----------
    path : path
        Pages (or the Z axis of ImageJ and OME files) are slices.
    channel : int, optional
        Which of several channels or time points; the first by default.

    Returns
    -------
    Volume
        Doubles become float32; colour becomes luminance.

    Raises
    ------
    BadInput
        If the file is missing, damaged, no TIFF, or too large for this machine's memory.
    """
    volume, _ = _read(Path(path), channel)
    return replace(volume, modality=modality_of(volume.data))


def read_tiff_labels(path: str | os.PathLike[str]) -> tuple[Volume, Legend]:
    """Read a label map and the names that `write_tiff` stored with it.

    Parameters
    ----------
    path : path
        As for `read_tiff`.

    Returns
    -------
    labels : Volume
        Whole numbers.
    names : Legend
        Names and colours, as they were stored.

    Raises
    ------
    BadInput
        As `read_tiff`; also if the values are not whole numbers.
    """
    volume, names = _read(Path(path), None)
    return replace(volume, data=whole_numbers(volume.data, Path(path).name)), names


def _read(path: Path, channel: int | None) -> tuple[Volume, Legend]:
    import tifffile

    damaged = BadInput(f"{path.name} is a damaged TIFF; copy or export it again.")
    with reading(path):
        size = path.stat().st_size
        try:
            with quiet(), tifffile.TiffFile(path) as tiff:
                if not tiff.series:
                    raise damaged
                series = tiff.series[0]
                axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
                apart = _apart(tiff.series)
                if apart:
                    axes, shape = f"I{axes}", (len(tiff.series), *shape)
                _check_size(series, shape, size, path.name)
                steps, notes = _spacing(tiff)
                ours = _ours(series)
                pages = [one.asarray(maxworkers=1) for one in tiff.series] if apart else []
                array = np.stack(pages) if apart else np.asarray(series.asarray(maxworkers=1))
                if len(tiff.series) > 1 and not apart:
                    notes = (*notes, f"Image 1 of {len(tiff.series)} in the file used.")
        except BadInput:
            raise
        except (FileNotFoundError, PermissionError, MemoryError):
            raise
        except Exception as error:  # tifffile meets damage with many kinds of error
            if "imagecodecs" in str(error):
                raise BadInput(
                    f"{path.name} is compressed in a way that needs imagecodecs; "
                    "pip install imagecodecs, or save it without compression."
                ) from None
            raise damaged from None
    if array.shape != shape or len(axes) != array.ndim:
        raise damaged
    chosen: tuple[str, ...] = ()
    if ours and array.size == math.prod(ours["shape"]):
        # The file's own order is the reverse of the slowest axis first; tifffile drops axes of
        # length one.
        stack = array.reshape(ours["shape"]).transpose(2, 1, 0)
        _, chosen = choose_channel(1, channel, path.name)
        volume = Volume.from_array(stack, ours["affine"], name=path.name)
        notes = ()
    else:
        stack, colour, chosen = _stack(array, axes, channel, path.name)
        volume = Volume.from_array(stack, spacing=steps, name=path.name, rgb=colour)
        notes = (*notes, "A TIFF does not say how the patient lay; head first is assumed.")
    if volume.data.dtype == np.float64:
        volume = replace(volume, data=volume.data.astype(np.float32))
    name = re.sub(r"(\.ome)?\.tiff?$", "", path.name, flags=re.IGNORECASE)
    notes = (*notes, *chosen, *volume.notes)
    return replace(volume, name=name, source=path, notes=notes), ours.get("names", Legend())


def _apart(series: Any) -> bool:
    """Whether pages of one kind were written one by one: tifffile takes each for an image."""
    first = series[0]
    return (
        len(series) > 1
        and str(first.axes) in ("YX", "YXS")
        and all(
            (s.shape, s.dtype, s.axes) == (first.shape, first.dtype, first.axes) for s in series
        )
    )


def _check_size(series: Any, shape: tuple[int, ...], size: int, name: str) -> None:
    """Refuse claims that the file cannot hold, before anything is allocated."""
    if not shape or min(shape) < 1 or len(shape) > 8:
        raise BadInput(f"{name} claims the shape {list(shape)[:8]}; export it again.")
    if series.dtype is None:
        raise BadInput(f"{name} holds voxels that are no plain numbers; convert it.")
    claimed = math.prod(shape) * series.dtype.itemsize
    packed = any(page is not None and page.compression != 1 for page in series.pages[:1])
    if claimed > (size * _RATIO if packed else size):
        raise BadInput(
            f"{name} claims {claimed} bytes of voxels but is only {size} bytes long; "
            "it is cut off or damaged: copy or export it again."
        )
    check_memory(claimed, name)


def _stack(
    array: Array, axes: str, channel: int | None, name: str
) -> tuple[Array, bool, tuple[str, ...]]:
    """Bring axes to slices, rows, columns (and samples); choose one of all others."""
    colour = "S" in axes and array.shape[axes.index("S")] in (3, 4)
    if "Y" not in axes or "X" not in axes:
        raise BadInput(f"{name} has the axes {axes}, no picture among them; convert it.")
    deep = next((axis for axis in "ZQI" if axis in axes), None)
    if deep is None:  # a movie of single slices: its time is taken as depth
        rest = [axis for axis in axes if axis not in "YXS"]
        deep = max(rest, key=lambda a: array.shape[axes.index(a)]) if rest else None
    order = [axis for axis in (deep, "Y", "X") if axis is not None]
    tail = ["S"] if "S" in axes else []
    others = [axis for axis in axes if axis not in order + tail]
    array = array.transpose([axes.index(axis) for axis in (*others, *order, *tail)])
    count = math.prod(array.shape[: len(others)])
    array = array.reshape(count, *array.shape[len(others) :])
    index, notes = choose_channel(count, channel, name)
    stack = array[index]
    if deep is None:
        stack = stack[None]
    if tail and not colour:
        stack = stack[..., 0]
    return stack, colour, notes


def _spacing(tiff: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Millimetres along slices, rows, columns; a note where the file does not say."""
    missing = "The TIFF gives no spacing in a length; 1 mm is assumed."
    page = tiff.pages.first
    steps: list[float] = []
    if tiff.is_ome and tiff.ome_metadata:
        for axis in "ZYX":
            found = re.search(rf'PhysicalSize{axis}="([^"]+)"', tiff.ome_metadata)
            said_unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', tiff.ome_metadata)
            factor = _MILLIMETRES.get(said_unit.group(1).lower() if said_unit else "µm")
            if found and factor:
                steps.append(float(found.group(1)) * factor)
    else:
        meta = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
        unit = str(meta.get("unit", "")).lower()
        factor = _MILLIMETRES.get(unit)
        if factor is None and not tiff.is_imagej:
            said = int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 1
            factor = {2: 25.4, 3: 10.0}.get(said)
            dpi = _per_unit(page, "XResolution")
            # 72 or 96 dots an inch is what programs write that know nothing.
            if factor is not None and dpi in (None, 1.0, 72.0, 96.0, 300.0):
                factor = None
        if factor is not None:
            plane = [_per_unit(page, f"{axis}Resolution") for axis in "YX"]
            inside = [factor / p for p in plane if p]
            if len(inside) == 2:
                steps = [float(meta.get("spacing", inside[0] / factor)) * factor, *inside]
    if len(steps) == 2:
        steps = [steps[0], *steps]
    if len(steps) != 3 or not all(1e-6 <= s <= 1e6 for s in steps):
        return (1.0, 1.0, 1.0), (missing,)
    return (steps[0], steps[1], steps[2]), ()


def _per_unit(page: Any, name: str) -> float | None:
    if name not in page.tags:
        return None
    above, below = page.tags[name].value
    return above / below if above and below else None


def _ours(series: Any) -> dict[str, Any]:
    """Return what `_write` stored: the affine and names; empty for files from elsewhere."""
    tag = series.keyframe.tags.get(_TAG)
    try:
        content = json.loads(str(tag.value))[_KEY] if tag is not None else {}
        affine = np.array(content["affine"], dtype=np.float64)
        shape = tuple(int(n) for n in content["shape"])
        names = Legend(content.get("names", {}))
        for value, parts in content.get("colours", {}).items():
            red, green, blue = (int(part) for part in parts)
            if 0 <= min(red, green, blue) <= max(red, green, blue) < 256:
                names.colours[int(value)] = (red, green, blue)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {"affine": affine, "names": names, "shape": shape} if len(shape) == 3 else {}


def write_tiff(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    volume: Volume,
    names: Mapping[int, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels on the scan's own grid as a stack that ImageJ (or OME readers) open.

    Parameters
    ----------
    path : path
        Ends in ``.tif``, ``.tiff``, or ``.ome.tif`` for OME metadata.
    labels : array_like of bool or int, shape of `volume`
        Canonical order.
    volume : Volume
        Gives the grid.
    names : dict of int to str, optional
        Kept in the file, for `read_tiff_labels`.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        If the labels do not fit the volume or the file cannot be written.
    """
    array = as_labels(labels, volume, _LABEL_TYPES)
    return _write(Path(path), array, volume, named_labels(array, names), overwrite)


def write_tiff_image(path: str | os.PathLike[str], volume: Volume, overwrite: bool = True) -> Path:
    """Write a volume's own voxels; `BadInput` as `write_tiff`."""
    return _write(Path(path), plain_voxels(volume), volume, Legend(), overwrite)


def _write(path: Path, array: Array, volume: Volume, names: Legend, overwrite: bool) -> Path:
    import tifffile

    stack = volume.to_file(array).transpose(2, 1, 0)
    column, row, between = (float(n) for n in np.linalg.norm(volume.file_affine[:3, :3], axis=0))
    imagej = ".ome.tif" not in path.name.lower() and stack.dtype.str[1:] in _IMAGEJ_TYPES
    options: dict[str, Any] = {
        "extratags": [(_TAG, 2, 0, _content(volume, names), True)],
        "resolution": (1 / column, 1 / row),
        "photometric": "minisblack",  # else a short last axis passes for colour
    }
    if imagej:
        options["metadata"] = {"axes": "ZYX", "spacing": between, "unit": "mm"}
    else:
        options["metadata"] = {
            "axes": "ZYX",
            "PhysicalSizeX": column, "PhysicalSizeXUnit": "mm",
            "PhysicalSizeY": row, "PhysicalSizeYUnit": "mm",
            "PhysicalSizeZ": between, "PhysicalSizeZUnit": "mm",
        }  # fmt: skip
        options["compression"] = "zlib"
    endings = (".tif", ".tiff", ".ome.tif")
    with replacing(path, overwrite, endings, "TIFF file") as temporary:
        try:
            kind: dict[str, Any] = {"imagej": imagej, "ome": not imagej}
            with quiet(), tifffile.TiffWriter(temporary, **kind) as tiff:
                tiff.write(np.ascontiguousarray(stack), **options)
        except (ValueError, TypeError, RuntimeError):
            raise BadInput(
                f"{path.name} cannot hold {stack.dtype} voxels of shape {stack.shape}; "
                "save as .nii.gz or .nrrd."
            ) from None
    return path


def _content(volume: Volume, names: Legend) -> str:
    """Pack the affine, the stored shape, names and colours as ASCII JSON."""
    content: dict[str, Any] = {
        "affine": volume.file_affine.tolist(),
        "shape": volume.file_shape[::-1],
        "names": {str(value): name for value, name in names.items()},
        "colours": {str(value): names.colour(value) for value in names},
    }
    return json.dumps({_KEY: content})
