"""The grid that a network works on: a part of the native volume, resampled (Doncenco 2022, section 2.2, figure 3)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import INTERPOLATORS, as_array, bounding_box, box_grid, resample

GRIDS = ("native", "training")
"""Grids that results are given on: that of the subject's files, and the one that the network works on."""


def check_grid_name(grid: str) -> str:
    """The name of a grid, one of :data:`GRIDS`.

    Raises:
        UserError: another.
    """
    if grid not in GRIDS:
        raise UserError(f"grid: one of {GRIDS}", repr(grid), "grid", "pass --grid native")
    return grid


class CropResampled(ShowsParameters, MapTransform):
    """Cut a box out of the volume and resample it to ``spatial_size``; the affine follows.

    The native grid is kept in the item under ``native`` (``shape`` and ``affine``), so that what is made on the
    training grid can be carried back by :func:`to_native`.

    Args:
        keys: volumes, `(C, X, Y, Z)`, on one grid.
        spatial_size: shape of the result, X, Y, Z; None keeps the native voxels of the box (its edges on voxels).
        crop: ``brain``, the bounding box of ``mask_key`` widened by ``margin``; ``[first, end]``, these axial
            slices with the plane untouched (the thesis: ``[30, 125]`` of 155, then 95 slices to 64); or ``none``.
        mask_key: brain mask; only for ``brain``.
        margin: share of the box's side added on either side, so that the brain does not touch the border.
        interpolation: ``nearest`` or ``linear``, one for all keys or one each. Labels take ``nearest``. Linear
            smooths first where the grid becomes coarser.
        keep_ready: leave a volume whose shape is ``spatial_size`` already as it is: synthetic subjects are written
            on the grid that their generator was trained on.

    Examples:
        >>> from monai.data import MetaTensor
        >>> from mrsynth.phantom import make_subject
        >>> from mrsynth.transforms import BrainMaskd, CropResampled
        >>> image, label, affine = make_subject(seed=0, index=0, spacing=4.0)
        >>> item = BrainMaskd()({"image": MetaTensor(image.astype("float32"), affine)})
        >>> CropResampled("image", [24, 28, 24], interpolation="linear")(item)["image"].shape
        torch.Size([4, 24, 28, 24])
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | None,
        crop: str | Sequence[int] = "brain",
        mask_key: str = "brain",
        margin: float = 0.04,
        interpolation: str | Sequence[str] = "nearest",
        keep_ready: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = None if spatial_size is None else tuple(int(n) for n in spatial_size)
        self.keep_ready = keep_ready
        self.crop, self.mask_key, self.margin = crop, mask_key, margin
        self.interpolation = ensure_tuple_rep(interpolation, len(self.keys))
        if self.spatial_size is not None and (len(self.spatial_size) != 3 or min(self.spatial_size) < 1):
            raise UserError(
                "three positive sizes X, Y, Z", str(spatial_size), "spatial_size", "pass --spatial_size [48,56,48]"
            )
        if isinstance(crop, str) and crop not in ("brain", "none"):
            raise UserError("crop: brain, none, or [first, end] slices", repr(crop), "crop", "pass --crop brain")
        if not set(self.interpolation) <= set(INTERPOLATORS):
            raise UserError(
                f"one of {sorted(INTERPOLATORS)}", repr(interpolation), "interpolation", "pass --interpolation linear"
            )

    def box(self, item: Mapping[Hashable, Any], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The part of the native grid that is kept: first and one-past-last corner (voxels, may be fractional)."""
        low, high = np.zeros(3), np.asarray(shape, float)
        if self.crop == "brain":
            low, high = (corner.astype(float) for corner in bounding_box(as_array(item[self.mask_key])[0] > 0))
            pad = self.margin * (high - low)
            return low - pad, high + pad
        if self.crop != "none":
            first, end = int(self.crop[0]), int(self.crop[1])
            if not 0 <= first < end <= shape[2]:
                raise UserError(
                    f"slices {first} to {end} inside the volume",
                    f"{shape[2]} slices",
                    item.get("subject"),
                    "set `crop`",
                )
            low[2], high[2] = first, end
        return low, high

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        first = item[self.keys[0]]
        affine = as_array(first.affine)
        shape = tuple(first.shape[1:])
        item["native"] = {"shape": torch.tensor(shape), "affine": torch.from_numpy(affine)}
        if self.keep_ready and shape == self.spatial_size:
            return item
        low, high = self.box(item, shape)
        size = self.spatial_size
        if size is None:
            low, high = np.floor(low).clip(0), np.minimum(np.ceil(high), shape)
            size = tuple(int(n) for n in high - low)
        target = box_grid(affine, low, high, np.asarray(size))
        for key, interpolation in self.key_iterator(item, self.interpolation):
            volume = item[key]
            # only the box, and a rim for the interpolation, needs to be touched
            start = np.clip(np.floor(low).astype(int) - 4, 0, None)
            stop = np.ceil(high).astype(int) + 4
            corner = affine.copy()
            corner[:3, 3] += affine[:3, :3] @ start
            part = as_array(volume)[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
            smooth = interpolation != "nearest"
            if self.spatial_size is None:  # whole voxels: nothing to interpolate
                interpolation, smooth = "nearest", False
            channels = [resample(c, corner, size, target, interpolation, antialias=smooth) for c in part]
            meta = {**volume.meta, "affine": torch.from_numpy(target)}
            stacked = np.stack([c.T for c in channels]).transpose(0, 3, 2, 1)  # X stays fastest in memory
            item[key] = MetaTensor(torch.from_numpy(stacked), meta=meta)
        return item


def to_native(
    volume: np.ndarray,
    affine: np.ndarray,
    native_shape: Sequence[int],
    native_affine: np.ndarray,
    interpolation: str = "linear",
    fill: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Carry a volume of the training grid back to the native grid.

    Args:
        volume: `(C, X, Y, Z)` on the training grid.
        affine: its affine.
        native_shape: X, Y, Z of the result.
        native_affine: its affine.
        interpolation: ``linear`` for images, ``nearest`` for labels.
        fill: value outside the training grid.

    Returns:
        The volume, `(C, X, Y, Z)` native, and the voxels that the training grid covers, bool `(X, Y, Z)`.
    """
    size = tuple(int(n) for n in native_shape)
    native_affine = np.asarray(native_affine, float)
    # positions beyond the outermost voxel centers, yet inside their voxels, take the border's value
    padded = np.pad(volume, [(0, 0), (1, 1), (1, 1), (1, 1)], mode="edge")
    shifted = np.asarray(affine, float).copy()
    shifted[:3, 3] -= shifted[:3, :3].sum(axis=1)
    channels = [resample(c, shifted, size, native_affine, interpolation, fill) for c in padded]
    covered = coverage(volume.shape[1:], affine, size, native_affine)
    result = np.stack(channels)
    result[:, ~covered] = fill
    return result, covered


def coverage(
    shape: Sequence[int], affine: np.ndarray, native_shape: Sequence[int], native_affine: np.ndarray
) -> np.ndarray:
    """Voxels of the native grid whose centers a grid of ``shape`` and ``affine`` covers, bool `(X, Y, Z)`."""
    size = tuple(int(n) for n in native_shape)
    inverse = np.linalg.inv(np.asarray(affine, float)) @ np.asarray(native_affine, float)
    covered = np.ones(size, dtype=bool)
    for axis in range(3):
        index = _axis_index(inverse, axis, size)
        covered &= (index > -0.5) & (index < shape[axis] - 0.5)
    return covered


def _axis_index(index_map: np.ndarray, axis: int, size: tuple[int, ...]) -> np.ndarray:
    """Coordinate ``axis`` of the mapped index of every voxel, broadcast over ``size``."""
    total = np.full((1, 1, 1), index_map[axis, 3])
    for source in range(3):
        steps = np.arange(size[source]) * index_map[axis, source]
        total = total + steps.reshape([-1 if a == source else 1 for a in range(3)])
    return np.broadcast_to(total, size)
