"""DeepMedic (Kamnitsas 2017, "Efficient multi-scale 3D CNN with fully connected CRF"), as its version 0.8.4 ships it.

Shapes in the comments are channel-first without the batch, for a training segment: 21 voxels a side come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.errors import UserError

from .layers import ChannelPReLU, FastDropout, WindowBatchNorm3d
from .pathways import LAYERS, block_margin, pathway_range

RESIDUAL = (4, 6, 8)
"""Layers of a pathway, from 1, that add the input of the layer before; the head has one such layer, its second."""


class InputLayer(nn.Module):
    """First layer of a pathway: a bias for each channel of the input, no activation, and the convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(in_channels))
        self.convolution = nn.Conv3d(in_channels, out_channels, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # what the bias comes to behind the convolution: the image itself needs no gradient then
        weight = self.convolution.weight
        return F.conv3d(x, weight, (weight * self.bias.view(1, -1, 1, 1, 1)).sum([1, 2, 3, 4]))


class Layer(nn.Module):
    """Batch norm, PReLU, dropout and, last, a convolution without bias; ``pad`` repeats the voxels at the edge."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dropout: float = 0.0, pad: bool = False):
        super().__init__()
        self.norm = WindowBatchNorm3d(in_channels)
        self.activation = ChannelPReLU(in_channels, 0.01)
        self.dropout = FastDropout(dropout)
        self.convolution = nn.Conv3d(in_channels, out_channels, kernel, bias=False)
        self.pad = [kernel // 2 if pad else 0] * 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.activation(self.norm(x)))
        if self.pad[0] > 0:
            x = F.pad(x, self.pad, mode="replicate")
        return self.convolution(x)


def add_residual(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`y` plus the middle of `x`, whose channels may be fewer."""
    sides = [(x.shape[axis] - y.shape[axis]) // 2 for axis in range(2, 5)]
    for axis in range(3):
        x = x.narrow(axis + 2, sides[axis], y.shape[axis + 2])
    missing = y.shape[1] - x.shape[1]
    return y + (F.pad(x, [0, 0, 0, 0, 0, 0, 0, missing]) if missing > 0 else x)


class Pathway(nn.Module):
    """Eight layers of valid 3x3x3 convolutions: a side of `n` voxels becomes `n - 16`.

    Args:
        in_channels: sequences.
        feature_maps: of the eight layers.
    """

    def __init__(self, in_channels: int, feature_maps: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [InputLayer(in_channels, feature_maps[0])]
        layers += [Layer(a, b, 3) for a, b in pairwise(feature_maps)]
        self.layers = nn.ModuleList(layers)
        self.residual = list(RESIDUAL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = x
        for number, layer in enumerate(self.layers, 1):
            y = layer(x)  # 30 x 35, 30 x 33, 40 x 31, 40 x 29, 40 x 27, 40 x 25, 50 x 23, 50 x 21 cubed
            if number in self.residual:
                y = add_residual(y, before)
            before, x = x, y
        return x


class DeepMedic(nn.Module):
    """Three pathways at different resolutions and a head that classifies each voxel.

    Called either with a segment for each pathway, or with one block that holds all the context, out of which the
    segments are taken as :mod:`scripts.pathways` says; both come out the same.

    Args:
        in_channels: sequences.
        out_channels: classes.
        feature_maps: of the eight layers of each pathway.
        head: maps of the head's first two layers.
        factors: of the pathways, 1 first.
        dropout: of the head's three layers.

    Raises:
        UserError: not eight layers, or factors that are no odd numbers beginning with 1.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        feature_maps: Sequence[int] = (30, 30, 40, 40, 40, 40, 50, 50),
        head: Sequence[int] = (250, 250),
        factors: Sequence[int] = (1, 3, 5),
        dropout: Sequence[float] = (0.0, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if len(feature_maps) != LAYERS:
            raise UserError(
                f"feature maps of {LAYERS} layers",
                str(list(feature_maps)),
                "feature_maps",
                'pass eight numbers, for instance --feature_maps "[12,12,16,16,16,16,20,20]"',
            )
        if list(factors)[:1] != [1] or any(f != int(f) or f < 1 or f % 2 == 0 for f in factors):
            raise UserError(
                "factors that are odd and begin with 1, the normal resolution",
                str(list(factors)),
                "factors",
                'pass for instance --factors "[1,3,5]"',
            )
        if head[1] < len(factors) * feature_maps[-1] or any(
            feature_maps[n - 1] < feature_maps[n - 3] for n in RESIDUAL
        ):
            raise UserError(
                "residual layers with at least as many maps as what is added to them",
                f"{list(feature_maps)} in the pathways, {list(head)} in the head",
                "feature_maps, head",
                "pass --feature_maps that do not decrease, and a second number of --head of at least "
                f"{len(factors) * feature_maps[-1]}",
            )
        self.factors = [int(f) for f in factors]
        self.margin = block_margin(self.factors)
        self.pathways = nn.ModuleList([Pathway(in_channels, feature_maps) for _ in self.factors])
        together = len(self.factors) * feature_maps[-1]
        self.mixing = Layer(together, head[0], 3, dropout[0], pad=True)
        self.hidden = Layer(head[0], head[1], 1, dropout[1])
        self.classes = Layer(head[1], out_channels, 1, dropout[2])
        self.bias = nn.Parameter(torch.zeros(out_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, image: torch.Tensor, context: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Logits of each voxel.

        Args:
            image: with ``context`` the segment at normal resolution `(B, C, x + 16, y + 16, z + 16)`, without it a
                block `(B, C, x + 84, y + 84, z + 84)`.
            context: the segments of the coarser pathways, see :func:`scripts.pathways.segment_sizes`.

        Returns:
            `(B, classes, x, y, z)`.
        """
        segments = self.split(image) if context is None else [image] + context  # noqa: RUF005  TorchScript
        features: list[torch.Tensor] = []
        for number, pathway in enumerate(self.pathways):
            x = pathway(segments[number])  # 50 x 21, 50 x 7, 50 x 5 cubed
            if number > 0:
                x = self.enlarge(x, self.factors[number], features[0])
            features.append(x)
        x = torch.cat(features, dim=1)  # 150 x 21 cubed
        y = self.hidden(self.mixing(x))  # 250
        return self.classes(add_residual(y, x)) + self.bias.view(-1, 1, 1, 1)  # 4

    def split(self, block: torch.Tensor) -> list[torch.Tensor]:
        """The pathways' segments, taken out of a block with all the context."""
        segments: list[torch.Tensor] = []
        for factor in self.factors:
            (a, b, step), (c, d, _), (e, f, _) = [
                pathway_range(side - 2 * self.margin, factor, self.margin) for side in block.shape[2:]
            ]
            segments.append(block[:, :, a:b:step, c:d:step, e:f:step])
        return segments

    def enlarge(self, x: torch.Tensor, factor: int, like: torch.Tensor) -> torch.Tensor:
        """Repeat each voxel ``factor`` times a side, and keep as many from the first on as ``like`` has."""
        x = F.interpolate(x, scale_factor=[float(factor)] * 3, mode="nearest-exact")
        for axis in range(2, 5):
            x = x.narrow(axis, 0, like.shape[axis])
        return x
