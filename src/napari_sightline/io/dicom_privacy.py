"""Who a patient is, read for one reason: to keep it out of every text."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from napari_sightline.errors import BadInput
from napari_sightline.io.dicom_elements import text

__all__ = ["nameless", "private_words", "scrubbed"]

_PRIVATE = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames",
    "PatientBirthName",
)  # fmt: skip


def private_words(dataset: Any) -> frozenset[str]:
    """Words that identify the patient, lower case: parts of names, identifiers, birth date."""
    words: set[str] = set()
    places = [dataset]
    with suppress(Exception):  # missing or damaged
        places += list(dataset.get("OtherPatientIDsSequence") or ())
    for place in places:
        for keyword in _PRIVATE:
            value = text(place, keyword).casefold()
            words |= {word for word in re.split(r"[\s^=,;\\]+", value) if word}
    born = text(dataset, "PatientBirthDate")
    if len(born) == 8 and born.isdigit():
        year, month, day = born[:4], born[4:6], born[6:]
        for mark in ".-/_":
            words |= {mark.join((year, month, day)), mark.join((day, month, year))}
            words.add(mark.join((month, day, year)))
    return frozenset(words)


def scrubbed(label: str, words: frozenset[str]) -> str:
    """Return a label without the words that identify a patient; empty if nothing is left.

    Words of one or two letters or digits are taken out only where they stand alone.
    """
    for word in sorted(words, key=len, reverse=True):
        pattern = re.escape(word)
        if len(word) < 3 and word.isascii():
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        label = re.sub(pattern, "", label, flags=re.IGNORECASE)
    return " ".join(label.split()).strip(" _-^,")


def nameless(error: BadInput, words: frozenset[str]) -> BadInput:
    """Return an error whose sentence does not identify a patient: names of files may."""
    return BadInput(scrubbed(str(error), frozenset(word for word in words if len(word) > 2)))
