"""What is asked of a model, and how answers are read."""

from __future__ import annotations

from typing import get_args

from napari_sightline.models import questions


def test_answers_of_every_kind_are_read_and_explained() -> None:
    kinds = set(get_args(questions.Kind))
    assert kinds == set(questions._PARSERS) == set(questions.HOW)
    assert kinds == {kind for _, kind, _ in questions.FIELDS.values()}
