"""Segment an organ from three clicks, and save its mask and a picture of it.

    python examples/segment_with_clicks.py [SCAN I,J,K [I,J,K:- ...]]

Without arguments the scan is the phantom, and the clicks are on its right parotid gland: one in
its middle, then one wherever the mask is most wrong, as a reader would place them. With a scan,
clicks are voxel indices of the file's own axes; ``:-`` after one says "not this".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from napari_sightline import Point, Session, load, phantom, save
from napari_sightline.evaluate.metrics import dice
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.io.picture import Shown, save_picture
from napari_sightline.io.prompt_text import read_prompts

NAME = "right parotid gland"


def mask_of(session: Session) -> np.ndarray:
    """Mask of the current object on the whole volume."""
    assert session.volume is not None
    mask = np.zeros(session.volume.shape, bool)
    if session.current.mask_box is not None:
        mask[session.current.mask_box] = session.current.mask
    return mask


def clicks_on_the_phantom(session: Session, truth: np.ndarray) -> Iterator[Point]:
    """Place three clicks, each after the answer to the one before."""
    for _ in range(3):
        click = simulate_click(mask_of(session), truth)
        if click is not None:
            yield click


def main() -> None:
    session = Session()
    truth = None
    if len(sys.argv) > 2:
        scan = load(sys.argv[1])
        session.set_volume(scan)
        clicks = iter(read_prompts(scan, clicks=sys.argv[2:]))
    else:
        scan, labels, names = phantom()
        session.set_volume(scan)
        truth = labels == next(value for value, name in names.items() if name == NAME)
        clicks = clicks_on_the_phantom(session, truth)

    placed = []
    for click in clicks:
        update = session.add(click)
        placed.append(click)
        said = f"click {len(placed)}: {update.seconds:.2f} s"
        if truth is not None:
            said += f", Dice {dice(mask_of(session), truth):.3f}"
        print(said)

    mask = mask_of(session)
    done = session.accept(NAME)
    print(save("mask.nii.gz", session.labels, scan, session.names), f"{done.volume_ml:.1f} mL")
    print(save_picture("picture.png", scan, [Shown(mask, NAME, clicks=placed)], scan.name))


if __name__ == "__main__":
    main()
