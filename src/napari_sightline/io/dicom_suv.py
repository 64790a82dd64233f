"""PET in standardised uptake values, as the tags of a DICOM series allow.

SUV (body weight) is activity concentration divided by injected activity per gram of the
patient. The decay of the injected activity up to the time that the images are corrected to
is that of QIBA's FDG-PET profile.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from napari_sightline.io.dicom_elements import numbers, text

__all__ = ["SUV_TAGS", "suv_factor"]

SUV_TAGS = [
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "RadiopharmaceuticalInformationSequence",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
]


def suv_factor(dataset: Any) -> tuple[float, str]:
    """Find what values of a PET series are multiplied by to become SUV (body weight).

    Parameters
    ----------
    dataset : pydicom.Dataset
        Header of the earliest slice.

    Returns
    -------
    factor : float
        1 where the values cannot be or already are SUV.
    note : str
        What the values are, in one sentence.
    """
    units = text(dataset, "Units").upper()
    if units == "GML" and text(dataset, "SUVType").upper() in ("", "BW"):
        return 1.0, "Values are SUV (body weight), as stored."
    if units != "BQML":
        return 1.0, f"PET values are as stored (unit {units or 'not said'}), not SUV."
    missing = "PET values are in Bq/ml, not SUV: the file lacks {}."
    if "DECY" not in text(dataset, "CorrectedImage").upper():
        return 1.0, missing.format("a decay correction")
    try:
        tracer = dataset.RadiopharmaceuticalInformationSequence[0]
    except Exception:  # missing, empty, or damaged
        return 1.0, missing.format("the radiopharmaceutical")
    weight = numbers(dataset, "PatientWeight")
    dose = numbers(tracer, "RadionuclideTotalDose")
    half_life = numbers(tracer, "RadionuclideHalfLife")
    for value, what in ((weight, "the weight"), (dose, "the dose"), (half_life, "the half-life")):
        if value is None or value[0] <= 0:
            return 1.0, missing.format(what)
    assert weight and dose and half_life
    left = dose[0]
    if text(dataset, "DecayCorrection").upper() != "ADMIN":
        seconds = _since_injection(dataset, tracer)
        if seconds is None:
            return 1.0, missing.format("the time of injection or of the scan")
        left *= 2 ** (-seconds / half_life[0])
    factor = weight[0] * 1000 / left
    if not 1e-12 < factor < 1e6:
        return 1.0, missing.format("a plausible dose")
    return factor, "Values are SUV (body weight)."


def _since_injection(dataset: Any, tracer: Any) -> float | None:
    """Seconds from injection to the time that the images are corrected to."""
    series = _moment(text(dataset, "SeriesDate") + text(dataset, "SeriesTime"))
    first = _moment(text(dataset, "AcquisitionDate") + text(dataset, "AcquisitionTime"))
    # A derived series carries the time of its making: the acquisition counts then.
    scan = min((moment for moment in (series, first) if moment is not None), default=None)
    if scan is None:
        return None
    injected = _moment(text(tracer, "RadiopharmaceuticalStartDateTime"))
    if injected is None:
        clock = text(tracer, "RadiopharmaceuticalStartTime")
        injected = _moment(f"{scan:%Y%m%d}{clock}") if clock else None
        if injected is not None and injected > scan:  # past midnight
            injected -= timedelta(days=1)
    if injected is None:
        return None
    seconds = (scan - injected).total_seconds()
    return seconds if 0 <= seconds < 7 * 86400 else None


def _moment(stamp: str) -> datetime | None:
    """Parse ``YYYYMMDDHHMMSS[.ffffff]``."""
    digits = stamp.split("+")[0].split("-")[0].split(".")[0].replace(":", "")
    if not digits.isdigit() or not 12 <= len(digits) <= 14:
        return None
    try:
        return datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
