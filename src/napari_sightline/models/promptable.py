"""What the session asks of a promptable model, and how the embedded one answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from napari_sightline.models.intensity import Intensity
from napari_sightline.models.precision import autocast, choose_precision, pick_device
from napari_sightline.models.sightline3d import STRIDE, Features, Prompts, Sightline3D
from napari_sightline.models.weights_io import read_weights

WEIGHTS = Path(__file__).with_name("weights") / "sightline-3d.safetensors"


class Decoded(NamedTuple):
    """Masks of one region.

    ``logits`` is ``(1 + candidates, D, H, W)`` float32, main mask first, or the main mask alone
    where there was one before; ``quality`` is the predicted intersection over union of each,
    0 .. 1.
    """

    logits: np.ndarray
    quality: np.ndarray


class Promptable(Protocol):
    """A model that segments what prompts point at.

    Attributes
    ----------
    name : str
        As in the catalog.
    stride : int
        Sides of a region are multiples of it.
    device : torch.device or str
        Where it runs; its text is shown to the user.
    precision : str
        ``"fp32"`` or ``"bf16"``.

    A model built on a torch module offers it as ``network``: taps are given it.
    """

    name: str
    stride: int
    device: Any
    precision: str

    def encode(self, region: np.ndarray, intensity: Intensity, spacing: float) -> Any:
        """Compute what depends on the image alone.

        Parameters
        ----------
        region : numpy.ndarray
            ``(D, H, W)`` float32, in the volume's unit.
        intensity : Intensity
            Of the whole volume.
        spacing : float
            Millimetres per voxel of the region.
        """

    def decode(
        self, encoded: Any, points: np.ndarray, codes: np.ndarray, previous: np.ndarray | None
    ) -> Decoded:
        """Answer prompts.

        Parameters
        ----------
        encoded
            From `encode`.
        points : numpy.ndarray
            ``(M, 3)``, voxels of the region.
        codes : numpy.ndarray
            ``(M,)``, see `napari_sightline.models.sightline3d`.
        previous : numpy.ndarray, optional
            Logits of the mask so far, ``(D, H, W)``.
        """


class EmbeddedModel:
    """`sightline-3d` behind the `Promptable` protocol.

    Parameters
    ----------
    network : Sightline3D
        With its weights.
    device : str
        ``"auto"`` or a torch device.
    about : dict, optional
        Facts from the weights file.
    """

    name = "sightline-3d"
    stride = STRIDE

    def __init__(
        self, network: Sightline3D, device: str = "auto", about: dict[str, Any] | None = None
    ) -> None:
        self.device = pick_device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.about = about or {}
        self.precision = choose_precision(self._probe, self.device)

    @classmethod
    def load(cls, weights: Path | None = None, device: str = "auto") -> EmbeddedModel:
        """Load weights, by default those in the package.

        Raises
        ------
        ModelError
            Where the file is missing, damaged or of another network.
        """
        from napari_sightline.errors import ModelError

        path = weights or WEIGHTS
        state, config, about = read_weights(path)
        network = Sightline3D(config)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(
                f"The weights file {path.name!r} does not fit the network it names; "
                "reinstall napari-sightline or give another file."
            ) from error
        return cls(network, device, about)

    @torch.inference_mode()
    def encode(self, region: np.ndarray, intensity: Intensity, spacing: float) -> Features:
        """See `Promptable.encode`."""
        image = torch.from_numpy(intensity.apply(region))[None].to(self.device)
        with autocast(self.device, self.precision):
            return self.network.encode(image, torch.tensor([spacing], device=self.device))

    @torch.inference_mode()
    def decode(
        self,
        encoded: Features,
        points: np.ndarray,
        codes: np.ndarray,
        previous: np.ndarray | None = None,
    ) -> Decoded:
        """See `Promptable.decode`."""
        prompts = Prompts(
            torch.from_numpy(np.asarray(points, np.float32).reshape(1, -1, 3)).to(self.device),
            torch.from_numpy(np.asarray(codes, np.int64).reshape(1, -1)).to(self.device),
        )
        before = None
        if previous is not None:
            before = torch.from_numpy(np.asarray(previous, np.float32))[None, None].to(self.device)
        with autocast(self.device, self.precision):
            # Candidates answer a first prompt; later ones only correct the mask there is.
            logits, quality = self.network.decode(encoded, prompts, before, before is None)
        return Decoded(logits[0].float().cpu().numpy(), quality[0].float().sigmoid().cpu().numpy())

    def _probe(self, precision: str) -> torch.Tensor:
        """Logits of a fixed small task in a given precision, for the self-check."""
        z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, 48)] * 3, indexing="ij")
        ball = ((z**2 + y**2 + (x - 0.2) ** 2) < 0.25).float()
        image = torch.stack([ball - 0.5 + 0.2 * torch.sin(9 * y), ball * 1.6 - 0.8])[None]
        points = torch.tensor([[[23.5, 23.5, 28.0], [4.0, 4.0, 4.0]]])
        prompts = Prompts(points.to(self.device), torch.tensor([[1, 0]]).to(self.device))
        with torch.inference_mode(), autocast(self.device, precision):
            one = torch.ones(1, device=self.device)
            return self.network(image.to(self.device), one, prompts).logits[:, 0].float()
