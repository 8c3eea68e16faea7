"""Training patches: where they are taken, and how they are augmented."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureTyped,
    FgBgToIndicesd,
    Lambdad,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SelectItemsd,
    SpatialPadd,
    Transform,
)

from mrsynth.segmentation import preprocessing
from mrsynth.transforms import usual_augmentation

MARGIN = 0.2
"""Share of a patch's sides that is cut around it before it is turned and bent, and off again after."""


def with_voxels(
    spatial_size: Sequence[int] | None,
    crop: str | Sequence[int],
    patch_size: Sequence[int],
    interpolation: str = "linear",
) -> Compose:
    """Deterministic part: a subject at least as large as a patch, and where its tumor and its brain are.

    Args:
        spatial_size: see :func:`mrsynth.segmentation.preprocessing`.
        crop: likewise.
        patch_size: X, Y, Z.
        interpolation: as ``crop``.
    """
    places = ["label_fg_indices", "label_bg_indices"]
    return Compose(
        [
            *preprocessing(spatial_size, crop, interpolation),
            SpatialPadd(["image", "label", "brain"], list(patch_size)),
            FgBgToIndicesd("label", image_key="brain", image_threshold=0),
            Lambdad(places, as_int32),
            SelectItemsd(["image", "label", *places, "subject"]),
        ]
    )


def patches(patch_size: Sequence[int], foreground: float, augmentation: str) -> Compose:
    """Random part: one patch of a subject, its center in the tumor with probability ``foreground``.

    Args:
        patch_size: X, Y, Z.
        foreground: else the center is anywhere else in the brain; nnU-Net takes a third.
        augmentation: ``none`` or ``usual``: rotation, scaling, translation and elastic deformation as
            :func:`mrsynth.transforms.usual_augmentation`, flips, noise, blur, brightness, contrast.
    """
    bent = usual_augmentation(augmentation)
    size = [n + 2 * ceil(MARGIN * n / 2) for n in patch_size] if bent else list(patch_size)
    crop = RandCropByPosNegLabeld(
        ["image", "label"],
        label_key="label",
        spatial_size=size,
        pos=foreground,
        neg=1 - foreground,
        num_samples=1,
        fg_indices_key="label_fg_indices",
        bg_indices_key="label_bg_indices",
        allow_smaller=True,
    )
    steps: list[Transform] = [crop]
    if bent:
        steps += [
            *bent,
            SpatialPadd(["image", "label"], list(patch_size)),
            CenterSpatialCropd(["image", "label"], list(patch_size)),
        ]
        steps += [RandFlipd(["image", "label"], prob=0.5, spatial_axis=axis) for axis in range(3)]
        steps += [
            RandGaussianNoised("image", prob=0.1, std=0.1),
            RandGaussianSmoothd("image", prob=0.1, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), sigma_z=(0.5, 1.0)),
            RandScaleIntensityd("image", factors=0.3, prob=0.15, channel_wise=True),
            RandShiftIntensityd("image", offsets=0.1, prob=0.15, channel_wise=True),
            RandAdjustContrastd("image", prob=0.15, gamma=(0.7, 1.5), retain_stats=True),
        ]
    # without the history of its transforms, which a batch does not need
    steps += [SelectItemsd(["image", "label"]), EnsureTyped(["image", "label"], track_meta=False)]
    return Compose(steps)


def as_int32(indices: object) -> torch.Tensor:
    """Voxel numbers in four bytes each, as a tensor, which can be cached on disk."""
    return torch.as_tensor(indices).to(torch.int32)
