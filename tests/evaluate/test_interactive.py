"""The protocol from cases to JSON, with a session without a network."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_fakes import FakeSession, make_fake, make_wrong

from napari_sightline.errors import BadInput
from napari_sightline.evaluate.cases import EvaluationCase
from napari_sightline.evaluate.interactive import evaluate, evaluate_case
from napari_sightline.evaluate.report import RobotProtocol, tables


def test_result_has_the_names_of_the_protocol(cases: list[EvaluationCase]) -> None:
    seen: list[tuple[int, int, str]] = []
    result = evaluate(cases, make_fake, progress=lambda *state: seen.append(state))
    assert json.loads(json.dumps(result)) == result
    assert result["clicks"] == 5 and result["n_cases"] == 2 and result["n_structures"] == 4
    assert len(result["mean"]["dsc"]) == len(result["mean"]["nsd"]) == 5
    assert 0 < result["mean"]["dsc"][0] < result["mean"]["dsc"][4] <= 1
    assert result["mean"]["dsc_auc"] == pytest.approx(np.trapezoid(result["mean"]["dsc"]), abs=1e-3)
    for score in ("dsc", "nsd"):
        for row in (result["mean"], result["baseline"], result["structures"]["far block"]):
            assert len(row[f"{score}_ci"]) == 5
            for mean, (low, high) in zip(row[score], row[f"{score}_ci"], strict=True):
                assert low <= mean <= high
    low, high = result["sets"]["one"]["dsc_ci"][0]
    assert low == high == result["sets"]["one"]["dsc"][0]  # of one patient
    assert set(result["structures"]) == {"near block", "far block"}
    assert result["structures"]["near block"]["n"] == 2
    assert set(result["sets"]) == {"one", "two"}
    assert len(result["baseline"]["dsc"]) == 5
    assert len(result["sets"]["one"]["baseline"]["nsd"]) == 5
    seconds = result["seconds"]
    assert (seconds["encode_p50"], seconds["click_p50"], seconds["click_p95"]) == (0.3, 0.5, 0.5)
    assert result["machine"] and result["version"]
    assert seen == [(1, 2, "scan0"), (2, 2, "scan1")]
    assert "items" not in result


def test_intervals_are_over_patients(cases: list[EvaluationCase]) -> None:
    plan = RobotProtocol(clicks=1, baseline=None)
    near, far = (
        replace(case, structures={value: name})
        for case, (value, name) in zip(cases, cases[0].structures.items(), strict=True)
    )
    low, high = evaluate([near, far], make_fake, plan)["mean"]["dsc_ci"][0]
    assert low < high
    same = [replace(case, patient="one") for case in (near, far)]
    low, high = evaluate(same, make_fake, plan)["mean"]["dsc_ci"][0]
    assert low == high


def test_one_scan_is_set_once_and_every_structure_is_a_new_object(
    cases: list[EvaluationCase],
) -> None:
    session = FakeSession()
    evaluate(cases[:1], lambda: session, RobotProtocol(clicks=2, baseline=None))
    assert session.loaded
    assert session.log == ["volume scan0", "object near block", "object far block"]


def test_masks_lie_on_the_scans_grid(cases: list[EvaluationCase]) -> None:
    (near, _) = evaluate_case(cases[0], FakeSession(), RobotProtocol(clicks=10, baseline=None))
    assert near.dsc[-1] == 1.0  # the fake fills the whole block in the end
    assert len(near.dsc) == 10  # though the robot had nothing left to click on
    assert len(near.clicks) < 10


def test_two_processes_give_the_same(cases: list[EvaluationCase]) -> None:
    one = evaluate(cases, make_fake, RobotProtocol(clicks=2), jobs=1, details=True)
    two = evaluate(cases, make_fake, RobotProtocol(clicks=2), jobs=2, details=True)
    assert one["items"] == two["items"]
    assert one["mean"] == two["mean"]


def test_never_right_is_zero(cases: list[EvaluationCase]) -> None:
    result = evaluate(cases, make_wrong, RobotProtocol(clicks=3, baseline=None))
    assert result["mean"]["dsc"] == [0.0, 0.0, 0.0]
    assert "baseline" not in result


def test_clicks_to_reach_needs_ten_clicks(cases: list[EvaluationCase]) -> None:
    result = evaluate(cases, make_fake, RobotProtocol(clicks=10, baseline=None))
    assert 1 <= result["mean"]["noc_85"] <= result["mean"]["noc_90"] <= 10
    assert result["mean"]["dsc_auc"] <= 4
    short = evaluate(cases, make_fake, RobotProtocol(clicks=5, baseline=None))
    assert "noc_85" not in short["mean"]


def test_box_first_is_no_click(cases: list[EvaluationCase]) -> None:
    session = FakeSession()
    plan = RobotProtocol(clicks=1, baseline=None, box_first=True)
    result = evaluate(cases[:1], lambda: session, plan)
    assert result["mean"]["dsc"] == [1.0]  # the blocks are boxes
    assert result["protocol"]["box_first"] is True


@pytest.mark.parametrize(
    "plan", [RobotProtocol(2, None, noisy=True), RobotProtocol(2, None, in_mm=True)]
)
def test_variants_run(cases: list[EvaluationCase], plan: RobotProtocol) -> None:
    result = evaluate(cases, make_fake, plan)
    again = evaluate(cases, make_fake, plan)
    assert result["mean"] == again["mean"]


def test_modalities_of_a_set_are_listed_beside_it(cases: list[EvaluationCase]) -> None:
    mixed = [
        EvaluationCase(c.image, c.labels, {1: "block"}, "both", m)
        for c, m in zip(cases, ("CT", "MR"), strict=True)
    ]
    result = evaluate(mixed, make_fake, RobotProtocol(clicks=1))
    assert list(result["sets"]) == ["both", "both CT", "both MR"]
    assert result["sets"]["both"]["n"] == 2


def test_structures_that_are_not_drawn_are_left_out(cases: list[EvaluationCase]) -> None:
    case = EvaluationCase(cases[0].image, cases[0].labels, {1: "near block", 9: "not there"})
    result = evaluate([case], make_fake, RobotProtocol(clicks=1, baseline=None))
    assert list(result["structures"]) == ["near block"]
    assert result["sets"] == {}
    nothing = EvaluationCase(cases[0].image, cases[0].labels, {9: "not there"})
    with pytest.raises(BadInput, match="None of the cases"):
        evaluate([nothing], make_fake)


def test_bad_options(cases: list[EvaluationCase]) -> None:
    with pytest.raises(BadInput, match="no cases"):
        evaluate([], make_fake)
    with pytest.raises(BadInput, match="processes"):
        evaluate(cases, make_fake, jobs=0)
    with pytest.raises(BadInput, match="clicks"):
        RobotProtocol(clicks=0)
    with pytest.raises(BadInput, match="baseline"):
        RobotProtocol(baseline="magic")


def test_tables_show_every_row(cases: list[EvaluationCase]) -> None:
    from rich.console import Console

    console = Console(width=120, file=io.StringIO())
    for table in tables(evaluate(cases, make_fake)):
        console.print(table)
    text = console.file.getvalue()
    for word in ("all", "no learning", "one", "near block", "AUC", "surface Dice"):
        assert word in text
