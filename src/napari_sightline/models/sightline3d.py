"""`sightline-3d`: the embedded promptable network, a hybrid of convolution and attention.

What depends on the image alone (`encode`) runs once per region; each click runs `decode`, a small
U-Net in which image features, prompt maps and the previous mask meet early, with attention between
image tokens and prompt tokens at its bottleneck.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sightline.models.attention import PositionEncoding, TwoWayBlock

#: Region sizes are multiples of this many voxels.
STRIDE = 16
#: Codes of prompt tokens; PAD fills a batch.
PAD, NEGATIVE, POSITIVE, SCRIBBLE_NEGATIVE, SCRIBBLE_POSITIVE, BOX_LOW, BOX_HIGH = range(-1, 6)


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Parameters
    ----------
    widths : tuple of int
        Channels at strides 2, 4, 8 and 16.
    heads, blocks : int
        Heads of attention and number of two-way blocks at stride 16.
    candidates : int
        Masks proposed for an ambiguous first prompt, beside the main one.
    keys : int
        Channels of the features that are compared with the clicked voxels'.
    cached : bool
        Whether an image encoder runs once per region; else each click sees the voxels alone.
    """

    widths: tuple[int, int, int, int] = (32, 64, 112, 144)
    heads: int = 6
    blocks: int = 2
    candidates: int = 3
    keys: int = 16
    cached: bool = True

    def to_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)


class Features(NamedTuple):
    """What is computed once per region of shape ``(D, H, W)``.

    ``levels[i]`` is ``(B, widths[i], D / 2^(i+1), ...)`` for strides 2, 4, 8, 16; ``keys`` is
    ``(B, keys, D / 2, ...)`` of unit length; ``coarse`` is the image at stride 2,
    ``(B, channels, D / 2, ...)``, and ``folded`` its eight sub-voxels, ``(B, 8 channels, ...)``.
    """

    levels: tuple[Tensor, ...]
    keys: Tensor
    coarse: Tensor
    folded: Tensor


class Prompts(NamedTuple):
    """Prompts of a batch, in voxels of the region.

    ``points`` is ``(B, M, 3)``, ``codes`` ``(B, M)`` (see the module's constants). A box is two
    points, its lowest and highest corner, coded BOX_LOW and BOX_HIGH.
    """

    points: Tensor
    codes: Tensor


class Prediction(NamedTuple):
    """Masks of a batch.

    ``logits`` is ``(B, 1 + candidates, D, H, W)``, main mask first; ``quality`` is the predicted
    intersection over union of each as a logit, ``(B, 1 + candidates)``.
    """

    logits: Tensor
    quality: Tensor


def space_to_depth(x: Tensor) -> Tensor:
    """Fold ``(B, C, 2d, 2h, 2w)`` to ``(B, 8 C, d, h, w)``."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, 8 * c, d // 2, h // 2, w // 2)


def depth_to_space(x: Tensor) -> Tensor:
    """Unfold ``(B, 8 C, d, h, w)`` to ``(B, C, 2d, 2h, 2w)``."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


class Norm(nn.GroupNorm):
    """Group normalisation, eight channels a group; in float32 while training."""

    def __init__(self, width: int) -> None:
        super().__init__(max(1, width // 8), width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, ...)``."""
        if x.dtype == torch.float32 or not torch.is_grad_enabled():
            return F.group_norm(
                x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
            )
        # bf16 statistics are both less exact and, backwards, several times slower on CPUs.
        return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps).to(
            x.dtype
        )


class ConvNorm(nn.Sequential):
    """3 x 3 x 3 convolution, group norm, leaky ReLU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv3d(inside, outside, 3, padding=1, bias=False),
            Norm(outside),
            nn.LeakyReLU(0.01, inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions and a shortcut (He et al., 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape ``(B, C, D, H, W)``."""
        return F.leaky_relu(x + self.norm(self.second(self.first(x))), 0.01)


def _too_small(x: Tensor) -> bool:
    """Whether bf16 gradients of a 3 x 3 x 3 convolution of `x` cannot be trusted on a CPU.

    oneDNN's bf16 weight gradient reads memory it never wrote where a side is shorter than the
    kernel: it comes out wrong, at times as NaN (seen with torch 2.13; sides of 3 and more agree
    with float32 to 0.2 %).
    """
    return torch.is_grad_enabled() and x.dtype == torch.bfloat16 and min(x.shape[2:]) < 3


def _in_float32(stage: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return stage(x.float()).to(x.dtype)


def _down(inside: int, outside: int) -> nn.Conv3d:
    return nn.Conv3d(inside, outside, 2, stride=2)


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class ImageEncoder(nn.Module):
    """A convolutional pyramid with a top-down path (Lin et al., FPN, 2017)."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        w = config.widths
        self.stem = ConvNorm(8 * channels, w[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth)))
            for width, depth in zip(w, (0, 1, 1, 1), strict=True)
        )
        self.down = nn.ModuleList(_down(a, b) for a, b in itertools.pairwise(w))
        self.lateral = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(w))
        self.smooth = nn.ModuleList(ConvNorm(a, a) for a in w[:-1])
        self.spacing = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, w[1]))

    def forward(self, folded: Tensor, log_spacing: Tensor) -> list[Tensor]:
        """Encode ``(B, 8 C, D/2, H/2, W/2)``; `log_spacing` ``(B, 1)`` is log2 of mm a voxel."""
        x = self.stages[0](self.stem(folded))
        levels = [x]
        for i, (down, stage) in enumerate(zip(self.down, self.stages[1:], strict=True)):
            x = down(x)
            if i == 0:
                x = x + self.spacing(log_spacing)[:, :, None, None, None].to(x.dtype)
            x = _in_float32(stage, x) if _too_small(x) else stage(x)
            levels.append(x)
        for i in (2, 1, 0):
            levels[i] = self.smooth[i](levels[i] + _up(self.lateral[i](levels[i + 1])))
        return levels


class Sightline3D(nn.Module):
    """The embedded promptable network.

    Parameters
    ----------
    config : Config
        Sizes.
    channels : int
        Channels of the image, see `napari_sightline.models.intensity.Intensity`.
    """

    def __init__(self, config: Config | None = None, channels: int = 2) -> None:
        super().__init__()
        self.config = config = config or Config()
        w = config.widths
        self.encoder: ImageEncoder | nn.Module
        if config.cached:
            self.encoder = ImageEncoder(channels, config)
        else:
            self.encoder = nn.Conv3d(8 * channels, w[0], 1)
        self.key = nn.Conv3d(w[0], config.keys, 1)
        # The voxels' 8 sub-voxels a channel, two distance maps a sign, the box, the previous
        # mask's 8 sub-voxels, three similarities. Stride 2 costs most: one convolution there.
        self.stem = ConvNorm(w[0] + 8 * channels + 5 + 8 + 3, w[0])
        self.enter = nn.ModuleList((nn.Identity(), Residual(w[1]), Residual(w[2])))
        self.down = nn.ModuleList(_down(a, b) for a, b in itertools.pairwise(w))
        self.join = nn.ModuleList(nn.Conv3d(width, width, 1) for width in w[1:])
        self.position = PositionEncoding(w[3])
        self.code = nn.Embedding(7, w[3])
        self.seed = nn.Parameter(torch.randn(w[3]) * 0.02)
        self.local = nn.Linear(w[1], w[3])
        self.blocks = nn.ModuleList(TwoWayBlock(w[3], config.heads) for _ in range(config.blocks))
        self.up = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(w))
        self.merge = nn.ModuleList(ConvNorm(2 * width, width) for width in w[:3])
        self.leave = nn.ModuleList((ConvNorm(w[0], w[0]), Residual(w[1]), Residual(w[2])))
        self.head = nn.Conv3d(w[0], 8 * (1 + config.candidates), 3, padding=1)
        self.quality = nn.Sequential(
            nn.LayerNorm(w[3]),
            nn.Linear(w[3], w[3]),
            nn.GELU(),
            nn.Linear(w[3], 1 + config.candidates),
        )
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)

    def encode(self, image: Tensor, spacing: Tensor) -> Features:
        """Compute what depends on the image alone.

        Parameters
        ----------
        image : torch.Tensor
            ``(B, 2, D, H, W)``, sides multiples of 16, normalised.
        spacing : torch.Tensor
            ``(B,)``, mm a voxel (isotropic).
        """
        folded = space_to_depth(image).contiguous(memory_format=torch.channels_last_3d)
        coarse = F.avg_pool3d(image, 2)
        log_spacing = spacing.clamp(0.01, 100).log2()[:, None]
        levels = self.encoder(folded, log_spacing) if self.config.cached else [self.encoder(folded)]
        keys = F.normalize(self.key(levels[0]).float(), dim=1)
        return Features(tuple(levels), keys, coarse, folded)

    def decode(
        self,
        features: Features,
        prompts: Prompts,
        previous: Tensor | None = None,
        candidates: bool = True,
    ) -> Prediction:
        """Predict masks for prompts.

        Parameters
        ----------
        features : Features
            From `encode`.
        prompts : Prompts
            In voxels of the region.
        previous : torch.Tensor, optional
            Logits of the mask so far, ``(B, 1, D, H, W)``; all zero means unknown.
        candidates : bool
            Whether the candidates are wanted too; without them the prediction holds the main mask.
        """
        first = features.levels[0]
        b, (d, h, w) = first.shape[0], first.shape[2:]
        maps = self._prompt_maps(features, prompts)
        if previous is None:
            folded = first.new_zeros(b, 8, d, h, w)
        else:
            folded = space_to_depth(torch.tanh(previous.float() / 4))
        parts = (first, features.folded, maps, folded)
        x = torch.cat([part.to(first.dtype) for part in parts], 1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for i in range(3):
            x = self.enter[i](x)
            skips.append(x)
            x = self.down[i](x)
            if self.config.cached:
                x = x + self.join[i](features.levels[i + 1])
        x, tokens = self._attend(x, features, prompts, (2 * d, 2 * h, 2 * w))
        for i in (2, 1, 0):
            x = torch.cat([_up(self.up[i](x)), skips[i]], 1)
            x = self.leave[i](self.merge[i](x))
        quality = self.quality(tokens[:, 0].float())
        if candidates:
            return Prediction(depth_to_space(self.head(x).float()), quality)
        bias = None if self.head.bias is None else self.head.bias[:8]
        main = F.conv3d(x, self.head.weight[:8], bias, padding=1)
        return Prediction(depth_to_space(main.float()), quality[:, :1])

    def forward(
        self, image: Tensor, spacing: Tensor, prompts: Prompts, previous: Tensor | None = None
    ) -> Prediction:
        """Encode and decode."""
        return self.decode(self.encode(image, spacing), prompts, previous)

    def _prompt_maps(self, features: Features, prompts: Prompts) -> Tensor:
        """Return ``(B, 8, D/2, H/2, W/2)``: distances, box, similarities to the clicked voxels."""
        coarse = features.coarse.float()
        shape, device = coarse.shape[2:], coarse.device
        # Centre of a stride-2 voxel, in voxels of the region.
        axes = [torch.arange(n, device=device) * 2 + 0.5 for n in shape]
        out = []
        for i in range(coarse.shape[0]):
            points, codes = prompts.points[i].float(), prompts.codes[i]
            positive = points[(codes == POSITIVE) | (codes == SCRIBBLE_POSITIVE)]
            negative = points[(codes == NEGATIVE) | (codes == SCRIBBLE_NEGATIVE)]
            rows = []
            for chosen in (positive, negative):
                distance = _distance(axes, chosen)
                rows += [torch.exp(-distance / 3), torch.exp(-distance / 12)]
            rows.append(_box_map(axes, points, codes))
            for chosen in (positive, negative):
                rows.append(_similarity(features.keys[i], chosen))
            rows.append(_difference(coarse[i, 1], positive))
            out.append(torch.stack(rows))
        return torch.stack(out)

    def _attend(
        self, x: Tensor, features: Features, prompts: Prompts, region: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        b, c, *grid = x.shape
        centre = torch.tensor([(n - 1) / 2 for n in region], device=x.device)
        axes = [torch.arange(n, device=x.device) * STRIDE + (STRIDE - 1) / 2 for n in grid]
        where = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) - centre
        image = x.flatten(2).transpose(1, 2) + self.position(where).to(x.dtype)
        codes = prompts.codes
        local = features.levels[1] if self.config.cached else None
        tokens = self.code(codes.clamp(0)) + self.position(prompts.points - centre)
        if local is not None:
            tokens = tokens + self.local(_sample(local, prompts.points, region).float())
        seed = (self.seed + self.code.weight[6]).expand(b, 1, c)
        tokens = torch.cat([seed, tokens], 1).to(x.dtype)
        seen = torch.cat([torch.ones_like(codes[:, :1], dtype=torch.bool), codes != PAD], 1)
        for block in self.blocks:
            image, tokens = block(image, tokens, seen[:, None, None])
        x = image.transpose(1, 2).reshape(b, c, *grid)
        return x.contiguous(memory_format=torch.channels_last_3d), tokens


def _distance(axes: list[Tensor], points: Tensor) -> Tensor:
    """Distance in voxels from each stride-2 voxel to the nearest of ``(M, 3)`` points."""
    shape = [len(a) for a in axes]
    best = torch.full(shape, 1e8, device=axes[0].device)
    for p in points:
        z, y, x = ((a - v) ** 2 for a, v in zip(axes, p, strict=True))
        torch.minimum(best, z[:, None, None] + y[:, None] + x, out=best)
    return best.sqrt_()


def _box_map(axes: list[Tensor], points: Tensor, codes: Tensor) -> Tensor:
    """One inside the box, falling to zero over two voxels at its faces; zero without a box."""
    low, high = points[codes == BOX_LOW], points[codes == BOX_HIGH]
    if not len(low) or not len(high):
        return torch.zeros([len(a) for a in axes], device=axes[0].device)
    z, y, x = (
        (torch.minimum(a - lo, hi - a) / 2 + 0.75).clamp(0, 1)
        for a, lo, hi in zip(axes, low[0], high[0], strict=True)
    )
    return z[:, None, None] * y[:, None] * x


def _at(grid: Tensor, points: Tensor) -> Tensor:
    """Values ``(C, M)`` of a stride-2 grid ``(C, d, h, w)`` at points ``(M, 3)`` in voxels."""
    index = (points / 2).floor().long()
    limit = torch.tensor(grid.shape[1:], device=grid.device) - 1
    z, y, x = index.clamp(min=0).minimum(limit).unbind(-1)
    return grid[:, z, y, x]


def _similarity(keys: Tensor, points: Tensor) -> Tensor:
    """Largest cosine between each voxel's key and those at ``(M, 3)`` points; zero without."""
    if not len(points):
        return torch.zeros(keys.shape[1:], device=keys.device)
    clicked = _at(keys, points[:24])
    return torch.einsum("cm,cdhw->mdhw", clicked, keys).amax(0)


def _difference(coarse: Tensor, points: Tensor) -> Tensor:
    """Equalised intensity less its mean at the positive points; zero without."""
    if not len(points):
        return torch.zeros_like(coarse)
    return coarse - _at(coarse[None], points).mean()


def _sample(level: Tensor, points: Tensor, region: tuple[int, int, int]) -> Tensor:
    """Trilinear features ``(B, M, C)`` of a level ``(B, C, d, h, w)`` at points in voxels."""
    size = torch.tensor(region, device=points.device)
    grid = ((points.float() + 0.5) / size * 2 - 1).flip(-1)[:, :, None, None]
    x = F.grid_sample(level.float(), grid, align_corners=False, padding_mode="border")
    return x[..., 0, 0].transpose(1, 2)
