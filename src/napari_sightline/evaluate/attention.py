"""How faithful maps of `sightline-3d` are, over cases: deletion and insertion against chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_sightline
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.bootstrap import interval_of_mean
from napari_sightline.evaluate.cases import EvaluationCase, load_case
from napari_sightline.evaluate.console import table
from napari_sightline.evaluate.report import machine
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.prompts import Point
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sightline.attention.faithful import Faithfulness

Tell = Callable[[float, str], None]
Areas = dict[str, dict[str, dict[str, float]]]
CHANCES = ("scattered", "moved")


@dataclass(frozen=True)
class Measured:
    """One structure of one case.

    Attributes
    ----------
    case, structure : str
        Whose it is.
    areas : dict
        By map: areas under its curves, and of chance, each ``{SCORE: {TEST: area}}`` under
        ``"map"``, ``"scattered"`` and ``"moved"``; see `napari_sightline.attention.faithful`.
    agreement : dict
        Rank correlation of each map with the gradient and with Seg-Grad-CAM.
    """

    case: str
    structure: str
    areas: dict[str, Areas]
    agreement: dict[str, dict[str, float]]


def evaluate(
    cases: Sequence[EvaluationCase],
    model: Any,
    randoms: int = 5,
    steps: int = 10,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Click each structure once, explain the mask, and measure the explanations.

    Parameters
    ----------
    cases : sequence of EvaluationCase
        At least one.
    model : EmbeddedModel
        `sightline-3d`, loaded.
    randoms, steps : int
        See `napari_sightline.attention.faithful.faithfulness`.
    tell : callable, optional
        Told a share and a word.

    Returns
    -------
    dict
        ``{"n_cases", "n", "skipped", "maps": {NAME: {SCORE: {TEST: {"area", "scattered", "moved"},
        ...}, "agreement"}}, "items", ...}``: means over structures. ``"scattered"`` and ``"moved"``
        are ``{"area", "gain", "ci"}`` of chance: a gain is how much better than it a map is, above
        0 where it beats it; ``ci`` is its 95 % interval by bootstrap over cases.

    Raises
    ------
    BadInput
        Where there are no cases, or no structure gave a mask.
    """
    if not cases:
        raise BadInput("There are no cases to evaluate; list one or more in the cases file.")
    found: list[Measured] = []
    skipped = 0
    for number, case in enumerate(cases):
        volume, truth = load_case(case)
        for value, name in case.structures.items():
            if tell is not None:
                tell(number / len(cases), f"{number + 1} of {len(cases)}: {case.name}, {name}")
            click = simulate_click(np.zeros(truth.shape, bool), truth == value)
            if click is None:
                continue
            one = measure(model, volume, click, randoms, steps)
            if one is None:
                skipped += 1
                continue
            found.append(_measured(case.name, name, one))
    if not found:
        raise BadInput("No structure of the cases gave a mask; check the label values.")
    return summarise(found, len(cases), skipped)


def measure(
    model: Any, volume: Volume, click: Point, randoms: int = 5, steps: int = 10
) -> Faithfulness | None:
    """Explain the mask of one click, and measure the explanations; None where the mask is empty."""
    from napari_sightline.attention.ask import ask
    from napari_sightline.attention.faithful import faithfulness
    from napari_sightline.attention.gradcam import seg_grad_cam
    from napari_sightline.attention.probe import probe_click
    from napari_sightline.attention.relevance import relevance, run_with_gradients
    from napari_sightline.attention.tap import Tap
    from napari_sightline.segment.interactive import Session

    tap = Tap()
    session = Session(model, tap=tap)
    session.set_volume(volume)
    update = session.add(click)
    one = None if update.region is None else tap.for_region(update.region)
    if one is None or update.region is None:
        return None
    probe = probe_click(model, volume, update.region, one)
    try:
        run = run_with_gradients(probe)
    except BadInput:
        return None  # an empty mask: nothing to explain
    seen = run.one
    maps: dict[str, Any] = {
        "relevance": relevance(run),
        "relevance, attention alone": relevance(run, identity=False),
        "attention of the click": ask(seen, "prompt", heads="mean"),
        "attention of the clicked voxel": ask(seen, "to", click.position, heads="mean"),
        "rollout of the clicked voxel": ask(seen, "rollout", click.position),
        "gradient": run.saliency,
        "Seg-Grad-CAM": seg_grad_cam(probe, run.mask),
    }
    return faithfulness(probe, maps, run.mask, randoms, steps)


def _measured(case: str, structure: str, found: Faithfulness) -> Measured:
    from napari_sightline.attention.faithful import SCORES, TESTS

    areas: dict[str, Areas] = {}
    for name, curve in found.maps.items():
        areas[name] = {
            "map": {s: {t: curve.area(t, s) for t in TESTS} for s in SCORES},
            "scattered": {s: {t: found.chance(t, s)[0] for t in TESTS} for s in SCORES},
            "moved": {s: {t: found.chance(t, s, name)[0] for t in TESTS} for s in SCORES},
        }
    agreement: dict[str, dict[str, float]] = {name: {} for name in found.maps}
    for (a, b), value in found.agreement.items():
        for own, other in ((a, b), (b, a)):
            if other in ("gradient", "Seg-Grad-CAM"):
                agreement[own][other] = value
    return Measured(case, structure, areas, agreement)


def summarise(found: Sequence[Measured], n_cases: int, skipped: int = 0) -> dict[str, Any]:
    """Average over structures; intervals by bootstrap over cases. See `evaluate`."""
    from napari_sightline.attention.faithful import SCORES, TESTS

    owners = [one.case for one in found]
    maps: dict[str, Any] = {}
    for name in found[0].areas:
        agree = {
            other: round(float(np.mean([one.agreement[name][other] for one in found])), 4)
            for other in found[0].agreement[name]
        }
        maps[name] = {"agreement": agree}
        for score in SCORES:
            maps[name][score] = {}
            for test in TESTS:
                own = np.array([one.areas[name]["map"][score][test] for one in found])
                row: dict[str, Any] = {"area": round(float(own.mean()), 4)}
                for chance in CHANCES:
                    other = np.array([one.areas[name][chance][score][test] for one in found])
                    # Deletion is better low, insertion high.
                    gain = other - own if test == "deletion" else own - other
                    row[chance] = {
                        "area": round(float(other.mean()), 4),
                        "gain": round(float(gain.mean()), 4),
                        "ci": interval_of_mean(gain, owners),
                    }
                maps[name][score][test] = row
    return {
        "n_cases": n_cases,
        "n": len(found),
        "skipped": skipped,
        "maps": maps,
        "items": [
            {"case": one.case, "structure": one.structure, "areas": one.areas} for one in found
        ],
        "machine": machine(),
        "version": napari_sightline.__version__,
    }


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Tables of a result of `evaluate`, one a score."""
    from napari_sightline.attention.faithful import SCORES, TESTS

    words = {
        "probability": "mean probability over the mask",
        "overlap": "overlap with the mask (soft Dice)",
    }
    made = []
    for score in SCORES:
        columns = [
            word
            for test in TESTS
            for word in (test, *(f"better than chance, {chance}, by" for chance in CHANCES))
        ]
        one = table(f"Faithfulness after one click: {words[score]}", "map", *columns)
        for name, row in result["maps"].items():
            cells = []
            for test in TESTS:
                cells.append(f"{row[score][test]['area']:.3f}")
                for chance in CHANCES:
                    gain, (low, high) = (row[score][test][chance][k] for k in ("gain", "ci"))
                    cells.append(f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]")
            one.add_row(name, *cells)
        made.append(one)
    return made
