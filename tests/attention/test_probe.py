from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_making import promptable

from napari_sightline import Point, Session, Volume
from napari_sightline.attention.before import Before
from napari_sightline.attention.probe import probe_click
from napari_sightline.attention.tap import Tap
from napari_sightline.models.promptable import EmbeddedModel


class Heard(EmbeddedModel):
    """Keeps what it was asked, and what it answered."""

    def decode(self, encoded: Any, points: Any, codes: Any, previous: Any = None) -> Any:
        found = super().decode(encoded, points, codes, previous)
        self.asked = previous, found.logits[0]
        return found


def test_a_look_is_repeated_with_the_mask_that_was_there_before() -> None:
    network = promptable()
    with torch.no_grad():
        network.head.bias.fill_(0.5)  # type: ignore[union-attr]
    model, tap = Heard(network, "cpu"), Tap()
    model.precision = "fp32"
    session = Session(model, tap=tap)
    rng = np.random.default_rng(0)
    volume = Volume.from_array(
        rng.normal(0, 300, (40, 44, 48)).astype(np.float32), spacing=(1, 1, 1)
    )
    session.set_volume(volume)
    for number, place in enumerate([(20, 20, 20), (12, 30, 25), (30, 12, 20)]):
        update = session.add(Point(place, positive=number != 1))
        assert update.region is not None
        one = tap.for_region(update.region)
        assert one is not None
        previous, logits = model.asked
        assert (one.before is None) == (previous is None) == (number == 0)
        probe = probe_click(model, volume, update.region, one)
        with torch.inference_mode():
            found = probe.logits(probe.image).numpy()
        near = float(np.abs(found - logits).mean())
        assert near < 0.01
        if previous is None:
            continue
        probe = probe_click(model, volume, update.region, _without(one))
        with torch.inference_mode():
            blind = probe.logits(probe.image).numpy()
        assert float(np.abs(blind - logits).mean()) > 5 * near
        # Deflated: it costs little beside what the pass holds.
        assert one.before is not None
        assert one.nbytes - sum(call.nbytes for call in one.calls) == one.before.nbytes
        assert one.before.nbytes < previous.nbytes / 4


def _without(one: Any) -> Any:
    from dataclasses import replace

    return replace(one, before=None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_before_come_back_as_the_network_saw_them(dtype: torch.dtype) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 8, (6, 4, 8)).astype(np.float32))
    squashed = torch.tanh(logits / 4).to(dtype)
    packed = Before.of(squashed)
    assert packed is not None
    again = packed.logits()
    assert np.isfinite(again).all()
    assert np.abs(np.tanh(again / 4) - squashed.float().numpy()).max() <= 0.5 / 127 + 1e-6
    assert Before.of(torch.zeros(2, 2, 2)) is None
