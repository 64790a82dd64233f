"""Structures that nobody contoured in a case, filled in by a model that knows them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_sightline.io.atomic import replacing
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.segment.finish import Finish
from napari_sightline.segment.resample import Taps, resample_tensor
from napari_sightline.train.organ_cases import OrganCase


@dataclass(frozen=True)
class Filled:
    """What was filled in so far, kept in a folder: a run that goes on need not find it again.

    Parameters
    ----------
    folder : Path
        Made when the first case is written; one ``.npz`` a case.
    maker : str
        What else the labels depend on but the case, see `maker_of`.
    """

    folder: Path
    maker: str

    def labels(
        self, case: OrganCase, find: Callable[[], npt.NDArray[np.uint8]]
    ) -> npt.NDArray[np.uint8]:
        """Read a case's labels, else let them be found and keep them.

        They are read only where weights, scan and contours are what they were.

        Raises
        ------
        BadInput
            Where they cannot be written.
        """
        digest = hashlib.sha256(self.maker.encode())
        digest.update(repr((case.labels.shape, case.source.known)).encode())
        for array in (case.image, case.labels, case.blank, case.spacing):
            digest.update(np.ascontiguousarray(array).data)
        key, path = digest.hexdigest(), self.folder / f"{case.source.name}.npz"
        kept = _read(path, key)
        if kept is not None:
            return kept
        found = find()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, labels=found, key=np.array(key))
        return found


def maker_of(filler: Segmenter, *others: object) -> str:
    """Digest of a model's weights and facts, and of whatever else changes what is filled in."""
    digest = hashlib.sha256(repr((filler.spec, *others)).encode())
    for name, value in sorted(filler.whole.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def complete(
    case: OrganCase,
    found_of: Callable[[OrganCase], Tensor],
    outputs: int,
    fragments: float,
    kept: Filled | None = None,
) -> OrganCase:
    """Fill in what a case does not contour, so that a model learns from it nevertheless.

    Self-training: a model learns, from crops that are varied, what it or another has found in
    whole scans (Xie et al., "Self-training with Noisy Student improves ImageNet classification",
    CVPR 2020). Contours are never overwritten, and crops are drawn round them as before: `points`
    stay.

    Parameters
    ----------
    case : OrganCase
        The case; not changed.
    found_of : callable
        Gives a case's logits or chances, ``(outputs, d0, d1, d2)``, on its own grid.
    outputs : int
        Channels; 0 is the background.
    fragments : float
        Parts below this share of a structure's largest are not taken.
    kept : Filled, optional
        Where what was found is kept.

    Returns
    -------
    OrganCase
        With every structure known; the same object where that was so.
    """
    missing = [value for value in range(1, outputs) if value not in case.source.known]
    if not missing:
        return case

    def find() -> npt.NDArray[np.uint8]:
        found = found_of(case).argmax(0).numpy().astype(np.uint8)
        found[~np.isin(found, missing) | case.blank | (case.labels > 0)] = 0
        spacing = (float(case.spacing[0]), float(case.spacing[1]), float(case.spacing[2]))
        return Finish(fragments=fragments).apply(found, spacing)

    found = find() if kept is None else kept.labels(case, find)
    known = tuple(sorted({*case.source.known, *missing}))
    return replace(
        case,
        source=replace(case.source, known=known),
        labels=np.where(found > 0, found, case.labels),
    )


def brought(chances: Tensor, read: OrganCase, case: OrganCase) -> Tensor:
    """Bring chances from one working grid of a scan to another; both share the scan's centre.

    Parameters
    ----------
    chances : torch.Tensor, shape (outputs, d0, d1, d2), float32
        On the grid of `read`.
    read, case : OrganCase
        The same scan on two grids, along the same axes.

    Returns
    -------
    torch.Tensor, shape (outputs, e0, e1, e2)
        On the grid of `case`.
    """
    sizes = zip(read.labels.shape, read.spacing, case.labels.shape, case.spacing, strict=True)
    a, b, c = (Taps.between(n, float(mm), m, float(to)) for n, mm, m, to in sizes)
    return resample_tensor(chances, (a, b, c))


def _read(path: Path, key: str) -> npt.NDArray[np.uint8] | None:
    """Read labels that were kept; None where there are none, or not those asked for."""
    if not zipfile.is_zipfile(path):
        return None  # not there, cut off or foreign
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            labels: npt.NDArray[np.uint8] = file["labels"]
            return labels
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # damaged: found again, and written anew
