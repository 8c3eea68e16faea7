"""Geometry of the pathways, shared by network, sampling and tiling.

A pathway of factor `f` computes on every `f`-th voxel. Eight valid 3x3x3 convolutions take 8 of its voxels off each
side, and each of its output voxels stands for `f` voxels a side of the network's output: output voxel `j` for those
from `j * f` on, sampled at the middle one, `j * f + f // 2`. So what a voxel sees depends on where it lies in its
group of voxels alone, and groups of all factors begin together at multiples of their least common multiple.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

LAYERS = 8
"""Convolutions of a pathway, and so the voxels of its own grid that it loses at each side; it sees 17 a side."""


def block_margin(factors: Sequence[int]) -> int:
    """Voxels that a block with all the context is larger than the network's output, at each side: 42 for 1, 3, 5."""
    return max(LAYERS * f + f // 2 for f in factors)


def segment_sizes(output: int, factors: Sequence[int]) -> list[int]:
    """Side of each pathway's input for a side of the network's output: 21 gives 37, 23 and 21 for 1, 3, 5."""
    return [math.ceil(output / f) + 2 * LAYERS for f in factors]


def pathway_range(output: int, factor: int, margin: int, layers: int = LAYERS) -> tuple[int, int, int]:
    """First voxel, one past the last, and step, along one side of a block, of a pathway's input.

    Args:
        output: side of the network's output.
        factor: of the pathway.
        margin: at each side of the block, see :func:`block_margin`.
        layers: of the pathway; an argument since TorchScript reads no globals.
    """
    first = margin - layers * factor + factor // 2
    count = (output + factor - 1) // factor + 2 * layers
    return first, first + (count - 1) * factor + 1, factor


def take(
    volume: torch.Tensor, first: Sequence[int], count: Sequence[int], step: int = 1, mirrored: bool = False
) -> torch.Tensor:
    """Every ``step``-th voxel of a part of `volume`, with zeros where that reaches beyond it.

    Args:
        volume: `(C, X, Y, Z)`.
        first: index of the part's first voxel, which may lie outside, as may the last.
        count: voxels taken along each axis.
        step: between them.
        mirrored: turn the result round along its first axis.

    Returns:
        `(C, *count)`: a view where that is possible, so not to be written to.
    """
    inside, where, whole = [], [], True
    for start, number, side in zip(first, count, volume.shape[1:], strict=True):
        low = min(max(0, -(start // step)), number)
        high = max(low, min(number, (side - 1 - start) // step + 1))
        inside.append(slice(start + low * step, start + high * step, step) if high > low else slice(0))
        where.append(slice(low, high))
        whole = whole and (low, high) == (0, number)
    part = volume[:, inside[0], inside[1], inside[2]]
    if not whole:
        padded = part.new_zeros((len(volume), *(int(n) for n in count)))
        padded[:, where[0], where[1], where[2]] = part
        part = padded
    return part.flip(1) if mirrored else part
