"""One look of a network at one place, to be repeated with gradients or on a changed image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_sightline.attention.calls import Pass
from napari_sightline.attention.frame import Frame
from napari_sightline.attention.tap import Tap
from napari_sightline.errors import BadInput
from napari_sightline.models.intensity import Intensity
from napari_sightline.models.precision import autocast
from napari_sightline.volume import Volume

if TYPE_CHECKING:
    from napari_sightline.models.segmenter import Segmenter
    from napari_sightline.segment.region import Region


@dataclass(frozen=True, eq=False)
class Probe:
    """A network, its input, and which of its outputs is asked about.

    Attributes
    ----------
    network : torch.nn.Module
        In evaluation mode.
    model : str
        Its name.
    image : torch.Tensor
        ``(1, C, D, H, W)`` float32, as the network gets it.
    frame : Frame
        Where it lies in the volume.
    structure : str
        What is asked about, for people.
    channel : int
        Output channel of an automatic network.
    overlapping : bool
        Whether that channel is a sigmoid by itself.
    points, codes : numpy.ndarray or None
        Prompts of a promptable network, voxels of its input.
    spacing : float
        Millimetres a voxel, for a promptable network.
    previous : torch.Tensor or None
        Logits of the mask before, ``(1, 1, D, H, W)``.
    precision : {"fp32", "bf16"}
        Of `scores`, which runs often; all else is float32.
    """

    network: nn.Module
    model: str
    image: Tensor
    frame: Frame
    structure: str = "the mask"
    channel: int = 0
    overlapping: bool = True
    points: npt.NDArray[np.float32] | None = None
    codes: npt.NDArray[np.int64] | None = None
    spacing: float = 1.0
    previous: Tensor | None = None
    precision: str = "fp32"

    def scores(self, image: Tensor, mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """Compare the answer for an image like `image` with a mask ``(D, H, W)``, not empty.

        Returns
        -------
        tuple of 2 float
            Mean probability over the mask, and soft Dice of the probabilities with it:
            ``2 sum(p m) / (sum(p) + sum(m))``.
        """
        with torch.inference_mode(), autocast(image.device, self.precision):
            logits = self.logits(image).float()
        found, wanted = logits.sigmoid(), torch.from_numpy(mask).to(logits.device)
        inside, size = float(found[wanted].sum()), int(wanted.sum())
        return inside / size, 2 * inside / (float(found.sum()) + size)

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(D, H, W)`` of what is asked about, float32, for an image like `image`.

        Of classes that exclude each other: the log odds, so that the logistic function gives the
        class's softmax.
        """
        if self.points is not None:
            return self._promptable(image)
        out = self.network(image)
        out = (out[0] if isinstance(out, list | tuple) else out)[0].float()
        if self.overlapping:
            return out[self.channel]
        others = [c for c in range(len(out)) if c != self.channel]
        return out[self.channel] - out[others].logsumexp(0)

    def _promptable(self, image: Tensor) -> Tensor:
        from napari_sightline.models.sightline3d import Prompts

        network: Any = self.network
        assert self.points is not None
        assert self.codes is not None
        prompts = Prompts(
            torch.from_numpy(self.points)[None].to(image.device),
            torch.from_numpy(self.codes)[None].to(image.device),
        )
        features = network.encode(image, torch.tensor([self.spacing], device=image.device))
        return network.decode(features, prompts, self.previous, False).logits[0, 0]

    def record(self, tap: Tap | None = None) -> Pass:
        """Run once and record attention."""
        tap = tap or Tap()
        with (
            torch.inference_mode(),
            tap.record(self.network, self.frame, self.model, self.points, self.codes) as one,
        ):
            self.logits(self.image)
        return one


def probe_click(
    model: Any,
    volume: Volume,
    region: Region,
    one: Pass,
    intensity: Intensity | None = None,
) -> Probe:
    """Repeat a session's look at a region: the same prompts, the same mask before.

    Parameters
    ----------
    model : EmbeddedModel
        `sightline-3d`, loaded.
    volume : Volume
        The scan.
    region : Region
        The working grid, such as `MaskUpdate.region`.
    one : Pass
        What was recorded there.
    intensity : Intensity, optional
        Of the whole volume; computed if not given.
    """
    network: Any = getattr(model, "network", None)
    if not hasattr(network, "decode") or one.points is None or one.codes is None:
        raise BadInput(
            f"The model {getattr(model, 'name', 'given')} cannot be asked with gradients; choose "
            "sightline-3d or an automatic model."
        )
    intensity = intensity or Intensity.of(volume.data)
    voxels = region.extract(volume.data, intensity.low)
    image = torch.from_numpy(intensity.apply(voxels))[None].to(model.device)
    before = None
    if one.before is not None:
        before = torch.from_numpy(one.before.logits())[None, None].to(model.device)
    return Probe(
        network,
        model.name,
        image,
        Frame.of_region(region),
        points=np.asarray(one.points, np.float32),
        codes=one.codes,
        spacing=region.spacing,
        previous=before,
        precision=getattr(model, "precision", "fp32"),
    )


def probe_window(
    segmenter: Segmenter,
    volume: Volume,
    position: npt.ArrayLike,
    structure: str | None = None,
    window: Frame | None = None,
) -> Probe:
    """Look at one window of an automatic model, with a voxel as near its middle as may be.

    Parameters
    ----------
    segmenter : Segmenter
        Of one input channel.
    volume : Volume
        The scan.
    position : array_like
        ``(3,)``, canonical voxel.
    structure : str, optional
        Name of the structure that is asked about; what the model says at the voxel by default.
    window : Frame, optional
        Of a pass of the same model on the same scan: its window is looked at again.

    Raises
    ------
    BadInput
        Where the model takes several volumes, the voxel lies outside, or the structure is not the
        model's.
    """
    from napari_sightline.segment.frame import Frame as Axes
    from napari_sightline.segment.frame import window_affine, working_spacing
    from napari_sightline.segment.resample import Grid
    from napari_sightline.segment.scaling import Scaling

    spec = segmenter.spec
    if len(spec.channels) != 1:
        raise BadInput(f"{spec.name} takes {len(spec.channels)} volumes; only one can be probed.")
    if not volume.contains(np.asarray(position, float)):
        where = ", ".join(f"{v:g}" for v in np.asarray(position, float))
        raise BadInput(f"The voxel ({where}) lies outside the scan; choose one inside.")
    axes = Axes.of(spec.orientation)
    wished = working_spacing(volume.spacing, spec)
    a, b, c = axes.axes
    grid = Grid.of(
        (volume.shape[a], volume.shape[b], volume.shape[c]),
        (volume.spacing[a], volume.spacing[b], volume.spacing[c]),
        (wished[a], wished[b], wished[c]),
    )
    whole = Frame(grid.target, window_affine(axes, grid, (0, 0, 0)))
    size = np.array(grid.target)
    roi = np.array(spec.roi)
    if window is None:
        centre = np.rint(whole.from_volume(position)).astype(int)
        # Where the scan is smaller than a window it lies in the middle, as in the sliding window.
        corner = np.where(size < roi, -((roi - size) // 2), (centre - roi // 2).clip(0, None))
        corner = np.where(size < roi, corner, np.minimum(corner, np.maximum(size - roi, 0)))
    else:
        corner = np.rint(whole.from_volume(window.to_volume((0, 0, 0)))).astype(int)
    places = [np.arange(n) + int(first) for n, first in zip(roi, corner, strict=True)]
    taken = [np.clip(place, 0, n - 1) for place, n in zip(places, size, strict=True)]
    frame = Frame(spec.roi, window_affine(axes, grid, [int(v) for v in corner]))
    view = axes.from_canonical(volume.data)
    taps = tuple(_some(one, index) for one, index in zip(grid.taps, taken, strict=True))
    voxels = Scaling.of(spec.intensity, volume.data).apply(_sample(view, taps))
    for axis, (place, n) in enumerate(zip(places, size, strict=True)):
        np.moveaxis(voxels, axis, 0)[(place < 0) | (place >= n)] = 0
    image = torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None, None]
    network = segmenter.network.eval()
    image = image.to(next(network.parameters()).device)
    probe = Probe(network, segmenter.attends, image, frame)
    return _aimed(probe, segmenter, position, structure)


def _some(taps: Any, index: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    return taps.first[index], taps.share[index]


def _sample(view: npt.NDArray[Any], taps: tuple[tuple[Any, Any], ...]) -> npt.NDArray[np.float32]:
    """Read voxels linearly along each axis; only the part that is needed is touched."""
    for axis, (first, share) in enumerate(taps):
        after = np.minimum(first + 1, view.shape[axis] - 1)
        low = np.take(view, first, axis).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = -1
        view = low + share.reshape(shape) * (np.take(view, after, axis) - low)
    return view


def _aimed(
    probe: Probe, segmenter: Segmenter, position: npt.ArrayLike, structure: str | None
) -> Probe:
    """Choose the output: the named structure, or what the model says at the voxel."""
    from dataclasses import replace

    spec = segmenter.spec
    shift = 1 if spec.overlapping else 0
    if structure is not None:
        known = {name: value for value, name in spec.labels.items()}
        if structure not in known:
            raise BadInput(f"{spec.name} knows no {structure!r}; choose one of {', '.join(known)}.")
        value = known[structure]
    else:
        with torch.inference_mode():
            out = probe.network(probe.image)
            out = (out[0] if isinstance(out, list | tuple) else out)[0]
        voxel = np.rint(probe.frame.from_volume(position)).astype(int)
        i, j, k = (int(v) for v in voxel.clip(0, np.array(spec.roi) - 1))
        value = int(out[:, i, j, k].argmax()) + shift
    name = structure or spec.labels.get(value, "background")
    return replace(probe, structure=name, channel=value - shift, overlapping=spec.overlapping)
