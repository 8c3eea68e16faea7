"""Networks of tumor3d: 3D U-Net and PatchGAN (Doncenco 2022, section 2.4), and a label-steered generator.

Shapes in the comments are channel-first without the batch, for 64 feature maps and a grid of 240 x 240 x 64.
"""

from __future__ import annotations

import torch
from monai.networks.blocks.spade_norm import SPADE
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mrsynth.errors import UserError
from mrsynth.networks import add_spectral_norm

SPECTRAL_NORM = ("none", "discriminator", "both")


def check_grid(spatial_size: tuple[int, ...] | list[int], stride: int) -> None:
    """Refuse a grid that the network's poolings do not divide.

    Raises:
        UserError: not three sides, a side is not a multiple of ``stride``, or the coarsest level is one voxel.
    """
    if not isinstance(spatial_size, (list, tuple)) or len(spatial_size) != 3:
        raise UserError(
            "three sides X, Y, Z", str(spatial_size), "spatial_size", 'pass for instance --spatial_size "[48,56,48]"'
        )
    sizes = [int(n) for n in spatial_size]
    # on the coarsest level a single voxel would be left, which instance norm cannot normalize
    if any(n % stride or n < stride for n in sizes) or set(sizes) == {stride}:
        fitting = [max(2 * stride, round(n / stride) * stride) for n in sizes]
        raise UserError(
            f"a grid whose sides are multiples of {stride}, the network's total stride, and not all {stride}",
            str(sizes),
            "spatial_size",
            f'pass for instance --spatial_size "{fitting}"',
        )


def check_crop(size: list[int], spatial_size: list[int], stride: int) -> list[int]:
    """The size of a discriminator's crop: inside the grid, and large enough for several voxels of logits.

    Args:
        size: X, Y, Z of the crop.
        spatial_size: of the grid.
        stride: of the discriminator.

    Raises:
        UserError: as said.
    """
    whole = [int(n) for n in size] if isinstance(size, (list, tuple)) else []
    fits = len(whole) == 3 and all(stride <= n <= side for n, side in zip(whole, spatial_size, strict=True))
    if not fits or max(whole) < 2 * stride:
        raise UserError(
            f"a crop inside the grid {list(spatial_size)}, sides of at least {stride}, one of at least {2 * stride}",
            str(size),
            "local_size",
            f'pass for instance --local_size "{[max(2 * stride, int(side) // 2) for side in spatial_size]}"',
        )
    return whole


class DoubleConvolution(nn.Module):
    """Two 3x3x3 convolutions, each with instance norm (or none) and (leaky) ReLU.

    With ``checkpointing`` what lies inside is recomputed in the backward pass instead of kept.
    """

    def __init__(
        self, in_channels: int, middle: int, out_channels: int, norm: str, slope: float, checkpointing: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((in_channels, middle), (middle, out_channels)):
            layers.append(nn.Conv3d(a, b, 3, padding=1, bias=norm == "none"))
            if norm == "instance":
                layers.append(nn.InstanceNorm3d(b, affine=True))
            layers.append(nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*layers)
        self.checkpointing = checkpointing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting() or not (self.training and self.checkpointing):
            return self.layers(x)
        return checkpoint(self.layers, x, use_reentrant=False)


def encoder_widths(in_channels: int, feature_maps: int, levels: int) -> list[tuple[int, int, int]]:
    """Channels of each encoder level: in, after the first convolution, after the second.

    The first convolution has half the level's width but never less than its input, as in the implementation that
    the thesis cites: 1-32-64, 64-64-128, 128-128-256, 256-256-512.
    """
    widths = []
    for level in range(levels):
        out = feature_maps * 2**level
        widths.append((in_channels, max(out // 2, in_channels), out))
        in_channels = out
    return widths


class UNetGenerator(nn.Module):
    """3D U-Net from a semantic label to four sequences in [-1, 1] (Doncenco 2022, section 2.4, figure 5).

    Args:
        in_channels: 1 for the label as one channel of values, more for one-hot.
        out_channels: sequences.
        feature_maps: width of the first level, doubled at each; 64 gives 16.3 M parameters.
        levels: 4 in the thesis; sides of the input must be multiples of 2 ** (levels - 1).
        spectral_norm: divide the weights of every convolution by their largest singular value.
        checkpointing: recompute activations in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 4,
        feature_maps: int = 64,
        levels: int = 4,
        spectral_norm: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.stride = 2 ** (levels - 1)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = encoder_widths(in_channels, feature_maps, levels)
        self.encoders = nn.ModuleList([DoubleConvolution(*w, "instance", 0.0, checkpointing) for w in widths])
        self.pool = nn.MaxPool3d(2)
        decoders = []
        for (_, _, deep), (_, _, skip) in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            decoders.append(DoubleConvolution(deep + skip, skip, skip, "instance", 0.0, checkpointing))
        self.decoders = nn.ModuleList(decoders)
        self.head = nn.Conv3d(feature_maps, out_channels, 1)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image  # 1 x 240 x 240 x 64
        skips: list[torch.Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else self.pool(x))
            skips.append(x)  # 64 x 240 x 240 x 64, 128 x 120 x 120 x 32, 256 x 60 x 60 x 16, 512 x 30 x 30 x 8
        depth = len(skips) - 1
        for step, decoder in enumerate(self.decoders):
            skip = skips[depth - 1 - step]
            x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = decoder(torch.cat([skip, x], dim=1))  # 256, 128, 64 maps
        return torch.tanh(self.head(x))  # 4 x 240 x 240 x 64


class PatchDiscriminator(nn.Module):
    """PatchGAN discriminator: the U-Net's encoder on image and label, then one logit a patch (section 2.4, figure 6).

    Called with the image `(B, 4, X, Y, Z)` and the condition `(B, K, X, Y, Z)`; returns logits
    `(B, 1, X/8, Y/8, Z/8)` at four levels.

    Args:
        in_channels: sequences plus channels of the condition; the thesis 5.
        feature_maps: width of the first level; 64 gives 7.0 M parameters.
        levels: 4 in the thesis.
        norm: ``instance`` as the thesis, or ``none``.
        slope: of the leaky ReLU; 0 is the thesis's ReLU.
        spectral_norm: see :class:`UNetGenerator`.
        checkpointing: see :class:`UNetGenerator`.
    """

    def __init__(
        self,
        in_channels: int = 5,
        feature_maps: int = 64,
        levels: int = 4,
        norm: str = "instance",
        slope: float = 0.0,
        spectral_norm: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.stride = 2 ** (levels - 1)
        widths = encoder_widths(in_channels, feature_maps, levels)
        self.encoders = nn.ModuleList([DoubleConvolution(*w, norm, slope, checkpointing) for w in widths])
        self.pool = nn.MaxPool3d(2)
        self.head = nn.Conv3d(widths[-1][2], 1, 1)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = torch.cat([image, condition], dim=1)  # 5 x 240 x 240 x 64
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else self.pool(x))  # as the generator's encoder
        return self.head(x)  # 1 x 30 x 30 x 8


class _SpadeBlock(nn.Module):
    """Residual block whose two normalizations take scale and shift from the label at their own resolution."""

    def __init__(
        self, in_channels: int, out_channels: int, label_channels: int, hidden: int, checkpointing: bool
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.norm1 = SPADE(label_channels, in_channels, spatial_dims=3, hidden_channels=hidden)
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.norm2 = SPADE(label_channels, out_channels, spatial_dims=3, hidden_channels=hidden)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting() or not (self.training and self.checkpointing):
            return self.compute(x, label)
        return checkpoint(self.compute, x, label, use_reentrant=False)

    def compute(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The block itself: `(B, in, ...)` and the label at the same resolution to `(B, out, ...)`."""
        y = self.conv1(F.leaky_relu(self.norm1(x, label), 0.2))
        y = self.conv2(F.leaky_relu(self.norm2(y, label), 0.2))
        return self.shortcut(x) + y


PALETTE_GAIN = 5.0
"""Factor of the class values, so that an optimizer whose steps are small against 1 finds them early."""


class SpadeGenerator(nn.Module):
    """Generator that is steered by the label at every level (Park 2019, "Semantic image synthesis with SPADE").

    Instance norm right after a label map washes its values out; here the normalized activations get scale and
    shift back from the label itself, at each resolution. What the levels make is added to one learned value for each
    class and sequence, so that anatomy stands at full resolution from the first iterations on. Where the label says
    background the output is exactly -1.

    Args:
        in_channels: one-hot channels of the semantic label; channel 0 is background.
        out_channels: sequences.
        feature_maps: width at full resolution, doubled at each coarser level.
        levels: resolutions; sides of the input must be multiples of 2 ** (levels - 1).
        hidden: width of the small network that turns the label into scale and shift.
        spectral_norm: see :class:`UNetGenerator`.
        checkpointing: see :class:`UNetGenerator`.
    """

    def __init__(
        self,
        in_channels: int = 7,
        out_channels: int = 4,
        feature_maps: int = 16,
        levels: int = 4,
        hidden: int = 16,
        spectral_norm: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if in_channels < 2:
            raise UserError(
                "a one-hot label",
                "a single channel",
                "label_encoding",
                "pass --label_encoding one_hot, or --generator unet",
            )
        self.stride = 2 ** (levels - 1)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [feature_maps * 2**level for level in reversed(range(levels))]
        self.stem = nn.Conv3d(in_channels, widths[0], 3, padding=1)
        blocks = zip(widths, [*widths[1:], widths[-1]], strict=True)  # 128-64, 64-32, 32-16, 16-16 for 16 maps
        self.blocks = nn.ModuleList([_SpadeBlock(a, b, in_channels, hidden, checkpointing) for a, b in blocks])
        self.head = nn.Conv3d(widths[-1], out_channels, 3, padding=1)
        if spectral_norm:
            add_spectral_norm(self)
        self.palette = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        nn.init.zeros_(self.palette.weight)
        self.palette_gain = PALETTE_GAIN  # TorchScript reads no globals

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        labels = [image]  # shares of each class in the voxels of ever coarser grids
        for _ in range(len(self.blocks) - 1):
            labels.append(F.avg_pool3d(labels[-1], 2))
        x = self.stem(labels[-1])
        for step, block in enumerate(self.blocks):
            label = labels[len(labels) - 1 - step]
            if step > 0:
                # smooth: nearest neighbors leave the coarse grid's blocks visible in homogeneous tissue
                x = F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = block(x, label)
        x = torch.tanh(self.head(F.leaky_relu(x, 0.2)) + self.palette_gain * self.palette(image))
        background = image[:, :1]
        return x * (1 - background) - background


GENERATORS = {"unet": UNetGenerator, "spade": SpadeGenerator}


def build_generator(
    kind: str,
    in_channels: int,
    feature_maps: int,
    spatial_size: list[int] | tuple[int, ...],
    spectral_norm: str = "none",
    checkpointing: bool = False,
) -> nn.Module:
    """The generator that a config names: ``unet`` or ``spade``, for a grid that is checked.

    Args:
        spectral_norm: ``none``, ``discriminator`` or ``both``; only ``both`` concerns the generator.

    Raises:
        UserError: an unknown kind or setting, or a grid that does not divide.
    """
    if kind not in GENERATORS:
        raise UserError(
            f"generator: one of {sorted(GENERATORS)}",
            repr(kind),
            "generator",
            "pass --generator spade or --generator unet",
        )
    if spectral_norm not in SPECTRAL_NORM:
        raise UserError(
            f"spectral_norm: one of {SPECTRAL_NORM}",
            repr(spectral_norm),
            "spectral_norm",
            "pass --spectral_norm discriminator",
        )
    network = GENERATORS[kind](
        in_channels=in_channels,
        feature_maps=feature_maps,
        spectral_norm=spectral_norm == "both",
        checkpointing=checkpointing,
    )
    check_grid(spatial_size, network.stride)
    return network
