"""Segmentation by the same clicks without any learning, to compare with.

`GeodesicBaseline` grows from every click through tissue that looks like what
was clicked, in the spirit of Criminisi, Sharp and Blake (*GeoS: geodesic image
segmentation*, ECCV 2008): each click has a geodesic distance map whose step
costs more where the intensity departs from the clicked one and across edges;
a voxel belongs to the nearest click, and to the structure if that is a
positive one within reach. How far the reach goes without negative clicks
cannot be read off the image by any simple rule we tried (maximal stability,
contrast along the front); it is set for each data set, tuned on its training
cases, which the network under test has to do without.

`RandomWalkerBaseline` is Grady's *Random walks for image segmentation* (PAMI
2006) as scikit-image has it, in a box round the clicks whose faces are
background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.metrics import bounding_box
from napari_sightline.prompts import Box, Point, Prompt

if TYPE_CHECKING:
    from napari_sightline.volume import Box3, Volume

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class GeodesicSettings:
    """Parameters of the geodesic baseline.

    Attributes
    ----------
    reach : float
        Largest geodesic distance from the first click, in mm of perfectly uniform tissue.
    appearance : float
        Cost added per mm where the intensity is one contrast unit off the clicked one.
    appearance_cap : float
        Contrast units beyond which an intensity does not get any stranger.
    gradient : float
        Cost added per mm where the intensity changes by one contrast unit a voxel.
    smoothing : float
        Standard deviation of the Gaussian that smooths the image first, mm.
    unit_radius : float
        A contrast unit is the span of the middle 80 % of intensities within this many mm of
        the first click, along each axis.
    correction : float
        Distances from later positive clicks count this many times: corrections are local.
    rivalry : float
        A negative click wins where its distance is smaller than the positive one over this.
    retreat : float
        A negative click shrinks the reach to this share of its own distance from the positive
        ones; 0 leaves the reach alone.
    least_reach : float
        Share of `reach` that it never shrinks below.
    """

    reach: float = 40.0
    appearance: float = 3.0
    appearance_cap: float = 1.0
    gradient: float = 2.0
    smoothing: float = 1.0
    unit_radius: float = 6.0
    correction: float = 1.0
    rivalry: float = 1.0
    retreat: float = 0.85
    least_reach: float = 0.6


#: From searches on a few training cases of each set; see scripts/tune_baseline.py.
TUNED: dict[str, GeodesicSettings] = {
    "headneck_ct": GeodesicSettings(
        reach=28.0,
        appearance=6.0,
        appearance_cap=2.0,
        gradient=0.0,
        smoothing=2.0,
        unit_radius=12.0,
        correction=1.25,
        rivalry=0.7,
        retreat=1.0,
    ),
    "hippocampus_mr": GeodesicSettings(
        reach=13.0,
        appearance=6.0,
        smoothing=0.0,
        correction=1.25,
        retreat=0.0,
    ),
    "sarcoma": GeodesicSettings(
        reach=156.0,
        appearance=5.6,
        appearance_cap=2.05,
        gradient=4.0,
        smoothing=0.0,
        unit_radius=11.7,
        correction=1.4,
        rivalry=0.74,
        retreat=0.134,
        least_reach=0.765,
    ),
}


def settings_for(set_name: str) -> GeodesicSettings:
    """Return the settings tuned for a set, or the general ones for a set not known."""
    return TUNED.get(set_name, GeodesicSettings())


BASELINES = ("geodesic", "random walker")


def make_baseline(
    method: str, volume: Volume, set_name: str = ""
) -> GeodesicBaseline | RandomWalkerBaseline:
    """Make one of `BASELINES` for a structure, with what was tuned for the set."""
    if method == "random walker":
        # Geodesic distances are longer than straight ones by what the tissue costs.
        return RandomWalkerBaseline(volume, reach=0.75 * settings_for(set_name).reach)
    return GeodesicBaseline(volume, settings_for(set_name))


class GeodesicBaseline:
    """Geodesic segmentation of one structure, click by click.

    Parameters
    ----------
    volume : Volume
        The scan.
    settings : GeodesicSettings, optional
        Parameters.
    """

    def __init__(self, volume: Volume, settings: GeodesicSettings | None = None) -> None:
        self.settings = settings or GeodesicSettings()
        self.spacing = volume.spacing
        self._image = smooth(volume, self.settings.smoothing)
        self._unit: float | None = None
        self._points: list[tuple[Voxel, bool]] = []
        self._maps: dict[Voxel, tuple[Box3, npt.NDArray[np.float32]]] = {}
        self._limit: Box3 | None = None

    def add(self, prompt: Prompt) -> Mask:
        """Take a click (or a box, which nothing leaves) and return the mask so far.

        Returns
        -------
        ndarray of bool, shape of the volume

        Raises
        ------
        BadInput
            For another kind of prompt.
        """
        if isinstance(prompt, Box):
            self._limit = box_slices(prompt)
            middle = [(s.start + s.stop - 1) // 2 for s in self._limit]
            self._points.append(((middle[0], middle[1], middle[2]), True))
        elif isinstance(prompt, Point):
            self._points.append((voxel_of(prompt), prompt.positive))
        else:
            raise BadInput("The geodesic baseline takes clicks and boxes only; give one of these.")
        return self._segment()

    def _segment(self) -> Mask:
        s = self.settings
        positive = [voxel for voxel, sign in self._points if sign]
        negative = [voxel for voxel, sign in self._points if not sign]
        weights = [1.0] + [s.correction] * len(positive)
        inside = self._nearest(positive, weights)
        reach = s.reach
        if s.retreat > 0:
            for voxel in negative:
                reach = min(reach, max(s.retreat * float(inside[voxel]), s.least_reach * s.reach))
        mask: Mask = inside < reach
        if negative:
            mask &= inside < s.rivalry * self._nearest(negative, [1.0] * len(negative))
        if self._limit is not None:
            within = np.zeros_like(mask)
            within[self._limit] = mask[self._limit]
            mask = within
        for voxel, sign in self._points:
            mask[voxel] = sign
        return mask

    def _nearest(self, voxels: list[Voxel], weights: list[float]) -> npt.NDArray[np.float32]:
        """Distance to the nearest of some clicks; infinite out of their reach."""
        nearest = np.full(self._image.shape, np.inf, dtype=np.float32)
        for voxel, weight in zip(voxels, weights, strict=False):
            box, distance = self._map(voxel)
            np.minimum(nearest[box], distance * np.float32(weight), out=nearest[box])
        return nearest

    def _map(self, voxel: Voxel) -> tuple[Box3, npt.NDArray[np.float32]]:
        """Geodesic distance from one click in the box that its reach can span."""
        if voxel not in self._maps:
            from skimage.graph import MCP_Geometric

            # A step never costs less than its length, so the box holds everything within reach.
            box = box_around(voxel, self.settings.reach, self.spacing, self._image.shape)
            costs = self._cost(voxel, box)
            path = MCP_Geometric(costs, sampling=self.spacing, fully_connected=True)
            distance, _ = path.find_costs(
                [tuple(v - b.start for v, b in zip(voxel, box, strict=True))]
            )
            self._maps[voxel] = box, distance.astype(np.float32)
        return self._maps[voxel]

    def _cost(self, voxel: Voxel, box: Box3) -> npt.NDArray[np.float64]:
        s = self.settings
        if self._unit is None:
            self._unit = contrast_unit(self._image, voxel, s.unit_radius, self.spacing)
        image = self._image[box].astype(np.float64)
        patch = tuple(slice(max(0, v - 1), v + 2) for v in voxel)
        stranger = np.abs(image - np.median(self._image[patch])) / self._unit
        cost = 1.0 + s.appearance * np.minimum(stranger, s.appearance_cap)
        if s.gradient > 0:
            slopes = [np.gradient(image, axis=a) ** 2 for a in range(3) if image.shape[a] > 1]
            steepness = np.sqrt(np.sum(slopes, axis=0)) / self._unit if slopes else 0.0
            cost += s.gradient * np.minimum(steepness, 2.0)
        return cost


class RandomWalkerBaseline:
    """Random walker of one structure, click by click.

    Parameters
    ----------
    volume : Volume
        The scan.
    reach : float
        Half the side of the box round the positive clicks whose faces are background, mm.
    beta : float
        How strongly contrast stops the walker.
    """

    def __init__(self, volume: Volume, reach: float = 30.0, beta: float = 130.0) -> None:
        self.spacing = volume.spacing
        self.reach, self.beta = reach, beta
        self._image = smooth(volume, 0.0)
        self._points: list[tuple[Voxel, bool]] = []

    def add(self, prompt: Prompt) -> Mask:
        """Take a click and return the mask so far, bool, shape of the volume.

        Raises
        ------
        BadInput
            For another kind of prompt.
        """
        from skimage.segmentation import random_walker

        if not isinstance(prompt, Point):
            raise BadInput("The random walker takes clicks only; give one.")
        self._points.append((voxel_of(prompt), prompt.positive))
        mask = np.zeros(self._image.shape, dtype=bool)
        seeds = np.zeros(self._image.shape, dtype=np.int8)
        boxes = [
            box_around(voxel, self.reach, self.spacing, mask.shape)
            for voxel, sign in self._points
            if sign
        ]
        if not boxes:
            return mask
        for box in boxes:
            seeds[box] = 1
        whole = bounding_box(seeds)
        assert whole is not None
        part = seeds[whole]
        part[:] = 0
        for axis in range(3):
            if part.shape[axis] > 2:
                face = np.moveaxis(part, axis, 0)
                face[0] = face[-1] = 2
        for voxel, sign in self._points:
            seeds[voxel] = 1 if sign else 2
        image = self._image[whole]
        low, high = np.percentile(image, [1, 99])
        image = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
        labels = random_walker(
            image, part, beta=self.beta, mode="cg_j", tol=1e-5, spacing=self.spacing
        )
        mask[whole] = labels == 1
        return mask


def smooth(volume: Volume, sigma_mm: float) -> Image:
    """Return the voxels as float32, smoothed by a Gaussian of `sigma_mm`; not finite ones are 0."""
    image = np.nan_to_num(np.asarray(volume.data, dtype=np.float32), posinf=0.0, neginf=0.0)
    if sigma_mm <= 0:
        return image
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, [sigma_mm / s for s in volume.spacing]))


def contrast_unit(
    image: Image, voxel: Voxel, radius: float, spacing: tuple[float, float, float]
) -> float:
    """Span of the middle 80 % of intensities round a voxel, at least 2 % of the image's own."""
    counts = [max(1, round(radius / s)) for s in spacing]
    near = image[tuple(slice(max(0, v - n), v + n + 1) for v, n in zip(voxel, counts, strict=True))]
    low, high = np.percentile(near, [10, 90])
    least, most = np.percentile(image[::2, ::2, ::2], [5, 95])
    return float(max(high - low, 0.02 * (most - least), 1e-6))


def box_around(
    voxel: Voxel, reach: float, spacing: tuple[float, float, float], shape: tuple[int, ...]
) -> Box3:
    """Box of the voxels within `reach` mm of one along each axis, cut to the volume."""
    i, j, k = (
        slice(max(0, int(np.floor(v - reach / s))), min(n, int(np.ceil(v + reach / s)) + 1))
        for v, s, n in zip(voxel, spacing, shape, strict=True)
    )
    return i, j, k


def box_slices(box: Box) -> Box3:
    """Slices of the voxels in a box prompt."""
    i, j, k = (
        slice(round(low), round(high) + 1) for low, high in zip(box.low, box.high, strict=True)
    )
    return i, j, k


def voxel_of(point: Point) -> Voxel:
    """Return the voxel that a click lies in."""
    i, j, k = (round(v) for v in point.position)
    return i, j, k
