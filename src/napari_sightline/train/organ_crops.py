"""Random crops of scans with contoured organs, as an automatic model meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sightline.models.segmenter import SegmenterSpec, partners_of
from napari_sightline.train.crops import rotation, sampling_grid, window
from napari_sightline.train.organ_cases import OrganCase

#: Shares of crops drawn round a rare organ as often as round a common one, and round any place.
_BY_ORGAN, _ANYWHERE = 0.45, 0.25
#: Share of crops cut out as they are; the others are turned, stretched and bent. With 0.6 the loss
#: fell and other patients' scores did not rise.
_STRAIGHT = 0.25


@dataclass(frozen=True)
class Mirror:
    """How a crop is mirrored left to right.

    Attributes
    ----------
    axis : int
        The network's axis that runs from one side of the body to the other.
    partners : mapping of int to int
        Label value by label value: what a structure is called in a mirrored body. Values that are
        not listed stay, as those of structures in the middle.
    lag : float
        Millimetres along `axis` that contours lie beside what is seen, in all cases alike: a fault
        of the data, which a network can learn only if mirrored crops have it too.
    """

    axis: int
    partners: Mapping[int, int]
    lag: float = 0.0

    @classmethod
    def of(cls, spec: SegmenterSpec, to_left: float = 0.0) -> Mirror:
        """Read axis and partners off a model's facts; see `partners_of`.

        Contours lie `to_left` mm further to the patient's left than what is seen.
        """
        sign = 1 if spec.orientation[spec.sides] == "L" else -1
        return cls(spec.sides, partners_of(spec.labels), sign * to_left)


@dataclass
class OrganCrop:
    """One crop.

    Attributes
    ----------
    image : torch.Tensor, shape (channels, D, H, W), float32
        Scaled and clipped as at inference, and varied.
    labels : torch.Tensor, shape (D, H, W), int64
        Label values.
    seen : torch.Tensor, shape (D, H, W), bool
        False outside the volume and where the scanner saw nothing: no truth exists there.
    known : torch.Tensor, shape (outputs,), bool
        Which outputs are contoured in this case; the background, 0, always.
    """

    image: Tensor
    labels: Tensor
    seen: Tensor
    known: Tensor

    def mirrored(self, mirror: Mirror) -> OrganCrop:
        """Mirror left to right: right structures become left ones, known ones included."""
        swap = torch.arange(len(self.known))
        for value, partner in mirror.partners.items():
            swap[value] = partner
        return OrganCrop(
            self.image.flip(1 + mirror.axis),
            swap[self.labels.flip(mirror.axis)],
            self.seen.flip(mirror.axis),
            self.known[swap],
        )


class OrganSampler:
    """Draws crops; every organ is met about as often, however seldom it is contoured.

    With a `mirror`, every other crop is mirrored. Where contours lie beside what is seen, those of
    mirrored crops are moved, and as labels move between voxels only where a crop is sampled anew,
    the crops that are cut as they are are then others.
    """

    def __init__(
        self,
        cases: Sequence[OrganCase],
        roi: tuple[int, int, int],
        outputs: int,
        seed: list[int],
        mirror: Mirror | None = None,
    ) -> None:
        self.rng, self.mirror = np.random.default_rng(seed), mirror
        self.cases, self.roi, self.outputs = list(cases), roi, outputs
        self.by_organ: dict[int, list[OrganCase]] = {}
        for case in self.cases:
            for value in case.points:
                self.by_organ.setdefault(value, []).append(case)

    def draw(self) -> OrganCrop:
        """Draw one crop."""
        rng = self.rng
        draw, value = rng.random(), None
        case = self.cases[int(rng.integers(len(self.cases)))]
        if draw < _BY_ORGAN and self.by_organ:
            value = int(rng.choice(sorted(self.by_organ)))
            case = self.by_organ[value][int(rng.integers(len(self.by_organ[value])))]
        elif draw < 1 - _ANYWHERE and case.points:
            value = int(rng.choice(sorted(case.points)))
        points = case.body if value is None else case.points[value]
        anchor = points[int(rng.integers(len(points)))].astype(float)
        return self.crop(case, anchor)

    def crop(self, case: OrganCase, anchor: np.ndarray) -> OrganCrop:
        """Cut out a crop that holds the voxel `anchor`, mostly inside the volume."""
        rng = self.rng
        size, shape = np.array(self.roi), np.array(case.labels.shape)
        centre = anchor + rng.uniform(-0.4, 0.4, 3) * size
        if rng.random() < 0.8:
            # As windows lie at inference: none leaves a volume that is larger than it.
            low, high = (size - 1) / 2, shape - 1 - (size - 1) / 2
            centre = np.where(low < high, np.clip(centre, low, high), (shape - 1) / 2)
        mirror = self.mirror if self.mirror is not None and rng.random() < 0.5 else None
        straight = _STRAIGHT
        if self.mirror is not None and self.mirror.lag:
            straight = 0.0 if mirror is not None else 2 * _STRAIGHT
        if rng.random() < straight:
            image, labels, blank = _cut(case, np.rint(centre - (size - 1) / 2).astype(int), size)
        else:
            moved = np.zeros(3)
            if mirror is not None:
                # As far to the one side as, mirrored, they shall be on the other.
                moved[mirror.axis] = -2 * mirror.lag
            image, labels, blank = self._bent(case, centre, moved)
        image = vary(rng, image)
        image = image.clamp(case.scaling.low, case.scaling.high)
        # MONAI fills with 0 where a window is larger than the scan.
        image = torch.where(torch.isnan(image), 0.0, image)
        known = torch.zeros(self.outputs, dtype=torch.bool)
        known[[0, *case.source.known]] = True
        crop = OrganCrop(image, labels, ~blank, known)
        return crop if mirror is None else crop.mirrored(mirror)

    def _bent(
        self, case: OrganCase, centre: np.ndarray, moved: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample a crop that is turned, scaled and bent; labels `moved` by so many mm."""
        rng, spacing = self.rng, case.spacing
        scale = np.exp(rng.uniform(np.log(0.85), np.log(1.18))) * rng.uniform(0.93, 1.08, 3)
        matrix = rotation(rng, 12) @ np.diag(spacing * scale)
        place = (centre + 0.5) * spacing
        reach = 0.75 * float(np.linalg.norm(spacing * scale * self.roi))
        box, place = window(case.labels.shape, spacing, place, reach)
        labels = case.labels[box]
        grid = sampling_grid(labels.shape, spacing, place, matrix, self.roi)
        if rng.random() < 0.4:
            grid = grid + self._field(spacing, labels.shape)
        image = torch.from_numpy(case.image[(slice(None), *box)]).float()[None]
        image = F.grid_sample(image, grid, "bilinear", "border", align_corners=False)[0]
        outside = (grid[0].abs() > 1).any(-1)
        image = torch.where(outside, torch.nan, image)
        blank = torch.from_numpy(case.blank[box]).float()[None, None]
        blank = F.grid_sample(blank, grid, "nearest", "border", align_corners=False)[0, 0] > 0.5
        if moved.any():
            grid = grid - torch.from_numpy(_unit(moved, spacing, labels.shape))
        return image, torch.where(outside, 0, labels_at(labels, grid)), blank | outside

    def _field(self, spacing: np.ndarray, shape: tuple[int, ...]) -> Tensor:
        """Draw a smooth displacement of a few millimetres, in the units of `sampling_grid`."""
        coarse = torch.from_numpy(self.rng.normal(0, self.rng.uniform(1, 4), (1, 3, 5, 5, 5)))
        field = F.interpolate(coarse.float(), self.roi, mode="trilinear", align_corners=True)
        unit = torch.from_numpy(_unit(np.ones(3), spacing, shape))
        return field.movedim(1, -1).flip(-1) * unit


def _unit(mm: np.ndarray, spacing: np.ndarray, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Turn a way in mm into units of `sampling_grid`, last axis first."""
    unit = 2 * mm / (np.array(shape) * spacing)
    return np.ascontiguousarray(unit[::-1], np.float32)


def labels_at(labels: npt.NDArray[np.uint8], grid: Tensor) -> Tensor:
    """Sample labels at places between voxels: what has the greatest interpolated share.

    Parameters
    ----------
    labels : ndarray, shape (d0, d1, d2)
        Label values; 0 is the background.
    grid : torch.Tensor, shape (1, D, H, W, 3)
        As `torch.nn.functional.grid_sample` takes it, without aligned corners; places beyond the
        volume take the voxel at its border.

    Returns
    -------
    torch.Tensor, shape (D, H, W), int64
    """
    found = torch.zeros(grid.shape[1:4], dtype=torch.int64)
    any_label = labels > 0
    if not any_label.any():
        return found
    # Few places lie near a structure, and only they need the share of each.
    around = [np.flatnonzero(any_label.any(tuple({0, 1, 2} - {k}))) for k in range(3)]
    low = [max(0, int(where[0]) - 1) for where in around]
    high = [min(n, int(where[-1]) + 2) for n, where in zip(labels.shape, around, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = labels[box]
    shape, size = torch.tensor(labels.shape[::-1]), torch.tensor(part.shape[::-1])
    grid = ((grid + 1) * shape - 2 * torch.tensor(low[::-1])) / size - 1
    shares = _sampled((part > 0)[None], grid)[0]
    near = shares > 0
    places = grid[0][near].view(1, 1, 1, -1, 3)
    values = np.unique(part[part > 0])
    each = _sampled(np.stack([part == value for value in values]), places)[:, 0, 0]
    best, which = each.max(0)
    # The background has what is left of one.
    here = torch.from_numpy(values.astype(np.int64))[which]
    found[near] = torch.where(best > 1 - shares[near], here, 0)
    return found


def _sampled(masks: npt.NDArray[np.bool_], grid: Tensor) -> Tensor:
    given = torch.from_numpy(masks).float()[None]
    return F.grid_sample(given, grid, "bilinear", "border", align_corners=False)[0]


def _cut(case: OrganCase, low: np.ndarray, size: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Cut voxels out as they are, filled up where the box leaves the volume."""
    shape = np.array(case.labels.shape)
    first, last = np.clip(low, 0, shape), np.clip(low + size, 0, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    pad: list[int] = []
    for a, b, start, n in zip(first[::-1], last[::-1], low[::-1], size[::-1], strict=True):
        pad += [int(a - start), int(start + n - b)]
    image = F.pad(torch.from_numpy(case.image[(slice(None), *box)]).float(), pad, value=torch.nan)
    labels = F.pad(torch.from_numpy(case.labels[box].astype(np.int64)), pad)
    blank = F.pad(torch.from_numpy(case.blank[box]), pad, value=True)
    return image, labels, blank


def vary(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Vary intensities, ``(channels, D, H, W)`` in units of the model's range; NaN stays NaN.

    An offset of up to +-0.05 and a gain of up to 10 % a patient (30 HU in a window of 600), noise,
    blur, thick slices, gamma.
    """
    hole = torch.isnan(image)
    image = torch.where(hole, 0.0, image)
    if rng.random() < 0.8:
        image = image + float(rng.uniform(-0.05, 0.05))
    if rng.random() < 0.5:
        image = (image - 0.35) * float(rng.uniform(0.88, 1.13)) + 0.35
    if rng.random() < 0.2:
        axis = int(rng.integers(3))
        scale = [1.0, 1.0, 1.0]
        scale[axis] = float(rng.uniform(0.4, 0.8))
        small = F.interpolate(image[None], scale_factor=scale, mode="area")
        image = F.interpolate(small, image.shape[1:], mode="trilinear")[0]
    elif rng.random() < 0.2:
        share = float(rng.uniform(0.3, 1))
        image = image + share * (F.avg_pool3d(image[None], 3, 1, 1)[0] - image)
    if rng.random() < 0.2:
        image = image.clamp(min=0) ** float(np.exp(rng.uniform(-0.25, 0.25)))
    if rng.random() < 0.35:
        image = image + torch.randn_like(image) * float(rng.uniform(0, 0.05))
    return torch.where(hole, torch.nan, image)
