"""What the preprocessing of a MONAI bundle does, read from the literal arguments of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_sightline.models.config_data import Config, NotPlain, class_name
from napari_sightline.models.segmenter import IntensityRule

#: Steps that do not change what the network sees of a scan that we opened ourselves.
_HARMLESS = {
    *("LoadImaged", "EnsureChannelFirstd", "AddChanneld", "AsChannelFirstd", "EnsureTyped"),
    *("ToTensord", "CastToTyped", "ToDeviced", "SelectItemsd", "DeleteItemsd", "CopyItemsd"),
    *("SpatialPadd", "DivisiblePadd", "SaveImaged", "Identityd"),
}


@dataclass
class Steps:
    """What was read of a list of steps.

    Attributes
    ----------
    values : dict
        ``orientation``, ``spacing``, ``intensity``, as far as they were plain.
    unread : dict of str to str
        The same keys, and the text that would have to be run.
    unknown : list of str
        Steps whose effect is not known.
    notes : list of str
        Sentences on what is done otherwise.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_steps(config: Config, steps: list[Any], channels: int) -> Steps:
    """Read a list of steps, in MONAI's form of a mapping with ``_target_`` and arguments.

    Parameters
    ----------
    config : Config
        Where references lead.
    steps : list
        The steps.
    channels : int
        Of the image; statistics over several channels at once are not known here.
    """
    made = Steps()
    for step in steps:
        try:
            step = config.follow(step)
        except NotPlain as text:
            made.unknown.append(str(text))
            continue
        name = class_name(step)
        if name is None:
            target = step.get("_target_") if isinstance(step, Mapping) else step
            made.unknown.append(str(target)[:120])
            continue
        if name.endswith(("Dict", "D")):
            name = name.removesuffix("ict").removesuffix("D") + "d"
        elif name + "d" in _KNOWN:
            name += "d"
        if _is_of_labels(config, step) or _is_off(config, step):
            continue
        _read_step(config, name, step, channels, made)
    return made


def _is_of_labels(config: Config, step: Mapping[str, Any]) -> bool:
    try:
        keys = config.plain(step.get("keys", "image"))
    except NotPlain:
        return False
    names = [keys] if isinstance(keys, str) else keys
    return isinstance(names, list) and bool(names) and all("label" in str(n) for n in names)


def _is_off(config: Config, step: Mapping[str, Any]) -> bool:
    try:
        return config.plain(step.get("_disabled_", False)) is True
    except NotPlain:
        return False


def _read_step(
    config: Config, name: str, step: Mapping[str, Any], channels: int, made: Steps
) -> None:
    key = {"Orientationd": "orientation", "Spacingd": "spacing"}.get(name)
    if key is None and name in _INTENSITIES:
        key = "intensity"
    if key is None:
        if name == "CropForegroundd":
            made.notes.append("The model crops to the foreground; the whole scan is read here.")
        elif name not in _HARMLESS:
            made.unknown.append(name)
        return
    arguments = {k: v for k, v in step.items() if k != "_target_"}
    if key == "intensity" and (key in made.values or key in made.unread):
        made.unread[key] = f"{name} after another rule of intensities"
        return
    try:
        if key == "orientation":
            made.values[key] = str(config.plain(arguments["axcodes"])).upper()
        elif key == "spacing":
            pixdim = config.plain(arguments["pixdim"])
            numbers = [float(n) for n in (pixdim if isinstance(pixdim, list) else [pixdim] * 3)]
            a, b, c = numbers
            if min(numbers) <= 0:
                raise ValueError("the scan's own along some axes")
            made.values[key] = (a, b, c)
        else:
            plain = {k: config.plain(v) for k, v in arguments.items() if k != "keys"}
            made.values[key] = _INTENSITIES[name](plain, channels)
    except NotPlain as text:
        made.unread[key] = str(text)
    except (KeyError, ValueError, TypeError):
        made.unread[key] = f"{name} with arguments that are not understood"


def _range(given: Mapping[str, Any], channels: int) -> IntensityRule:
    to_low, to_high = _target_range(given)
    low, high = float(given["a_min"]), float(given["a_max"])
    if not low < high:
        raise ValueError("empty window")
    return IntensityRule("window", low, high, to_low, to_high, bool(given.get("clip", False)))


def _percentiles(given: Mapping[str, Any], channels: int) -> IntensityRule:
    if channels > 1 and not given.get("channel_wise", False):
        raise ValueError("percentiles of all channels at once")
    low, high = float(given["lower"]), float(given["upper"])
    to_low, to_high = _target_range(given)
    if given.get("relative", False):
        to_low, to_high = (
            (to_high - to_low) * low / 100 + to_low,
            (to_high - to_low) * high / 100 + to_low,
        )
    if not 0 <= low < high <= 100:
        raise ValueError("percentiles")
    return IntensityRule("percentile", low, high, to_low, to_high, bool(given.get("clip", False)))


def _scale(given: Mapping[str, Any], channels: int) -> IntensityRule:
    if given.get("factor") is not None or (channels > 1 and not given.get("channel_wise", False)):
        raise ValueError("another scaling")
    to = float(given.get("minv", 0.0)), float(given.get("maxv", 1.0))
    return IntensityRule("percentile", 0.0, 100.0, *to, clip=False)


def _normalise(given: Mapping[str, Any], channels: int) -> IntensityRule:
    subtrahend, divisor = given.get("subtrahend"), given.get("divisor")
    nonzero = bool(given.get("nonzero", False))
    if subtrahend is not None or divisor is not None:
        if nonzero or subtrahend is None or divisor is None:
            raise ValueError("half a rule")
        low, span = float(subtrahend), float(divisor)
        if span <= 0:
            raise ValueError("divisor")
        return IntensityRule("window", low, low + span, 0.0, 1.0, clip=False)
    if channels > 1 and not given.get("channel_wise", False):
        raise ValueError("statistics of all channels at once")
    return IntensityRule("zscore_nonzero" if nonzero else "zscore")


def _target_range(given: Mapping[str, Any]) -> tuple[float, float]:
    low, high = given.get("b_min"), given.get("b_max")
    return (0.0, 1.0) if low is None or high is None else (float(low), float(high))


_INTENSITIES = {
    "ScaleIntensityRanged": _range,
    "ScaleIntensityRangePercentilesd": _percentiles,
    "ScaleIntensityd": _scale,
    "NormalizeIntensityd": _normalise,
}
_KNOWN = {*_INTENSITIES, *_HARMLESS, "Orientationd", "Spacingd", "CropForegroundd"}
