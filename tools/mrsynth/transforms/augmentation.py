"""The usual augmentation of a training patch: rotation, scaling, translation and elastic deformation.

With the patch's own random place (the crop) these are the four that the augmentation table's rows are trained with and
without (Shin 2018, section 3.2). MONAI's transforms; the numbers are those that nnU-Net made customary.
"""

from __future__ import annotations

from math import radians

from monai.transforms import Rand3DElasticd, RandAffined, Transform

from mrsynth.errors import UserError

AUGMENTATIONS = ("none", "usual")
"""Values of ``augmentation``."""


def usual_augmentation(
    augmentation: str = "usual",
    image_key: str = "image",
    label_key: str = "label",
    rotation: float = 15.0,
    scaling: float = 0.15,
    translation: float = 4.0,
    elastic: tuple[float, float] = (10.0, 30.0),
    affine_probability: float = 0.5,
    elastic_probability: float = 0.1,
) -> list[Transform]:
    """Random transforms of an image patch and its label.

    Args:
        augmentation: ``usual``, or ``none`` for no transform.
        image_key: interpolated linearly, 0 outside.
        label_key: nearest neighbor.
        rotation: greatest angle about each axis, degrees.
        scaling: greatest change of each side, as a share of 1.
        translation: greatest shift along each axis, voxels.
        elastic: least and greatest magnitude of the deformation (MONAI's), smoothed over 6 to 9 voxels.
        affine_probability: of rotation, scaling and translation together.
        elastic_probability: of the elastic deformation.

    Raises:
        UserError: an unknown name.
    """
    if augmentation not in AUGMENTATIONS:
        raise UserError(
            f"augmentation: one of {AUGMENTATIONS}", repr(augmentation), "augmentation", "pass --augmentation usual"
        )
    if augmentation == "none":
        return []
    keys, modes = [image_key, label_key], ["bilinear", "nearest"]
    return [
        RandAffined(
            keys,
            prob=affine_probability,
            rotate_range=[radians(rotation)] * 3,
            scale_range=[scaling] * 3,
            translate_range=[translation] * 3,
            mode=modes,
            padding_mode="zeros",
        ),
        Rand3DElasticd(
            keys,
            sigma_range=(6, 9),
            magnitude_range=elastic,
            prob=elastic_probability,
            mode=modes,
            padding_mode="zeros",
        ),
    ]
