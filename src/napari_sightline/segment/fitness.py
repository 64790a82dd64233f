"""Whether a scan suits an automatic model: what is refused, and what is only said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import SegmenterSpec
from napari_sightline.volume import Volume

_MODALITIES = {"CT": "CT", "MR": "MR", "PT": "PET"}
#: Every CT with air in it reaches below this, HU.
_AIR_HU = -200


def check_volumes(volumes: Sequence[Volume], spec: SegmenterSpec) -> None:
    """Refuse volumes that the model cannot take.

    Raises
    ------
    BadInput
        Where there are too few or too many, or they lie on different grids.
    """
    wanted = len(spec.channels)
    if len(volumes) != wanted:
        listed = ", ".join(spec.channels)
        raise BadInput(
            f"The model {spec.name!r} needs {wanted} volume{'s' if wanted != 1 else ''} "
            f"({listed}) and {len(volumes)} came; give one for each."
        )
    first = volumes[0]
    for channel, volume in zip(spec.channels, volumes, strict=True):
        if volume.shape != first.shape or not np.allclose(volume.affine, first.affine, atol=1e-2):
            raise BadInput(
                f"The volume for {channel} ({volume.name or 'unnamed'}) lies on another grid than "
                f"{first.name or 'the first'}; resample it there."
            )


def concerns(volumes: Sequence[Volume], spec: SegmenterSpec) -> list[str]:
    """Sentences on what may spoil the result, for the user to judge."""
    found = []
    for channel, volume in zip(spec.channels, volumes, strict=True):
        name = volume.name or "The scan"
        if spec.modality and volume.modality and volume.modality != spec.modality:
            found.append(
                f"{name} is {_MODALITIES.get(volume.modality, volume.modality)} and the model "
                f"{spec.name!r} learned from {_MODALITIES.get(spec.modality, spec.modality)}; "
                "its labels may mean nothing."
            )
        low, high = _range(volume)
        if spec.modality == "CT" and low > _AIR_HU:
            found.append(
                f"{name} holds values from {low:g} to {high:g} and no air, which CT in HU "
                f"has; check that the model {spec.name!r} suits it."
            )
        elif spec.intensity.kind == "window" and (
            high <= spec.intensity.low or low >= spec.intensity.high
        ):
            found.append(
                f"{name} holds values from {low:g} to {high:g}, all outside of the window that "
                f"the model {spec.name!r} reads in {channel}; check its unit."
            )
    shape = volumes[0].shape
    if min(shape) == 1:
        found.append("The scan has one slice; a model of volumes sees little in it.")
    return found


def _range(volume: Volume) -> tuple[float, float]:
    data = volume.data
    if data.dtype.kind not in "f":
        return float(data.min()), float(data.max())
    low, high = np.fmin.reduce(data, None), np.fmax.reduce(data, None)
    return float(low), float(high)
