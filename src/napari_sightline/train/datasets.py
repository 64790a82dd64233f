"""The volumes that the recipes learn from, and which of them validate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.models.intensity import Intensity

#: Organs of `headneck_ct` by label value, and how the index spells them.
HEADNECK = {
    1: "Brainstem",
    2: "SpinalCord",
    3: "RightParotid",
    4: "LeftParotid",
    5: "Esophagus",
    6: "Larynx",
    7: "Mandible",
}
#: Group of the cases that `phantom_case` makes.
PHANTOMS = "phantoms"
HIPPOCAMPUS = {1: "anterior hippocampus", 2: "posterior hippocampus"}


@dataclass(frozen=True)
class Source:
    """One image with its label map, on disk.

    ``targets`` lists what may be asked for: each a set of label values that together are one
    structure. A structure that nobody contoured in this case is not listed: it is unknown, not
    background.
    """

    name: str
    group: str
    image: Path | None
    labels: Path
    targets: tuple[tuple[int, ...], ...]
    validates: bool


@dataclass
class Case:
    """A case in memory, axes superior, posterior, left.

    ``image`` is ``(2, d0, d1, d2)`` float16, normalised (None for a label map alone), ``labels``
    ``(d0, d1, d2)`` (numbered 0, 1, 2 ... where there is no image), ``spacing`` mm, ``points`` up
    to 2000 voxels of each target, ``extent`` the longest side of each target in mm.
    """

    source: Source
    image: np.ndarray | None
    labels: np.ndarray
    spacing: np.ndarray
    targets: list[tuple[int, ...]]
    points: list[np.ndarray]
    extent: list[float]


def find(data: Path) -> list[Source]:
    """List the cases of a data folder.

    Parameters
    ----------
    data : Path
        Folder with ``index.json`` and the sets ``headneck_ct``, ``hippocampus_mr``, ``sarcoma``,
        ``brain_labels`` and ``body_labels``; sets that are missing are left out.

    Raises
    ------
    BadInput
        Where the index or every set is missing.
    """
    index_file = data / "index.json"
    try:
        index = json.loads(index_file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The data folder {data.name!r} has no readable index.json; "
            "give the folder that holds it with --data."
        ) from error
    found: list[Source] = []
    folder = data / "headneck_ct"
    by_name = {name: value for value, name in HEADNECK.items()}
    for key, entry in index.get("headneck_ct", {}).items():
        values = tuple((by_name[n],) for n in entry["contoured"] if n in by_name)
        found.append(
            Source(
                key,
                "headneck_ct",
                folder / f"{key}_ct.nii.gz",
                folder / f"{key}_organs.nii.gz",
                values,
                entry["group"] != "train-pats",
            )
        )
    folder = data / "hippocampus_mr"
    for i, key in enumerate(sorted(index.get("hippocampus_mr", []))):
        found.append(
            Source(
                key,
                "hippocampus_mr",
                folder / f"{key}_t1.nii.gz",
                folder / f"{key}_labels.nii.gz",
                ((1,), (2,), (1, 2)),
                i % 5 == 0,
            )
        )
    folder = data / "sarcoma"
    for key in index.get("sarcoma", []):
        patient = int(key.split("_")[1])
        found.append(
            Source(
                key,
                "sarcoma",
                folder / f"{key}.nii.gz",
                folder / f"{key}_tumour.nii.gz",
                ((1,),),
                31 <= patient <= 35,
            )
        )
    for group in ("brain_labels", "body_labels"):
        for path in sorted((data / group).glob("*.nii*")):
            found.append(Source(path.name.split(".")[0], group, None, path, (), False))
    found = [s for s in found if s.labels.exists() and (s.image is None or s.image.exists())]
    if not found:
        raise BadInput(
            f"The data folder {data.name!r} holds none of the sets its index names; "
            "check that it was copied whole."
        )
    return found


def phantom_case(seed: int) -> Case:
    """Make a case of the drawn head-and-neck phantom: every labelled organ may be asked for."""
    from napari_sightline.io.sample import phantom

    volume, labels, names = phantom(seed=seed)
    targets = tuple((value,) for value in names)
    source = Source(f"phantom_{seed}", PHANTOMS, None, Path(), targets, False)
    image = Intensity.of(volume.data).apply(volume.data).astype(np.float16)
    return _case(source, image, labels, np.array(volume.spacing), seed)


def read(source: Source, seed: int = 0) -> Case:
    """Read a case; see `Case`."""
    from napari_sightline.io import load

    labels_volume = load(source.labels)
    labels = np.ascontiguousarray(labels_volume.data)
    if source.image is None:
        # Painting needs no more than which voxels belong together.
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    labels = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
    image = None
    if source.image is not None:
        volume = load(source.image)
        image = Intensity.of(volume.data).apply(volume.data).astype(np.float16)
    return _case(source, image, labels, np.array(labels_volume.spacing), seed)


def _case(
    source: Source, image: np.ndarray | None, labels: np.ndarray, spacing: np.ndarray, seed: int
) -> Case:
    rng = np.random.default_rng(seed)
    targets, points, extent = [], [], []
    for target in source.targets:
        where = np.argwhere(np.isin(labels, target))
        if len(where) < 20:
            continue
        side = (where.max(0) - where.min(0) + 1) * spacing
        if len(where) > 2000:
            where = where[rng.choice(len(where), 2000, replace=False)]
        targets.append(target)
        points.append(where.astype(np.int16))
        extent.append(float(side.max()))
    return Case(source, image, labels, spacing, targets, points, extent)
