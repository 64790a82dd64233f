"""Errors that are meant for the person at the keyboard.

Every message is one sentence that names the thing, what is wrong with it and
what to do. The command line prints it and exits with code 2; the viewer shows
it as a notification. Anything that is not a ``SightlineError`` is a fault of
the program and keeps its traceback.
"""

from __future__ import annotations


class SightlineError(Exception):
    """Base of all errors whose text can be shown to a user as it is."""


class BadInput(SightlineError, ValueError):
    """A file, a prompt or an option cannot be used."""


class ModelError(SightlineError, RuntimeError):
    """A model's weights are missing or damaged, or the model failed."""


class Cancelled(SightlineError):
    """The work was cancelled; what it would have changed is unchanged."""

    def __init__(self, message: str = "The work was cancelled; nothing was changed.") -> None:
        super().__init__(message)
