"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from napari_sightline.errors import BadInput, ModelError
from napari_sightline.models.segmenter import ALIKE, Segmenter

#: What networks must have in common to answer as one; how a difference is called.
_TOGETHER = {**ALIKE, "spacing_range": "another grid", "roi": "another window"}


class Ensemble(nn.Module):
    """The mean of what networks think: their logits are averaged, as windows of one network are.

    Networks that were trained apart err apart, so that the mean errs less than each
    (Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
    ensembles", NeurIPS 2017). The mean of logits is the geometric mean of probabilities, which a
    network that is sure of its answer can say no to; it does not matter whether windows or networks
    are averaged first.

    Parameters
    ----------
    members : sequence of torch.nn.Module
        Each maps ``(B, channels, *roi)`` to logits ``(B, outputs, *roi)``. One after the other, so
        memory is that of the largest, and of its logits once more.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        """Return the mean of the logits, ``(B, outputs, *roi)``, float32."""
        total: Tensor | None = None
        for member in self.members:
            found = member(image)
            logits = (found[0] if isinstance(found, list | tuple) else found).float()
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.members)


def combine(models: Sequence[Segmenter], name: str | None = None) -> Segmenter:
    """Let models answer as one, by the mean of their logits.

    Parameters
    ----------
    models : sequence of Segmenter
        At least two, of the same structures, grid, window and intensities. Facts are those of the
        first, whose attention is shown.
    name : str, optional
        Instead of the first one's.

    Raises
    ------
    ModelError
        Where there is one only, or they do not belong together.
    """
    if len(models) < 2:
        raise ModelError("One model alone is no ensemble; name two or more.")
    check_together(models)
    first = models[0]
    others = [network for one in models for network in one.networks][1:]
    spec = replace(first.spec, name=name or first.spec.name)
    return Segmenter(first.network, spec, tuple(others))


def check_together(models: Sequence[Segmenter]) -> None:
    """Refuse models whose logits do not mean the same, or lie on another grid.

    Raises
    ------
    ModelError
        Naming the first that differs, and in what.
    """
    first = models[0]
    for one in models[1:]:
        for key, word in _TOGETHER.items():
            if getattr(one.spec, key) != getattr(first.spec, key):
                raise ModelError(
                    f"The model {one.spec.name!r} has {word} than {first.spec.name!r}; name "
                    "models that have the same."
                )


def write_combined(
    names: Sequence[str | Path], out: Path, name: str | None = None, half: bool = True
) -> Segmenter:
    """Combine models that are here, and write them as one file.

    Parameters
    ----------
    names : sequence of str or Path
        Names of models, or files of `segmenter_io.write_segmenter`. What the first one's file notes
        is kept, and under ``"others"`` what the files of the others do.
    out : Path
        File to write, ``.safetensors``.
    name : str, optional
        Of the model; by default what the file is called.
    half : bool
        Whether weights are rounded to float16.

    Raises
    ------
    BadInput
        Where one is not here or not of that kind, or the disk refuses.
    ModelError
        Where one cannot be read, or they do not belong together.
    """
    from napari_sightline.models.segmenter_io import write_segmenter

    models, notes = [], []
    for one in names:
        model, its = read_named(one)
        models.append(model)
        notes += its
    made = combine(models, name or out.stem)
    about = {**notes[0], "others": notes[1:]}
    write_segmenter(out, made.network, made.spec, about, half, made.others)
    return made


def write_apart(
    name: str | Path, folder: Path, half: bool = True, overwrite: bool = False
) -> list[Path]:
    """Write each network of a model into a file of its own, as `write_combined` was given them.

    Parameters
    ----------
    name : str or Path
        Name of a model, or a file of `segmenter_io.write_segmenter`, of several networks.
    folder : Path
        Where ``NAME-1.safetensors``, ``NAME-2.safetensors`` ... are written; each keeps what its
        own file noted.
    half : bool
        Whether weights are rounded to float16.
    overwrite : bool
        Whether files of these names may be replaced.

    Returns
    -------
    list of Path
        The files, in the order of the networks.

    Raises
    ------
    BadInput
        Where the model is not here or not of that kind, a file is in the way, or the disk refuses.
    ModelError
        Where it cannot be read, or is one network.
    """
    from napari_sightline.models.segmenter_io import write_segmenter

    model, notes = read_named(name)
    if not model.others:
        raise ModelError(
            f"The model {model.spec.name!r} is one network; name one that was combined."
        )
    stems = [f"{model.spec.name}-{number}" for number in range(1, len(notes) + 1)]
    files = [folder / f"{stem}.safetensors" for stem in stems]
    for file in files:
        if file.exists() and not overwrite:
            raise BadInput(
                f"There is a file {file.name!r} already; give another folder or --overwrite."
            )
    for stem, file, network, about in zip(stems, files, model.networks, notes, strict=True):
        write_segmenter(file, network, replace(model.spec, name=stem), about, half)
    return files


def notes_of_each(model: Segmenter, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell what each network's own file noted, from the notes of the file that holds them all.

    Returns
    -------
    list of dict
        One for each of `Segmenter.networks`; empty where nothing was noted.

    Raises
    ------
    ModelError
        Where the notes are not of that form.
    """
    first, further = dict(about), about.get("others", [])
    first.pop("others", None)
    count = len(model.others)
    if not (
        isinstance(further, list)
        and len(further) <= count
        and all(isinstance(note, dict) for note in further)
    ):
        raise ModelError(
            f"The notes in the file of {model.spec.name!r} are damaged; copy it again."
        )
    return [first, *further, *({} for _ in range(count - len(further)))]


def read_named(name: str | Path) -> tuple[Segmenter, list[dict[str, Any]]]:
    """Read a model, called as it was asked for, and what was noted of each of its networks.

    Raises
    ------
    BadInput
        Where it is not here or not of that kind.
    ModelError
        Where it cannot be read.
    """
    from napari_sightline.models.catalog import file_of
    from napari_sightline.models.segmenter_io import read_segmenter

    path, own = file_of(name)
    if path is None:
        raise BadInput(
            f"The model {str(name)!r} is another program's; import it first with "
            "`sightline models add`."
        )
    model, about = read_segmenter(path)
    # Folds often have one name within.
    model = replace(model, spec=replace(model.spec, name=own or Path(name).stem))
    return model, notes_of_each(model, about)
