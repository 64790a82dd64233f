"""Steps of a session as bytes: JSON for what they say, deflated voxels beside it; no pickle.

A record is a line of JSON, then the packed voxels it refers to by number, in order. Whatever is
read back is checked, as files are not trusted.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Scribble
from napari_sightline.segment.acts import Act, Choice, Operation, Paint
from napari_sightline.segment.history import LogitsChange, ObjectChange, Transition
from napari_sightline.segment.packed import PackedLogits, PackedMask, inflate
from napari_sightline.segment.region import Region
from napari_sightline.segment.state import Option, SegmentObject, Step
from napari_sightline.volume import Box3

_FRAME = struct.Struct("<II")  # length of a record and its check sum
_OPERATIONS = ("largest part", "fill holes", "smooth", "grow", "interpolate")
_LARGEST_GRID = 2**24


def frame(record: Transition | str) -> bytes:
    """Write a step, or ``"undo"`` or ``"redo"``, with its length and check sum before it."""
    if isinstance(record, str):
        payload = json.dumps({"do": record}).encode() + b"\n"
    else:
        writer = _Writer()
        said = json.dumps({"do": "step", **writer.transition(record)})
        sizes = [len(part) for part in writer.parts]
        line = json.dumps({"sizes": sizes}) + "\t" + said + "\n"
        payload = line.encode() + b"".join(writer.parts)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every whole record, and where it ends; stop at the first that is not."""
    at = 0
    while at + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, at)
        start, at = at + _FRAME.size, at + _FRAME.size + length
        payload = data[start:at]
        if len(payload) != length or zlib.crc32(payload) != check:
            return
        yield at, payload


def read(payload: bytes, shape: tuple[int, int, int]) -> Transition | str:
    """Read a record back.

    Parameters
    ----------
    payload : bytes
        As `frames` yields it.
    shape : tuple of 3 int
        Of the volume: no mask may lie outside it.

    Raises
    ------
    BadInput
        Where it is not one of ours.
    """
    try:
        line, _, rest = payload.partition(b"\n")
        sizes, _, said = line.rpartition(b"\t")
        document = json.loads(said or line)
        if document["do"] != "step":
            word = document["do"]
            if word not in ("undo", "redo"):
                raise ValueError(word)
            return str(word)
        parts, at = [], 0
        for size in json.loads(sizes)["sizes"]:
            parts.append(rest[at : at + int(size)])
            at += int(size)
        return _Reader(parts, shape).transition(document)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInput(
            "A step of the session is damaged or of another version; use an older copy of the file."
        ) from error


class _Writer:
    """Turns steps into JSON; voxels go to `parts`, each once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._known: dict[int, int] = {}

    def part(self, data: bytes) -> int:
        if id(data) not in self._known:
            self._known[id(data)] = len(self.parts)
            self.parts.append(data)
        return self._known[id(data)]

    def transition(self, step: Transition) -> dict[str, Any]:
        return {
            "changes": [self.change(change) for change in step.changes],
            "order": [step.order_before, step.order_after],
            "current": step.current,
            "next": step.next_id,
        }

    def change(self, change: ObjectChange) -> dict[str, Any]:
        logits = change.logits
        return {
            "before": self.item(change.before),
            "after": self.item(change.after),
            "mask": self.mask(change.mask),
            "logits": {
                "before": self.logits(logits.before),
                "after": self.logits(logits.after),
                "difference": None if logits.difference is None else self.part(logits.difference),
            },
        }

    def item(self, item: SegmentObject | None) -> dict[str, Any] | None:
        if item is None:
            return None
        plain = {f.name: getattr(item, f.name) for f in fields(item) if f.name != "step"}
        step = item.step
        return {
            **plain,
            "acts": [self.act(act) for act in step.acts],
            "quality": None if step.quality != step.quality else step.quality,
            "options": [[self.logits(o.logits), _number(o.quality)] for o in step.options],
        }

    def act(self, act: Act) -> dict[str, Any]:
        kind = {"act": type(act).__name__}
        if isinstance(act, Point):
            return {**kind, "position": act.position, "positive": act.positive}
        if isinstance(act, Box):
            return {**kind, "low": act.low, "high": act.high}
        if isinstance(act, Scribble):
            return {**kind, "path": act.path, "positive": act.positive, "radius": act.radius}
        if isinstance(act, Lasso):
            return {**kind, "path": act.path, "positive": act.positive}
        if isinstance(act, MaskPrompt):
            a, b, c = (slice(o, o + n) for o, n in zip(act.origin, act.mask.shape, strict=True))
            return {**kind, "mask": self.mask(PackedMask.of(act.mask, (a, b, c)))}
        if isinstance(act, Choice):
            return {**kind, "index": act.index}
        if isinstance(act, Paint):
            return {**kind, "added": self.mask(act.added), "removed": self.mask(act.removed)}
        return {**kind, "name": act.name, "amount": act.amount}

    def mask(self, mask: PackedMask) -> list[Any] | None:
        if mask.box is None:
            return None
        return [[[s.start, s.stop] for s in mask.box], mask.count, self.part(mask.bits)]

    def logits(self, logits: PackedLogits | None) -> dict[str, Any] | None:
        if logits is None:
            return None
        r = logits.region
        return {"region": [r.origin, r.step, r.shape, r.spacing], "part": self.part(logits.data)}


class _Reader:
    """Turns JSON back into steps, and looks at everything twice."""

    def __init__(self, parts: list[bytes], shape: tuple[int, int, int]) -> None:
        self.parts, self.shape = parts, shape

    def transition(self, d: dict[str, Any]) -> Transition:
        before, after = (tuple(int(k) for k in order) for order in d["order"])
        a, b = (int(k) for k in d["current"])
        c, e = (int(k) for k in d["next"])
        changes = tuple(self.change(change) for change in d["changes"])
        return Transition(changes, before, after, (a, b), (c, e))

    def change(self, d: dict[str, Any]) -> ObjectChange:
        logits, difference = d["logits"], d["logits"]["difference"]
        return ObjectChange(
            self.item(d["before"]),
            self.item(d["after"]),
            self.mask(d["mask"]),
            LogitsChange(
                self.logits(logits["before"]),
                self.logits(logits["after"]),
                None if difference is None else self.parts[int(difference)],
            ),
        )

    def item(self, d: dict[str, Any] | None) -> SegmentObject | None:
        if d is None:
            return None
        quality = float("nan") if d["quality"] is None else float(d["quality"])
        options = []
        for logits, value in d["options"]:
            option = self.logits(logits)
            if option is None:
                raise ValueError("no logits")
            options.append(Option(option, float("nan") if value is None else float(value)))
        acts = tuple(self.act(act) for act in d["acts"])
        colour = None
        if d["colour"] is not None:
            r, g, b = (min(255, max(0, int(v))) for v in d["colour"])
            colour = (r, g, b)
        return SegmentObject(
            int(d["id"]),
            str(d["name"]),
            bool(d["accepted"]),
            bool(d["locked"]),
            bool(d["visible"]),
            colour,
            Step(acts, quality=quality, options=tuple(options)),
            float(d["voxel_ml"]),
        )

    def act(self, d: dict[str, Any]) -> Act:
        kind = d["act"]
        if kind == "Point":
            return Point(tuple(d["position"]), bool(d["positive"]))
        if kind == "Box":
            return Box(tuple(d["low"]), tuple(d["high"]))
        if kind == "Scribble":
            path = tuple(tuple(p) for p in d["path"])
            return Scribble(path, bool(d["positive"]), float(d["radius"]))
        if kind == "Lasso":
            return Lasso(tuple(tuple(p) for p in d["path"]), bool(d["positive"]))
        if kind == "MaskPrompt":
            mask = self.mask(d["mask"])
            if mask.box is None:
                raise ValueError("empty mask")
            a, b, c = (s.start for s in mask.box)
            return MaskPrompt(mask.unpack(), (a, b, c))
        if kind == "Choice":
            return Choice(None if d["index"] is None else int(d["index"]))
        if kind == "Paint":
            return Paint(self.mask(d["added"]), self.mask(d["removed"]))
        if kind == "Operation" and d["name"] in _OPERATIONS:
            return Operation(d["name"], float(d["amount"]))
        raise ValueError(kind)

    def mask(self, d: list[Any] | None) -> PackedMask:
        if d is None:
            return PackedMask(None)
        ends, count, part = d
        for (low, high), n in zip(ends, self.shape, strict=True):
            if not 0 <= int(low) < int(high) <= n:
                raise ValueError("mask outside the volume")
        a, b, c = (slice(int(low), int(high)) for low, high in ends)
        box: Box3 = (a, b, c)
        found = PackedMask(box, self.parts[int(part)], int(count))
        if int(np.count_nonzero(found.unpack())) != found.count:
            raise ValueError("mask of another size")
        return found

    def logits(self, d: dict[str, Any] | None) -> PackedLogits | None:
        if d is None:
            return None
        origin, step, shape, spacing = d["region"]
        a, b, c = (float(v) for v in origin)
        e, f, g = (float(v) for v in step)
        h, i, j = (int(v) for v in shape)
        if min(h, i, j) < 1 or h * i * j > _LARGEST_GRID or min(e, f, g) <= 0:
            raise ValueError("region")
        region = Region((a, b, c), (e, f, g), (h, i, j), float(spacing))
        data = self.parts[int(d["part"])]
        inflate(data, h * i * j)
        return PackedLogits(region, data)


def _number(value: float) -> float | None:
    return None if value != value else value
