"""A whole volume segmented tile by tile, without seams and in little memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from mrsynth.errors import UserError
from mrsynth.segmentation import background_outside
from mrsynth.training import Precision

from .pathways import LAYERS, pathway_range, segment_sizes, take

RING = 1
"""Voxels at a tile's edge for which the head lacks context; they are discarded."""


def check_tile(tile: int, factors: Sequence[int]) -> int:
    """Voxels a side that a tile of ``tile`` voxels at normal resolution contributes.

    Raises:
        UserError: these are no multiple of the factors' least common multiple, so that tiles would not fit together.
    """
    unit, around = math.lcm(*factors), 2 * (LAYERS + RING)
    kept = tile - around if isinstance(tile, int) else 0
    if kept < unit or kept % unit:
        below = max(1, kept // unit)
        raise UserError(
            f"a tile of {around} voxels more than a multiple of {unit}",
            repr(tile),
            "tile",
            f"pass --tile {below * unit + around} or --tile {(below + 1) * unit + around}",
        )
    return kept


class TiledInferer(Inferer):
    """Segment the brain of a volume in tiles.

    Tiles cover the box of the brain, the voxels at which any sequence is not 0, and those without brain are
    skipped; outside the brain is background. Each tile begins at a multiple of the least common multiple of the factors
    from the box's corner, so that every voxel sees the same context whatever the size of the tiles, and the outermost
    voxels of the output, where the head replicates the edge, are discarded: there are no seams.

    Called with a volume `(B, C, X, Y, Z)` and the network; returns logits of the same size in float32.

    Args:
        tile: side of a tile at normal resolution: 48 gives 30 voxels a side, 63 gives 45.
        batch_size: tiles at a time.
        amp: see :class:`mrsynth.training.Precision`.
        device: of the network.
        factors: of its pathways.

    Raises:
        UserError: a tile size at which tiles do not fit together.
    """

    def __init__(
        self,
        tile: int = 48,
        batch_size: int = 1,
        amp: str | bool = "auto",
        device: torch.device | str = "cpu",
        factors: Sequence[int] = (1, 3, 5),
    ) -> None:
        super().__init__()
        self.kept, self.factors, self.batch_size = check_tile(tile, factors), list(factors), batch_size
        self.precision = Precision(amp, device)

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        return background_outside(torch.stack([self.segment(volume, network) for volume in plain]), plain)

    def segment(self, volume: torch.Tensor, network: Any) -> torch.Tensor:
        """Logits `(classes, X, Y, Z)` of one volume `(C, X, Y, Z)`."""
        brain = (volume != 0).any(dim=0)
        corners = self.corners(brain)
        logits: torch.Tensor | None = None
        for start in range(0, len(corners), self.batch_size):
            some = corners[start : start + self.batch_size]
            for corner, result in zip(some, self.compute(volume, some, network), strict=True):
                if logits is None:
                    logits = result.new_zeros((len(result), *brain.shape))
                inside = [slice(c, min(c + self.kept, side)) for c, side in zip(corner, brain.shape, strict=True)]
                part = [slice(RING, RING + i.stop - i.start) for i in inside]
                logits[:, inside[0], inside[1], inside[2]] = result[:, part[0], part[1], part[2]]
        if logits is None:
            raise UserError(
                "an image with a brain in it", "zero everywhere", "image", "remove this subject from the datalist"
            )
        return logits

    def corners(self, brain: torch.Tensor) -> list[tuple[int, ...]]:
        """First voxel of what each tile contributes, for the tiles that hold some of the mask `(X, Y, Z)`."""
        ranges = []
        for axis in range(3):
            hit = brain.amax(dim=[a for a in range(3) if a != axis]).nonzero().flatten()
            ranges.append(range(int(hit[0]), int(hit[-1]) + 1, self.kept) if len(hit) else range(0))
        return [
            corner
            for corner in itertools.product(*ranges)
            if brain[tuple(slice(c, c + self.kept) for c in corner)].any()
        ]

    def compute(self, volume: torch.Tensor, corners: Sequence[tuple[int, ...]], network: Any) -> torch.Tensor:
        """Logits `(tiles, classes, n, n, n)` of tiles, the ring included."""
        side = self.kept + 2 * RING
        segments = []
        for factor, count in zip(self.factors, segment_sizes(side, self.factors), strict=True):
            first = pathway_range(side, factor, 0)[0] - RING
            tiles = torch.stack([take(volume, [c + first for c in corner], [count] * 3, factor) for corner in corners])
            segments.append(tiles.contiguous(memory_format=torch.channels_last_3d))
        with self.precision.autocast():
            return network(segments[0], segments[1:]).float()
