"""What could not be read safely of a model, as fields of a form, and answers in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule
from napari_sightline.models.swin_unetr import MERGINGS

Kind = Literal[
    "text", "choice", "number", "sizes", "spacing", "labels", "names", "intensity", "yes"
]


@dataclass(frozen=True)
class Question:
    """One field of a form.

    Attributes
    ----------
    key : str
        Name of the fact, as in `FIELDS`; on the command line ``--set key=answer``.
    text : str
        What is asked, in a sentence.
    kind : str
        What an answer looks like: ``"text"``; ``"choice"`` of `choices`; ``"number"``;
        ``"sizes"`` (three whole numbers); ``"spacing"`` (three numbers, or ``"scan"``);
        ``"labels"`` (``1=liver, 2=spleen``); ``"names"`` (``T1, T2``); ``"intensity"`` (see
        `parse`); ``"yes"``, to be agreed to.
    value : str
        What was found or is usual, as an answer; empty where nothing is.
    found : str
        Where `value` comes from, or what stood in the file and was not run.
    choices : tuple of str
        For ``"choice"``.
    """

    key: str
    text: str
    kind: Kind
    value: str = ""
    found: str = ""
    choices: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """An answer to show: what was found, else what there is to choose from."""
        return self.value or "|".join(self.choices) or "..."


#: Facts that can be asked for: question and kind.
FIELDS: dict[str, tuple[str, Kind, tuple[str, ...]]] = {
    "name": ("What is the model called?", "text", ()),
    "labels": ("Which structure is each label?", "labels", ()),
    "channels": ("What is each input channel, in order?", "names", ()),
    "overlapping": ("May structures overlap (a sigmoid for each)?", "choice", ("no", "yes")),
    "orientation": ("In which directions do the network's axes run?", "text", ()),
    "spacing": ("Millimetres of a voxel along the network's axes?", "spacing", ()),
    "intensity": ("How do intensities become the network's input?", "intensity", ()),
    "roi": ("How many voxels has a window?", "sizes", ()),
    "overlap": ("Which share of a window does the next one see again?", "number", ()),
    "modality": ("Which modality was it trained on?", "choice", ("CT", "MR", "PT", "any")),
    "merging": (
        "Which version of MONAI was the network trained with (it merges tokens in that order)?",
        "choice",
        MERGINGS,
    ),
    "heads": ("How many attention heads has a block?", "number", ()),
    "image_size": ("How many voxels has the network's only window?", "sizes", ()),
    "left_out": ("Is it right to leave out steps that are not known?", "yes", ()),
    "licence": ("Under which licence may it be used?", "text", ()),
    "source": ("Where does it come from?", "text", ()),
}

_CODES = ("RL", "AP", "SI")


def question(key: str, value: Any = None, found: str = "") -> Question:
    """Make the question for a fact, with a value found."""
    text, kind, choices = FIELDS[key]
    return Question(key, text, kind, "" if value is None else as_text(key, value), found, choices)


def parse(key: str, answer: Any) -> Any:
    """Turn an answer in words into a value.

    Parameters
    ----------
    key : str
        One of `FIELDS`.
    answer : str or the value itself
        Intensity is ``window LOW HIGH [TO_LOW TO_HIGH] [unclipped]`` in the scan's unit,
        ``percentile LOW HIGH [TO_LOW TO_HIGH] [unclipped]``, ``zscore``, ``zscore_nonzero`` or
        ``none``.

    Raises
    ------
    BadInput
        Where the fact is unknown or the answer is not understood.
    """
    if key not in FIELDS:
        raise BadInput(f"{key!r} is not a fact of a model; choose one of {', '.join(FIELDS)}.")
    if not isinstance(answer, str):
        return answer
    text = answer.strip()
    _, kind, choices = FIELDS[key]
    try:
        value = _PARSERS[kind](text)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"The answer {answer!r} for {key} is not understood; write {HOW[kind]}."
        ) from error
    if choices and value not in choices:
        raise BadInput(f"The answer {answer!r} for {key} is none; choose {', '.join(choices)}.")
    if key == "overlapping":
        return value == "yes"
    if key == "modality":
        return None if value == "any" else value
    if key == "orientation":
        value = value.upper()
        axes = [next((i for i, pair in enumerate(_CODES) if c in pair), None) for c in value]
        if sorted(axes, key=str) != [0, 1, 2]:
            raise BadInput(f"The orientation {answer!r} is none; write three letters such as RAS.")
    if key == "overlap" and not 0 <= value < 1:
        raise BadInput(f"The overlap {answer!r} is not a share; write a number from 0 to 0.9.")
    if key == "heads":
        value = int(value)
    return value


def as_text(key: str, value: Any) -> str:
    """Write a value as `parse` reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, IntensityRule):
        if value.kind in ("window", "percentile"):
            numbers = (value.low, value.high, value.to_low, value.to_high)
            text = f"{value.kind} {' '.join(f'{n:g}' for n in numbers)}"
            return text if value.clip else text + " unclipped"
        return value.kind
    if isinstance(value, Mapping):
        return ", ".join(f"{number}={name}" for number, name in value.items())
    if value is None:
        return "scan" if key == "spacing" else "any"
    if isinstance(value, tuple):
        return (
            ", ".join(map(str, value))
            if key == "channels"
            else " ".join(f"{item:g}" for item in value)
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in re.split(r"[\s,x]+", text.strip()) if part]


def _sizes(text: str) -> tuple[int, int, int]:
    numbers = _numbers(text)
    if len(numbers) == 1:
        numbers *= 3
    a, b, c = (int(n) for n in numbers)
    if [a, b, c] != numbers or min(a, b, c) < 1 or max(a, b, c) > 4096:
        raise ValueError(text)
    return a, b, c


def _spacing(text: str) -> tuple[float, float, float] | None:
    if text.lower() == "scan":
        return None
    numbers = _numbers(text)
    if len(numbers) == 1:
        numbers *= 3
    a, b, c = numbers
    if not all(0.01 <= n <= 100 for n in numbers):
        raise ValueError(text)
    return a, b, c


def _labels(text: str) -> dict[int, str]:
    made: dict[int, str] = {}
    for number, part in enumerate(re.split(r"[,;\n]", text.strip()), 1):
        value, equals, name = part.partition("=")
        value, name = (value.strip(), name.strip()) if equals else (str(number), value.strip())
        if not name or int(value) < 1 or int(value) in made:
            raise ValueError(part)
        made[int(value)] = name
    return made


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names


def _intensity(text: str) -> IntensityRule:
    kind, *rest = re.split(r"[\s,]+", text)
    clip = not (rest and rest[-1] == "unclipped")
    numbers = [float(part) for part in (rest if clip else rest[:-1])]
    if kind in ("zscore", "zscore_nonzero", "none"):
        if rest:
            raise ValueError(text)
        return IntensityRule(kind)  # type: ignore[arg-type]
    if kind not in ("window", "percentile") or len(numbers) not in (2, 4):
        raise ValueError(text)
    low, high, to_low, to_high = numbers if len(numbers) == 4 else (*numbers, 0.0, 1.0)
    if not low < high:
        raise ValueError(text)
    return IntensityRule(kind, low, high, to_low, to_high, clip)  # type: ignore[arg-type]


def _text(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "true"):
        raise ValueError(text)
    return True


_PARSERS: dict[Kind, Any] = {
    "text": _text,
    "choice": _text,
    "number": float,
    "sizes": _sizes,
    "spacing": _spacing,
    "labels": _labels,
    "names": _names,
    "intensity": _intensity,
    "yes": _yes,
}
#: What an answer of each kind looks like.
HOW: dict[Kind, str] = {
    "text": "a word",
    "choice": "one of the choices",
    "number": "a number",
    "sizes": "three whole numbers, such as 96 96 96",
    "spacing": "three numbers, such as 1.5 1.5 2, or 'scan' for the scan's own",
    "labels": "label=name with commas between, such as 1=liver, 2=spleen",
    "names": "names with commas between, such as T1, T2",
    "intensity": "such as 'window -175 250' or 'zscore_nonzero'",
    "yes": "yes",
}
