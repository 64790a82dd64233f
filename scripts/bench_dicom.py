"""Time and memory of opening a DICOM series, beside pydicom alone reading the same pixels.

python scripts/bench_dicom.py [SLICES]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "io"))

MEASURE = """
import resource, sys, time
from pathlib import Path
import numpy, psutil, pydicom, pydicom.pixels
from napari_sightline.io.dicom import read_dicom
folder = Path(sys.argv[2])
warm = sorted(folder.iterdir())[0]
read_dicom(warm), pydicom.dcmread(warm).pixel_array
before = psutil.Process().memory_info().rss
start = time.perf_counter()
if sys.argv[1] == "ours":
    size = read_dicom(folder).data.nbytes
else:
    size = sum(pydicom.dcmread(path).pixel_array.nbytes for path in folder.iterdir())
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
print(f"{seconds:.3f} {peak / size:.3f}")
"""


def main() -> None:
    from dicom_making import series

    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 800
    affine = np.array([[-0.8, 0, 0, 50], [0, -0.8, 0, 60], [0, 0, 1, -20], [0, 0, 0, 1]])
    array = np.random.default_rng(0).integers(0, 3000, (512, 512, slices), dtype=np.int16)
    with tempfile.TemporaryDirectory() as folder:
        series(Path(folder), array, affine, intercept=-1024)
        del array
        figures = {"pydicom": [], "ours": []}
        for _ in range(3):
            for who, runs in figures.items():
                command = [sys.executable, "-c", MEASURE, who, folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(tuple(map(float, done.stdout.split())))
    ours, theirs = min(figures["ours"]), min(figures["pydicom"])
    print(f"{slices} slices 512 x 512: {ours[0]:.2f} s, pydicom alone {theirs[0]:.2f} s")
    print(f"ratio {ours[0] / theirs[0]:.2f}, peak {ours[1]:.2f} times the volume")


if __name__ == "__main__":
    main()
