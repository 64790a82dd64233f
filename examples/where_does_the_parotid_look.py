"""Where does the parotid look? One click, and where the model looked for it.

    python examples/where_does_the_parotid_look.py [SCAN I,J,K]

Without arguments the scan is the phantom and the click is in the middle of its right parotid
gland. Writes a picture of all heads, a picture of what the mask depends on, and a map on the
scan's own grid; prints how much attention lies in each structure.
"""

from __future__ import annotations

import sys

import numpy as np

from napari_sightline import Point, Session, load, phantom
from napari_sightline.attention.ask import ask
from napari_sightline.attention.export import save_heads, save_map
from napari_sightline.attention.probe import probe_click
from napari_sightline.attention.structure import by_structure
from napari_sightline.attention.tap import Tap
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.io.prompt_text import read_prompts

NAME = "right parotid gland"


def main() -> None:
    labels, names = None, {}
    if len(sys.argv) > 2:
        scan = load(sys.argv[1])
        (click,) = read_prompts(scan, clicks=sys.argv[2:3])
    else:
        scan, labels, names = phantom()
        truth = labels == next(value for value, name in names.items() if name == NAME)
        click = simulate_click(np.zeros(scan.shape, bool), truth)
    assert isinstance(click, Point)

    # A session tells a tap of every decoding; the mask's region names the one that counts.
    tap = Tap()
    session = Session(tap=tap)
    session.set_volume(scan)
    update = session.add(click)
    assert update.region is not None
    seen = tap.for_region(update.region)
    assert seen is not None
    for number, call in enumerate(seen.calls):
        print(f"{number}: {call.label}, {call.heads} heads")

    heads = ask(seen, "to", click.position)
    print(save_heads("heads.png", heads, scan, click.position))
    print(save_map("map.nii.gz", heads.reduce("mean"), scan))

    table = by_structure(heads, scan, labels, names)
    print(f"{'':28}even  " + "  ".join(heads.heads))
    for name, even, row in zip(table.names, table.volumes, table.shares.T, strict=True):
        print(
            f"{name:26}{100 * np.nan_to_num(even):5.1f} " + " ".join(f"{100 * v:7.1f}" for v in row)
        )

    probe = probe_click(session.model, scan, update.region, seen)
    depends = ask(seen, "relevance", probe=probe)
    print(save_heads("relevance.png", depends, scan, click.position))


if __name__ == "__main__":
    main()
