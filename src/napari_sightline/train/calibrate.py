"""Offsets of an automatic model's logits, chosen after training so that Dice is best."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from napari_sightline.errors import ModelError
from napari_sightline.models.ensemble import notes_of_each
from napari_sightline.models.segmenter import Segmenter
from napari_sightline.train.organ_cases import OrganCase

#: Cases of each process that are looked at.
COUNT = 24
#: What may be added to a structure's logit.
OFFSETS = tuple(round(-3 + 0.1 * k, 1) for k in range(41))
#: The last layer's bias, as MONAI's UnetOutBlock names it; of a DynUNet.
BIAS, _BIAS_OF_DYNUNET = "out.conv.conv.bias", "output_block.conv.conv.bias"


def bias_in(names: Container[str]) -> str | None:
    """Name the last layer's bias among a network's weights; None where there is none."""
    return next((name for name in (BIAS, _BIAS_OF_DYNUNET) if name in names), None)


def spread(cases: Sequence[OrganCase]) -> list[OrganCase]:
    """Choose up to `COUNT` cases, evenly among the names.

    Those that contour most would be no fair sample: they are drawn by other people than the rest.
    """
    ordered = sorted(cases, key=lambda c: c.source.name)
    count = min(COUNT, len(ordered))
    return [ordered[k * len(ordered) // count] for k in range(count)]


def noted_offsets(about: Mapping[str, Any], model: Segmenter) -> Tensor:
    """Read the offsets of logits that a model's file notes.

    Parameters
    ----------
    about : mapping
        What the file notes, see `napari_sightline.models.segmenter_io.read_segmenter`.
    model : Segmenter
        The model of that file.

    Returns
    -------
    torch.Tensor, shape (outputs,), float32
        Zeros where it notes none.

    Raises
    ------
    ModelError
        Where they do not fit the model.
    """
    offsets = torch.zeros(model.spec.outputs)
    try:
        for output, offset in about.get("offsets", {}).items():
            if not 0 < int(output) < len(offsets):
                raise ValueError(output)
            offsets[int(output)] = float(offset)
        if bool(offsets.any()) and bias_in(model.network.state_dict()) is None:
            raise ValueError("no bias to take them off")
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"The offsets noted in the file of {model.spec.name!r} are damaged; copy it again."
        ) from error
    if not bool(offsets.isfinite().all()):
        raise ModelError(
            f"The offsets noted in the file of {model.spec.name!r} are not finite; copy it again."
        )
    return offsets


def without_offsets(model: Segmenter, about: Mapping[str, Any]) -> Segmenter:
    """Copy a model as it was before offsets were chosen, which serve labels and not learning.

    Of several networks each has its own, see `napari_sightline.models.ensemble.write_combined`.

    Raises
    ------
    ModelError
        Where the offsets that the file notes do not fit the model.
    """
    plain = []
    for its, noted in zip(model.networks, notes_of_each(model, about), strict=True):
        offsets, network = noted_offsets(noted, Segmenter(its, model.spec)), deepcopy(its)
        name = bias_in(network.state_dict())
        if name is not None:
            with torch.no_grad():
                network.get_parameter(name).sub_(offsets)
        plain.append(network)
    return Segmenter(plain[0], model.spec, tuple(plain[1:]))


def calibrate(
    cases: Iterable[OrganCase],
    logits_of: Callable[[OrganCase], Tensor],
    outputs: int,
    partners: Mapping[int, int] | None = None,
    world: int = 1,
) -> Tensor:
    """Choose what to add to each structure's logit.

    A loss that keeps small structures alive draws too much of them, and a label by the greatest
    probability is not the one with the best Dice: its threshold lies where the probability is half
    of the Dice that can be reached (Lipton et al., "Optimal thresholding of classifiers to maximize
    F1 measure", ECML PKDD 2014). Here the thresholds are found on cases.

    Parameters
    ----------
    cases : iterable of OrganCase
        Of this process; cases that were learnt from, so that others stay unseen.
    logits_of : callable
        Gives a case's logits, ``(outputs, d0, d1, d2)``, on its own grid.
    outputs : int
        Channels; 0 is the background.
    partners : mapping of int to int, optional
        Structures of the two sides of the body, which get the same; see
        `napari_sightline.models.segmenter.partners_of`.
    world : int
        Number of processes.

    Returns
    -------
    torch.Tensor, shape (outputs,), float32
        Of `OFFSETS` the one with the greatest mean Dice, the others left as they are; 0 for the
        background and for a structure that no case has.
    """
    offsets = torch.tensor(OFFSETS)
    sums = torch.zeros(outputs, len(OFFSETS) + 1, dtype=torch.float64)
    for case in cases:
        logits, labels = logits_of(case), torch.from_numpy(case.labels)
        for value in case.points:
            sums[value, :-1] += _dice(logits, labels == value, value, offsets)
            sums[value, -1] += 1
    if world > 1:
        dist.all_reduce(sums)
    both = sums.clone()
    for value, partner in (partners or {}).items():
        both[value] += sums[partner]
    mean = both[:, :-1] / both[:, -1:].clamp(min=1)
    # Of equal ones the smallest change.
    best = (mean - 1e-6 * offsets.abs()).argmax(1)
    return torch.where(both[:, -1] > 0, offsets[best], 0.0)


def _dice(logits: Tensor, truth: Tensor, value: int, offsets: Tensor) -> Tensor:
    """Dice of a structure for each offset, the others' logits as they are."""
    rivals = logits.clone()
    rivals[value] = -torch.inf
    margin = logits[value] - rivals.amax(0)  # found where margin + offset > 0
    edges = -offsets.flip(0)

    def above(values: Tensor) -> Tensor:
        ordered = values.flatten().sort().values
        count = len(ordered) - torch.searchsorted(ordered, edges, right=True)
        return count.flip(0).double()

    near = margin[margin > float(edges[0])]
    return 2 * above(margin[truth]) / (above(near) + truth.sum()).clamp(min=1)
