"""The background of a skull-stripped volume, whatever value it has, as exactly 0.

"Brain" means "not zero" everywhere in this package. BraTS publishes its volumes so; a volume that was normalized with
its background included, or resampled with another fill value, is brought to the same form here when it is read.
"""

from __future__ import annotations

import itertools

import numpy as np

LEAST_SHARE = 0.5
"""Share of the voxels on the twelve edges of the box that must have the background's value. A brain touches the faces
of its box, not the edges, even where the box is cropped to the brain."""


class NoBackground(Exception):
    """A volume whose background cannot be separated from the brain; the message says why."""


def zero_background(volume: np.ndarray) -> np.ndarray:
    """A volume with background 0.

    The background is the value that fills the edges of the box, a number or NaN. A volume whose background is 0
    is returned as it is. Any other number is subtracted, so that intensities keep their distance to the background;
    NaN is replaced by 0.

    Args:
        volume: ``(X, Y, Z)``.

    Returns:
        The volume itself, or a float32 copy.

    Raises:
        NoBackground: the edges have no common value, or voxels inside are NaN or infinite.
    """
    kind = volume.dtype.kind
    if kind not in "iufb":
        raise NoBackground(f"voxels of type {volume.dtype}, where numbers were expected")
    edges = np.concatenate([volume[corner].ravel() for corner in _edges(volume.shape)])
    if kind == "f":
        blank = np.isnan(edges)
        if blank.mean() >= LEAST_SHARE:
            volume = np.where(np.isnan(volume), np.float32(0), volume).astype(np.float32, copy=False)
            edges = np.zeros(1)
        if n := int(volume.size - np.count_nonzero(np.isfinite(volume))):
            raise NoBackground(f"{n} voxels are NaN or infinite")
    value = float(np.median(edges))  # the value of at least half of them, where there is one
    same = edges == 0 if value == 0 else np.isclose(edges, value, rtol=1e-5, atol=0)
    if same.mean() < LEAST_SHARE:
        raise NoBackground(
            f"no constant background: the most common value covers {_most_common(edges):.0%} of the edges of the box "
            f"(at least {LEAST_SHARE:.0%} is needed), so the skull is not stripped"
        )
    if value == 0:
        return volume
    shifted = volume.astype(np.float32) - np.float32(value)
    shifted[np.isclose(volume, value, rtol=1e-5, atol=0)] = 0
    return shifted


def _edges(shape: tuple[int, ...]) -> list[tuple]:
    """Indices of the twelve edges of a box."""
    found = []
    for axis in range(3):
        for ends in itertools.product((0, -1), repeat=2):
            index: list = list(ends)
            index.insert(axis, slice(None))
            found.append(tuple(index))
    return found


def _most_common(values: np.ndarray) -> float:
    return float(np.unique(values, return_counts=True)[1].max() / values.size)
