"""Contrast of a region against the brain around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

LEAST_VOXELS = 3
"""A region or its surroundings smaller than this is not measured."""


def shell(lesion: np.ndarray, tissue: np.ndarray, spacing: Sequence[float], width: float = 10.0) -> np.ndarray:
    """Voxels of ``tissue`` outside ``lesion`` and within ``width`` mm of it (at least one and a half voxels).

    Args:
        lesion: bool `(X, Y, Z)`.
        tissue: bool `(X, Y, Z)`, where the surroundings may be taken from.
        spacing: mm a voxel, per axis.
        width: mm.
    """
    if not lesion.any():
        return np.zeros_like(lesion)
    distance = ndimage.distance_transform_edt(~lesion, sampling=tuple(spacing))
    return tissue & ~lesion & (distance <= max(width, 1.5 * max(spacing)))


def contrast(image: np.ndarray, region: np.ndarray, around: np.ndarray) -> float:
    """Mean of ``image`` `(X, Y, Z)` in ``region`` less that in ``around`` (bool masks); NaN where one is too small.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.metrics import contrast
        >>> image = np.repeat([1.0, 3.0], 50).reshape(10, 10, 1)
        >>> contrast(image, region=image > 2, around=image < 2)
        2.0
    """
    if min(np.count_nonzero(region), np.count_nonzero(around)) < LEAST_VOXELS:
        return float("nan")
    return float(image[region].mean() - image[around].mean())
