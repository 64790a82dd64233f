"""What a crash leaves behind, and sessions in files."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_fakes import Growing, begin

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Box, Lasso, MaskPrompt, Point, Scribble
from napari_sightline.segment import journal
from napari_sightline.segment.history import Transition
from napari_sightline.segment.interactive import Session
from napari_sightline.segment.journal import Journal, dump, fingerprint, restore, state_folder
from napari_sightline.segment.records import frame, frames, read
from napari_sightline.segment.state import Scene
from napari_sightline.volume import Volume

SHAPE = (14, 16, 18)


def scan(name: str = "Mustermann^Erika") -> Volume:
    data = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
    return Volume.from_array(data, spacing=(2, 1, 1), name=name)


def busy(session: Session) -> None:
    """Do a bit of everything."""
    session.add(Point((7, 8, 9)))
    session.choose(1)
    session.add(Scribble(((7, 8, 9), (7, 12, 9)), True, 1.5))
    session.accept("parotid")
    session.recolour(1, (1, 2, 3))
    session.add(MaskPrompt(np.ones((2, 2, 2), bool), (0, 0, 0)))
    session.add(Box((1, 1, 1), (5, 5, 5)))
    session.grow(2)
    session.accept()
    session.add(Lasso(((3, 2, 2), (3, 2, 9), (3, 9, 9))))
    painted = session.paint((slice(0, 2), slice(0, 4), slice(0, 4)))
    painted[:] = 7
    session.adopt(painted, (slice(0, 2), slice(0, 4), slice(0, 4)), force=True)
    session.undo()
    session.undo()
    session.redo()


def same(one: Session, other: Session) -> None:
    np.testing.assert_array_equal(one.label_image(), other.label_image())
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.current.id == other.current.id
    for a, b in zip(one.objects, other.objects, strict=True):
        assert (a.id, a.name, a.colour, a.locked, a.visible) == (
            b.id,
            b.name,
            b.colour,
            b.locked,
            b.visible,
        )
        assert a.step.mask == b.step.mask and a.step.acts == b.step.acts
        assert a.step.logits == b.step.logits and a.step.options == b.step.options


def identical(one: Session, other: Session) -> None:
    """Compare two sessions, and all that can be undone and redone in them."""
    same(one, other)
    for call in ("undo", "redo"):
        while getattr(one, f"can_{call}"):
            getattr(one, call)()
            getattr(other, call)()
            same(one, other)
        assert not getattr(other, f"can_{call}")


def crashed(tmp_path: Path) -> tuple[Session, Path]:
    """Leave a journal as a crash would; returns the session that wrote it and the folder."""
    session = Session(Growing())
    session.set_volume(scan())
    session.keep_journal(tmp_path / "live")
    busy(session)
    assert session.journal is not None
    session.journal.flush()
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "live", left)
    return session, left


def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    old, left = crashed(tmp_path)
    session = Session(Growing())
    session.set_volume(scan())
    sentence = session.recover(left)
    assert sentence.endswith("without saving.") and "3 objects were" in sentence
    identical(session, old)
    # It goes on being kept, in a journal of its own, and the next crash loses nothing either.
    session.add(Point((1, 1, 1)))
    assert session.journal is not None
    session.journal.flush()
    assert len(list(left.iterdir())) == 1
    copied = shutil.copytree(left, tmp_path / "again")
    third = Session(Growing())
    third.set_volume(scan())
    third.recover(copied)
    identical(third, session)
    with pytest.raises(BadInput, match="recover before"):
        third.recover(left)
    for each in (old, session, third):
        each.close()


def test_a_journal_goes_when_all_is_saved(tmp_path: Path) -> None:
    session, _ = crashed(tmp_path)
    live = tmp_path / "live"
    assert len(list(live.iterdir())) == 1
    session.saved()
    assert not list(live.iterdir())
    session.add(Point((1, 1, 1)))  # the next step begins another one
    assert session.journal is not None
    session.journal.flush()
    assert len(list(live.iterdir())) == 1
    # Another window on the same scan leaves it alone while it is written.
    assert Journal.recover(scan(), live) is None
    session.close()
    assert Journal.recover(scan(), live) is not None


def test_a_journal_says_nothing_of_the_patient(tmp_path: Path) -> None:
    session, left = crashed(tmp_path)
    session.close()
    (path,) = left.iterdir()
    data = path.read_bytes()
    assert b"Muster" not in data and b"Muster" not in path.name.encode()
    about = json.loads(data.split(b"\n")[1])
    assert set(about) == {"scan", "shape", "process", "time"}


def test_nothing_to_recover(tmp_path: Path) -> None:
    session = Session(Growing())
    with pytest.raises(BadInput, match="no volume"):
        session.recover(tmp_path)
    session.set_volume(scan())
    assert session.recover(tmp_path) == ""
    _, left = crashed(tmp_path)
    other = Volume.from_array(np.zeros(SHAPE, np.int16), spacing=(2, 1, 1))
    assert Journal.recover(other, left) is None


def test_a_scan_is_known_by_its_geometry_and_voxels() -> None:
    volume = scan()
    assert fingerprint(volume) == fingerprint(scan("another name"))
    moved = Volume.from_array(volume.data, spacing=(2, 1, 1.1))
    changed = volume.data.copy()
    changed += 1
    assert len({fingerprint(v) for v in (volume, moved, Volume.from_array(changed))}) == 3


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_journal_gives_what_is_whole(tmp_path: Path, share: float, how: str) -> None:
    old, left = crashed(tmp_path)
    old.close()
    (path,) = left.iterdir()
    data = bytearray(path.read_bytes())
    start = data.index(b"\n", 30) + 1
    at = start + int((len(data) - start) * share)
    if how == "cut":
        data = data[:at]
    else:
        data[at] ^= 255
    volume = scan()
    if share < 0.01:
        with pytest.raises(BadInput, match="damaged from its beginning"):
            restore(path, bytes(data), volume)
        return
    found = restore(path, bytes(data), volume)
    assert "were lost; check the last object" in found.note
    # Whatever came back is a state that the session was in.
    whole = restore(path, path.read_bytes(), volume)
    states, scene = [whole.scene], whole.scene
    steps = whole.timeline.steps[: len(whole.timeline.steps) - whole.timeline.undone]
    for step in reversed(steps):
        scene = step.apply(scene, back=True)
        states.append(scene)
    states.append(whole.timeline.redo(whole.scene) or scene)
    masks = [[o.step.mask for o in state.objects] for state in states]
    assert [o.step.mask for o in found.scene.objects] in masks


def content(scene: Scene) -> list[Any]:
    """What a scene holds, to be compared: its quality may be NaN."""
    return [(o.id, o.step.acts, o.step.mask, o.step.logits) for o in scene.objects]


def copied_before_each_replacing(
    session: Session, folder: Path, patch: pytest.MonkeyPatch
) -> list[Path]:
    """Keep the journals' folder as it is at each moment before a file takes another's place."""
    kept: list[Path] = []
    replace = Path.replace

    def copy_first(self: Path, target: Path) -> Path:
        kept.append(shutil.copytree(self.parent, folder / str(len(kept))))
        return replace(self, target)

    patch.setattr(Path, "replace", copy_first)
    return kept


@settings(max_examples=8)
@given(st.floats(0, 1), st.floats(0, 1), st.randoms(use_true_random=False))
def test_a_crash_loses_nothing_while_a_journal_is_written_anew(
    cut: float, late: float, chance: Random
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(journal, "_GROWN", 1)  # as often as can be
        session = Session(Growing())
        session.set_volume(scan())
        session._timeline.limit = 9_000  # some steps can no longer be undone
        session.keep_journal(folder / "live")
        moments = copied_before_each_replacing(session, folder / "before", patch)
        for _ in range(6):
            session.add(Point(tuple(chance.randrange(n) for n in SHAPE)))
            if chance.random() < 0.4:
                session.undo()
            session.journal.flush()  # type: ignore[union-attr]
        assert moments
        # While the new file was written, up to any byte of it ...
        before = moments[-1]
        (old,), (new,) = before.glob("*.journal"), before.glob("*.new")
        whole = restore(old, old.read_bytes(), scan())
        new.write_bytes(new.read_bytes()[: round(cut * new.stat().st_size)])
        again = Session(Growing())
        again.set_volume(scan())
        assert again.recover(before) and not list(before.glob("*.new"))
        assert content(again._scene) == content(whole.scene)
        # ... and once it took the old one's place.
        (path,) = (folder / "live").iterdir()
        last = restore(path, path.read_bytes(), scan())
        assert not last.note and content(last.scene) == content(session._scene)
        assert last.timeline.undone == session._timeline.undone
        steps = [frame(step) for step in session._timeline.steps]
        assert [frame(step) for step in last.timeline.steps[-len(steps) :]] == steps
        # A file that is cut later is the session at some step.
        data = path.read_bytes()
        body = data.index(b"\n", 30) + 1
        first = next(frames(data[body:]))[0] + body
        part = restore(path, data[: first + round(late * (len(data) - first))], scan())
        states, scene = [], last.scene
        for _ in range(last.timeline.undone):
            scene = last.timeline.redo(scene) or scene
        states.append(scene)
        for step in reversed(last.timeline.steps):
            scene = step.apply(scene, back=True)
            states.append(scene)
        assert content(part.scene) in [content(one) for one in states]
        session.close()
        again.close()


def test_a_journal_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_GROWN", 12_000)
    session = Session(Growing())
    session.set_volume(scan())
    session._timeline.limit = 12_000
    session.keep_journal(tmp_path)
    largest = written = 0
    for k in range(30):
        session.add(Point((k % 14, k % 16, k % 18)))
        session.journal.flush()  # type: ignore[union-attr]
        (path,) = tmp_path.glob("*.journal")
        largest = max(largest, path.stat().st_size)
        written += len(frame(session._timeline.steps[-1]))
    whole = len(dump(scan(), session._scene, session._timeline))
    session.close()
    assert 12_000 < largest < 3 * whole < written


def test_a_journal_that_finds_no_room_to_be_written_anew_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_GROWN", 1)
    monkeypatch.setattr(journal, "_beside", lambda path: tmp_path / "no such folder" / path.name)
    old, left = crashed(tmp_path)
    assert old.journal is not None and not old.journal.fault
    session = Session(Growing())
    session.set_volume(scan())
    session.recover(left)
    identical(session, old)
    session.close()
    old.close()


@given(st.binary(max_size=200), st.integers(0, 10**6))
def test_any_bytes_are_refused_with_a_sentence(noise: bytes, where: int) -> None:
    volume = scan()
    session = begin(np.zeros(SHAPE, np.int16), (2, 1, 1), Growing())
    session.set_volume(volume)
    session.add(MaskPrompt(np.ones((2, 2, 2), bool)))
    data = dump(volume, session._scene, session._timeline)
    at = where % len(data)
    for bad in (noise, data[:at] + noise, data[:at] + noise + data[at + len(noise) :]):
        sentence = "x.journal"
        with suppress(BadInput):
            sentence = restore(Path("x.journal"), bad, volume).note or sentence
        assert "x.journal" in sentence


def test_a_record_outside_the_volume_is_refused() -> None:
    session = begin(np.zeros((30, 30, 30), np.int16), model=Growing())
    session.add(MaskPrompt(np.ones((2, 2, 2), bool), (25, 25, 25)))
    (step,) = session._timeline.steps
    ((_, payload),) = frames(frame(step))
    assert isinstance(read(payload, (30, 30, 30)), Transition)
    for text in (payload, payload.replace(b'"MaskPrompt"', b'"os.system()"')):
        with pytest.raises(BadInput, match="damaged or of another version"):
            read(text, (20, 20, 20))


def test_a_saved_session_comes_back(tmp_path: Path) -> None:
    session = Session(Growing())
    session.set_volume(scan())
    session.keep_journal(tmp_path / "live")
    busy(session)
    path = session.save_session(tmp_path / "case.sightline")
    assert session.journal is None and not list((tmp_path / "live").iterdir())
    other = Session(Growing())
    assert other.load_session(path, scan()) == ""
    identical(other, session)
    other.add(Point((5, 5, 5)))
    assert other.load_session(path) == ""
    session.undo()  # as it was when it was saved
    same(other, session)


def test_wrong_session_files(tmp_path: Path) -> None:
    session = Session(Growing())
    session.set_volume(scan())
    busy(session)
    path = session.save_session(tmp_path / "case.sightline")
    other = Session(Growing())
    other.set_volume(Volume.from_array(np.zeros(SHAPE, np.int16)))
    other.add(Point((5, 5, 5)))
    before = other.objects
    with pytest.raises(BadInput, match=r"case.sightline belongs to another scan"):
        other.load_session(path)
    text, empty = tmp_path / "text.zip", tmp_path / "empty.zip"
    text.write_text("hello")
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("session.records", b"")
    for wrong in (text, empty, tmp_path / "missing", tmp_path):
        with pytest.raises(BadInput, match=wrong.name):
            other.load_session(wrong)
    assert other.objects is before


def test_a_full_disk_is_told_and_stops_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    session = Session(Growing())
    session.set_volume(scan())
    session.keep_journal(blocked)
    session.add(Point((5, 5, 5)))
    assert session.journal is not None
    session.journal.flush()
    assert "is not kept against a crash" in session.journal.fault
    assert session.add(Point((6, 5, 5))).mask.any()
    session.close()


def test_journals_lie_among_the_users_state() -> None:
    assert state_folder().name == "journals" and "napari-sightline" in str(state_folder())
