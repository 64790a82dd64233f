"""Scans with the organs contoured in them, on the grid that an automatic model works on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.segment.frame import Frame, working_spacing
from napari_sightline.segment.resample import Grid, resample
from napari_sightline.segment.scaling import Scaling
from napari_sightline.train.datasets import HEADNECK, find

#: Endings by which people tell a scan's file from that of its labels.
_WORDS: tuple[str, ...] = (
    "_0000",
    "_ct",
    "_mr",
    "_t1",
    "_t2",
    "_pet",
    "_image",
    "_img",
    "_labels",
    "_label",
)
_WORDS += ("_organs", "_seg", "_segmentation", "_mask", "_gt", "_tumour")
#: Voxels of an organ that are kept to draw from.
_POINTS = 2000
#: Value of CT voxels that were never reconstructed.
_BLANK_HU = -1024


@dataclass(frozen=True)
class OrganSource:
    """A scan and its label map on disk.

    Attributes
    ----------
    name : str
        Short name.
    image, labels : Path
        The files.
    known : tuple of int
        Label values that are contoured where they occur. Others are unknown in this case, not
        background.
    validates : bool
        Whether the case is kept from learning.
    """

    name: str
    image: Path
    labels: Path
    known: tuple[int, ...]
    validates: bool


@dataclass
class OrganCase:
    """A case in memory, on the network's axes and working grid.

    Attributes
    ----------
    source : OrganSource
        Where it comes from.
    image : ndarray of float16, shape (channels, d0, d1, d2)
        Scaled, not clipped.
    scaling : Scaling
        With the bounds that are still to be applied.
    labels : ndarray of uint8, shape (d0, d1, d2)
        Label values; unknown organs are 0.
    blank : ndarray of bool, shape (d0, d1, d2)
        Where the scanner saw nothing.
    spacing : ndarray, shape (3,)
        Millimetres.
    points : dict of int to ndarray, shape (n, 3)
        Voxels of each known organ that occurs.
    body : ndarray, shape (n, 3)
        Voxels that are not blank.
    """

    source: OrganSource
    image: npt.NDArray[np.float16]
    scaling: Scaling
    labels: npt.NDArray[np.uint8]
    blank: npt.NDArray[np.bool_]
    spacing: npt.NDArray[np.float64]
    points: dict[int, npt.NDArray[np.int16]]
    body: npt.NDArray[np.int16]

    def medians(self) -> dict[int, float]:
        """Median intensity of the first channel, scaled, under each contour."""
        image = self.image[0]
        return {v: float(np.median(image[self.labels == v])) for v in self.points}

    def without(self, values: Collection[int]) -> OrganCase:
        """Return the case as if these structures had not been contoured in it."""
        known = tuple(v for v in self.source.known if v not in values)
        return replace(
            self,
            source=replace(self.source, known=known),
            labels=np.where(np.isin(self.labels, list(values)), 0, self.labels),
            points={v: where for v, where in self.points.items() if v not in values},
        )


def find_headneck(data: Path) -> list[OrganSource]:
    """List the head-and-neck cases of a data folder, with the split of its index.

    Raises
    ------
    BadInput
        Where there are none.
    """
    found = [
        OrganSource(s.name, s.image, s.labels, tuple(v for t in s.targets for v in t), s.validates)
        for s in find(data)
        if s.group == "headneck_ct" and s.image is not None and s.targets
    ]
    if not any(not source.validates for source in found):
        raise BadInput(
            f"The data folder {data.name!r} holds no head-and-neck cases to learn from; "
            "give one that does, or your own with --images and --labels."
        )
    assert all(value in HEADNECK for source in found for value in source.known)
    return found


def find_pairs(
    images: Path, labels: Path, seed: int = 0
) -> tuple[list[OrganSource], dict[int, str]]:
    """Match scans and label maps of two folders by their names.

    ``a.nii.gz`` belongs to ``a.nii.gz`` or to ``a_labels.nii.gz``, ``a_ct.nii.gz`` to
    ``a_seg.nii.gz``, and nnU-Net's ``a_0000.nii.gz`` to ``a.nii.gz``. One case in ten validates
    (none where there are fewer than four).

    Returns
    -------
    sources : list of OrganSource
    names : dict of int to str
        Structure by label value, over all files.

    Raises
    ------
    BadInput
        Where nothing matches or no label map holds a label.
    """
    from napari_sightline.io import load_labels

    scans, maps = _by_stem(images), _by_stem(labels)
    common = sorted(scans.keys() & maps.keys())
    if not common:
        raise BadInput(
            f"No scan of {images.name!r} has labels of the same name in {labels.name!r}; "
            "name them alike, such as a.nii.gz and a_labels.nii.gz."
        )
    names: dict[int, str] = {}
    values: set[int] = set()
    for stem in common:
        volume, given = load_labels(maps[stem])
        names = given | names
        values |= {int(value) for value in np.unique(volume.data) if value > 0}
    if not values or max(values) > 255:
        raise BadInput(
            f"The labels in {labels.name!r} hold values up to {max(values, default=0)}; "
            "give label maps with values from 1 to 255."
        )
    names = {value: names.get(value, f"label {value}") for value in sorted(values | names.keys())}
    order = list(np.random.default_rng(seed).permutation(len(common)))
    held = set(order[: max(1, len(common) // 10)]) if len(common) >= 4 else set()
    known = tuple(names)
    found = [
        OrganSource(stem, scans[stem], maps[stem], known, index in held)
        for index, stem in enumerate(common)
    ]
    return found, names


def read_case(source: OrganSource, spec: SegmenterSpec, seed: int = 0) -> OrganCase:
    """Read a case onto the model's axes and grid.

    Raises
    ------
    BadInput
        Where a file cannot be used or the two lie on different grids.
    """
    from napari_sightline.io import load, load_labels

    count = len(spec.channels)
    volumes = [load(source.image, k if count > 1 else None) for k in range(count)]
    truth, _ = load_labels(source.labels)
    scan = volumes[0]
    if truth.file_shape != scan.file_shape or not np.allclose(
        truth.file_affine, scan.file_affine, atol=0.5
    ):
        raise BadInput(
            f"The labels {source.labels.name!r} lie on another grid than {source.image.name!r}; "
            "resample them to the scan's grid."
        )
    frame = Frame.of(spec.orientation)
    spacing = working_spacing(scan.spacing, spec)
    grid = Grid.of(scan.shape, scan.spacing, spacing)
    image, scaling = [], Scaling()
    for volume in volumes:
        scaling = Scaling.of(spec.intensity, volume.data)
        data = scaling.without_clip().apply(resample(volume.data, grid.taps))
        image.append(frame.from_canonical(data).astype(np.float16))
    labels = frame.from_canonical(_labels_on(truth.data, source.known, grid))
    blank = np.zeros(labels.shape, bool)
    if spec.modality == "CT":
        blank = frame.from_canonical(resample(scan.data <= _BLANK_HU, grid.taps) > 0.5)
    rng = np.random.default_rng(seed)
    points = {}
    for value in source.known:
        where = np.argwhere(labels == value)
        if len(where):
            points[value] = _some(rng, where)
    body = _some(rng, np.argwhere(~blank))
    return OrganCase(
        source,
        np.ascontiguousarray(np.stack(image)),
        scaling,
        np.ascontiguousarray(labels),
        np.ascontiguousarray(blank),
        np.array(spacing)[list(frame.axes)],
        points,
        body if len(body) else _some(rng, np.argwhere(np.ones_like(blank))),
    )


def _labels_on(
    labels: npt.NDArray[np.generic], values: tuple[int, ...], grid: Grid
) -> npt.NDArray[np.uint8]:
    """Resample labels; every structure keeps its volume.

    A voxel becomes part of a structure where the interpolated share is above a level, that with
    which the volume stays. At one half, thin structures would lose a tenth of it.
    """
    if grid.identity:
        return np.where(np.isin(labels, values), labels, 0).astype(np.uint8)
    found = np.zeros(grid.target, np.uint8)
    best = np.ones(grid.target, np.float32)
    for value in values:
        mask = labels == value
        count = round(np.count_nonzero(mask) * found.size / labels.size)
        if mask.any():
            share = resample(mask, grid.taps)
            last = found.size - min(max(1, count), found.size)
            level = max(float(np.partition(share, last, axis=None)[last]), 1e-3)
            share /= level
            closer = share >= best
            found[closer] = value
            best[closer] = share[closer]
    return found


def _some(rng: np.random.Generator, where: npt.NDArray[np.intp]) -> npt.NDArray[np.int16]:
    if len(where) > _POINTS:
        where = where[rng.choice(len(where), _POINTS, replace=False)]
    return where.astype(np.int16)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadInput(f"The folder {str(folder)!r} does not exist; correct its path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        stem = path.name.split(".")[0]
        for word in _WORDS:
            if stem.lower().endswith(word) and len(stem) > len(word):
                stem = stem[: -len(word)]
                break
        found.setdefault(stem, path)
    return found
