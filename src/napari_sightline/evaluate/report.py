"""Put the scores of a robot user together: means, areas under curves, tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.baseline import BASELINES
from napari_sightline.evaluate.bootstrap import interval_of_mean
from napari_sightline.evaluate.metrics import auc, clicks_to_reach

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sightline.prompts import Point

#: Scores that make up an AUC, whatever the number of clicks.
AUC_CLICKS = 5
#: Clicks after which the number of clicks to reach a Dice is given up.
NOC_CLICKS = 10


@dataclass(frozen=True)
class RobotProtocol:
    """How the robot user goes about it; the defaults are those of BENCHMARKS.

    Attributes
    ----------
    clicks : int
        Clicks for each structure, 1 or more.
    baseline : {"geodesic", "random walker", None}
        Method without learning that gets as many clicks of its own robot user.
    box_first : bool
        Give the truth's bounding box before the first click.
    in_mm : bool
        Measure the depth of errors in mm instead of voxels.
    noisy : bool
        Draw clicks from the error instead of taking its deepest voxel.
    tolerance_mm : float
        Of the surface Dice.
    """

    clicks: int = 5
    baseline: str | None = "geodesic"
    box_first: bool = False
    in_mm: bool = False
    noisy: bool = False
    tolerance_mm: float = 2.0

    def __post_init__(self) -> None:
        if self.clicks < 1:
            raise BadInput(f"{self.clicks} clicks say nothing about a model; give 1 or more.")
        if self.baseline not in (None, *BASELINES):
            raise BadInput(
                f"There is no baseline {self.baseline!r}; choose one of {', '.join(BASELINES)}."
            )


@dataclass
class Outcome:
    """Scores of one structure of one case, one number for each click."""

    case: str
    set: str
    modality: str
    structure: str
    owner: str = ""  # patient, for intervals
    dsc: list[float] = field(default_factory=list)
    nsd: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    encode_seconds: list[float] = field(default_factory=list)
    baseline_dsc: list[float] = field(default_factory=list)
    baseline_nsd: list[float] = field(default_factory=list)
    clicks: list[Point] = field(default_factory=list)


def summarise(
    outcomes: Sequence[Outcome],
    protocol: RobotProtocol,
    n_cases: int,
    jobs: int = 1,
    details: bool = False,
) -> dict[str, Any]:
    """Put outcomes together in the JSON form of docs/evaluation.md.

    A mean is over structures of cases: each contoured structure of each case counts once. Its
    95 % interval is that of a bootstrap over patients, see `evaluate.bootstrap`.
    """
    result: dict[str, Any] = {
        "clicks": protocol.clicks,
        "n_cases": n_cases,
        "n_structures": len(outcomes),
        "protocol": {
            "box_first": protocol.box_first,
            "distance": "mm" if protocol.in_mm else "voxel",
            "noisy": protocol.noisy,
            "tolerance_mm": protocol.tolerance_mm,
        },
        "mean": _means(outcomes),
        "sets": {name: _summary(found) for name, found in _by_set(outcomes).items()},
        "structures": {},
    }
    for name in dict.fromkeys(outcome.structure for outcome in outcomes):
        same = [outcome for outcome in outcomes if outcome.structure == name]
        result["structures"][name] = _summary(same)
    if protocol.baseline:
        result["baseline"] = _baseline(outcomes) | {"method": protocol.baseline}
    result["seconds"] = _seconds(outcomes) | {"jobs": jobs}
    result["machine"] = machine()
    result["version"] = napari_sightline.__version__
    if details:
        result["items"] = [_item(outcome) for outcome in outcomes]
    return result


def machine() -> str:
    """Processor and number of logical cores, for results that depend on them."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def tables(result: dict[str, Any]) -> list[Table]:
    """Tables of a result of `summarise`, for a terminal."""
    from rich.table import Table

    clicks = [str(number + 1) for number in range(result["clicks"])]
    found = []
    for score, title in (("dsc", "Dice"), ("nsd", "surface Dice")):
        table = Table(title=f"{title} after each click", title_justify="left")
        table.add_column("")
        table.add_column("n", justify="right")
        for click in (*clicks, f"95 % of {clicks[-1]}", "AUC"):
            table.add_column(click, justify="right")
        rows = {"all": result["mean"] | {"n": result["n_structures"]}}
        if "baseline" in result:
            rows["all"]["baseline"] = result["baseline"]
        rows |= result["sets"] if len(result["sets"]) > 1 else {}
        for name, row in rows.items():
            _add(table, name, str(row["n"]), row, score, bold=True)
            if "baseline" in row:
                _add(table, "  no learning", "", row["baseline"], score, dim=True)
        table.add_section()
        for name, row in result["structures"].items():
            _add(table, name, str(row["n"]), row, score)
        found.append(table)
    return found


def _add(
    table: Table,
    name: str,
    count: str,
    row: dict[str, Any],
    score: str,
    bold: bool = False,
    dim: bool = False,
) -> None:
    low, high = row[f"{score}_ci"][-1]
    values = [f"{value:.3f}" for value in row[score]]
    values += [f"{low:.3f} – {high:.3f}", f"{row[score + '_auc']:.2f}"]
    table.add_row(name, count, *values, style="bold" if bold else "dim" if dim else "")


def _by_set(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each set, followed by those of its modalities where it has several."""
    groups: dict[str, list[Outcome]] = {}
    for name in dict.fromkeys(outcome.set for outcome in outcomes):
        if not name:
            continue
        members = [outcome for outcome in outcomes if outcome.set == name]
        groups[name] = members
        modalities = dict.fromkeys(outcome.modality for outcome in members if outcome.modality)
        for modality in modalities if len(modalities) > 1 else ():
            groups[f"{name} {modality}"] = [o for o in members if o.modality == modality]
    return groups


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(outcomes)} | _means(outcomes)
    if outcomes[0].baseline_dsc:
        found["baseline"] = _baseline(outcomes)
    return found


def _means(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    owners = [outcome.owner for outcome in outcomes]
    found = _curves([o.dsc for o in outcomes], [o.nsd for o in outcomes], owners)
    if len(found["dsc"]) >= NOC_CLICKS:
        for target in (85, 90):
            counts = [clicks_to_reach(o.dsc, target / 100, NOC_CLICKS) for o in outcomes]
            found[f"noc_{target}"] = round(float(np.mean(counts)), 3)
    return found


def _baseline(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    owners = [outcome.owner for outcome in outcomes]
    rows = [o.baseline_dsc for o in outcomes], [o.baseline_nsd for o in outcomes]
    return _curves(*rows, owners)


def _curves(
    dsc: Sequence[Sequence[float]], nsd: Sequence[Sequence[float]], owners: Sequence[str]
) -> dict[str, Any]:
    """Mean after each click, its interval, and the area under the means."""
    found: dict[str, Any] = {}
    for score, rows in (("dsc", dsc), ("nsd", nsd)):
        table = np.array(rows, dtype=float)
        means = [round(float(value), 4) for value in table.mean(0)]
        found[score] = means
        found[f"{score}_ci"] = [interval_of_mean(column, owners) for column in table.T]
        found[f"{score}_auc"] = round(auc(means[:AUC_CLICKS]), 4)
    return found


def _seconds(outcomes: Sequence[Outcome]) -> dict[str, float]:
    clicks = np.concatenate([outcome.seconds for outcome in outcomes])
    encodes = np.concatenate([outcome.encode_seconds for outcome in outcomes])
    encodes = encodes[encodes > 0]
    return {
        "encode_p50": round(float(np.median(encodes)), 4) if encodes.size else 0.0,
        "click_p50": round(float(np.median(clicks)), 4),
        "click_p95": round(float(np.percentile(clicks, 95)), 4),
    }


def _item(outcome: Outcome) -> dict[str, Any]:
    item: dict[str, Any] = {
        "case": outcome.case,
        "set": outcome.set,
        "structure": outcome.structure,
        "dsc": [round(score, 4) for score in outcome.dsc],
        "nsd": [round(score, 4) for score in outcome.nsd],
        "clicks": [[*click.position, int(click.positive)] for click in outcome.clicks],
    }
    if outcome.baseline_dsc:
        item["baseline_dsc"] = [round(score, 4) for score in outcome.baseline_dsc]
    return item
