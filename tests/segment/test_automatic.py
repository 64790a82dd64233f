"""Streamed windows against MONAI's own sliding window, and what may go wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from window_making import PLAIN, model, run, scan

from napari_sightline.errors import BadInput, Cancelled, ModelError
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.segment.automatic import Slab, entropy_of
from napari_sightline.segment.finish import Finish
from napari_sightline.segment.frame import Frame
from napari_sightline.segment.windows import Windows, importance_map
from napari_sightline.volume import Volume

pytest.importorskip("monai")
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval, sliding_window_inference


def reference(volume: Volume, made: Segmenter, overlap: float, orient: str = "SPL") -> Tensor:
    """Mean logits of MONAI's path, canonical order."""
    frame = Frame.of(orient)
    image = torch.from_numpy(np.ascontiguousarray(frame.from_canonical(volume.data)))[None, None]
    with torch.no_grad():
        logits = sliding_window_inference(
            image.float(), made.spec.roi, 1, made.network, overlap=overlap, mode="gaussian"
        )
    assert isinstance(logits, Tensor)
    return torch.from_numpy(np.ascontiguousarray(frame.to_canonical(logits[0].numpy())))


class TestLikeMonai:
    @given(
        size=st.tuples(*[st.integers(1, 40)] * 3),
        roi=st.tuples(*[st.integers(1, 20)] * 3),
        overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.9]),
    )
    @settings(max_examples=25, deadline=None)
    def test_positions_and_weights(
        self, size: tuple[int, int, int], roi: tuple[int, int, int], overlap: float
    ) -> None:
        windows = Windows.over(size, roi, overlap)
        padded = tuple(max(a, b) for a, b in zip(size, roi, strict=True))
        step = _get_scan_interval(padded, roi, 3, (overlap,) * 3)
        theirs = {tuple(s.start for s in p) for p in dense_patch_slices(padded, roi, step)}
        a, b, c = windows.starts
        assert {(i, j, k) for i in a for j in b for k in c} == theirs
        assert len(windows) == len(theirs)
        expected = compute_importance_map(roi, mode="gaussian")
        torch.testing.assert_close(importance_map(roi), expected, atol=1e-7, rtol=1e-5)

    @pytest.mark.parametrize(
        ("shape", "overlap"),
        [
            ((30, 25, 41), 0.5),
            ((12, 12, 12), 0.5),
            ((7, 40, 12), 0.25),
            ((5, 6, 7), 0.5),
            ((13, 23, 9), 0.7),
            ((1, 20, 33), 0.5),
            ((29, 14, 27), 0.0),
        ],
    )
    def test_labels_and_probabilities(self, shape: tuple[int, int, int], overlap: float) -> None:
        volume, made = scan(shape), model()
        expected = reference(volume, made, overlap)
        found = run(volume, made, overlap=overlap)
        assert found.labels.shape == shape and found.labels.dtype == np.uint8
        assert (found.labels == expected.argmax(0).numpy()).mean() >= 0.9999
        both = run(volume, made, overlap=overlap, probabilities=True, entropy=True)
        assert np.array_equal(both.labels, found.labels)
        assert both.probabilities is not None and both.entropy is not None
        chance = expected.softmax(0)
        np.testing.assert_allclose(both.probabilities, chance, atol=2e-3)
        np.testing.assert_allclose(both.entropy, entropy_of(chance, False), atol=2e-3)

    @pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
    def test_any_orientation_and_window(self, orientation: str) -> None:
        volume = scan((20, 31, 26))
        made = model((8, 14, 11), orientation=orientation)
        expected = reference(volume, made, 0.5, orientation)
        found = run(volume, made)
        assert (found.labels == expected.argmax(0).numpy()).mean() >= 0.9999

    def test_structures_that_overlap(self) -> None:
        volume, made = scan((18, 25, 14)), model(outputs=3, overlapping=True)
        expected = reference(volume, made, 0.5) > 0
        found = run(volume, made)
        assert found.labels.shape == (3, 18, 25, 14) and found.labels.dtype == bool
        assert (found.labels == expected.numpy()).mean() >= 0.9999
        assert found.names == {1: "s1", 2: "s2", 3: "s3"}

    def test_several_channels(self) -> None:
        volumes = [scan((14, 20, 16), seed) for seed in range(2)]
        made = model(inputs=2)
        image = torch.from_numpy(np.stack([v.data for v in volumes]))[None]
        with torch.no_grad():
            expected = sliding_window_inference(
                image, made.spec.roi, 2, made.network, overlap=0.5, mode="gaussian"
            )
        assert isinstance(expected, Tensor)
        found = run(volumes, made)
        assert (found.labels == expected[0].argmax(0).numpy()).mean() >= 0.9999

    def test_a_swin_unetr(self) -> None:
        from monai.networks.nets.swin_unetr import SwinUNETR

        torch.manual_seed(0)
        network = SwinUNETR(
            1, 3, depths=(1, 1, 1, 1), feature_size=12, window_size=4, use_flash_attention=True
        ).eval()
        spec = SegmenterSpec("swin", {1: "a", 2: "b"}, roi=(64, 32, 32), intensity=PLAIN)
        made = Segmenter(network, spec)
        volume = scan((40, 50, 70))
        expected = reference(volume, made, 0.5, "RAS")
        found = run(volume, made)
        assert (found.labels == expected.argmax(0).numpy()).mean() >= 0.9999


class TestGrids:
    def test_labels_lie_where_the_structure_is(self) -> None:
        """A network that thresholds brightness finds a ball, whatever axes and spacing."""
        z, y, x = np.indices((24, 60, 44)).astype(float)
        distance = np.sqrt((2.5 * (z - 10)) ** 2 + (0.9 * (y - 33)) ** 2 + (1.1 * (x - 20)) ** 2)
        data = (100 * (distance < 14)).astype(np.int16)
        affine = np.array([[0.0, 1.1, 0, 5], [0.9, 0, 0, -20], [0, 0, -2.5, 30], [0, 0, 0, 1]])
        volume = Volume.from_array(np.transpose(data, (1, 2, 0))[:, :, ::-1], affine=affine)
        truth = volume.data > 50

        class Threshold(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([0.5 - x, x - 0.5], 1) * 20

        for spacing in (None, (1.5, 1.5, 2.0), (0.8, 0.8, 0.8), (3.0, 3.0, 3.0)):
            for orientation in ("RAS", "SPL", "PIL"):
                spec = SegmenterSpec(
                    "threshold",
                    {1: "ball"},
                    roi=(16, 12, 20),
                    orientation=orientation,
                    spacing=spacing,
                    intensity=IntensityRule("window", 0, 100),
                )
                found = run(volume, Segmenter(Threshold(), spec)).labels
                dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
                assert dice > (0.999 if spacing is None else 0.93 if spacing[0] < 3 else 0.9)

    def test_probabilities_are_interpolated_not_labels(self) -> None:
        """Halfway between two voxels of a coarse grid the border is where the chance is half."""

        class Ramp(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([torch.zeros_like(x), x], 1)

        logits = np.repeat(np.array([-8.0, 1.0], np.float32), 4)
        data = np.broadcast_to(logits[:, None, None], (8, 8, 8)).copy()
        spec = SegmenterSpec(
            "ramp", {1: "a"}, roi=(2, 2, 2), spacing=(4, 4, 4), orientation="SPL", intensity=PLAIN
        )
        found = run(
            Volume.from_array(data, spacing=(1.0, 1.0, 1.0)),
            Segmenter(Ramp(), spec),
            probabilities=True,
        )
        assert found.probabilities is not None
        # Coarse voxels hold the means of their taps at 1.5 and 5.5.
        low, high = 1 / (1 + np.exp(8.0)), 1 / (1 + np.exp(-1.0))
        at = np.clip((np.arange(8) - 1.5) / 4, 0, 1)
        np.testing.assert_allclose(
            found.probabilities[1, :, 4, 4], low + at * (high - low), atol=2e-3
        )

    @pytest.mark.parametrize("factor", [0.31, 0.77, 1.0, 1.6, 3.3])
    def test_resampling_a_slab_at_a_time_is_that_of_the_whole(self, factor: float) -> None:
        from napari_sightline.segment.resample import Grid, resample

        volume = scan((34, 15, 18))
        spacing = (factor, 1.0, 1.0)
        made = model((12, 10, 8), spacing=spacing)
        grid = Grid.of(volume.shape, volume.spacing, spacing)
        working = Volume.from_array(resample(volume.data, grid.taps), spacing=spacing)
        logits = reference(working, made, 0.5)
        expected = resample(logits.softmax(0).numpy(), grid.back)
        found = run(volume, made, probabilities=True)
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, expected, atol=2e-3)
        labels = run(volume, made).labels
        assert (labels == expected.argmax(0)).mean() >= 0.999

    def test_slabs_come_in_order_and_cover_the_scan(self) -> None:
        for orientation in ("RAS", "SPL", "IAR"):
            volume, made = scan((21, 50, 17)), model(orientation=orientation, spacing=(1.3,) * 3)
            covered = np.zeros(volume.shape, int)
            shown = np.zeros(volume.shape, np.uint8)

            def keep(slab: Slab, covered: Any = covered, shown: Any = shown) -> None:
                covered[slab.box] += 1
                shown[slab.box] = slab.labels

            found = run(volume, made, on_slab=keep)
            assert (covered == 1).all()
            assert np.array_equal(shown, found.labels)

    @pytest.mark.parametrize("spacing", [None, (1.3, 0.7, 1.0)])
    def test_memory_follows_the_window(self, spacing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sums that are held never reach more than a window along the sweep."""
        from napari_sightline.segment import automatic

        held: list[int] = []

        class Counting(automatic.SlabSums):
            def add(self, *arguments: Any) -> None:
                super().add(*arguments)
                held.append(sum(block.numel() for block in self._blocks.values()))

        monkeypatch.setattr(automatic, "SlabSums", Counting)
        found = run(scan((20, 30, 160)), model(spacing=spacing, orientation="PLS"))
        assert found.windows > 50
        rest = 20 * 30 if spacing is None else round(20 / 1.0) * round(30 / 1.3)
        planes = max(held) / (4 * rest)
        # Where grids are one, columns are done with while a sweep goes on.
        assert planes <= (10 if spacing is None else 13)

    def test_the_sweep_goes_along_the_longest_axis(self) -> None:
        made = model((16, 16, 16))
        windows = Windows.over((400, 40, 40), made.spec.roi, 0.5)
        assert windows.sweep_axis() == 0
        assert Windows.over((40, 40, 400), made.spec.roi, 0.5).sweep_axis() == 2


class TestAir:
    def volume(self) -> Volume:
        data = np.full((20, 60, 40), -1000, np.int16)
        data[5:15, 20:40, 4:20] = np.random.default_rng(0).normal(50, 100, (10, 20, 16))
        return Volume.from_array(data, spacing=(1.0, 1.0, 1.0))

    def test_skipping_changes_nothing(self) -> None:
        made = model(intensity=IntensityRule("window", -200, 300))
        net: Any = made.network
        whole = run(self.volume(), made, skip_air=False, probabilities=True)
        calls, net.calls = net.calls, 0
        fast = run(self.volume(), made, probabilities=True)
        assert np.array_equal(whole.labels, fast.labels)
        assert np.array_equal(whole.probabilities, fast.probabilities)  # type: ignore[arg-type]
        assert whole.skipped == 0 and fast.skipped > 20
        assert net.calls == calls - fast.skipped

    def test_in_batches_too(self) -> None:
        made = model(intensity=IntensityRule("window", -200, 300))
        one, four = run(self.volume(), made), run(self.volume(), made, batch=4)
        assert (one.labels == four.labels).mean() >= 0.9999
        assert one.skipped == four.skipped

    def test_two_values_in_one_batch(self) -> None:
        data = np.zeros((24, 24, 24), np.float32)
        data[..., 12:] = 1
        made = model(overlap=0.0)
        for batch in (1, 3, 8):
            found = run(Volume.from_array(data), made, batch=batch, probabilities=True)
            whole = run(Volume.from_array(data), made, skip_air=False, probabilities=True)
            assert found.skipped == 6
            assert found.probabilities is not None and whole.probabilities is not None
            np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=2e-3)


class TestAlongTheWay:
    def test_the_same_twice(self) -> None:
        volume, made = scan((30, 20, 25)), model()
        first = run(volume, made, probabilities=True)
        again = run(volume, made, probabilities=True)
        assert np.array_equal(first.probabilities, again.probabilities)  # type: ignore[arg-type]

    def test_cancel_within_one_window(self) -> None:
        made = model()
        net: Any = made.network
        with pytest.raises(Cancelled):
            run(scan((40, 40, 40)), made, cancel=lambda: net.calls >= 3)
        assert net.calls == 3

    @pytest.mark.parametrize("overlapping", [False, True])
    def test_fragments_are_left_out(self, overlapping: bool) -> None:
        volume, facts = scan((30, 20, 25), spacing=(2.0, 1.0, 1.0)), {"overlapping": overlapping}
        whole = run(volume, model(**facts))
        expected = Finish(fragments=0.5).apply(whole.labels, volume.spacing)
        assert (expected != whole.labels).any()
        drawn = np.zeros_like(whole.labels)

        def draw(slab: Any) -> None:
            drawn[(..., *slab.box)] = slab.labels

        made = model(fragments=0.5, **facts)
        found = run(volume, made, on_slab=draw)
        assert np.array_equal(found.labels, expected) and np.array_equal(drawn, expected)
        assert any("left out" in note and "50%" in note for note in found.notes)
        # The user's word counts before the model's.
        assert np.array_equal(run(volume, made, fragments=0).labels, whole.labels)
        assert np.array_equal(run(volume, model(**facts), fragments=0.5).labels, expected)

    @pytest.mark.parametrize("overlapping", [False, True])
    @pytest.mark.parametrize("orientation", ["SPL", "RAS", "PRI"])
    def test_blank_places_are_left_out(self, orientation: str, overlapping: bool) -> None:
        data = scan((30, 20, 25)).data.copy()
        data[:9], data[20:, 5:12, 3:20] = -9, -12
        volume = Volume.from_array(data, spacing=(2.0, 1.0, 1.0))
        facts = {"overlapping": overlapping, "orientation": orientation}
        whole = run(volume, model(**facts)).labels
        expected = np.where(data <= -9, 0, whole)
        assert (expected != whole).any()
        drawn = np.zeros_like(whole)

        def draw(slab: Any) -> None:
            drawn[(..., *slab.box)] = slab.labels

        made = model(blank=-9.0, **facts)
        found = run(volume, made, on_slab=draw)
        assert np.array_equal(found.labels, expected) and np.array_equal(drawn, expected)
        assert any("is blank there (-9 or less)" in note for note in found.notes)
        # The user's word counts before the model's; and fragments are what is left over.
        assert np.array_equal(run(volume, made, keep_blank=True).labels, whole)
        both = run(volume, made, fragments=0.5).labels
        assert np.array_equal(both, Finish(fragments=0.5).apply(expected, volume.spacing))

    @pytest.mark.parametrize("overlapping", [False, True])
    @pytest.mark.parametrize("orientation", ["SPL", "RAS", "PRI"])
    def test_a_mirrored_scan_gets_mirrored_labels(
        self, orientation: str, overlapping: bool
    ) -> None:
        def mirrored(labels: np.ndarray) -> np.ndarray:
            """What is right becomes left, voxels and names."""
            flipped = labels[..., ::-1]  # the last canonical axis runs to the left
            if overlapping:
                return flipped[[1, 0, *range(2, len(flipped))]]
            return np.array([0, 2, 1, 3, 4], np.uint8)[flipped]

        facts = {"overlapping": overlapping, "orientation": orientation, "outputs": 4}
        made = model(**facts)
        names = {1: "right eye", 2: "left eye"} | {
            k: name for k, name in made.spec.labels.items() if k > 2
        }
        made = Segmenter(made.network, replace(made.spec, labels=names, mirror=True))
        volume = scan((18, 24, 30))  # windows lie alike from both ends
        other = Volume.from_array(volume.data[..., ::-1].copy())
        found = run(volume, made).labels
        assert len(np.unique(found)) > 1
        agree = np.mean(run(other, made).labels == mirrored(found))
        assert agree > 0.9999
        # The plain network is not symmetric: what it gives is changed, and is at hand.
        plain = run(volume, made, mirror=False).labels
        assert (plain != found).any()
        assert np.array_equal(plain, run(volume, model(**facts)).labels)
        net: Any = made.network
        before = net.calls
        run(volume, made)
        assert net.calls - before == 2 * len(Windows.over((18, 24, 30), (12, 12, 12), 0.5))

    def test_a_tap_sees_the_plain_windows_only(self) -> None:
        seen = []

        class Tap:
            @contextmanager
            def window(self, network: Any, frames: Any, name: str = "") -> Iterator[None]:
                before = network.calls
                yield
                seen.append(network.calls - before)

        made = model(mirror=True)
        run(scan((12, 12, 12)), made, tap=Tap())
        net: Any = made.network
        assert seen == [1] and net.calls == 2

    def test_progress_rises_to_one(self) -> None:
        shares: list[float] = []
        words: list[str] = []
        run(
            scan((20, 30, 20)),
            model(),
            progress=lambda share, word: (shares.append(share), words.append(word)),  # type: ignore[func-returns-value]
        )
        assert shares == sorted(shares) and shares[-1] == 1
        assert any(" s left" in word for word in words)

    def test_a_tap_sees_every_window_at_its_place(self) -> None:
        volume = scan((20, 24, 16), spacing=(2.0, 1.0, 1.5))
        made = model(orientation="RAS", spacing=(1.2, 1.2, 1.2), inputs=1)
        seen: list[tuple[Any, Tensor]] = []

        class Watch:
            @contextmanager
            def window(self, network: nn.Module, frames: Any, model: str = "") -> Iterator[None]:
                assert model == "tiny"
                handle = network.register_forward_hook(
                    lambda _, args, __: seen.extend(zip(frames, args[0], strict=True))
                )
                yield
                handle.remove()

        # Voxels that say where they are: what the network sees must be what the frame says.
        for axis in range(3):
            seen.clear()
            ramp = np.indices(volume.shape)[axis].astype(np.float32)
            place = Volume.from_array(ramp, spacing=volume.spacing)
            found = run(place, made, tap=Watch())
            assert len(seen) == found.windows - found.skipped > 4
            for frame, window in seen:
                for at in ((0, 0, 0), (11, 5, 7)):
                    voxel = frame.to_volume(np.array(at))[axis]
                    if 0 <= voxel <= volume.shape[axis] - 1 and _inside(frame, at, volume):
                        assert float(window[(0, *at)]) == pytest.approx(voxel, abs=1e-3)

    def test_attention_is_recorded_and_can_be_asked(self) -> None:
        from monai.networks.nets.swin_unetr import SwinUNETR

        from napari_sightline.attention.maps import query_voxel
        from napari_sightline.attention.tap import Tap

        torch.manual_seed(0)
        network = SwinUNETR(
            1, 3, depths=(1, 1, 1, 1), feature_size=12, window_size=4, use_flash_attention=True
        ).eval()
        spec = SegmenterSpec(
            "swin", {1: "a", 2: "b"}, roi=(64, 32, 32), overlap=0.0, intensity=PLAIN
        )
        volume, tap = scan((30, 40, 70)), Tap()
        plain = run(volume, Segmenter(network, spec))
        found = run(volume, Segmenter(network, spec), tap=tap)
        assert np.array_equal(found.labels, plain.labels)
        assert len(tap.passes) == found.windows
        one = tap.at((12.0, 30.0, 60.0))
        assert one is not None
        seen = query_voxel(one, (12.0, 30.0, 60.0), 0)
        assert float(np.nansum(seen.weights[0])) <= 1.001


def _inside(frame: Any, at: tuple[int, int, int], volume: Volume) -> bool:
    voxel = frame.to_volume(np.array(at))
    return bool(np.all((voxel >= 0) & (voxel <= np.array(volume.shape) - 1)))


class TestBadInput:
    def test_number_of_volumes(self) -> None:
        with pytest.raises(BadInput, match=r"needs 2 volumes \(c0, c1\) and 1 came"):
            run(scan((12, 12, 12)), model(inputs=2))

    def test_other_grids(self) -> None:
        with pytest.raises(BadInput, match="another grid"):
            run([scan((12, 12, 12)), scan((12, 12, 13))], model(inputs=2))

    def test_a_device_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        with pytest.raises(BadInput, match="'cuda' is not on this machine"):
            run(scan((12, 12, 12)), model(), device="cuda")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"precision": "fp8"}, "choose one of auto"),
            ({"overlap": 1.0}, "give 0 to less than 1"),
            ({"batch": 0}, "give 1 or more"),
        ],
    )
    def test_options(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(BadInput, match=words):
            run(scan((12, 12, 12)), model(), **options)

    def test_a_network_that_gives_something_else(self) -> None:
        made = model()
        wrong = Segmenter(made.network, replace(made.spec, labels={1: "a"}))
        with pytest.raises(ModelError, match="correct the model's facts"):
            run(scan((12, 12, 12)), wrong)

    def test_an_orientation_that_is_none(self) -> None:
        with pytest.raises(BadInput, match="does not name three directions"):
            run(scan((12, 12, 12)), model(orientation="RRS"))

    def test_what_is_said_of_an_odd_scan(self) -> None:
        rule = IntensityRule("window", -200, 400)
        made = model(intensity=rule, modality="CT")
        pet = Volume.from_array(np.random.default_rng(0).uniform(0, 9, (12, 12, 12)).astype("f4"))
        pet = replace(pet, modality="PT", name="pet.nii.gz")
        notes = run(pet, made).notes
        assert any("pet.nii.gz is PET and the model 'tiny' learned from CT" in n for n in notes)
        assert any("no air" in n for n in notes)
        ct = Volume.from_array(np.random.default_rng(0).uniform(-1000, 900, (12, 12, 12)))
        assert run(replace(ct, modality="CT"), made).notes == ()
        assert any("one slice" in n for n in run(scan((1, 12, 12)), model()).notes)
