"""Which scans and structures an evaluation goes through.

A cases file is a JSON list of objects::

    {"image": PATH, "labels": PATH, "structures": {"1": "brainstem", ...},
     "set": "headneck_ct", "modality": "CT", "contoured": ["brainstem", ...]}

``set``, ``modality`` and ``contoured`` may be missing. Relative paths start at
the folder of the cases file. Where ``contoured`` is given, other structures
are unknown in that case and left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sightline.errors import BadInput
from napari_sightline.io.targets import write_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_sightline.volume import Volume

#: Sets of the shared data that can be listed.
SETS = ("headneck_ct", "hippocampus_mr", "sarcoma")
SPLITS = ("validation", "training")

#: Label value and name of each organ as ``index.json`` spells it.
_HEADNECK = {
    "Brainstem": (1, "brainstem"),
    "SpinalCord": (2, "spinal cord"),
    "RightParotid": (3, "right parotid"),
    "LeftParotid": (4, "left parotid"),
    "Esophagus": (5, "oesophagus"),
    "Larynx": (6, "larynx"),
    "Mandible": (7, "mandible"),
}
_HIPPOCAMPUS = {1: "anterior hippocampus", 2: "posterior hippocampus"}
_SARCOMA_MODALITIES = {"ct": "CT", "t1": "MR", "pet": "PT"}
#: The last patients of the sarcoma set validate.
_SARCOMA_VALIDATION = frozenset(f"STS_{number:03d}" for number in range(31, 36))


#: Lists a set's cases, each with whether it validates.
_Maker = Callable[[Path, Any], Iterable[tuple["EvaluationCase", bool]]]


@dataclass(frozen=True)
class EvaluationCase:
    """One scan with the structures to segment in it.

    Attributes
    ----------
    image, labels : Path
        The scan and its label map, on one grid.
    structures : dict of int to str
        Label value to name, contoured ones only.
    set : str
        Set the case belongs to; results are given for each.
    modality : str
        Refines the set in the results where a set holds several; may be empty.
    patient : str
        Whose scan it is, where several are of one patient; empty where it is the only one.
    """

    image: Path
    labels: Path
    structures: dict[int, str] = field(default_factory=dict)
    set: str = ""
    modality: str = ""
    patient: str = ""

    @property
    def owner(self) -> str:
        """Patient, or the scan itself where it is the patient's only one."""
        return self.patient or str(self.image)

    @property
    def name(self) -> str:
        """File name of the image without its endings."""
        return self.image.name.split(".")[0]


def read_cases(path: str | os.PathLike[str]) -> list[EvaluationCase]:
    """Read a cases file.

    Raises
    ------
    BadInput
        Where the file is missing, is not JSON of the form above, lists nothing, or names
        images or label maps that do not exist.
    """
    file = Path(path)
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"The cases file {str(file)!r} cannot be read ({error.strerror}); "
            "make one with 'sightline evaluate cases'."
        ) from error
    except ValueError as error:
        raise BadInput(
            f"The cases file {file.name!r} is not JSON ({error}); "
            "make one with 'sightline evaluate cases'."
        ) from error
    if not isinstance(entries, list) or not entries:
        raise BadInput(f"The cases file {file.name!r} is not a list of cases; give one or more.")
    return [_case(entry, number, file) for number, entry in enumerate(entries)]


def write_cases(path: str | os.PathLike[str], cases: Iterable[EvaluationCase]) -> Path:
    """Write a cases file, with absolute paths.

    Raises
    ------
    BadInput
        Where the file cannot be written.
    """
    entries = []
    for case in cases:
        entry: dict[str, Any] = {
            "image": str(case.image.resolve()),
            "labels": str(case.labels.resolve()),
            "structures": {str(value): name for value, name in case.structures.items()},
            "set": case.set,
        }
        if case.modality:
            entry["modality"] = case.modality
        if case.patient:
            entry["patient"] = case.patient
        entries.append(entry)
    return write_json(path, entries)


def list_cases(
    data: str | os.PathLike[str], split: str = "validation", sets: Sequence[str] = SETS
) -> list[EvaluationCase]:
    """List the cases of the shared data by its own split.

    Head-and-neck cases follow ``group`` of ``index.json`` (``train-pats`` train,
    ``validation-pats`` validate) and offer their contoured organs. Of the hippocampi, sorted
    by name, the first and then every fifth validate (``sorted(names)[::5]``). Sarcoma patients
    STS_031 to STS_035 validate, in every modality.

    Parameters
    ----------
    data : path
        Folder that holds ``index.json`` and the sets.
    split : {"validation", "training"}
        Which side of the split.
    sets : sequence of str
        Some of `SETS`, in the order wanted.

    Raises
    ------
    BadInput
        Where the folder, the split or a set is not known.
    """
    if split not in SPLITS:
        raise BadInput(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    unknown = [name for name in sets if name not in SETS]
    if unknown:
        raise BadInput(f"There is no set {unknown[0]!r}; choose from {', '.join(SETS)}.")
    folder = Path(data)
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The data folder {str(folder)!r} has no readable index.json; "
            "give the folder that holds it with --data."
        ) from error
    makers: dict[str, _Maker] = {
        "headneck_ct": _headneck,
        "hippocampus_mr": _hippocampus,
        "sarcoma": _sarcoma,
    }
    try:
        cases = [
            case
            for name in sets
            for case, validates in makers[name](folder / name, index[name])
            if validates == (split == "validation")
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"The index of {str(folder)!r} does not list the sets asked for ({error!r}); "
            "give a folder laid out as its README says."
        ) from error
    missing = [case.image for case in cases if not case.image.is_file()]
    if missing:
        raise BadInput(f"The scan {str(missing[0])!r} of the index is missing; complete the data.")
    return cases


def load_case(case: EvaluationCase) -> tuple[Volume, npt.NDArray[np.integer[Any]]]:
    """Open a case's scan and label map.

    Returns
    -------
    volume : Volume
    labels : ndarray of int, shape of the volume, canonical order

    Raises
    ------
    BadInput
        Where a file cannot be used or the two lie on different grids.
    """
    from napari_sightline.io import load, load_labels

    volume = load(case.image)
    labels, _ = load_labels(case.labels)
    # Half a millimetre is well under any voxel here and over what headers round away.
    if labels.file_shape != volume.file_shape or not np.allclose(
        labels.file_affine, volume.file_affine, atol=0.5
    ):
        raise BadInput(
            f"The labels {case.labels.name!r} lie on another grid than {case.image.name!r}; "
            "resample them to the scan's grid."
        )
    return volume, np.asarray(labels.data)


def _case(entry: object, number: int, file: Path) -> EvaluationCase:
    try:
        if not isinstance(entry, dict):
            raise TypeError("not an object")
        structures = {int(value): str(name) for value, name in entry["structures"].items()}
        image, labels = (file.parent / str(entry[key]) for key in ("image", "labels"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"Case {number + 1} of {file.name!r} lacks something ({error!r}); "
            'give {"image": PATH, "labels": PATH, "structures": {"1": NAME}}.'
        ) from error
    for path in (image, labels):
        if not path.is_file():
            raise BadInput(
                f"The file {str(path)!r} of case {number + 1} in {file.name!r} does not exist; "
                "correct its path."
            )
    contoured = entry.get("contoured")
    if isinstance(contoured, list):
        structures = {value: name for value, name in structures.items() if name in contoured}
    if not structures and not contoured:
        raise BadInput(f"Case {number + 1} of {file.name!r} names no structures; list one or more.")
    group, modality, patient = (str(entry.get(key, "")) for key in ("set", "modality", "patient"))
    return EvaluationCase(image, labels, structures, group, modality, patient)


def _headneck(folder: Path, index: dict[str, Any]) -> Iterable[tuple[EvaluationCase, bool]]:
    for key in sorted(index, key=lambda name: int(name.split("_")[1])):
        entry = index[key]
        structures = dict(sorted(_HEADNECK[organ] for organ in entry["contoured"]))
        image, labels = folder / f"{key}_ct.nii.gz", folder / f"{key}_organs.nii.gz"
        case = EvaluationCase(image, labels, structures, "headneck_ct", "CT")
        yield case, entry["group"] == "validation-pats"


def _hippocampus(folder: Path, index: list[str]) -> Iterable[tuple[EvaluationCase, bool]]:
    for number, key in enumerate(sorted(index)):
        image, labels = folder / f"{key}_t1.nii.gz", folder / f"{key}_labels.nii.gz"
        case = EvaluationCase(image, labels, dict(_HIPPOCAMPUS), "hippocampus_mr", "MR")
        yield case, number % 5 == 0


def _sarcoma(folder: Path, index: list[str]) -> Iterable[tuple[EvaluationCase, bool]]:
    for key in sorted(index):
        patient, _, kind = key.rpartition("_")
        image, labels = folder / f"{key}.nii.gz", folder / f"{key}_tumour.nii.gz"
        modality = _SARCOMA_MODALITIES[kind]
        case = EvaluationCase(image, labels, {1: "tumour"}, "sarcoma", modality, patient)
        yield case, patient in _SARCOMA_VALIDATION
