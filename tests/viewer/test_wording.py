"""What the panel says in which situation."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sightline.segment.interactive import MaskUpdate
from napari_sightline.viewer.state import Outcome, Row, State
from napari_sightline.viewer.wording import Situation, advice, millilitres, quality, timing


@pytest.mark.parametrize(
    ("situation", "word"),
    [
        (Situation(image=False), "Open a scan"),
        (Situation(fault="The scan is damaged."), "The scan is damaged."),
        (Situation(waiting=1), "Working on your click"),
        (Situation(waiting=3), "2 more wait"),
        (Situation(waiting=1, glimpsed=True), "first look"),
        (Situation(offered=3, drawn=True, clicks=1), "Which is meant?"),
        (Situation(offered=3, clicks=1, owner="liver"), "belongs to liver, which is locked"),
        (Situation(clicking=False), "Clicking is off"),
        (Situation(flat=False), "3D"),
        (Situation(tool="The tool 'paint' of labels"), "'paint'"),
        (Situation(drawn=True, clicks=2), "Ctrl+click"),
        (Situation(clicks=1), "Nothing was found"),
        (Situation(), "middle of the organ"),
        (Situation(preparing=True), "while the model gets ready"),
    ],
)
def test_advice(situation: Situation, word: str) -> None:
    text = advice(situation)
    assert word in text and text.endswith((".", "…"))


def test_timing_and_quality() -> None:
    box = (slice(0, 1),) * 3
    mask = np.ones((1, 1, 1), bool)
    logits = np.ones((1, 1, 1), np.float16)
    update = MaskUpdate(1, box, mask, logits, 0.87, 0.214, 0.4, 1)
    state = State(1, quality=0.87, rows=(Row(1, "", 3.0, False),), device="cpu", precision="bf16")
    text = timing(Outcome(state, update=update))
    assert text == "Last click 0.21 s on cpu, bf16; image part 0.40 s"
    assert quality(state) == "expected overlap 87 %"
    assert timing(Outcome(state)) == "" and quality(State()) == ""


def test_volumes_have_three_digits() -> None:
    assert [millilitres(ml) for ml in (0, 0.123, 12.34, 123.4)] == [
        "",
        "0.12 mL",
        "12.3 mL",
        "123 mL",
    ]
