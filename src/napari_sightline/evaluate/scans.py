"""Many scans through one automatic model: one after the other, or over a cluster.

A bad file costs its own result only. What exists already is not made again, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.segment.finish import Finish

if TYPE_CHECKING:
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.automatic import Segmentation
    from napari_sightline.volume import Volume

#: Endings of scans that are looked for in a folder; a folder within is taken as DICOM.
SCAN_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".tif", ".tiff")

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class AutoOptions:
    """How scans are segmented; see `napari_sightline.segment.automatic.segment`.

    Attributes
    ----------
    model : str
        Name or file, as `napari_sightline.models.load_segmenter` takes it.
    device, precision, overlap, skip_air, fragments, mirror, keep_blank
        As for `segment`.
    finish : Finish
        Operations on every structure.
    measures : bool
        Whether a table of measures (.csv) is written beside each result.
    probabilities, uncertainty : bool
        Whether these are written too, as images beside the result.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    skip_air: bool = True
    finish: Finish = field(default_factory=Finish)
    measures: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    fragments: float | None = None
    mirror: bool | None = None
    keep_blank: bool = False


@dataclass(frozen=True)
class Job:
    """A scan and the labels to write for it.

    Attributes
    ----------
    image, out : Path
        Files.
    more : tuple of Path
        Files of the model's second channel and on, where the scan does not hold them itself.
    """

    image: Path
    out: Path
    more: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes
    ----------
    image, out : str
        The scan, and the file written (the first, where structures overlap).
    status : {"done", "there", "failed"}
        ``"there"`` where it existed already.
    error : str
        The sentence where it failed.
    notes : tuple of str
        Sentences on the way.
    seconds : float
        Time it took.
    structures : int
        Structures found.
    """

    image: str
    out: str
    status: str
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    structures: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def find_jobs(folder: Path, out: Path, ending: str = ".nii.gz") -> list[Job]:
    """List the scans of a folder, each with the labels to write.

    Raises
    ------
    BadInput
        Where the folder holds no scan, or is the one to write into, or two scans would write one
        file.
    """
    if folder.resolve() == out.resolve():
        raise BadInput("Scans and labels would share a folder; give another one with --out.")
    jobs, names = [], set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        found = next((e for e in SCAN_ENDINGS if path.name.lower().endswith(e)), "")
        if not found and not path.is_dir():
            continue
        name = path.name[: len(path.name) - len(found)]
        if name in names:
            raise BadInput(f"{folder.name} holds several scans named {name!r}; rename one.")
        names.add(name)
        jobs.append(Job(path, out / f"{name}_labels{ending}"))
    if not jobs:
        raise BadInput(
            f"The folder {folder.name!r} holds no scans; give one with NIfTI, NRRD or TIFF files, "
            "or with a folder of DICOM files for each scan."
        )
    return jobs


def load_channels(job: Job, channels: int) -> list[Volume]:
    """Open a scan: its files, or as many channels of its fourth axis as a model reads."""
    from napari_sightline.io import load

    if channels == 1 or job.more:
        return [load(path) for path in (job.image, *job.more)]
    return [load(job.image, channel) for channel in range(channels)]


@lru_cache(maxsize=1)
def _model(name: str) -> Segmenter:
    from napari_sightline.models import load_segmenter

    return load_segmenter(name)


def segment_file(
    job: Job,
    options: AutoOptions,
    progress: Tell | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Outcome:
    """Segment one scan and write what is wanted.

    Raises
    ------
    SightlineError
        Where the scan, the model or the disk does not allow it.
    """
    from napari_sightline.segment.automatic import segment

    began = time.perf_counter()
    model = _model(options.model)
    volumes = load_channels(job, len(model.spec.channels))
    found = segment(
        volumes,
        model,
        device=options.device,
        precision=options.precision,
        overlap=options.overlap,
        skip_air=options.skip_air,
        fragments=options.fragments,
        mirror=options.mirror,
        keep_blank=options.keep_blank,
        probabilities=options.probabilities,
        entropy=options.uncertainty,
        progress=progress,
        cancel=cancel,
    )
    scan = volumes[0]
    labels = options.finish.apply(found.labels, scan.spacing)
    # The labels last: where they are, all of the rest is.
    _write_extras(job.out, scan, found, options)
    structures = _write_measures(job.out, scan, labels, found.names, options.measures)
    out = _write_labels(job.out, scan, labels, found.names)
    notes = (*scan.notes, *found.notes)
    seconds = round(time.perf_counter() - began, 2)
    return Outcome(str(job.image), str(out), "done", "", notes, seconds, structures)


def try_file(job: Job, options: AutoOptions, overwrite: bool = False) -> Outcome:
    """Segment one scan; a failure becomes a sentence, and existing labels stay."""
    try:
        if not overwrite and _is_there(job, options):
            return Outcome(str(job.image), str(job.out), "there")
        return segment_file(job, options)
    except SightlineError as error:
        return Outcome(str(job.image), str(job.out), "failed", str(error))
    except Exception as error:  # one scan's fault must not cost the others theirs
        text = f"{type(error).__name__}: {error}"
        return Outcome(str(job.image), str(job.out), "failed", text)


def run_here(
    jobs: Sequence[Job], options: AutoOptions, overwrite: bool = False
) -> Iterator[Outcome]:
    """Segment scans one after the other."""
    # A model that cannot be loaded is no scan's fault.
    _model(options.model)
    for job in jobs:
        yield try_file(job, options, overwrite)


def run_on_cluster(
    jobs: Sequence[Job],
    options: AutoOptions,
    address: str,
    overwrite: bool = False,
    work: Callable[[Job, AutoOptions, bool], Outcome] = try_file,
) -> Iterator[Outcome]:
    """Spread scans over the workers of a Dask cluster.

    Where a worker dies, another one takes its scan; files are moved into place when they are
    whole, so nothing half-written stays under its name. Workers need this package and the same
    paths. `work` is what they do with a scan; a function of a module.

    Raises
    ------
    BadInput
        Where Dask is not installed or no scheduler answers at the address.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise BadInput(
            "Dask is not installed; install it with: pip install 'napari-sightline[cluster]'."
        ) from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(
            f"No Dask scheduler answers at {address!r}; start one and give its address, such as "
            "tcp://host:8786."
        ) from error
    with client:
        futures = {client.submit(work, job, options, overwrite, pure=False): job for job in jobs}
        for future in as_completed(list(futures)):
            job = futures[future]
            if future.status == "finished":
                yield future.result()
            else:
                why = f"It was given up on the cluster ({future.exception()})."
                yield Outcome(str(job.image), str(job.out), "failed", why)


def _beside(out: Path, word: str, ending: str) -> Path:
    from napari_sightline.io.formats import ending_of

    stem = out.name[: -len(ending_of(out))]
    return out.with_name(f"{stem}{word}{ending}")


def _is_there(job: Job, options: AutoOptions) -> bool:
    model = _model(options.model)
    if not model.spec.overlapping:
        return job.out.exists()
    return all(path.exists() for path in _mask_files(job.out, dict(model.spec.labels)).values())


def _mask_files(out: Path, names: dict[int, str]) -> dict[int, Path]:
    """File of each structure, where they overlap and one label map cannot hold them."""
    from napari_sightline.io.formats import ending_of
    from napari_sightline.io.mesh import file_name

    ending = ending_of(out)
    return {value: _beside(out, f"_{file_name(name)}", ending) for value, name in names.items()}


def _write_labels(out: Path, scan: Volume, labels: Any, names: dict[int, str]) -> Path:
    from napari_sightline.io import save

    if labels.ndim == 3:
        return save(out, labels, scan, names)
    files = _mask_files(out, names)
    written = [
        save(path, labels[value - 1] * 1, scan, {1: names[value]}) for value, path in files.items()
    ]
    return written[0]


def _write_measures(
    out: Path, scan: Volume, labels: Any, names: dict[int, str], wanted: bool
) -> int:
    import numpy as np

    if wanted:
        from napari_sightline.segment.measure import measure, write_csv

        found = measure(labels, scan, names)
        write_csv(_beside(out, "", ".csv"), found)
        return len(found)
    if labels.ndim == 4:
        return int(labels.any((1, 2, 3)).sum())
    return int(np.count_nonzero(np.unique(labels)))


def _write_extras(out: Path, scan: Volume, found: Segmentation, options: AutoOptions) -> None:
    from dataclasses import replace

    import numpy as np

    from napari_sightline.io import save_image
    from napari_sightline.io.mesh import file_name

    if found.entropy is not None:
        image = replace(scan, data=found.entropy.astype(np.float32))
        save_image(_beside(out, "_uncertainty", ".nii.gz"), image)
    if found.probabilities is not None:
        shift = len(found.probabilities) - max(found.names, default=0)
        for value, name in found.names.items():
            image = replace(scan, data=found.probabilities[value - 1 + shift].astype(np.float32))
            save_image(_beside(out, f"_probability_{file_name(name)}", ".nii.gz"), image)
