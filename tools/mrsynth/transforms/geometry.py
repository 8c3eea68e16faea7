"""Arrays with an affine, and SimpleITK images: the one place where the two meet.

Arrays are ``(X, Y, Z)``; affines are 4x4, voxel index to RAS millimeters as in NIfTI. SimpleITK speaks LPS and
``(Z, Y, X)``; nobody outside this module needs to know.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

INTERPOLATORS = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear}


def as_array(volume: torch.Tensor | np.ndarray) -> np.ndarray:
    """NumPy view of a CPU (Meta)tensor or array; strides are kept, since turning a volume is slow."""
    if isinstance(volume, MetaTensor):
        volume = volume.as_tensor()
    return volume.numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)


def to_sitk(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """``(X, Y, Z)`` array and RAS affine as a SimpleITK image (no copy of the geometry is lost)."""
    image = sitk.GetImageFromArray(np.asarray(array).T)
    set_grid(image, affine)
    return image


def set_grid(image: sitk.Image, affine: np.ndarray) -> None:
    """Give ``image`` the geometry of an RAS ``affine``."""
    lps = RAS_TO_LPS @ np.asarray(affine, dtype=float)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    size: tuple[int, ...],
    target_affine: np.ndarray,
    interpolation: str = "nearest",
    fill: float = 0.0,
    world_map: np.ndarray | None = None,
    antialias: bool = False,
) -> np.ndarray:
    """Sample ``array`` on another grid.

    Args:
        array: ``(X, Y, Z)``.
        affine: its RAS affine.
        size: shape of the result.
        target_affine: RAS affine of the result.
        interpolation: ``nearest`` or ``linear``.
        fill: value outside ``array``.
        world_map: 4x4, from a point of the target (RAS mm) to the point of ``array`` shown there; identity
            when None.
        antialias: smooth with a Gaussian of half the coarsening before a coarser grid is sampled.

    Returns:
        ``size`` array of the same dtype.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.transforms import resample
        >>> coarse = np.ones((4, 4, 4), np.float32)
        >>> resample(coarse, np.diag([2.0, 2, 2, 1]), (8, 8, 8), np.eye(4)).shape
        (8, 8, 8)
    """
    if interpolation == "nearest" and world_map is None:
        picked = _pick_nearest(array, np.linalg.inv(affine) @ target_affine, size, fill)
        if picked is not None:
            return picked
    moving = to_sitk(array, affine)
    if antialias:
        ratio = np.linalg.norm(target_affine[:3, :3], axis=0) / np.linalg.norm(affine[:3, :3], axis=0)
        sigma = np.where(ratio > 1.01, 0.42 * ratio, 0.0) * np.asarray(moving.GetSpacing())
        moving = sitk.Cast(moving, sitk.sitkFloat32)
        if sigma.any():
            moving = sitk.SmoothingRecursiveGaussian(moving, np.maximum(sigma, 1e-3).tolist())
    transform = sitk.AffineTransform(3)
    if world_map is not None:
        lps = RAS_TO_LPS @ np.asarray(world_map, dtype=float) @ RAS_TO_LPS
        transform.SetMatrix(lps[:3, :3].ravel().tolist())
        transform.SetTranslation(lps[:3, 3].tolist())
    grid = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    set_grid(grid, target_affine)
    result = sitk.Resample(
        moving,
        [int(n) for n in size],
        transform,
        INTERPOLATORS[interpolation],
        grid.GetOrigin(),
        grid.GetSpacing(),
        grid.GetDirection(),
        fill,
        moving.GetPixelID(),
    )
    return sitk.GetArrayFromImage(result).T


def _pick_nearest(array: np.ndarray, index_map: np.ndarray, size: tuple[int, ...], fill: float) -> np.ndarray | None:
    """Nearest neighbors by plain indexing, several times faster than a resampler; None where axes are not parallel.

    Args:
        array: ``(X, Y, Z)``.
        index_map: 4x4, voxel of the result to voxel of ``array``.
    """
    linear = index_map[:3, :3]
    if np.abs(linear - np.diag(np.diag(linear))).max() * max(size) > 1e-3:
        return None
    indices, outside = [], []
    for axis in range(3):
        # half a voxel counts to the next one, as in SimpleITK; the tiny term keeps exact halves exact
        index = np.floor(index_map[axis, axis] * np.arange(size[axis]) + index_map[axis, 3] + 0.5 + 1e-6).astype(int)
        outside.append((index < 0) | (index >= array.shape[axis]))
        indices.append(index.clip(0, array.shape[axis] - 1))
    picked = array.T  # files hold X fastest
    for axis, index in enumerate(indices):
        if not np.array_equal(index, np.arange(array.shape[axis])):
            picked = picked.take(index, axis=2 - axis)
    picked = picked.T if picked.base is None else picked.copy().T
    for axis in range(3):
        if outside[axis].any():
            picked[(slice(None),) * axis + (outside[axis],)] = fill
    return picked


def bounding_box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last index of the true voxels of ``mask`` ``(X, Y, Z)``, each ``(3,)``; needs one.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.transforms import bounding_box
        >>> mask = np.zeros((8, 8, 8), bool)
        >>> mask[2:5, 3:4, 1:7] = True
        >>> [edge.tolist() for edge in bounding_box(mask)]
        [[2, 3, 1], [5, 4, 7]]
    """
    low, high = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low.append(hit[0])
        high.append(hit[-1] + 1)
    return np.asarray(low), np.asarray(high)


def box_grid(affine: np.ndarray, low: np.ndarray, high: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Affine of a grid of ``size`` voxels that covers the voxels ``low`` to ``high`` of a grid with ``affine``."""
    step = (np.asarray(high, float) - low) / np.asarray(size, float)
    index_map = np.eye(4)
    index_map[:3, :3] = np.diag(step)
    # voxel edges, not centers, coincide
    index_map[:3, 3] = np.asarray(low, float) - 0.5 + step / 2
    return np.asarray(affine, float) @ index_map


def box_map(
    affine: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    other_affine: np.ndarray,
    other: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """World map (4x4, RAS mm) that carries the box of voxels ``box`` onto the box ``other`` of another grid."""
    scale = (other[1] - other[0]) / (box[1] - box[0])
    index_map = np.eye(4)
    index_map[:3, :3] = np.diag(scale)
    index_map[:3, 3] = (other[0] - 0.5) - scale * (box[0] - 0.5)
    return np.asarray(other_affine, float) @ index_map @ np.linalg.inv(np.asarray(affine, float))


def upright(plane: np.ndarray, axis: int) -> np.ndarray:
    """A slice of an LPS volume as one looks at it: rows from the nose (axial) or from the vertex downwards.

    Args:
        plane: what is left of `(X, Y, Z)` where ``axis`` was cut; or many such, `(..., first, second)`.
        axis: 0 sagittal, 1 coronal, 2 axial.
    """
    turned = np.swapaxes(plane, -1, -2)
    return turned if axis == 2 else turned[..., ::-1, :]
