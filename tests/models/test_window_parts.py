"""Window attention that takes some windows at a time."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from model_making import SMALL, logits, scan

from napari_sightline.attention.tap import Tap
from napari_sightline.models import window_parts
from napari_sightline.models.window_parts import attend_in_parts


def network(**changes: Any) -> nn.Module:
    """Two blocks a stage: the second one's windows are shifted."""
    torch.manual_seed(1)
    sizes = {**SMALL, "depths": (2, 2, 2, 2), "use_flash_attention": True, **changes}
    return SwinUNETR(**sizes).eval()


@pytest.fixture
def biases(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the biases that attention is given."""
    seen: list[tuple[int, ...]] = []
    plain = nn.functional.scaled_dot_product_attention

    def watched(*args: Any, **rest: Any) -> Tensor:
        seen.append(tuple(rest["attn_mask"].shape))
        return plain(*args, **rest)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    return seen


@pytest.mark.parametrize("window", [2, 4])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_answer_is_the_same(
    window: int, bf16: bool, monkeypatch: pytest.MonkeyPatch, biases: list[tuple[int, ...]]
) -> None:
    part = 5 * 2 * window**6  # five windows of the first stage's two heads
    monkeypatch.setattr(window_parts, "PART", part)
    plain = network(window_size=window)
    parts = deepcopy(plain)
    attend_in_parts(parts)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = logits(plain, scan())
        whole = max(n * h * t * t for n, h, t, _ in biases)
        biases.clear()
        found = logits(parts, scan())
    assert torch.allclose(found, expected, atol=1e-6 if not bf16 else 0.05)
    # Without a mask one bias serves all windows: its first side is one.
    assert max(n * h * t * t for n, h, t, _ in biases) <= part < whole


def test_one_who_watches_sees_one_call_of_all_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_parts, "PART", 1)
    plain, taps = network(), [Tap(keep=1), Tap(keep=1)]
    parts = deepcopy(plain)
    attend_in_parts(parts)
    image = scan()
    found = []
    for tap, one in zip(taps, (plain, parts), strict=True):
        with torch.inference_mode(), tap.window(one, [(0, 0, 0)], "m"):
            found.append(one(image))
    assert torch.equal(*found)
    calls = [tap.latest.calls for tap in taps if tap.latest is not None]
    assert [c.module for c in calls[0]] == [c.module for c in calls[1]]
    assert [c.label for c in calls[0]] == [c.label for c in calls[1]]
    assert len(calls[0]) == 8


def test_gradients_batches_and_other_attention_are_monais(
    monkeypatch: pytest.MonkeyPatch, biases: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(window_parts, "PART", 1)
    image = scan()
    both = torch.cat([image, image.flip(2)])
    made = network()
    attend_in_parts(made)
    expected = logits(network(), both)
    before = len(biases)
    assert torch.equal(logits(made, both), expected)
    assert len(biases) == 2 * before  # a batch in one call, as MONAI's
    made(image).sum().backward()
    assert all(p.grad is not None for p in made.swinViT.layers1.parameters())  # type: ignore[union-attr]
    eager = network(use_flash_attention=False)
    answer = logits(eager, image)
    attend_in_parts(eager)
    assert torch.equal(logits(eager, image), answer)


def test_weights_names_and_copies_stay() -> None:
    made = network()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    attend_in_parts(made)
    attend_in_parts(made)  # twice is once
    assert {type(m).__mro__[1].__name__ for m in made.modules() if "Parts" in type(m).__name__} == {
        "WindowAttention"
    }
    again = deepcopy(made)
    assert all(torch.equal(value, before[key]) for key, value in again.state_dict().items())
    assert torch.equal(logits(again, scan()), logits(made, scan()))
