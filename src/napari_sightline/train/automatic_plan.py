"""What a training of an automatic model starts from and learns from, read off its options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_sightline.errors import BadInput
from napari_sightline.models.segmenter import ALIKE, IntensityRule, Segmenter, SegmenterSpec
from napari_sightline.train.calibrate import without_offsets
from napari_sightline.train.loop import RunOptions
from napari_sightline.train.organ_cases import OrganSource, find_headneck, find_pairs

#: Facts of the embedded model. Air is 0, which is what windows beyond the scan are filled with.
HEADNECK_SPEC = SegmenterSpec(
    name="swin-unetr-headneck-ct",
    labels={
        1: "brainstem",
        2: "spinal cord",
        3: "right parotid gland",
        4: "left parotid gland",
        5: "oesophagus",
        6: "larynx",
        7: "mandible",
    },
    channels=("CT",),
    roi=(96, 96, 96),
    orientation="SPL",
    spacing=(2.5, 2.5, 2.5),
    intensity=IntensityRule("window", -200.0, 400.0, 0.0, 1.0, True),
    overlap=0.5,
    fragments=0.1,
    blank=-1024.0,
    modality="CT",
    licence="BSD-3-Clause (weights); trained on OpenKBP, MIT",
    source="sightline train automatic",
)


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of a run; see `train`."""

    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    warm_start: Path | None = None
    roi: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    mirror: bool = False
    complete: bool = False
    network: str | None = None
    teachers: tuple[Path, ...] = ()
    teach: float = 0.5

    @property
    def may_only_finish(self) -> bool:
        """With a model to start from: its offsets are chosen anew."""
        return self.warm_start is not None


#: Networks that the embedded model's data can be learnt with from random weights.
NETWORKS = ("swin-unetr", "dynunet")


def headneck_network(kind: str = "swin-unetr") -> nn.Module:
    """Build a network for the embedded model's data, with random weights.

    Parameters
    ----------
    kind : str
        ``"swin-unetr"`` for MONAI's Swin-UNETR, the second version: a residual convolution leads
        each stage. ``"dynunet"`` for nnU-Net's convolutional network, which learns faster and
        makes other mistakes: a teacher.
    """
    outputs = HEADNECK_SPEC.outputs
    network: Any
    if kind == "dynunet":
        from napari_sightline.models.dynunet import DynUnetSizes

        filters = (16, 32, 64, 88, 88, 88)
        steps = ((1, 1, 1), *((2, 2, 2),) * (len(filters) - 1))
        sizes = DynUnetSizes(1, outputs, filters, ((3, 3, 3),) * len(filters), steps)
        network = sizes.build()
        bias = network.output_block.conv.conv.bias
    else:
        from napari_sightline.models.monai_parts import SwinUNETR

        network = SwinUNETR(
            in_channels=1,
            out_channels=outputs,
            feature_size=12,
            window_size=4,
            use_v2=True,
            use_flash_attention=True,
        )
        bias = network.out.conv.conv.bias
    with torch.no_grad():
        # Nearly all is background: the first steps need not learn that.
        bias[0] += 3
    made: nn.Module = network
    return made


@dataclass(frozen=True)
class Plan:
    """What a run starts from and learns from.

    Attributes
    ----------
    start : Segmenter
        The model that learns, with the facts that it shall have.
    sources : list of OrganSource
        Cases.
    filler : Segmenter, optional
        The model that fills in what a case does not contour, as it is.
    teachers : list of torch.nn.Module
        Networks whose chances are learnt from too.
    """

    start: Segmenter
    sources: list[OrganSource]
    filler: Segmenter | None
    teachers: list[nn.Module]


def plan(options: Options) -> Plan:
    """Read options, and the models that they name.

    Raises
    ------
    BadInput
        Where data or options cannot be used.
    ModelError
        Where a model cannot be used.
    """
    roi = options.roi
    if roi is not None and (any(n < 32 or n % 32 for n in roi) or max(roi) < 64):
        # At stride 32 the network normalises over what is left, which one voxel does not allow.
        raise BadInput(f"A crop of {roi} voxels does not fit; give multiples of 32, one above 32.")
    mm = options.spacing
    if mm is not None and not all(0.1 <= x <= 20 for x in mm):  # NaN is refused too
        raise BadInput(f"A grid of {mm} mm is none to learn on; give spacings of 0.1 to 20 mm.")
    own = options.images is not None or options.labels is not None
    if own == (options.data is not None):
        raise BadInput("Give either --data, or --images and --labels, to learn from.")
    if options.complete and (own or (options.warm_start is None and not options.teachers)):
        raise BadInput(
            "Structures that are not contoured are filled in by the model of --warm-start, else by "
            "the first --teacher, and in the cases of --data only; leave --complete out or give "
            "both."
        )
    if options.network is not None and options.network not in NETWORKS:
        raise BadInput(
            f"The network {options.network!r} is not known; choose {' or '.join(NETWORKS)}."
        )
    if not 0 <= options.teach <= 1:
        raise BadInput(f"A share of {options.teach} of the loss is none; give 0 to 1.")
    start: Segmenter | None = None
    filler: Segmenter | None = None
    about: dict[str, Any] = {}
    if options.warm_start is not None:
        from napari_sightline.models.segmenter_io import read_segmenter

        filler, about = read_segmenter(options.warm_start)
        start = _learner(without_offsets(filler, about), options.network)
    torch.manual_seed(options.seed)
    if options.data is not None:
        sources, spec = find_headneck(options.data), HEADNECK_SPEC
        if start is None:
            kind = options.network or NETWORKS[0]
            spec = replace(spec, name=f"{kind}-headneck-ct")
            start = Segmenter(headneck_network(kind), spec)
        elif dict(start.spec.labels) != dict(spec.labels):
            raise BadInput(
                f"The model {start.spec.name!r} has other structures than the head-and-neck "
                "data; give one's own pairs with --images and --labels."
            )
    else:
        if options.images is None or options.labels is None:
            raise BadInput("Fine-tuning needs both --images and --labels; give the other too.")
        if start is None:
            raise BadInput("Fine-tuning needs a model to start from; give --warm-start.")
        if start.spec.overlapping:
            raise BadInput(
                f"The model {start.spec.name!r} has structures that overlap, and a label map "
                "cannot; choose another model to start from."
            )
        sources, names = find_pairs(options.images, options.labels, options.seed)
        if options.minutes == 0 and set(names) != set(start.spec.labels):
            raise BadInput(
                f"The labels have other structures than {start.spec.name!r}, which it must learn "
                "first; give more than 0 minutes."
            )
        start = _with_structures(start, names)
    mirror = start.spec.mirror and options.mirror  # else it unlearns what mirrored windows need
    spec = replace(
        start.spec,
        roi=options.roi or start.spec.roi,
        spacing=options.spacing or start.spec.spacing,
        mirror=mirror,
    )
    taught = [_teacher(path, spec) for path in options.teachers]
    if filler is None and taught:
        filler = taught[0][0]
    teachers = [network for _, networks in taught for network in networks]
    return Plan(Segmenter(start.network, spec), sources, filler, teachers)


def _learner(model: Segmenter, kind: str | None) -> Segmenter:
    """Choose the network that goes on learning: the first, or of several the one of a kind."""
    from napari_sightline.models.architecture import family_of_network

    if kind is None:
        return Segmenter(model.network, model.spec)
    if not model.others:
        raise BadInput("The model of --warm-start has a network already; leave --network out.")
    family = kind.replace("-", "_")
    found = [one for one in model.networks if family_of_network(one)[0] == family]
    if len(found) != 1:
        raise BadInput(
            f"Of the {len(model.networks)} networks of {model.spec.name!r} {len(found) or 'none'} "
            f"are of the kind {kind!r}; name a kind that is there once, or leave --network out."
        )
    return Segmenter(found[0], model.spec)


def _teacher(path: Path, spec: SegmenterSpec) -> tuple[Segmenter, list[nn.Module]]:
    """Read a teacher: as it is, and its networks without offsets; it must see crops as they are."""
    from napari_sightline.models.segmenter_io import read_segmenter

    model, about = read_segmenter(path)
    for key, word in ALIKE.items():
        if getattr(model.spec, key) != getattr(spec, key):
            raise BadInput(
                f"The teacher {path.name!r} has {word} than the model that learns; give one that "
                "has the same."
            )
    networks = [network.eval() for network in without_offsets(model, about).networks]
    for network in networks:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model, networks


def _with_structures(start: Segmenter, names: dict[int, str]) -> Segmenter:
    """Fit a model's last layer to other structures; kept where the label values are the same."""
    if set(names) == set(start.spec.labels):
        kept = {
            value: start.spec.labels[value] if name == f"label {value}" else name
            for value, name in names.items()
        }
        return Segmenter(start.network, replace(start.spec, labels=kept))
    spec = replace(start.spec, labels=names, name=f"{start.spec.name}-tuned")
    network: Any = start.network
    last: Any = getattr(network, "out", None) or getattr(network, "output_block", None)
    try:
        old = last.conv.conv  # as MONAI's UnetOutBlock names it
    except AttributeError as error:
        raise BadInput(
            f"The model {start.spec.name!r} has no last layer that could take other structures; "
            "choose a Swin-UNETR, a UNETR or a DynUNet to start from."
        ) from error
    last.conv.conv = nn.Conv3d(old.in_channels, spec.outputs, 1, bias=old.bias is not None)
    return Segmenter(start.network, spec)
