"""Pictures of volumes: three planes, every sequence, the label's outline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from mrsynth.conventions import CORE, EDEMA, ENHANCING
from mrsynth.files import atomic_path
from mrsynth.transforms.geometry import upright

COLORS = {EDEMA: (0.35, 0.85, 0.35), CORE: (0.95, 0.25, 0.2), ENHANCING: (1.0, 0.85, 0.1)}
PLANES = ("axial", "coronal", "sagittal")


@dataclass
class MontageRow:
    """One row of a montage.

    Attributes:
        title: written beside the row.
        image: `(C, X, Y, Z)`, LPS-like axes, shown from -1 (black) to 1 (white).
        label: `(X, Y, Z)`, outlined; None for no outline.
        spacing: millimeters per voxel.
        center: voxel through which the planes go.
    """

    title: str
    image: np.ndarray
    label: np.ndarray | None
    spacing: tuple[float, float, float]
    center: tuple[int, int, int]


def tumor_center(label: np.ndarray) -> tuple[int, int, int]:
    """Voxel at which a label `(X, Y, Z)` is shown: along each axis the slice with the most tumor.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.training import tumor_center
        >>> label = np.zeros((8, 8, 8), np.uint8)
        >>> label[2:5, 3:6, 4:7] = 4
        >>> tumor_center(label)
        (2, 3, 4)
    """
    if not (label > 0).any():
        return tuple(n // 2 for n in label.shape)  # type: ignore[return-value]
    sums = [(label > 0).sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return tuple(int(s.argmax()) for s in sums)  # type: ignore[return-value]


class Picture(Protocol):
    """A picture of a run's results, which can save itself as a PNG."""

    def save(self, path: str | os.PathLike, title: str = "") -> np.ndarray:
        """Write the PNG, atomically, and return it as RGB floats `(height, width, 3)`."""


@dataclass
class Montage:
    """Rows of volumes; for each channel the three planes side by side.

    Attributes:
        rows: top to bottom.
        columns: names of the channels.
        mm_per_pixel: scale.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.training import Montage, MontageRow
        >>> row = MontageRow("real", np.zeros((2, 8, 8, 8)), None, spacing=(1.0, 1.0, 1.0), center=(4, 4, 4))
        >>> Montage([row], columns=("t1", "t2")).draw().shape
        (7, 42, 3)
    """

    rows: Sequence[MontageRow]
    columns: Sequence[str]
    mm_per_pixel: float = 1.5

    def draw(self) -> np.ndarray:
        """The mosaic, as RGB floats `(height, width, 3)`."""
        bands = []
        for row in self.rows:
            tiles = [_tile(channel, row, plane, self.mm_per_pixel) for channel in row.image for plane in range(3)]
            height = max(tile.shape[0] for tile in tiles)
            bands.append(np.concatenate([_pad(tile, height, tile.shape[1] + 2) for tile in tiles], axis=1))
        width = max(band.shape[1] for band in bands)
        return np.concatenate([_pad(band, band.shape[0] + 2, width) for band in bands], axis=0)

    def save(self, path: str | os.PathLike, title: str = "") -> np.ndarray:
        """See :class:`Picture`."""
        mosaic = self.draw()
        save_mosaic(path, mosaic, self.columns, [row.title for row in self.rows], title)
        return mosaic


def save_mosaic(
    path: str | os.PathLike, mosaic: np.ndarray, columns: Sequence[str], rows: Sequence[str], title: str = ""
) -> None:
    """Write a mosaic `(height, width, 3)` as a PNG, pixel by pixel and atomically, with titles for its columns and
    rows.
    """
    height, width = mosaic.shape[:2]
    figure = Figure(figsize=(width / 100 + 1.6, height / 100 + 0.6), dpi=100)
    FigureCanvasAgg(figure)
    across, down = width / 100 + 1.6, height / 100 + 0.6
    axes = figure.add_axes((1.5 / across, 0.05 / down, width / 100 / across, height / 100 / down))
    axes.imshow(mosaic, interpolation="nearest")
    step, band = width / max(len(columns), 1), height / max(len(rows), 1)
    axes.set_xticks([step * (i + 0.5) for i in range(len(columns))], columns)
    axes.set_yticks([band * (i + 0.5) for i in range(len(rows))], rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _tile(volume: np.ndarray, row: MontageRow, plane: int, mm_per_pixel: float) -> np.ndarray:
    """One plane as RGB, with the nose or the vertex at the top."""
    axis = 2 - plane  # axial cuts Z, coronal Y, sagittal X
    gray = upright(np.take(volume, row.center[axis], axis=axis), axis)
    zoom = [s / mm_per_pixel for s in _upright_spacing(row.spacing, axis)]
    gray = ndimage.zoom(gray.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest")
    rgb = np.repeat(((gray.clip(-1, 1) + 1) / 2)[..., None], 3, axis=2)
    if row.label is not None:
        label = upright(np.take(row.label, row.center[axis], axis=axis), axis)
        label = ndimage.zoom(label, zoom, order=0, grid_mode=True, mode="nearest")
        for value, color in COLORS.items():
            region = label == value
            rgb[region & ~ndimage.binary_erosion(region)] = color
    return rgb


def _upright_spacing(spacing: tuple[float, float, float], axis: int) -> tuple[float, float]:
    first, second = (s for a, s in enumerate(spacing) if a != axis)
    return second, first


def _pad(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    canvas[: tile.shape[0], : tile.shape[1]] = tile
    return canvas
