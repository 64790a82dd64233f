"""How far a map can be trusted: what the answer does where the map's best blocks are blurred.

Deletion and insertion after Petsiuk, Das & Saenko, "RISE" (2018): blocks of the image are replaced
by their blurred selves in the order of the map, or put back into a blurred image; the area under
the answer is the score. Deletion is better low, insertion high. Two things differ for segmentation:

- *What is scored.* A class's probability falls when its evidence goes, since classes compete for
  it. The mean probability over a mask does not: where the organ is blurred a promptable network
  often fills its place and all round it, and nothing falls. So beside that mean stands the overlap
  of the new mask with the old one, soft Dice (Milletari et al., "V-Net", 2016), which counts what
  is lost and what leaks.
- *What chance is.* Scattered blocks make edges everywhere, and a convolution answers to edges that
  nobody removed anything with. Blocks therefore have soft edges (as masks have in RISE, and in Fong
  & Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", 2017), and
  beside scattered orders stands the map itself, moved and mirrored at random within the region
  (a toroidal shift, Lotwick & Silverman 1982), which is as smooth as the map but knows nothing of
  the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_sightline.attention.maps import AttentionMap
from napari_sightline.attention.probe import Probe
from napari_sightline.errors import BadInput, Cancelled

Values = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Test = Literal["deletion", "insertion"]
Score = Literal["probability", "overlap"]
TESTS: tuple[Test, ...] = ("deletion", "insertion")
SCORES: tuple[Score, ...] = ("probability", "overlap")
#: Side of a block, and standard deviations of its soft edge and of the blur, voxels of the network.
BLOCK, EDGE, BLUR = 16, 4.0, 8.0


@dataclass(frozen=True, eq=False)
class Curves:
    """The answer as blocks go or come back.

    Attributes
    ----------
    share : numpy.ndarray
        ``(steps + 1,)``, share of blocks, 0 .. 1.
    deletion, insertion : numpy.ndarray
        ``(2, steps + 1)``, in the order of `SCORES`: mean probability over the mask, and soft Dice
        of the probabilities with the mask.
    """

    share: Values
    deletion: Values
    insertion: Values

    def curve(self, test: Test, score: Score = "overlap") -> Values:
        """Return one curve, ``(steps + 1,)``."""
        both = self.deletion if test == "deletion" else self.insertion
        return np.asarray(both[SCORES.index(score)])

    def area(self, test: Test, score: Score = "overlap") -> float:
        """Area under a curve, 0 .. 1; more faithful is lower for deletion, higher for insertion."""
        return float(np.trapezoid(self.curve(test, score), self.share))


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Curves of maps beside those of chance.

    Attributes
    ----------
    maps : dict of str to Curves
        By the maps' names.
    scattered : list of Curves
        Of random orders of the blocks.
    moved : dict of str to list of Curves
        Of each map, moved and mirrored at random.
    agreement : dict of (str, str) to float
        Spearman's rank correlation over blocks of each pair of maps.
    """

    maps: dict[str, Curves]
    scattered: list[Curves]
    moved: dict[str, list[Curves]]
    agreement: dict[tuple[str, str], float] = field(default_factory=dict)

    def chance(
        self, test: Test, score: Score = "overlap", moved: str | None = None
    ) -> tuple[float, float]:
        """Mean and standard deviation of an area over chance.

        Parameters
        ----------
        test, score
            See `Curves.area`.
        moved : str, optional
            Name of a map: over that map moved about; over scattered orders by default.
        """
        runs = self.scattered if moved is None else self.moved[moved]
        areas = [one.area(test, score) for one in runs]
        return float(np.mean(areas)), float(np.std(areas))

    def gain(self, name: str, test: Test, score: Score = "overlap", moved: bool = False) -> float:
        """How much better than chance a map is, above 0 where it beats it; see `chance`."""
        by_chance, _ = self.chance(test, score, name if moved else None)
        more = self.maps[name].area(test, score) - by_chance
        return -more if test == "deletion" else more


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
        What to run, ``2 steps`` times.
    scores : array_like
        One a block, see `block_shape`.
    mask : numpy.ndarray
        ``(D, H, W)`` bool: the mask that is explained.
    steps : int
        Groups of blocks.
    block : int
        Side of a block, voxels.
    cancel : callable, optional
        Asked before each run.
    told : callable, optional
        Called after each run.
    """
    return _Bench(probe, mask, steps, block, cancel, told).curves(scores)


class _Bench:
    """Runs a probe on images of which blocks are blurred; both ends are run once."""

    def __init__(
        self,
        probe: Probe,
        mask: npt.NDArray[np.bool_],
        steps: int,
        block: int,
        cancel: Callable[[], bool] | None,
        told: Callable[[], None] | None,
    ) -> None:
        self.probe, self.mask, self.steps = probe, mask, steps
        self.cancel, self.told = cancel, told
        shape = tuple(int(n) for n in probe.image.shape[2:])
        self.blocks, self.where = block_shape(shape, block), _numbers(shape, block)
        self.edge = EDGE * block / BLOCK
        self.blurred = _blurred(probe.image)
        self._ends: tuple[Values, Values] | None = None

    def curves(self, scores: npt.ArrayLike) -> Curves:
        order = np.argsort(-np.asarray(scores, float).reshape(-1), kind="stable")
        if len(order) < self.steps:
            raise BadInput(
                f"{len(order)} blocks make no {self.steps} steps; use fewer or smaller blocks."
            )
        if self._ends is None:
            self._ends = self._run(self.probe.image), self._run(self.blurred)
        sharp, blurred = self._ends
        groups = np.array_split(order, self.steps)[:-1]
        gone, back = [sharp], [blurred]
        for number in range(1, self.steps):
            chosen = np.isin(self.where, np.concatenate(groups[:number]))
            gone.append(self._run(self._mixed(chosen)))
            back.append(self._run(self._mixed(~chosen)))
        share = np.linspace(0, 1, self.steps + 1)
        return Curves(share, np.stack([*gone, blurred], 1), np.stack([*back, sharp], 1))

    def _mixed(self, gone: npt.NDArray[np.bool_]) -> torch.Tensor:
        """Blur the image where `gone`, with soft edges."""
        from scipy import ndimage

        share = ndimage.gaussian_filter(gone.astype(np.float32), self.edge, truncate=2)
        return torch.lerp(
            self.probe.image, self.blurred, torch.from_numpy(share).to(self.blurred.device)
        )

    def _run(self, image: torch.Tensor) -> Values:
        if self.cancel is not None and self.cancel():
            raise Cancelled("Measuring the map's faithfulness was cancelled.")
        found = self.probe.scores(image, self.mask)
        if self.told is not None:
            self.told()
        return np.array(found)


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
    beside: Mapping[str, AttentionMap | npt.NDArray[np.float32]] | None = None,
) -> Faithfulness:
    """Measure maps of one look against chance, and with one another.

    Parameters
    ----------
    probe : Probe
        What to run, ``2 + 2 (steps - 1) (maps + randoms + maps * randoms)`` times.
    maps : mapping of str to AttentionMap or numpy.ndarray
        Of one row (the heads' mean is taken of more), or ``(D, H, W)`` on the network's grid.
    mask : numpy.ndarray
        ``(D, H, W)`` bool on the network's grid.
    randoms : int
        Scattered orders, and moved copies of each map; 1 or more.
    steps, block
        See `curves`.
    seed : int
        Of chance.
    progress, cancel : callable, optional
        Told a share and a word; asked before each run.
    beside : mapping of str to AttentionMap or numpy.ndarray, optional
        Maps with which agreement is measured, and nothing else.
    """
    if randoms < 1 or steps < 2:
        raise BadInput("Faithfulness needs at least 1 random order and 2 steps; give more.")
    shape = tuple(int(n) for n in probe.image.shape[2:])
    scores = {name: _score(one, shape, block) for name, one in maps.items()}
    compared = {name: _score(one, shape, block) for name, one in (beside or {}).items()}
    rng = np.random.default_rng(seed)
    blocks = block_shape(shape, block)
    total = 2 + 2 * (steps - 1) * (len(scores) * (1 + randoms) + randoms)
    done = [0]

    def told() -> None:
        done[0] += 1
        if progress is not None:
            progress(done[0] / total, f"run {done[0]} of {total}")

    bench = _Bench(probe, mask, steps, block, cancel, told)
    measured = {name: bench.curves(one) for name, one in scores.items()}
    scattered = [bench.curves(rng.random(blocks)) for _ in range(randoms)]
    moved = {
        name: [bench.curves(_moved(one, rng)) for _ in range(randoms)]
        for name, one in scores.items()
    }
    names, every = list(scores), scores | compared
    agreement = {}
    for i, a in enumerate(names):
        for b in [*names[i + 1 :], *compared]:
            agreement[a, b] = _agreement(every[a], every[b])
    return Faithfulness(measured, scattered, moved, agreement)


def _score(
    one: AttentionMap | npt.NDArray[np.float32], shape: tuple[int, ...], block: int
) -> Values:
    """Score of each block: the map's mean over it."""
    if not isinstance(one, AttentionMap):
        return on_blocks(one, shape, block)
    flat = np.zeros(int(np.prod(one.grid.shape)))
    flat[one.cells] = one.weights.mean(0)
    return on_blocks(flat.reshape(one.grid.shape), shape, block)


def _moved(scores: Values, rng: np.random.Generator) -> Values:
    """Move scores along each axis, what leaves comes in again, and mirror them, at random."""
    axes = tuple(range(scores.ndim))
    steps = [int(rng.integers(n)) for n in scores.shape]
    turned = tuple(axis for axis in axes if rng.random() < 0.5)
    return np.roll(np.flip(scores, turned), steps, axes)


def _agreement(a: Values, b: Values) -> float:
    from scipy.stats import spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.reshape(-1), b.reshape(-1)).statistic)


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
