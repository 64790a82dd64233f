"""The main job end to end: click on organs of a scan, segment, save, draw.

On the phantom a robot user clicks, which looks at the truth as a reader looks
at the picture; the session sees the clicks only. On a scan without truth the
clicks go into the middle of large, even structures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.console import table
from napari_sightline.evaluate.metrics import dice
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.io import load, load_labels, save, save_image
from napari_sightline.io.picture import PALETTE, Shown, save_picture
from napari_sightline.io.sample import phantom
from napari_sightline.prompts import Point
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sightline.segment.interactive import Session

#: Organs of the phantom that the demonstration segments.
ORGANS = ("right parotid gland", "mandible", "brainstem")
CLICKS = 3
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.generic]
Tell = Callable[[float, str], None]


@dataclass
class Segmented:
    """One organ of the demonstration; a number for each click."""

    name: str
    mask: Mask
    clicks: list[Point] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    dsc: list[float] = field(default_factory=list)
    volume_ml: float = 0.0

    @property
    def caption(self) -> str:
        """Small print of the picture."""
        parts = [f"{len(self.clicks)} click{'s' * (len(self.clicks) > 1)}"]
        parts += [f"{self.volume_ml:.1f} mL"]
        parts += [f"Dice {self.dsc[-1]:.2f}"] if self.dsc else []
        return " · ".join([*parts, f"{np.median(self.seconds):.2f} s a click"])


@dataclass(frozen=True)
class Demo:
    """What a demonstration made."""

    volume: Volume
    organs: list[Segmented]
    scan: Path
    mask: Path
    picture: Path


def run(
    session: Session,
    folder: Path,
    image: Path | None = None,
    labels: Path | None = None,
    clicks: int = CLICKS,
    tell: Tell | None = None,
) -> Demo:
    """Segment organs of the phantom, or of a scan, and write what came out.

    Parameters
    ----------
    session : Session
        With any model.
    folder : Path
        Made where it is missing; gets ``scan.nii.gz`` (phantom only), ``mask.nii.gz`` on the
        scan's own grid, and ``picture.png``.
    image : Path, optional
        A scan to use instead of the phantom.
    labels : Path, optional
        Its truth, which places the clicks (first three labels) and is compared with.
    clicks : int
        For each organ, 1 or more.
    tell : callable, optional
        Told the share done and what is going on.

    Returns
    -------
    Demo

    Raises
    ------
    BadInput
        Where a file cannot be used or written.
    """
    if clicks < 1:
        raise BadInput(f"{clicks} clicks cannot show anything; give 1 or more.")
    if labels is not None and image is None:
        raise BadInput("Labels were given without a scan; give the scan with --image.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"The folder {str(folder)!r} cannot be made ({error.strerror}); "
            "give another with --out."
        ) from error
    say = tell or (lambda share, word: None)
    say(0.0, "opening the scan")
    truth: Labels | None
    if image is None:
        volume, truth, names = phantom()
        wanted = {value: name for value, name in names.items() if name in ORGANS}
        scan = save_image(folder / "scan.nii.gz", volume)
    else:
        volume, scan = load(image), image
        truth, wanted = _truth(volume, labels)
    say(0.1, "loading the model")
    session.load()
    session.set_volume(volume)
    places = dict.fromkeys(wanted.values()) if truth is not None else even_places(volume)
    organs: list[Segmented] = []
    for number, (name, place) in enumerate(places.items()):
        say(0.15 + 0.75 * number / len(places), f"segmenting: {name}")
        mine = None
        if truth is not None:
            mine = truth == next(value for value, label in wanted.items() if label == name)
        organs.append(_segment(session, volume, name, mine, place, clicks))
    say(0.92, "writing")
    mask = save(folder / "mask.nii.gz", session.labels, volume, session.names)
    shown = [
        Shown(organ.mask, organ.name, organ.caption, organ.clicks, PALETTE[k % len(PALETTE)])
        for k, organ in enumerate(organs)
    ]
    picture = save_picture(folder / "picture.png", volume, shown, f"sightline-3d · {volume.name}")
    say(1.0, "done")
    return Demo(volume, organs, scan, mask, picture)


def even_places(volume: Volume, count: int = 3) -> dict[str, Point]:
    """Find voxels deep inside large, even structures of a scan whose truth nobody knows.

    Otsu's threshold leaves the brighter part of the scan; where the image is flat there, the
    voxels farthest from any edge are taken, one after another, each well away from the others.

    Returns
    -------
    dict of str to Point
        "structure 1" ...; at least one, the middle of the volume if nothing else.
    """
    import edt
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    image = np.nan_to_num(np.asarray(volume.data, dtype=np.float32), posinf=0.0, neginf=0.0)
    image = np.clip(image, *np.percentile(image[::2, ::2, ::2], [0.5, 99.5]))
    spacing = np.array(volume.spacing)
    image = ndimage.gaussian_filter(image, 2.0 / spacing)
    found: dict[str, Point] = {}
    if image.max() > image.min():
        slopes = [
            np.gradient(image, s, axis=a) ** 2 for a, s in enumerate(spacing) if image.shape[a] > 1
        ]
        steepness = np.sqrt(np.sum(slopes, axis=0))
        bright = image > threshold_otsu(image)
        flat = bright & (steepness < np.median(steepness[bright]))
        depth = edt.edt(flat, anisotropy=volume.spacing, black_border=True)
        grid = np.indices(image.shape, sparse=True)
        while len(found) < count and depth.max() > 0:
            voxel = np.unravel_index(int(depth.argmax()), depth.shape)
            reach = 3 * float(depth[voxel]) + 10
            i, j, k = (float(v) for v in voxel)
            found[f"structure {len(found) + 1}"] = Point((i, j, k))
            away = sum(((g - v) * s) ** 2 for g, v, s in zip(grid, voxel, spacing, strict=True))
            depth[away < reach**2] = 0
    if not found:
        i, j, k = (float(n // 2) for n in volume.shape)
        found["structure 1"] = Point((i, j, k))
    return found


def _truth(volume: Volume, labels: Path | None) -> tuple[Labels | None, dict[int, str]]:
    if labels is None:
        return None, {}
    truth, names = load_labels(labels)
    if truth.shape != volume.shape:
        raise BadInput(
            f"The labels {labels.name!r} have another grid than the scan; "
            "give labels drawn on this scan."
        )
    values = [int(value) for value in np.unique(truth.data) if value != 0][:3]
    if not values:
        raise BadInput(f"The labels {labels.name!r} are empty; give some with a structure in it.")
    return np.asarray(truth.data), {v: names.get(v, f"label {v}") for v in values}


def _segment(
    session: Session,
    volume: Volume,
    name: str,
    truth: Mask | None,
    place: Point | None,
    clicks: int,
) -> Segmented:
    organ = Segmented(name, np.zeros(volume.shape, dtype=bool))
    session.new_object(name)
    for _ in range(clicks if truth is not None else 1):
        click = place if truth is None else simulate_click(organ.mask, truth)
        if click is None:
            break
        update = session.add(click)
        organ.clicks.append(click)
        organ.seconds.append(update.seconds)
        organ.mask = np.zeros(volume.shape, dtype=bool)
        box, inside = session.current.mask_box, session.current.mask
        if box is not None and inside is not None:
            organ.mask[box] = inside
        if truth is not None:
            organ.dsc.append(dice(organ.mask, truth))
    organ.volume_ml = session.current.volume_ml
    if organ.mask.any():
        session.accept(name)
    return organ


def table_of(organs: Sequence[Segmented], title: str) -> Table:
    """Table of Dice and time after each click of each organ."""
    made = table(title, "organ", "click", "Dice", "seconds")
    for organ in organs:
        for number, seconds in enumerate(organ.seconds):
            dsc = f"{organ.dsc[number]:.3f}" if organ.dsc else "–"
            made.add_row(organ.name if not number else "", str(number + 1), dsc, f"{seconds:.2f}")
    return made


def organs_as_json(organs: Sequence[Segmented], volume: Volume) -> list[dict[str, object]]:
    """Plain values of each organ; clicks as voxel indices of the file."""
    return [
        {
            "name": organ.name,
            "clicks": [
                [*map(float, volume.voxel_to_file(click.position)), int(click.positive)]
                for click in organ.clicks
            ],
            "seconds": [round(value, 4) for value in organ.seconds],
            "dsc": [round(value, 4) for value in organ.dsc],
            "volume_ml": round(organ.volume_ml, 3),
        }
        for organ in organs
    ]


def open_window(files: list[Path]) -> None:
    """Open files in napari, in a process of its own; say why where that cannot be."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        print("No display here: open the files in napari elsewhere, or look at the picture.")
        return
    if not any(find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        print("napari has no Qt here: install one with pip install 'napari-sightline[qt]'.")
        return
    command = [sys.executable, "-m", "napari", *map(str, files)]
    command += ["--plugin", "napari-sightline", "-w", "napari-sightline", "Segment with prompts"]
    print("Opening napari; close its window to end.")
    if subprocess.run(command, check=False).returncode != 0:
        print("napari ended with an error, shown above.", file=sys.stderr)
