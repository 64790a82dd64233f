"""Quality of an automatic model: Dice and surface Dice per structure, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import napari_sightline
from napari_sightline.anatomy import by_name
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bootstrap import draws, interval
from napari_sightline.evaluate.cases import EvaluationCase, load_case
from napari_sightline.evaluate.metrics import dice, surface_dice
from napari_sightline.evaluate.report import machine
from napari_sightline.segment.doubtful import LEAST_HU, doubtful, sentence
from napari_sightline.segment.finish import Finish

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.volume import Volume

#: Gives labels, canonical order, and names for a scan.
Method = Callable[["Volume"], tuple[npt.NDArray[Any], dict[int, str]]]


@dataclass(frozen=True)
class Score:
    """One structure of one case."""

    case: int
    structure: str
    dice: float
    nsd: float


def method_of(
    model: Segmenter,
    device: str = "auto",
    precision: str = "auto",
    finish: Finish | None = None,
    fragments: float | None = None,
    mirror: bool | None = None,
    keep_blank: bool = False,
) -> Method:
    """Make of a model what `evaluate` calls."""
    from napari_sightline.segment.automatic import segment

    def run(volume: Volume) -> tuple[npt.NDArray[Any], dict[int, str]]:
        found = segment(
            volume,
            model,
            device=device,
            precision=precision,
            fragments=fragments,
            mirror=mirror,
            keep_blank=keep_blank,
        )
        return (finish or Finish()).apply(found.labels, volume.spacing), found.names

    return run


def evaluate(
    cases: Sequence[EvaluationCase],
    method: Method,
    progress: Callable[[int, int, str], None] | None = None,
    tolerance_mm: float = 2.0,
    details: bool = False,
) -> dict[str, Any]:
    """Segment cases and compare each structure where it is contoured.

    Parameters
    ----------
    cases : sequence of EvaluationCase
        At least one. A structure is compared where a case lists it and the model knows it, by its
        name or another name of the same structure.
    method : callable
        See `method_of`.
    progress : callable, optional
        Called after each case with cases done, cases in all, and the case's name.
    tolerance_mm : float
        Of the surface Dice.
    details : bool
        Whether the result holds every score (``items``).

    Returns
    -------
    dict
        ``{"mean": {"dice", "ci", "nsd", "nsd_ci"}, "structures": {NAME: {"n", "dice", "ci", "nsd",
        "nsd_ci"}}, "n_cases", "seconds": {"p50", "max"}, "machine", "version"}``. A mean is over
        structures; an interval of 95 % is that of a bootstrap over cases. ``"doubtful"`` lists, by
        case, contours of CT that seem to belong to another image, see
        `napari_sightline.segment.doubtful`; they count all the same, and ``"without_doubtful"``
        holds the figures without them.

    Raises
    ------
    BadInput
        Where a case cannot be used or no structure of the cases is one of the model's.
    """
    scores: list[Score] = []
    seconds: list[float] = []
    known: list[str] = []
    medians: dict[str, dict[str, float]] = {}
    for number, case in enumerate(cases):
        volume, truth = load_case(case)
        began = time.perf_counter()
        labels, names = method(volume)
        seconds.append(time.perf_counter() - began)
        known = list(names.values())
        for value, structure in case.structures.items():
            own = _value_of(structure, names)
            if own is None:
                continue
            found = labels == own if labels.ndim == 3 else labels[own - 1]
            true = truth == value
            if (case.modality or volume.modality) == "CT" and true.any():
                here = float(np.median(volume.data[true]))
                medians.setdefault(str(number), {})[structure] = here
            nsd = surface_dice(found, true, volume.spacing, tolerance_mm)
            scores.append(Score(number, structure, dice(found, true), nsd))
        if progress is not None:
            progress(number + 1, len(cases), case.name)
    if not scores:
        listed = ", ".join(known) or "nothing"
        raise BadInput(
            f"No structure of the cases is one of the model's ({listed}); give cases that "
            "contour one of them."
        )
    result = summarise(scores, len(cases))
    result["tolerance_mm"] = tolerance_mm
    strange = {int(number): names for number, names in doubtful(medians, LEAST_HU).items()}
    result["doubtful"] = {cases[number].name: names for number, names in strange.items()}
    if strange:
        kept = [s for s in scores if s.structure not in strange.get(s.case, ())]
        result["without_doubtful"] = summarise(kept, len(cases))
    result["seconds"] = {
        "p50": round(float(np.median(seconds)), 2),
        "max": round(max(seconds), 2),
    }
    result |= {"machine": machine(), "version": napari_sightline.__version__}
    if details:
        result["items"] = [
            {
                "case": cases[s.case].name,
                "structure": s.structure,
                "dice": round(s.dice, 4),
                "nsd": round(s.nsd, 4),
            }
            for s in scores
        ]
    return result


def summarise(scores: Sequence[Score], n_cases: int) -> dict[str, Any]:
    """Means and intervals, see `evaluate`."""
    structures = list(dict.fromkeys(score.structure for score in scores))
    # Cases by structures; NaN where a case does not contour a structure.
    tables = np.full((2, n_cases, len(structures)), np.nan)
    for score in scores:
        column = structures.index(score.structure)
        tables[:, score.case, column] = score.dice, score.nsd
    drawn = draws(n_cases)
    result: dict[str, Any] = {"mean": {}, "structures": {}, "n_cases": n_cases}
    for structure in structures:
        result["structures"][structure] = {"n": sum(s.structure == structure for s in scores)}
    for key, ci, table in (("dice", "ci", tables[0]), ("nsd", "nsd_ci", tables[1])):
        sampled = np.stack([_column_means(table[draw]) for draw in drawn])
        means = _column_means(table)
        for column, structure in enumerate(structures):
            row = result["structures"][structure]
            row[key] = round(float(means[column]), 4)
            row[ci] = interval(sampled[:, column])
        result["mean"][key] = round(float(np.nanmean(means)), 4)
        result["mean"][ci] = interval(np.array([np.nanmean(row) for row in sampled]))
    return result


def doubts(result: dict[str, Any]) -> list[str]:
    """Sentences on the contours of a result that seem to belong to another image."""
    found = [sentence(case, structures) for case, structures in result["doubtful"].items()]
    if found:
        mean = result["without_doubtful"]["mean"]
        low, high = mean["ci"]
        found.append(f"Without them the mean Dice is {mean['dice']:.3f} ({low:.3f} to {high:.3f}).")
    return found


def _column_means(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = np.isfinite(table).sum(0)
    sums = np.nansum(table, 0)
    means = np.full(table.shape[1], np.nan)
    return np.divide(sums, counts, out=means, where=counts > 0)


def _value_of(structure: str, names: dict[int, str]) -> int | None:
    """Label value of a structure among a model's, by its name or by what it is."""
    wanted = by_name(structure)
    for value, name in names.items():
        if name.lower() == structure.lower():
            return value
    for value, name in names.items():
        same = by_name(name)
        if wanted is not None and same is not None and same.name == wanted.name:
            return value
    return None


def table_of(result: dict[str, Any]) -> Table:
    """Table of a result, for a terminal."""
    from napari_sightline.evaluate.console import table

    made = table("Dice and surface Dice", "", "n", "Dice", "95 %", "NSD", "95 %")
    rows = {"mean": result["mean"] | {"n": result["n_cases"]}} | result["structures"]
    for name, row in rows.items():
        ranges = [f"{row[key][0]:.3f} – {row[key][1]:.3f}" for key in ("ci", "nsd_ci")]
        made.add_row(
            name,
            str(row["n"]),
            f"{row['dice']:.3f}",
            ranges[0],
            f"{row['nsd']:.3f}",
            ranges[1],
            style="bold" if name == "mean" else "",
        )
    return made
