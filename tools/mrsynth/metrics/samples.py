"""Checks of the input of the realism measures: a feature matrix for each set of images, or the images themselves.

Feature matrices are `(N, D)`, one row an image, NumPy or torch, of any real type; all arithmetic is in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from mrsynth.errors import UserError

FeatureMatrix = np.ndarray | torch.Tensor


def feature_matrix(features: FeatureMatrix, name: str = "features", least: int = 1) -> torch.Tensor:
    """``features`` as float64 `(N, D)` on the CPU.

    Args:
        features: `(N, D)`.
        name: what an error calls the set, such as "real".
        least: fewest images that will do.

    Raises:
        UserError: not a matrix, no features, fewer than ``least`` images, or values that are not finite.
    """
    matrix = torch.as_tensor(features).detach().to("cpu", torch.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise UserError(
            "a matrix of features, one row an image",
            f"an array of shape {tuple(matrix.shape)}",
            f"the features of the {name} images",
            "pool every image's features into one vector, and stack these",
        )
    if len(matrix) < least:
        raise UserError(
            f"at least {least} images",
            f"{len(matrix)}",
            f"the features of the {name} images",
            "give more images, or omit this measure",
        )
    bad = ~torch.isfinite(matrix).all(dim=1)
    if bad.any():
        raise UserError(
            "finite features",
            f"NaN or infinity in {int(bad.sum())} of {len(matrix)} images, the first at row {int(bad.nonzero()[0])}",
            f"the features of the {name} images",
            "look for NaN in these images, or in the weights of the network that made the features",
        )
    return matrix


def feature_pair(real: FeatureMatrix, fake: FeatureMatrix, least: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sets as :func:`feature_matrix` gives them.

    Raises:
        UserError: as there, or the two differ in the number of features.
    """
    pair = feature_matrix(real, "real", least), feature_matrix(fake, "fake", least)
    same_width(pair[0].shape[1], pair[1].shape[1])
    return pair


def same_width(one: int, other: int) -> None:
    """Refuse two sets, or parts of one, that differ in the number of features."""
    if one != other:
        raise UserError(
            "as many features in one set of images as in the other",
            f"{one} and {other}",
            "the features",
            "compute all with the same feature extractor",
        )


def image_batches(images: torch.Tensor | Iterable[torch.Tensor], least_size: int = 1) -> Iterator[torch.Tensor]:
    """The batches of a set of images, all of one size: float32 `(n, C, H, W)`, or `(n, C, X, Y, Z)`.

    Args:
        images: one batch of all, or an iterable of batches.
        least_size: fewest pixels along an axis that will do.

    Raises:
        UserError: no images, of another number of axes, too small, of mixed sizes, or values that are not finite.
    """
    first = None
    for batch in (images,) if isinstance(images, torch.Tensor) else images:
        if batch.ndim not in (4, 5):
            raise UserError(
                "batches of images (N, C, H, W), or of volumes (N, C, X, Y, Z)",
                f"an array of shape {tuple(batch.shape)}",
                "the images",
                "give a single-channel image a channel axis: images[:, None]",
            )
        if not len(batch):
            continue
        shape = tuple(batch.shape[1:])
        first = first or shape
        if shape != first:
            raise UserError(
                "images of one size",
                f"{first} and {shape} (channels first)",
                "the images",
                "resize or crop them to one size",
            )
        if min(shape[1:]) < least_size:
            raise UserError(
                f"images of at least {least_size} pixels along each axis",
                " x ".join(map(str, shape[1:])),
                "the images",
                "give larger images, or omit this measure",
            )
        if not torch.isfinite(batch).all():
            raise UserError(
                "finite intensities",
                "NaN or infinity",
                "the images",
                "replace NaN and infinity, or remove these images",
            )
        yield batch.detach().to("cpu", torch.float32)
    if first is None:
        raise UserError("at least one image", "none", "the images", "give a folder or a datalist that contains images")
