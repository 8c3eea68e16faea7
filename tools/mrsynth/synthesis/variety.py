"""More variety of tumors: a generator without a noise input makes the tumors of one label alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from mrsynth.checks import number
from mrsynth.conventions import CORE, EDEMA, ENHANCING
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array

REACH = 3
"""Distance in voxels over which the shift of a class fades out."""


class TumorVarietyd(ShowsParameters, Transform):
    """Shift the intensities of each tumor class and sequence at random: by a constant, and by a smooth field.

    Both draws are normal and depend only on ``seed`` and the subject's ``number``. A class fades into its neighbors
    over a voxel; away from the tumor nothing changes. The shift is not part of any published method.

    Args:
        amount: standard deviation of both draws, for intensities in [-1, 1]; 0 changes nothing.
        seed: seed of the draws.
        smoothness: standard deviation in voxels of the Gaussian that smooths the field.
        key: the generated image, `(C, X, Y, Z)`; replaced.
        label_key: tumor label on the grid of the image.

    Raises:
        UserError: ``amount`` is negative or no number.
    """

    def __init__(
        self,
        amount: float = 0.0,
        seed: int = 0,
        smoothness: float = 4.0,
        key: str = "pred",
        label_key: str = "transplanted",
    ) -> None:
        number("variety", amount, 0, 1)
        self.amount, self.seed, self.smoothness, self.key, self.label_key = amount, seed, smoothness, key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        if self.amount == 0:
            return item
        image = as_array(torch.as_tensor(item[self.key]).detach().cpu()).astype(np.float32)
        label = as_array(item[self.label_key].cpu())[0]
        random = np.random.default_rng([self.seed, int(item["number"])])
        for value in (CORE, EDEMA, ENHANCING):
            share = ndimage.gaussian_filter((label == value).astype(np.float32), 1.0, truncate=REACH)
            for volume in image:
                even = random.normal()
                field = ndimage.gaussian_filter(random.normal(size=label.shape), self.smoothness, mode="wrap")
                volume += (self.amount * share * (even + field / field.std())).astype(np.float32)
        item[self.key] = MetaTensor(torch.from_numpy(image.clip(-1, 1)), affine=item[self.label_key].affine)
        return item
