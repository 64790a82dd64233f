"""How far a map can be trusted: what the answer does where the map's best blocks are blurred.

Deletion and insertion after Petsiuk, Das & Saenko, "RISE" (2018): blocks of the image are replaced
by their blurred selves in the order of the map, or put back into a blurred image; the area under
the mean probability over the original mask is the score. Deletion is better low, insertion high;
random orders of the same blocks say what chance gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.probe import Probe
from napari_sightline.errors import BadInput, Cancelled

Values = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
#: Sides of a block and standard deviation of the blur, voxels of the network.
BLOCK, BLUR = 16, 8.0


@dataclass(frozen=True, eq=False)
class Curves:
    """Probability as blocks go or come back.

    Attributes
    ----------
    share : numpy.ndarray
        ``(steps + 1,)``, share of blocks, 0 .. 1.
    deletion, insertion : numpy.ndarray
        ``(steps + 1,)``, mean probability over the mask.
    """

    share: Values
    deletion: Values
    insertion: Values

    @property
    def deletion_area(self) -> float:
        """Area under `deletion`, 0 .. 1; lower is more faithful."""
        return float(np.trapezoid(self.deletion, self.share))

    @property
    def insertion_area(self) -> float:
        """Area under `insertion`, 0 .. 1; higher is more faithful."""
        return float(np.trapezoid(self.insertion, self.share))


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Curves of maps beside those of random orders.

    Attributes
    ----------
    maps : dict of str to Curves
        By the maps' names.
    random : list of Curves
        One a random order.
    agreement : dict of (str, str) to float
        Spearman's rank correlation over blocks of each pair of maps.
    """

    maps: dict[str, Curves]
    random: list[Curves]
    agreement: dict[tuple[str, str], float] = field(default_factory=dict)

    def random_area(self, which: str) -> tuple[float, float]:
        """Mean and standard deviation over random orders of ``"deletion"`` or ``"insertion"``."""
        areas = [getattr(curves, f"{which}_area") for curves in self.random]
        return float(np.mean(areas)), float(np.std(areas))


def block_shape(shape: tuple[int, ...], block: int = BLOCK) -> tuple[int, int, int]:
    """Count blocks along each axis."""
    a, b, c = (-(-n // block) for n in shape)
    return a, b, c


def on_blocks(values: npt.ArrayLike, shape: tuple[int, ...], block: int = BLOCK) -> Values:
    """Average a map over the blocks of a network's grid.

    Parameters
    ----------
    values : array_like
        ``(d, h, w)``, evenly over the whole grid; NaN (not seen) counts as 0.
    shape : tuple of 3 int
        Voxels of the network's grid.
    block : int
        Side of a block, voxels.

    Returns
    -------
    numpy.ndarray
        Shape of `block_shape`, float64.
    """
    out = np.nan_to_num(np.asarray(values, float))
    for axis, (n, count) in enumerate(zip(shape, block_shape(shape, block), strict=True)):
        tokens = out.shape[axis]
        edges = np.arange(tokens + 1) * n / tokens
        low = np.maximum(edges[None, :-1], np.arange(count)[:, None] * block)
        high = np.minimum(edges[None, 1:], np.minimum((np.arange(count)[:, None] + 1) * block, n))
        weight = np.maximum(high - low, 0)
        weight /= weight.sum(1, keepdims=True)
        out = np.moveaxis(np.tensordot(weight, out, (1, axis)), 0, axis)
    return out


def curves(
    probe: Probe,
    scores: npt.ArrayLike,
    mask: npt.NDArray[np.bool_],
    steps: int = 10,
    block: int = BLOCK,
    cancel: Callable[[], bool] | None = None,
    told: Callable[[], None] | None = None,
) -> Curves:
    """Delete and insert blocks from the highest score to the lowest.

    Parameters
    ----------
    probe : Probe
        What to run, twice a step.
    scores : array_like
        One a block, see `block_shape`.
    mask : numpy.ndarray
        ``(D, H, W)`` bool: where probability is averaged.
    steps : int
        Groups of blocks.
    block : int
        Side of a block, voxels.
    cancel : callable, optional
        Asked before each run.
    told : callable, optional
        Called after each run.
    """
    order = np.argsort(-np.asarray(scores, float).reshape(-1), kind="stable")
    if len(order) < steps:
        raise BadInput(f"{len(order)} blocks make no {steps} steps; use fewer or smaller blocks.")
    image, blurred = probe.image, _blurred(probe.image)
    groups = np.array_split(order, steps)
    where = _numbers(tuple(image.shape[2:]), block)
    areas = []
    for start, end in ((image, blurred), (blurred, image)):
        now, values = start.clone(), []
        for group in (np.array([], np.int64), *groups):
            if cancel is not None and cancel():
                raise Cancelled("Measuring the map's faithfulness was cancelled.")
            chosen = torch.from_numpy(np.isin(where, group)).to(now.device)
            now = torch.where(chosen, end, now)
            values.append(probe.probability(now, mask))
            if told is not None:
                told()
        areas.append(np.array(values))
    return Curves(np.linspace(0, 1, steps + 1), areas[0], areas[1])


def faithfulness(
    probe: Probe,
    maps: Mapping[str, AttentionMap | npt.NDArray[np.float32]],
    mask: npt.NDArray[np.bool_],
    randoms: int = 5,
    steps: int = 10,
    block: int = BLOCK,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Faithfulness:
    """Measure maps of one look against random orders of the same blocks, and with one another.

    Parameters
    ----------
    probe : Probe
        What to run, ``2 (steps + 1) (maps + randoms)`` times.
    maps : mapping of str to AttentionMap or numpy.ndarray
        Of one row (the heads' mean is taken of more), or ``(D, H, W)`` on the network's grid.
    mask : numpy.ndarray
        ``(D, H, W)`` bool on the network's grid.
    randoms : int
        Random orders, 1 or more.
    steps, block
        See `curves`.
    seed : int
        Of the random orders.
    progress, cancel : callable, optional
        Told a share and a word; asked before each run.
    """
    from scipy.stats import spearmanr

    if randoms < 1 or steps < 2:
        raise BadInput("Faithfulness needs at least 1 random order and 2 steps; give more.")
    shape = tuple(int(n) for n in probe.image.shape[2:])
    scores = {}
    for name, one in maps.items():
        grid = one.weights.mean(0) if isinstance(one, AttentionMap) else one
        if isinstance(one, AttentionMap):
            flat = np.zeros(int(np.prod(one.grid.shape)))
            flat[one.cells] = grid
            grid = flat.reshape(one.grid.shape)
        scores[name] = on_blocks(grid, shape, block)
    rng = np.random.default_rng(seed)
    count = int(np.prod(block_shape(shape, block)))
    orders = [rng.random(count) for _ in range(randoms)]
    total, done = 2 * (steps + 1) * (len(scores) + randoms), [0]

    def told() -> None:
        done[0] += 1
        if progress is not None:
            progress(done[0] / total, f"run {done[0]} of {total}")

    measured = {
        name: curves(probe, one, mask, steps, block, cancel, told) for name, one in scores.items()
    }
    random = [curves(probe, order, mask, steps, block, cancel, told) for order in orders]
    names = list(scores)
    agreement = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            pair = (scores[a].reshape(-1), scores[b].reshape(-1))
            even = any(np.ptp(one) == 0 for one in pair)
            agreement[a, b] = 0.0 if even else float(spearmanr(*pair).statistic)
    return Faithfulness(measured, random, agreement)


def _blurred(image: torch.Tensor) -> torch.Tensor:
    from scipy import ndimage

    pixels = image.detach().float().cpu().numpy()
    out = ndimage.gaussian_filter(pixels, (0, 0, BLUR, BLUR, BLUR), mode="nearest", truncate=3)
    return torch.from_numpy(out).to(image.device)


def _numbers(shape: tuple[int, ...], block: int) -> Index:
    """Give the number of the block that holds each voxel."""
    a, b, c = (np.arange(n) // block for n in shape)
    _, h, w = block_shape(shape, block)
    return (a[:, None, None] * h + b[:, None]) * w + c
