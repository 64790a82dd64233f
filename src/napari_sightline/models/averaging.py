"""One network from several that learnt on from the same weights: the mean of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_sightline.errors import ModelError
from napari_sightline.models.ensemble import check_together, read_named
from napari_sightline.models.segmenter import Segmenter

#: Statistics that a network kept of what it saw; their mean fits no network.
_STATISTICS = nn.modules.batchnorm._BatchNorm


def average(models: Sequence[Segmenter], name: str | None = None) -> Segmenter:
    """Average the weights of models that learnt on from the same ones.

    Such networks mostly lie in one basin of the loss, where the mean of their weights is as good
    as the mean of their answers, at the price of one (Wortsman et al., "Model soups: averaging
    weights of multiple fine-tuned models improves accuracy without increasing inference time",
    ICML 2022). The mean of networks that began apart is worthless; weights do not tell which is
    the case, so measure.

    Parameters
    ----------
    models : sequence of Segmenter
        At least two, each of one network, of one family and size, of the same structures, grid,
        window and intensities. Other facts are those of the first.
    name : str, optional
        Instead of the first one's.

    Returns
    -------
    Segmenter
        In float32, in evaluation mode; means are taken in float64.

    Raises
    ------
    ModelError
        Where there is one only, they do not belong together, or one is several networks.
    """
    from napari_sightline.models.architecture import family_of_network

    if len(models) < 2:
        raise ModelError("One model alone has no average; name two or more.")
    check_together(models)
    first = models[0]
    family, sizes = family_of_network(first.network)
    for one in models:
        if one.others:
            raise ModelError(
                f"The model {one.spec.name!r} is several networks; take it apart first with "
                "`sightline models split`."
            )
        if family_of_network(one.network) != (family, sizes):
            raise ModelError(
                f"The model {one.spec.name!r} is a network of another size than "
                f"{first.spec.name!r}; average models that began as one."
            )
        if any(isinstance(part, _STATISTICS) for part in one.network.modules()):
            raise ModelError(
                f"The model {one.spec.name!r} has batch normalisation, whose statistics have no "
                "mean; combine such models with `sightline models combine`."
            )
    states = [one.network.state_dict() for one in models]
    mean = {}
    for key, value in states[0].items():
        if value.is_floating_point():
            total = torch.stack([state[key].double().cpu() for state in states]).mean(0)
            mean[key] = total.float()
        else:
            mean[key] = value
    network = sizes.build()
    network.load_state_dict(mean)
    return Segmenter(network, replace(first.spec, name=name or first.spec.name))


def write_average(
    names: Sequence[str | Path], out: Path, name: str | None = None, half: bool = True
) -> Segmenter:
    """Average models that are here, and write the mean as a file.

    Offsets of logits that training chose are averaged with the weights, and noted so that a later
    training takes the right ones off; other notes are those of the first.

    Parameters
    ----------
    names : sequence of str or Path
        Names of models, or files of `segmenter_io.write_segmenter`.
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
        Where one cannot be read, or they have no average.
    """
    from napari_sightline.models.segmenter_io import write_segmenter

    read = [read_named(one) for one in names]
    made = average([model for model, _ in read], name or out.stem)
    offsets = _mean_offsets([(model, notes[0]) for model, notes in read])
    about = {**read[0][1][0], "offsets": offsets} if offsets else read[0][1][0]
    write_segmenter(out, made.network, made.spec, about, half)
    return made


def _mean_offsets(read: Sequence[tuple[Segmenter, Mapping[str, Any]]]) -> dict[str, float]:
    """Mean of what each file notes to have been added to a structure's logit; without is 0."""
    mean: dict[str, float] = {}
    for model, about in read:
        try:
            for output, offset in about.get("offsets", {}).items():
                mean[str(output)] = mean.get(str(output), 0.0) + float(offset) / len(read)
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(
                f"The offsets noted in the file of {model.spec.name!r} are damaged; copy it again."
            ) from error
    return mean
