from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_making import CODES, POINTS, promptable
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sightline.attention.frame import Frame
from napari_sightline.attention.gradcam import seg_grad_cam
from napari_sightline.attention.probe import Probe, probe_window
from napari_sightline.attention.relevance import relevance, run_with_gradients
from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.volume import Volume

SIZE = (48, 32, 48)


class Explicit(TorchFunctionMode):
    """Computes attention with its map, and keeps the map with its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        q, k, v = args[:3] if len(args) > 2 else (kwargs[n] for n in ("query", "key", "value"))
        scores = q @ k.transpose(-1, -2) * kwargs.get("scale", q.shape[-1] ** -0.5)
        mask = kwargs.get("attn_mask")
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(-1)
        weights.retain_grad()
        self.maps.append(weights)
        return weights @ v


def click() -> Probe:
    torch.manual_seed(1)
    return Probe(
        promptable(),
        "sightline-3d",
        torch.randn(1, 2, *SIZE),
        Frame.scaled((0, 0, 0), (1, 1, 1), SIZE),
        points=POINTS.numpy(),
        codes=CODES.numpy(),
    )


def explicit(probe: Probe, mask: np.ndarray) -> list[np.ndarray]:
    """Gradient-weighted attention of each call, from whole maps."""
    with torch.enable_grad(), Explicit() as catch:
        logits = probe.logits(probe.image.clone().requires_grad_(True))
    logits[torch.from_numpy(mask)].mean().backward()
    found = []
    for weights in catch.maps:
        gradient = torch.zeros_like(weights) if weights.grad is None else weights.grad
        found.append((weights * gradient).clamp(min=0)[0].mean(0).detach().double().numpy())
    return found


def test_rules_between_image_and_prompts_follow_the_paper() -> None:
    probe = click()
    mask = np.zeros(SIZE, bool)
    mask[10:30, 5:20, 10:40] = True
    run = run_with_gradients(probe, mask)
    matrices = explicit(probe, mask)
    for call, matrix in zip(run.one.calls, matrices, strict=True):
        np.testing.assert_allclose(run.matrix(call), matrix, atol=1e-7 + 1e-3 * matrix.max())
    n, m = 18, 5

    def bar(r: np.ndarray) -> np.ndarray:
        rest = r - np.eye(len(r))
        total = rest.sum(1, keepdims=True)
        return np.where(total > 0, rest / np.where(total > 0, total, 1), 0) + np.eye(len(r))

    ii, tt, it, ti = np.eye(n), np.eye(m), np.zeros((n, m)), np.zeros((m, n))
    for own, inner, to_image, to_tokens in zip(*[iter(matrices)] * 4, strict=True):
        ii, it = ii + own @ ii, it + own @ it
        tt, ti = tt + inner @ tt, ti + inner @ ti
        tt, ti = tt + to_image @ it, ti + bar(tt).T @ to_image @ bar(ii)
        ii, it = ii + to_tokens @ ti, it + bar(ii).T @ to_tokens @ bar(tt)
    share = mask.reshape(3, 16, 2, 16, 3, 16).sum((1, 3, 5)).reshape(-1) / mask.sum()
    expected = share @ ii
    answer = relevance(run)
    np.testing.assert_allclose(answer.values(0).reshape(-1), expected / expected.max(), atol=1e-5)
    np.testing.assert_allclose(answer.special, (share @ it).sum() / expected.max(), rtol=1e-3)
    rest = share @ (ii - np.eye(n))
    np.testing.assert_allclose(
        relevance(run, identity=False).values(0).reshape(-1), rest / rest.max(), atol=2e-3
    )


class PatchNet(nn.Module):
    """A ViT of MONAI and a convolution that turns its tokens into logits."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        self.vit = ViT(1, (16, 24, 16), 8, 24, 24, 2, 3)
        self.head = nn.Linear(24, 2)
        self.features = nn.Conv3d(1, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.head(self.vit(x)[0]).transpose(1, 2).unflatten(2, (2, 3, 2))
        return F.interpolate(tokens, scale_factor=8) + F.interpolate(
            self.features(x)[:, :2], scale_factor=2
        )


@pytest.mark.parametrize("flash", [False, True])
def test_one_kind_of_tokens_carries_a_vector(flash: bool) -> None:
    from napari_sightline.attention.tokens_vit import use_recordable_attention

    torch.manual_seed(0)
    network = PatchNet().eval().requires_grad_(False)
    for block in network.vit.blocks:
        block.attn.qkv.weight.mul_(20)
    size = (16, 24, 16)
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), size)
    probe = Probe(network, "net", torch.randn(1, 1, *size), frame, channel=1)
    mask = np.zeros(size, bool)
    mask[:8, :16, 8:] = True
    if flash:
        use_recordable_attention(network)
    run = run_with_gradients(probe, mask)
    use_recordable_attention(network)
    product = np.eye(12)
    for matrix in explicit(probe, mask):
        product = product + matrix @ product
    share = np.zeros((2, 3, 2))
    share[0, :2, 1] = 0.5
    expected = share.reshape(-1) @ product
    answer = relevance(run)
    np.testing.assert_allclose(answer.values(0).reshape(-1), expected / expected.max(), atol=1e-4)
    rest = expected - share.reshape(-1)
    found = relevance(run, identity=False).values(0).reshape(-1)
    np.testing.assert_allclose(found, rest / rest.max(), atol=1e-3)


def test_seg_grad_cam_equals_its_formula() -> None:
    torch.manual_seed(0)
    network, size = PatchNet().eval().requires_grad_(False), (16, 24, 16)
    frame = Frame.scaled((0, 0, 0), (1, 1, 1), size)
    probe = Probe(network, "net", torch.randn(1, 1, *size), frame, channel=1)
    mask = np.zeros(size, bool)
    mask[2:9, 3:17, 4:10] = True
    answer = seg_grad_cam(probe, mask, "features")
    maps = network.features(probe.image)[0]
    # Only channel 1 reaches the logit of channel 1; each of its voxels feeds 8 of the output.
    feeds = mask.reshape(8, 2, 12, 2, 8, 2).sum((1, 3, 5))
    expected = (maps[1] * float(feeds.mean())).clamp(min=0).numpy()
    np.testing.assert_allclose(answer.values(0), expected / expected.max(), atol=1e-5)
    with pytest.raises(BadInput, match="no layer"):
        seg_grad_cam(probe, mask, "nothing")
    with pytest.raises(BadInput, match="no layer"):
        seg_grad_cam(probe, mask)


def test_an_empty_answer_cannot_be_explained() -> None:
    probe = click()
    with torch.no_grad():
        probe.network.head.bias.fill_(-50)  # type: ignore[union-attr, operator]
    with pytest.raises(BadInput, match="found nothing of the mask"):
        run_with_gradients(probe)
    with pytest.raises(BadInput, match="found nothing"):
        seg_grad_cam(probe)


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 1.5)])
@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_a_window_of_an_automatic_model_is_the_sliding_windows_own(
    spacing: tuple[float, float, float] | None, orientation: str
) -> None:
    from napari_sightline.segment.automatic import segment

    class Keeps(nn.Module):
        """Adds a class that is the image itself."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.detach().clone())
            return torch.cat([torch.zeros_like(x), x * self.weight], 1)

    data = np.random.default_rng(0).normal(0, 100, (20, 24, 28)).astype(np.float32)
    volume = Volume.from_array(data, spacing=(1.5, 1.25, 1.0))
    spec = SegmenterSpec(
        "m",
        {1: "thing"},
        roi=(32, 16, 16),
        orientation=orientation,
        spacing=spacing,
        intensity=IntensityRule(low=-200, high=200),
    )
    network = Keeps()
    model = Segmenter(network, spec)

    class Places:
        def __init__(self) -> None:
            self.frames: list[Frame] = []

        def window(self, net: Any, frames: Any, model: str = "") -> Any:
            from contextlib import nullcontext

            self.frames += frames
            return nullcontext()

    places = Places()
    segment(volume, model, precision="fp32", batch=1, skip_air=False, tap=places)
    windows = network.seen[-len(places.frames) :]
    whole = [(f, w) for f, w in zip(places.frames, windows, strict=True)]
    probe = probe_window(model, volume, (10, 12, 14), "thing")
    assert probe.frame.contains((10, 12, 14))
    # The same voxels as every window of the sliding pass that overlaps it by whole steps.
    compared = 0
    for frame, window in whole:
        shift = frame.from_volume(probe.frame.to_volume((0, 0, 0)))
        if not np.allclose(shift, np.rint(shift), atol=1e-4):
            continue
        a = [int(v) for v in np.rint(shift)]
        low = [max(0, v) for v in a]
        high = [min(n, n + v) for n, v in zip(spec.roi, a, strict=True)]
        if any(i >= j for i, j in zip(low, high, strict=True)):
            continue
        there = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
        here = tuple(slice(i - v, j - v) for i, j, v in zip(low, high, a, strict=True))
        torch.testing.assert_close(
            probe.image[(0, 0, *here)], window[(0, 0, *there)].float(), atol=1e-4, rtol=1e-4
        )
        compared += 1
    assert compared > 0
    assert probe.structure == "thing"
    with pytest.raises(BadInput, match="choose one of thing"):
        probe_window(model, volume, (10, 12, 14), "other")
    with pytest.raises(BadInput, match="outside the scan"):
        probe_window(model, volume, (10, 12, 40))
