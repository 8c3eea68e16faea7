"""Random fields in millimeters: smooth B-spline fields on a grid, and noise volumes that can be evaluated anywhere.

Both are functions of position, drawn on their own lattice, so the same draw gives the same anatomy on every grid. Only
elementwise and single-threaded operations are used: the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

Array = np.ndarray


def smooth_field(
    rng: np.random.Generator, axes: Sequence[Array], extent: Sequence[float], knot: float, channels: int = 1
) -> Array:
    """A random cubic B-spline field of about unit standard deviation.

    Args:
        rng: random generator; the number of draws depends only on ``extent`` and ``knot``.
        axes: three ascending 1D arrays, the coordinates in mm along X, Y, Z, within ``[0, extent]``.
        extent: size of the field of view in mm along X, Y, Z.
        knot: distance of the control points in mm; structures are about twice as wide.
        channels: number of independent fields.

    Returns:
        float32 array ``(channels, X, Y, Z)``.
    """
    counts = [int(np.ceil(length / knot)) + 4 for length in extent]
    field = rng.standard_normal((channels, *counts), dtype=np.float32)
    # a cubic B-spline keeps 0.48 of the variance of white control points along each axis
    field *= np.float32(0.48**-1.5)
    for axis, positions in enumerate(axes, start=1):
        field = np.moveaxis(_spline(np.moveaxis(field, axis, 0), positions / knot), 0, axis)
    return np.ascontiguousarray(field)


def _spline(control: Array, position: Array) -> Array:
    """Evaluate along the first axis; ``position`` in knots, control point 1 standing at position 0."""
    base = np.floor(position).astype(int)
    t = (position - base)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    rows = np.repeat(np.arange(len(position)), 4)
    columns = (base[:, None] + np.arange(4)).ravel()
    basis = sparse.csr_matrix(
        (weights.ravel().astype(np.float32), (rows, columns)), shape=(len(position), len(control))
    )
    return (basis @ control.reshape(len(control), -1)).reshape(len(position), *control.shape[1:])


class NoiseVolume:
    """Band-pass noise of zero mean and unit variance, periodic in all directions.

    Args:
        rng: random generator.
        wavelength: typical distance in mm from one crest to the next.
        size: edge of the repeated cube in cells; a cell is an eighth of the wavelength.
    """

    def __init__(self, rng: np.random.Generator, wavelength: float, size: int = 64) -> None:
        white = rng.standard_normal((size, size, size), dtype=np.float32)
        band = ndimage.gaussian_filter(white, 1.3, mode="wrap") - ndimage.gaussian_filter(white, 2.6, mode="wrap")
        self.cells = band / band.std()
        self.cell = wavelength / 8

    def __call__(self, points: Array) -> Array:
        """The noise at ``points`` (3, N) in mm; float32 (N,)."""
        return ndimage.map_coordinates(self.cells, points / self.cell, order=1, mode="grid-wrap", prefilter=False)


def smoothstep(value: Array) -> Array:
    """0 below 0, 1 above 1, smooth in between."""
    clipped = np.clip(value, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
