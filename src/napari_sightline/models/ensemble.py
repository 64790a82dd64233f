"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
    first = models[0]
    for one in models[1:]:
        for key, word in _TOGETHER.items():
            if getattr(one.spec, key) != getattr(first.spec, key):
                raise ModelError(
                    f"The model {one.spec.name!r} has {word} than {first.spec.name!r}; combine "
                    "models that have the same."
                )
    others = [network for one in models for network in one.networks][1:]
    spec = replace(first.spec, name=name or first.spec.name)
    return Segmenter(first.network, spec, tuple(others))


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
    from napari_sightline.models.catalog import file_of
    from napari_sightline.models.segmenter_io import read_segmenter, write_segmenter

    models, notes = [], []
    for one in names:
        path, own = file_of(one)
        if path is None:
            raise BadInput(
                f"The model {str(one)!r} is another program's; import it first with "
                "`sightline models add`."
            )
        model, about = read_segmenter(path)
        # Called as it was asked for: folds often have one name within.
        models.append(replace(model, spec=replace(model.spec, name=own or Path(one).stem)))
        notes.append(about)
    made = combine(models, name or out.stem)
    further = [note for about in notes for note in (about, *about.get("others", ()))][1:]
    about = {**notes[0], "others": further}
    write_segmenter(out, made.network, made.spec, about, half, made.others)
    return made
