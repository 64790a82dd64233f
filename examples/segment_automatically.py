"""Run a network over a whole scan: labels slab by slab, measures, a file on the scan's grid.

    python examples/segment_automatically.py [SCAN [MODEL]]

Without arguments the scan is the phantom, and the network is made here, so that the script shows
what the engine asks of one: it tells air, soft tissue and bone apart by their intensity. With a
model (a name of ``sightline models list``, a bundle or a checkpoint) that one is used.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from napari_sightline import load, phantom, save
from napari_sightline.models import load_segmenter
from napari_sightline.models.segmenter import IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.segment.automatic import Slab, segment
from napari_sightline.segment.finish import Finish
from napari_sightline.segment.measure import measure, write_csv


class Tissue(nn.Module):
    """Logits of background, soft tissue and bone for CT scaled from -1000 .. 1000 HU to 0 .. 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 1, D, H, W)`` to ``(B, 3, D, H, W)``."""
        hu = 2000 * x - 1000
        centres = torch.tensor([-1000.0, 50.0, 550.0], device=x.device).view(1, 3, 1, 1, 1)
        return -(hu - centres).abs() / 50


def tissue_model() -> Segmenter:
    """Pack the network with the facts that the engine needs."""
    spec = SegmenterSpec(
        name="tissue",
        labels={1: "soft tissue", 2: "bone"},
        roi=(64, 64, 64),
        orientation="RAS",
        spacing=(2.0, 2.0, 2.0),
        intensity=IntensityRule("window", -1000, 1000),
        overlap=0.25,
        modality="CT",
    )
    return Segmenter(Tissue(), spec)


def main() -> None:
    scan = load(sys.argv[1]) if len(sys.argv) > 1 else phantom()[0]
    model = load_segmenter(sys.argv[2]) if len(sys.argv) > 2 else tissue_model()

    def tell(slab: Slab) -> None:
        print("finished", [f"{s.start}:{s.stop}" for s in slab.box if s != slice(None)])

    found = segment(scan, model, on_slab=tell)
    for note in found.notes:
        print(note)
    print(
        f"{found.windows} windows, {found.skipped} of them alike, {found.seconds:.1f} s on "
        f"{found.device} in {found.precision}"
    )
    labels = Finish(largest=True).apply(found.labels, scan.spacing)
    measures = measure(labels, scan, found.names)
    for one in measures:
        print(f"{one.name}: {one.volume_ml:.0f} mL, {one.mean:.0f} HU, {one.diameter_mm:.0f} mm")
    print(save("organs.nii.gz", labels, scan, found.names), write_csv("organs.csv", measures))


if __name__ == "__main__":
    main()
