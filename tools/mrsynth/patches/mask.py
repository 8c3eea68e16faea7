"""Where the breasts are, found from the image alone.

The rule: *tissue* is what is brighter than air (Otsu's threshold on the logarithm, largest piece, holes such as the
lungs filled). In each slice the front edge of the tissue has a valley over the sternum, between the two breasts. The
*chest wall* is the parabola that passes through the deepest such valley and bends backwards as a circle of half the
body's width would, by 30 mm at most; the breasts are the tissue in front of it. It runs a little before the muscle.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from mrsynth.errors import UserError

COARSE = 128
"""Pixels along the edge of a slice on which the breasts are looked for."""

BEND_MM = 30.0
"""The chest wall bends backwards by so much at most: to the side of that is no breast."""

LEAST_CONTRAST = 4.0
"""Tissue is so many times brighter than air, or all is noise."""

VALLEY_MM, LEAST_ML = 12.0, 30.0
"""What counts as a breast: it rises so far over the sternum, and both together have such a volume."""


def find_breasts(image: np.ndarray, spacing: tuple[float, float, float], where: object = "image") -> np.ndarray:
    """Mask of both breasts of a woman lying prone.

    Args:
        image: T1 before contrast, axial, `(X, Y, Z)`, x to her left, y backwards.
        spacing: of its voxels in mm.
        where: the file, for the message.

    Returns:
        bool `(X, Y, Z)`.

    Raises:
        UserError: no two breasts that hang from a chest.
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
        f"an axial image of two breasts that hang {VALLEY_MM:g} mm and more in front of the sternum",
        "no breast",
        where,
        "check that the file is of both breasts, prone, and that its header has the right orientation",
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
