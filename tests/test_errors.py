"""Errors that users see."""

from __future__ import annotations

import pickle

import pytest

from napari_sightline.errors import BadInput, Cancelled, ModelError, SightlineError


@pytest.mark.parametrize(("error", "builtin"), [(BadInput, ValueError), (ModelError, RuntimeError)])
def test_errors_are_also_the_builtin_that_a_caller_expects(error, builtin) -> None:
    assert issubclass(error, SightlineError)
    with pytest.raises(builtin, match=r"^scan\.nii is empty: export it again$"):
        raise error("scan.nii is empty: export it again")


def test_cancelled_says_so_without_an_argument() -> None:
    assert "cancelled" in str(Cancelled())
    assert str(Cancelled("stopped at window 3 of 8")) == "stopped at window 3 of 8"


def test_errors_survive_a_trip_to_another_process() -> None:
    for error in (BadInput("a"), ModelError("b"), Cancelled()):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
