"""Finds the breasts in an image, without any label.

*Tissue* is whatever is brighter than air: Otsu's threshold on the logarithm, the largest component, with holes such as
the lungs filled. In each slice the front edge of the tissue has a valley over the sternum, between the breasts. The
*chest wall* is modeled as a parabola through the deepest valley that bends backwards like a circle of half the body's
width, by at most 30 mm. The breasts are the tissue in front of it. The curve runs slightly in front of the muscle.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from mrsynth.errors import UserError

COARSE = 128
"""Pixels along each edge of the coarse slices in which the breasts are searched."""

BEND_MM = 30.0
"""The most that the chest wall bends backwards, in mm."""

LEAST_CONTRAST = 4.0
"""Least ratio of the median of tissue to that of air; below it the image is noise."""

VALLEY_MM, LEAST_ML = 12.0, 30.0
"""Least height of a breast over the sternum in mm, and least volume of both breasts in ml."""


def find_breasts(image: np.ndarray, spacing: tuple[float, float, float], where: object = "image") -> np.ndarray:
    """Mask of both breasts of a woman lying prone.

    Args:
        image: T1 before contrast, axial, `(X, Y, Z)`; x points to the left of the body, y to the back.
        spacing: voxel size in mm.
        where: the file that an error names.

    Returns:
        bool `(X, Y, Z)`.

    Raises:
        UserError: two hanging breasts are not found.
    """
    slices = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))[:, None]
    coarse = torch.nn.functional.interpolate(slices, size=(COARSE, COARSE), mode="area")[:, 0].numpy()
    step_x, step_y = spacing[0] * image.shape[0] / COARSE, spacing[1] * image.shape[1] / COARSE
    tissue = _tissue(coarse)
    wall = _chest_wall(tissue, step_x, step_y)
    if wall is not None:
        found = tissue & (np.arange(COARSE)[None, None, :] * step_y < wall[None, :, None])
        found = ndimage.binary_opening(found, np.ones((1, 4, 4)))  # without the strips above and below the breasts
        if found.sum() * step_x * step_y * spacing[2] > 1000 * LEAST_ML:
            mask = torch.from_numpy(found.astype(np.uint8))[:, None]
            fine = torch.nn.functional.interpolate(mask, size=image.shape[:2], mode="nearest-exact")[:, 0]
            return fine.numpy().transpose(1, 2, 0).astype(bool)
    raise UserError(
        f"an axial image of two breasts that hang at least {VALLEY_MM:g} mm in front of the sternum",
        "no breast",
        where,
        "replace the file by one of both breasts in prone position, or repair the orientation in its header",
    )


def _tissue(image: np.ndarray) -> np.ndarray:
    """The body, bool ``(Z, X, Y)``."""
    level = np.percentile(image, 99)
    if not level > 0:
        return np.zeros(image.shape, dtype=bool)
    logarithm = np.log(np.maximum(image, 0) / level + 0.01).astype(np.float32)
    bright = sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(logarithm), 0, 1)) > 0
    if not bright.any() or np.median(image[bright]) < LEAST_CONTRAST * np.median(image[~bright]):
        return np.zeros(image.shape, dtype=bool)
    parts, _ = ndimage.label(ndimage.binary_opening(bright, np.ones((1, 3, 3))))
    if not parts.any():
        return bright
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return np.stack([ndimage.binary_fill_holes(piece) for piece in body])


def _chest_wall(tissue: np.ndarray, step_x: float, step_y: float) -> np.ndarray | None:
    """Position of the chest wall from the front in mm, by column ``(X,)``; None where there are no two breasts."""
    valleys, places, widths = [], [], []
    for piece in tissue:
        columns = np.flatnonzero(piece.any(axis=1))
        if len(columns) < COARSE // 4:
            continue
        front = piece.argmax(axis=1) * step_y
        middle = (columns[0] + columns[-1]) // 2
        right = columns[0] + int(np.argmin(front[columns[0] : middle]))
        left = middle + int(np.argmin(front[middle : columns[-1] + 1]))
        between = front[right : left + 1] * piece[right : left + 1].any(axis=1)
        if between.max() - max(front[right], front[left]) >= VALLEY_MM:
            valleys.append(between.max())
            places.append(right + float(np.median(np.flatnonzero(between == between.max()))))
            widths.append(len(columns) * step_x)
    if len(valleys) < 2:
        return None
    away = (np.arange(tissue.shape[1]) - np.median(places)) * step_x
    return np.percentile(valleys, 90) + np.minimum(away**2 / np.median(widths), BEND_MM)
