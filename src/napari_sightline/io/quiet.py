"""Libraries' warnings and logs kept quiet: they quote values, and those may name a patient."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

_LOGS = (
    "openjpeg.decode",
    "pydicom",
    "pydicom.dataset",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "pydicom.util.codify",
    "highdicom",
    "highdicom.base",
    "highdicom.seg.sop",
    "tifffile",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what file libraries say while a file is open; damage is told in our sentences."""
    logs = [log for log in map(logging.getLogger, _LOGS) if not log.disabled]
    for log in logs:
        log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log in logs:
            log.disabled = False
