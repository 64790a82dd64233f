"""Open a scan, work on it in reading order, and write labels on the scan's own grid.

    python examples/volume_roundtrip.py [SCAN.nii.gz]

Without a scan the built-in phantom is used. ``bone.nii.gz`` is written to the working folder.
"""

from __future__ import annotations

import sys

import numpy as np

from napari_sightline import load, phantom, save
from napari_sightline.io import load_labels


def main() -> None:
    scan = load(sys.argv[1]) if len(sys.argv) > 1 else phantom()[0]
    print(scan)
    for note in scan.notes:
        print(note)

    # Canonical order: axis 0 superior, 1 posterior, 2 left, whatever the file's order is.
    high = scan.data > 300 if scan.modality == "CT" else scan.data > np.percentile(scan.data, 95)
    middle = (np.array(scan.shape) - 1) / 2
    print("middle voxel:", middle, "in the scanner (RAS, mm):", scan.voxel_to_mm(middle).round(1))
    print("in the file's own indices:", scan.voxel_to_file(middle))

    # A coarse copy and a crop know where they lie, too.
    coarse = scan.resample((6, 6, 6))
    place = scan.voxel_to_mm(middle)
    print(coarse, "- the same place is voxel", coarse.mm_to_voxel(place).round(2))

    path = save("bone.nii.gz", high, scan, names={1: "bright"})
    again, names = load_labels(path)
    assert np.array_equal(again.data, high)
    assert np.allclose(again.affine, scan.affine)
    print(f"{path}: {int(high.sum())} voxels of {names[1]!r}, on the scan's grid {scan.file_shape}")


if __name__ == "__main__":
    main()
