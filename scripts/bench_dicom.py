"""Time and memory of opening a DICOM series, beside pydicom alone reading the same pixels.

    python scripts/bench_dicom.py [SLICES] [ROUNDS]

Each round runs both in processes of their own, one right after the other, in turns: the ratio
of such a pair says something on a busy machine, too. Files are read once before, so that both
find them in the system's memory. Printed are the median of the pairs' ratios and their range,
of time and of CPU time, and the most memory that opening takes beside what the process had, in
volumes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "io"))

SIZE = 512
MEASURE = """
import resource, sys, time
from pathlib import Path
import numpy, psutil, pydicom, pydicom.pixels
from napari_sightline.io.dicom import read_dicom
folder = Path(sys.argv[2])
warm = sorted(folder.iterdir())[0]
read_dicom(warm), pydicom.dcmread(warm).pixel_array
before = psutil.Process().memory_info().rss
start, work = time.perf_counter(), time.process_time()
if sys.argv[1] == "ours":
    size = read_dicom(folder).data.nbytes
else:
    size = sum(pydicom.dcmread(path).pixel_array.nbytes for path in folder.iterdir())
seconds, work = time.perf_counter() - start, time.process_time() - work
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
print(f"{seconds:.4f} {work:.4f} {peak / size:.4f}")
"""


def write_series(folder: Path, slices: int) -> None:
    """Write noise as a CT series, a slice at a time."""
    from dicom_making import series

    rng = np.random.default_rng(0)
    affine = np.array([[-0.8, 0, 0, 50], [0, -0.8, 0, 60], [0, 0, 1, -20], [0, 0, 0, 1.0]])
    for index in range(slices):
        plane = rng.integers(0, 3000, (SIZE, SIZE, 1), dtype=np.int16)
        lifted = affine.copy()
        lifted[2, 3] += index
        (path,) = series(folder, plane, lifted, intercept=-1024, InstanceNumber=index + 1)
        path.rename(folder / f"CT{slices - index:05d}")


def measured(who: str, folder: Path) -> tuple[float, ...]:
    """Run one reader in a process of its own; return seconds, seconds of CPU, peak in volumes."""
    command = [sys.executable, "-c", MEASURE, who, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def main() -> None:
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 800
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder, slices)
        measured("pydicom", folder)
        for number in range(rounds):
            pair = ("ours", "pydicom") if number % 2 else ("pydicom", "ours")
            found.append({who: measured(who, folder) for who in pair})
    print(f"{slices} slices {SIZE} x {SIZE}, {rounds} rounds")
    for place, what in enumerate(("seconds", "seconds of CPU")):
        ours, theirs = ([one[who][place] for one in found] for who in ("ours", "pydicom"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{what}: {statistics.median(ours):.2f}, pydicom {statistics.median(theirs):.2f}, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"peak: {max(one['ours'][2] for one in found):.2f} volumes")


if __name__ == "__main__":
    main()
