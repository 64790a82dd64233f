"""The attention panel as a reader meets it: real mouse and keys, the real model."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from viewer_making import SIDE, User, ball_scan

from napari_sightline.attention.maps import query_voxel
from napari_sightline.viewer import robot
from napari_sightline.viewer.attention import sources
from napari_sightline.viewer.attention.panel import KEYS
from napari_sightline.viewer.attention.thumbnails import SIDE as SIDE_OF_PICTURES
from napari_sightline.viewer.bridge import OVERLAY
from napari_sightline.volume import Volume

MIDDLE = (SIDE // 2,) * 3


class Reader:
    """Somebody with both panels open."""

    def __init__(self, user: User) -> None:
        self.user, self.viewer, self.qtbot = user, user.viewer, user.qtbot
        _, self.panel = self.viewer.window.add_plugin_dock_widget(
            "napari-sightline", "Attention layers"
        )
        self.qtbot.wait(50)
        self.control, self.view = self.panel.control, self.panel.view

    @property
    def live(self) -> Any:
        return self.control.layers.live

    def wait(self) -> None:
        self.qtbot.wait(30)
        self.qtbot.waitUntil(lambda: not self.control.busy, timeout=60_000)
        self.qtbot.wait(5)

    def hover(self, layer: Any, voxel: tuple[float, ...]) -> None:
        place = self.user.pixel(layer, voxel)
        QTest.mouseMove(self.user.canvas, place + QPoint(3, 0))
        QTest.mouseMove(self.user.canvas, place)
        self.wait()

    def key(self, key: str, *modifiers: str) -> None:
        robot.key(self.user.canvas, key, *modifiers)
        self.wait()

    @property
    def said(self) -> str:
        return self.view.advice.text()


@pytest.fixture
def reader(user: User) -> Iterator[Reader]:
    made = Reader(user)
    yield made
    with suppress(RuntimeError):
        made.panel.shut()


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers if OVERLAY in layer.metadata]


def test_a_map_follows_the_cursor_and_goes_with_its_image(
    reader: Reader, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, control, view = reader.user, reader.control, reader.view
    ball = user.show(scan)
    assert "click" in reader.said  # nothing was recorded yet, and the panel says what to do
    user.click(ball, MIDDLE)
    reader.hover(ball, (24, 20, 30))

    # What is drawn is the engine's own answer for the voxel under the cursor.
    assert control.cursor == (24, 20, 30)
    one = control.recorded()
    number = view.block.value()
    blocks, chosen = control.blocks()
    assert number == chosen and "image to image" in blocks[chosen][1]
    call = next(i for i, c in enumerate(one.calls) if c.module == blocks[chosen][0])
    answer = query_voxel(one, (24, 20, 30), call).reduce("mean")
    box, values = answer.on_volume(scan.shape)
    live = reader.live
    assert live.data.size < 1000  # tokens, not voxels
    rng = np.random.default_rng(0)
    for voxel in rng.integers([s.start for s in box], [s.stop for s in box], (25, 3)):
        token = np.rint(live.world_to_data(ball.data_to_world(voxel))).astype(int)
        inside = tuple(voxel - [s.start for s in box])
        np.testing.assert_allclose(live.data[tuple(token)], values[inside], rtol=1e-5)
    said = view.caption.text()
    assert "sightline-3d" in said and "mean of 6 heads" in said and "(24, 20, 30)" in said
    reader.qtbot.waitUntil(lambda: "voxel (24, 20, 30)" in live.name, timeout=10_000)
    assert live.units == ball.units and user.viewer.layers.selection.active is ball

    # It is not offered as a scan, and another slice asks for another voxel.
    assert user.panel.view.image.count() == 1 and view.image.count() == 1
    before = live.data.copy()
    user.viewer.dims.set_point(0, ball.data_to_world((10, 0, 0))[0])
    reader.wait()
    assert control.cursor == (10, 20, 30) and not np.array_equal(before, live.data)

    # Heads: one by mouse, another by the keyboard.
    heads = view.heads.buttons
    assert len(heads) == 6 and not heads[0].icon().isNull()
    QTest.mouseClick(heads[2], Qt.MouseButton.LeftButton)
    reader.wait()
    assert control.shown.merged.heads == ("head 3",) and "head 3" in view.caption.text()
    heads[4].setFocus()
    QTest.keyClick(heads[4], Qt.Key.Key_Space)
    reader.wait()
    assert control.settings.heads == (4,) and heads[4].isChecked() and not heads[2].isChecked()

    # Fixed scale: the same for all; keep two maps; A hides and shows all of them.
    view.fixed.activated.emit(1)
    reader.wait()
    assert tuple(live.contrast_limits) == (0, control.settings.scale.top)
    reader.key("K")
    view.all_heads.click()
    reader.wait()
    reader.key("K")
    kept = control.layers.kept
    assert len(kept) == 2 and "head 5" in kept[0].name and "mean of 6" in kept[1].name
    pinned = kept[0].data.copy()
    reader.key("A")
    assert not live.visible and not any(layer.visible for layer in kept) and ball.visible
    reader.hover(ball, (24, 26, 18))
    assert not live.visible
    reader.key("A")
    assert live.visible and all(layer.visible for layer in kept)
    assert np.array_equal(kept[0].data, pinned)  # a kept map stays as it was

    # A pinned voxel stays, whatever the cursor does.
    reader.key("A", "Shift")
    assert control.settings.mode == "pinned" and control.pinned == (24, 26, 18)
    drawn = live.data.copy()
    reader.hover(ball, (24, 12, 12))
    assert np.array_equal(live.data, drawn)

    # The other direction, and another block.
    view.origin.click()
    reader.wait()
    assert "attends to voxel (24, 26, 18)" in view.caption.text()
    view.block.setValue(0)
    reader.wait()
    assert view.block_name.text().startswith("1 of")

    # A prompt's attention, and a voxel's attention on prompts, which is no map.
    control.set(direction="to", mode="prompt")
    reader.wait()
    assert "click 1 (+) attends to" in view.caption.text() and np.isfinite(live.data).any()
    control.set(mode="rollout")
    reader.wait()
    assert "rollout of" in view.caption.text()
    control.set(mode="pinned")
    reader.wait()
    listed, _ = control.blocks()
    control.set(block=next(m for m, label in listed if "image to prompts" in label))
    reader.wait()
    assert "prompts, not on the image" in view.caption.text()
    assert np.isnan(live.data).all()  # no stale map
    control.set(block=blocks[chosen][0])
    reader.wait()

    # Structures and uncertainty.
    reader.qtbot.waitUntil(lambda: bool(view.details.bars.bars), timeout=20_000)
    assert sum(bar.share for bar in view.details.bars.bars) == pytest.approx(1, abs=0.05)
    view.details.uncertainty.click()
    reader.wait()
    unsure = control.layers.uncertainty
    logits = user.case.session.last_update.logits
    assert unsure.data.shape == logits.shape and unsure.data.max() <= 1.0001
    reader.key("U")
    step = [int(user.viewer.dims.current_step[axis]) for axis in range(3)]
    where = "(" + ", ".join(str(i) for i in step) + ")"
    assert where in view.details.uncertainty_words.text()

    # Export: on the scan's own grid, with what it is.
    target = tmp_path / "map.nii.gz"
    monkeypatch.setattr(
        "napari_sightline.viewer.attention.panel.QFileDialog.getSaveFileName",
        lambda *_: (str(target), ""),
    )
    view.export.click()
    reader.wait()
    written = nib.load(target)
    assert sorted(written.shape) == sorted(scan.shape) and b"sightline-3d" in b"".join(
        e.get_content().encode() if isinstance(e.get_content(), str) else e.get_content()
        for e in written.header.extensions
    )
    target = tmp_path / "heads.png"
    view.strip.click()
    reader.wait()
    assert target.stat().st_size > 1000

    # Another click is another mask: no uncertainty of the old one stays.
    user.click(ball, (24, 30, 24), "Control")
    reader.wait()
    logits = user.case.session.last_update.logits
    reader.qtbot.waitUntil(
        lambda: control.layers.uncertainty.data.shape == logits.shape, timeout=20_000
    )

    # Who removes the live layer does not get it back with the next move of the mouse.
    user.viewer.layers.remove(reader.live)
    reader.hover(ball, (24, 22, 28))
    assert reader.live is None and "hidden" in reader.said
    reader.key("A")
    assert reader.live in user.viewer.layers and np.isfinite(reader.live.data).any()

    # With the image go all maps.
    ball.visible = False
    assert not any(layer.visible for layer in user.viewer.layers if OVERLAY in layer.metadata)
    ball.visible = True
    user.viewer.layers.remove(ball)
    reader.qtbot.waitUntil(lambda: not names(user.viewer), timeout=5_000)
    assert "Open a scan" in reader.said and control.image is None


def test_pictures_of_heads_are_few_and_those_of_the_last_map_come(
    reader: Reader, scan: Volume
) -> None:
    """Maps follow the cursor; the heads' pictures, which cost more, some times a second."""
    user, control = reader.user, reader.control
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    reader.hover(ball, (24, 20, 30))
    got: list[Any] = []
    control.answered.connect(lambda shown, pictures: got.append((shown, pictures)))
    begun = time.perf_counter()
    for k in range(12):
        QTest.mouseMove(user.canvas, user.pixel(ball, (24, 14 + k, 28)))
        reader.qtbot.waitUntil(lambda: not control.worker.jobs and not control._wish)
    seconds = time.perf_counter() - begun
    reader.wait()
    drawn = [pictures for _, pictures in got if pictures is not None]
    assert len(drawn) <= 2 + seconds / 0.2 and (seconds > 2 or len(drawn) < len(got))
    # What is shown at rest belongs to the place of the cursor.
    shown, last = got[-1]
    assert last is not None and shown.position == control.cursor == (24, 25, 28)
    icon = reader.view.heads.buttons[3].icon()
    image = icon.pixmap(SIDE_OF_PICTURES).toImage()
    for row, column in ((10, 10), (36, 40), (60, 20)):
        assert image.pixelColor(column, row).getRgb()[:3] == tuple(last[3][row, column])


def test_a_map_that_follows_the_cursor_leaves_the_list_of_layers_alone(
    reader: Reader, scan: Volume
) -> None:
    user = reader.user
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    reader.hover(ball, (24, 20, 30))
    heard: list[str] = []
    sent: list[Any] = []
    live = reader.live
    live.events.set_data.connect(lambda _: sent.append(live.data.copy()))
    user.viewer.layers.events.connect(lambda event: heard.append(event.type))
    before = live.data.copy()
    QTest.mouseMove(user.canvas, user.pixel(ball, (24, 26, 18)))
    reader.qtbot.waitUntil(lambda: bool(sent))
    # The canvas got the new map; the list, which napari would paint anew, was not told.
    assert not np.array_equal(sent[-1], before)
    assert "set_data" not in heard
    # When the cursor rests, the list shows the new name.
    reader.qtbot.waitUntil(lambda: "(24, 26, 18)" in live.name, timeout=10_000)
    assert "name" in heard


def test_nothing_is_recorded_while_the_panel_is_closed(user: User, scan: Volume) -> None:
    ball = user.show(scan)
    user.click(ball, MIDDLE)
    session = user.case.session
    assert session.tap is None
    mine = {key: user.viewer.keymap.get(key) for key in user.viewer.keymap}
    moves = list(user.viewer.mouse_move_callbacks)
    reader = Reader(user)
    reader.wait()
    assert session.tap is not None
    assert "not recorded" in reader.said  # the click was made before
    user.click(ball, (24, 17, 24))
    reader.hover(ball, (24, 24, 26))
    user.qtbot.waitUntil(lambda: bool(names(user.viewer)), timeout=20_000)
    assert not view_is_faulty(reader)
    reader.key("K")
    kept = weakref.ref(reader.control.layers.kept[0])
    panel, control = weakref.ref(reader.panel), weakref.ref(reader.control)
    live = weakref.ref(reader.live)
    assert sources.tap_for_run(ball) is not None
    user.viewer.window.remove_dock_widget(reader.panel)
    assert session.tap is None and sources.tap_for_run(ball) is None
    assert list(user.viewer.mouse_move_callbacks) == moves
    assert {key: user.viewer.keymap.get(key) for key in user.viewer.keymap} == mine
    assert kept() in user.viewer.layers and len(names(user.viewer)) == 1  # what was kept stays
    reader.panel.deleteLater()
    del reader
    user.qtbot.wait(50)
    for _ in range(5):
        gc.collect()
        user.qtbot.wait(20)
    assert panel() is None and control() is None and live() is None
    user.viewer.layers.remove(ball)
    user.qtbot.wait(50)
    assert not names(user.viewer)  # and still goes with its image


def view_is_faulty(reader: Reader) -> bool:
    return bool(reader.panel._fault)


def test_bad_input_is_a_sentence_and_no_map(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    user, control = reader.user, reader.control
    long = Volume.from_array(ball_scan((200, 24, 24), 8), spacing=(3.0, 3.0, 3.0), name="long")
    ball = user.show(long)

    reader.key("G")  # nothing under the cursor yet
    assert "Move the cursor" in reader.said
    reader.hover(ball, (100, 12, 12))
    reader.key("G")
    assert control.settings.source == "own" and reader.live is not None
    assert np.isfinite(reader.live.data).any()
    assert not user.case.state.prompts  # the user's objects are as they were

    # A window that was never run.
    reader.hover(ball, (3, 12, 12))
    assert "outside what sightline-3d saw" in reader.said
    assert np.isnan(reader.live.data).all() and reader.view.caption.text() == ""
    reader.hover(ball, (100, 12, 12))
    assert np.isfinite(reader.live.data).any()

    # The cursor beside the scan.
    control.point_at((*ball.data_to_world((100, 12, 900)),), (1, 2))
    reader.wait()
    assert "outside" in reader.said and np.isnan(reader.live.data).all()

    # Weights that were replaced between pass and query.
    reader.hover(ball, (100, 11, 12))
    network = control.recorded().network
    with torch.no_grad():
        weight = next(network.parameters())
        weight.add_(0)
    reader.hover(ball, (100, 12, 12))
    assert "changed after this pass" in reader.said and np.isnan(reader.live.data).all()
    reader.key("G")
    assert not view_is_faulty(reader) and np.isfinite(reader.live.data).any()

    # An automatic run that was not recorded; one by a model without attention; a compiled one.
    control.set(source="automatic")
    reader.wait()
    assert "No automatic run" in reader.said and np.isnan(reader.live.data).all()
    from napari_sightline.attention.frame import Frame

    plain = torch.nn.Conv3d(1, 1, 1)
    make = sources.tap_for_run(ball)
    assert make is not None
    tap = make()
    with tap.window(plain, Frame((200, 24, 24), np.eye(4)), "a convolution"):
        plain(torch.zeros(1, 1, 4, 4, 4))
    reader.hover(ball, (100, 14, 12))
    assert "no attention that can be seen" in reader.said
    compiled = torch.nn.Sequential(plain)
    compiled.compile(backend="eager")
    with tap.window(compiled, Frame((200, 24, 24), np.eye(4)), "a compiled model"):
        pass
    reader.hover(ball, (100, 15, 12))
    assert "compiled" in reader.said and np.isnan(reader.live.data).all()

    # The image goes while a query runs.
    control.set(source="own")
    reader.hover(ball, (100, 12, 12))
    asker, reached = control._asker, []
    ask = asker.ask

    def slow(*args: Any) -> Any:
        reached.append(True)
        import time

        time.sleep(0.5)
        return ask(*args)

    monkeypatch.setattr(asker, "ask", slow)
    QTest.mouseMove(user.canvas, user.pixel(ball, (100, 16, 12)))
    reader.qtbot.waitUntil(lambda: bool(reached), timeout=10_000)
    user.viewer.layers.remove(ball)
    reader.qtbot.wait(700)
    assert not names(user.viewer) and control.image is None


def test_keys_are_none_of_napari_s() -> None:
    from napari.utils.shortcuts import default_shortcuts

    from napari_sightline.viewer.keys import KEYS as PROMPTS

    layers = ("shape", "polygon", "path", "rectangle", "ellipse", "line", "labels", "label")
    mine = {key.replace("Control", "Ctrl").replace("-", "+") for key in KEYS}
    for name, bindings in default_shortcuts.items():
        if any(word in name for word in (*layers, "in_slice", "points")):
            continue
        assert not mine & {str(binding) for binding in bindings}, name
    assert not set(KEYS) & set(PROMPTS)
