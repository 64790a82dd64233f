"""A MONAI bundle's configuration as data: nothing in it is evaluated, imported or made.

Such a file is a program: a value that begins with ``$`` is Python, ``_target_`` names any callable,
``@name`` and ``%name`` point at other values. Here references to plain values are followed, and
all else stays text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_sightline.errors import BadInput

#: Configurations have a few kB; these hold what would be no configuration any more.
LARGEST_BYTES = 4 * 2**20
_MOST_VALUES = 100_000
_DEEPEST = 60


class NotPlain(ValueError):
    """A value that only running the configuration would give; its text is the argument."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file into plain values.

    Raises
    ------
    BadInput
        Where the file is missing, too large, damaged, or does not hold a mapping.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(
                f"The configuration {path.name!r} is larger than {LARGEST_BYTES // 2**20} MB; "
                "give a bundle whose configuration is text."
            )
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else _yaml(text, path.name)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"The configuration {path.name!r} is damaged or not there; copy the bundle again."
        ) from error
    if not isinstance(content, dict) or sum(1 for _ in _walk(content)) >= _MOST_VALUES:
        raise BadInput(
            f"The configuration {path.name!r} is not that of a MONAI bundle; give another bundle."
        )
    return content


def _yaml(text: str, name: str) -> Any:
    import yaml

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                # A few lines of aliases can stand for billions of values.
                raise BadInput(
                    f"The configuration {name!r} uses YAML aliases, which are not read; "
                    "write the values out."
                )
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _walk(content: Any, depth: int = 0) -> Iterator[Any]:
    """All values, no more than are bearable."""
    stack = [(content, depth)]
    count = 0
    while stack and count < _MOST_VALUES:
        value, depth = stack.pop()
        count += 1
        yield value
        if depth < _DEEPEST:
            inner = value.values() if isinstance(value, dict) else value
            if isinstance(value, (dict, list)):
                stack.extend((item, depth + 1) for item in inner)


class Config:
    """Looks values up in a configuration.

    Parameters
    ----------
    content : mapping
        As `read_config` gives.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def follow(self, value: Any) -> Any:
        """Follow a reference (``@a::b``, ``%a``) to what it points at, one value deep.

        Raises
        ------
        NotPlain
            Where it is an expression, or points nowhere or in a circle.
        """
        seen: set[str] = set()
        while isinstance(value, str) and value[:1] in "$@%" and value:
            if value[0] == "$" or value in seen:
                raise NotPlain(value)
            seen.add(value)
            found: Any = self.content
            for part in value[1:].replace("#", "::").split("::"):
                found = self.follow(found) if isinstance(found, str) else found
                if isinstance(found, Mapping) and part in found:
                    found = found[part]
                elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                    found = found[int(part)]
                else:
                    raise NotPlain(value)
            value = found
        return value

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Give a value with all references in it followed.

        Raises
        ------
        NotPlain
            Where any part of it is an expression or something to be made.
        """
        value = self.follow(value)
        if depth > _DEEPEST:
            raise NotPlain("...")
        if isinstance(value, dict):
            if "_target_" in value:
                raise NotPlain(str(value["_target_"]))
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, depth + 1) for item in value]
        return value

    def made(self, *names: str) -> Iterator[Mapping[str, Any]]:
        """All things to be made whose ``_target_`` is MONAI's class of one of these names."""
        for value in _walk(self.content):
            if isinstance(value, dict) and class_name(value) in names:
                yield value


def class_name(value: Any) -> str | None:
    """Tell which of MONAI's classes a ``_target_`` names; None where it is not MONAI's.

    A bare name is looked up by MONAI among its own; any other path is somebody's own code.
    """
    target = value.get("_target_") if isinstance(value, Mapping) else None
    if not isinstance(target, str):
        return None
    if "." in target and not target.startswith("monai."):
        return None
    return target.rpartition(".")[2]
