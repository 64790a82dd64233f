"""The commands `sightline info` and `sightline convert`: files without a window.

As in `cli`, nothing that takes time is imported before a command runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sightline.errors import BadInput

if TYPE_CHECKING:
    from napari_sightline.io.legend import Legend
    from napari_sightline.volume import Volume

__all__ = ["add_file_commands"]

_SERIES = typer.Option(help="Name or number (from 0) of a DICOM series, where there are several.")
_CHANNEL = typer.Option(help="Channel or time point, from 0.")


def add_file_commands(app: typer.Typer) -> None:
    """Add the commands about files to the command line."""
    app.command("info")(info)
    app.command("convert")(convert)


@dataclass(frozen=True)
class _Opened:
    """A file as an image or, where names are known, as a label map."""

    volume: Volume
    names: Legend | None


def info(
    file: Annotated[Path, typer.Argument(help="A file, a DICOM folder or a zip.")],
    series: Annotated[str | None, _SERIES] = None,
    channel: Annotated[int | None, _CHANNEL] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the facts to this file too.")
    ] = None,
) -> None:
    """Say what a file holds: geometry, modality, range, and problems in words.

    Of several DICOM series all are listed, and the largest is described unless one is named.
    """
    from napari_sightline.io.formats import format_of
    from napari_sightline.io.targets import check_target, write_json

    check_target(json)
    facts: dict[str, Any] = {"format": format_of(file)}
    wanted = _which(series)
    if facts["format"] == "dicom":
        from napari_sightline.io.dicom import list_series

        found = list_series(file)
        facts["series"] = [{"name": s.name, "slices": len(s.frames)} for s in found]
        if len(found) > 1:
            for number, one in enumerate(found):
                print(f"series {number}: {one.name} ({one.modality}, {len(one.frames)} slices)")
            wanted = 0 if wanted is None else wanted
    opened = _open(file, wanted, channel)
    facts |= _facts(opened)
    _tell(facts)
    if json is not None:
        write_json(json, facts)


def convert(
    file: Annotated[Path, typer.Argument(metavar="IN", help="A file, a DICOM folder or a zip.")],
    out: Annotated[Path, typer.Argument(help="File to write; its ending says the format.")],
    series: Annotated[str | None, _SERIES] = None,
    channel: Annotated[int | None, _CHANNEL] = None,
    labels: Annotated[
        bool | None,
        typer.Option("--labels/--image", help="What IN holds; told by its content by default."),
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option(help="DICOM series that the labels lie on, for a DICOM segmentation."),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Write one file for each label.")] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Whether a file in the place of OUT may be replaced.")
    ] = False,
) -> None:
    """Write a scan or a label map in another format, voxel by voxel on its own grid."""
    from napari_sightline.io import load, save, save_each, save_image
    from napari_sightline.io.formats import ending_of, format_to_write

    kind = format_to_write(out)
    must = (
        kind in ("dicom-seg", "mesh", "descriptions")
        or ending_of(out) == ".seg.nrrd"
        or each
        or None
    )
    opened = _open(file, _which(series), channel, labels if labels is not None else must)
    for note in opened.volume.notes:
        print(f"note: {note}")
    if opened.names is None:
        written = [save_image(out, opened.volume, overwrite)]
    else:
        grid, voxels = opened.volume, opened.volume.data
        if scan is not None:
            grid = load(scan, series=_which(series))
            voxels = _laid_on(opened.volume, grid)
        names = opened.names
        if each:
            written = save_each(out, voxels, grid, names, overwrite)
        else:
            written = [save(out, voxels, grid, names, overwrite)]
    for path in written:
        print(path)


def _which(series: str | None) -> str | int | None:
    return int(series) if series is not None and series.isdigit() else series


def _open(
    file: Path, series: str | int | None, channel: int | None, labels: bool | None = None
) -> _Opened:
    """Open a file as labels where it is (or must be) a label map, else as an image."""
    from napari_sightline.io import load, load_labels
    from napari_sightline.io.formats import format_of

    if labels is None:
        labels = format_of(file) == "dicom-seg" or file.name.lower().endswith(".seg.nrrd")
    if labels:
        return _Opened(*load_labels(file))
    volume = load(file, channel, series)
    if format_of(file) != "dicom" and channel is None and volume.data.dtype.kind in "iu":
        again, names = load_labels(file)
        if names:
            return _Opened(again, names)
    return _Opened(volume, None)


def _laid_on(labels: Volume, scan: Volume) -> Any:
    """Put labels on a scan's grid, of which theirs is a part; `BadInput` if it is not."""
    import numpy as np

    corners = np.array([(0, 0, 0), np.array(labels.shape) - 1])
    places = scan.mm_to_voxel(labels.voxel_to_mm(corners))
    low, high = np.rint(places).astype(int)
    fits = np.allclose(places, np.rint(places), atol=0.01) and np.all(low >= 0)
    fits = fits and np.array_equal(high - low + 1, labels.shape) and np.all(high < scan.shape)
    if not fits:
        raise BadInput(
            f"{labels.name} does not lie on the grid of {scan.name or 'the scan'}; "
            "name the series that the labels were drawn on."
        )
    whole = np.zeros(scan.shape, labels.data.dtype)
    whole[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = labels.data
    return whole


def _facts(opened: _Opened) -> dict[str, Any]:
    """Gather what is worth saying of a volume."""
    import numpy as np

    volume = opened.volume
    data = volume.data
    middle = volume.voxel_to_mm((np.array(volume.shape) - 1) / 2)
    turn = volume.affine[:3, :3] / np.array(volume.spacing)
    straight = np.abs(turn).max(axis=0).min()
    facts: dict[str, Any] = {
        "name": volume.name,
        "modality": volume.modality,
        "file_shape": list(volume.file_shape),
        "shape": list(volume.shape),
        "spacing_mm": [round(s, 6) for s in volume.spacing],
        "axes": "".join(_codes(volume)),
        "oblique_degrees": round(float(np.degrees(np.arccos(min(1.0, straight)))), 2),
        "centre_mm": [round(float(v), 3) for v in middle],
        "dtype": str(data.dtype),
        "range": [float(np.nanmin(data)), float(np.nanmax(data))],
        "notes": list(volume.notes),
    }
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        facts["notes"].append("Some voxels are not finite numbers.")
    if facts["range"][0] == facts["range"][1]:
        facts["notes"].append("All voxels have one value.")
    if opened.names is not None:
        voxel = float(np.prod(volume.spacing)) / 1000
        values, counts = np.unique(data[data > 0], return_counts=True)
        facts["labels"] = [
            {
                "value": int(value),
                "name": opened.names.get(int(value), ""),
                "ml": round(float(count) * voxel, 3),
            }
            for value, count in zip(values, counts, strict=True)
        ]
    return facts


def _codes(volume: Volume) -> list[str]:
    """Letters of the directions in which the file's axes run, as nibabel writes them."""
    sense = ("RL", "AP", "SI")
    canonical = ((2, "S"), (1, "P"), (0, "L"))
    letters = ["", "", ""]
    orientation = volume.orientation
    for place, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        scanner, letter = canonical[place]
        letters[axis] = sense[scanner].replace(letter, "") if flip else letter
    return letters


def _tell(facts: dict[str, Any]) -> None:
    """Print facts for people."""

    def times(values: list[float]) -> str:
        return " x ".join(f"{value:g}" for value in values)

    lines = {
        "name": facts["name"],
        "format": facts["format"],
        "modality": facts["modality"] or "not known",
        "voxels": f"{times(facts['file_shape'])} in the file, axes {facts['axes']}",
        "spacing": f"{times(facts['spacing_mm'])} mm (superior, posterior, left)",
        "centre": f"{', '.join(f'{v:g}' for v in facts['centre_mm'])} mm (right, front, head)",
        "values": f"{facts['dtype']}, {facts['range'][0]:g} to {facts['range'][1]:g}",
    }
    if facts["oblique_degrees"] > 0.1:
        lines["oblique"] = f"by {facts['oblique_degrees']:g} degrees"
    for word, text in lines.items():
        print(f"{word:9} {text}")
    for label in facts.get("labels", []):
        print(f"label {label['value']:<3} {label['name'] or '(no name)'}, {label['ml']:g} mL")
    for note in facts["notes"]:
        print(f"note      {note}")
