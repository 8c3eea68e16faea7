"""From the network's [-1, 1] to the int16 of a file, and from the training grid back to the native one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms import check_grid_name, coverage, to_native
from mrsynth.transforms.geometry import as_array

LOW, HIGH = 1, 1000
"""File values of -1 and 1 inside the brain. The background is 0, so the brain mask can be recovered."""

SHADES, LARGEST = 20, 32767
"""Least number of integer steps between dark and bright in the brain; greatest int16."""


def mapping() -> dict[str, Any]:
    """Description of the intensity mapping, for a sidecar."""
    steps = HIGH - LOW
    return {
        "background": 0,
        "brain": [LOW, HIGH],
        "written": f"n = round({LOW} + {steps} * (v + 1) / 2) inside the brain, v the network's value in [-1, 1]",
        "inverse": f"v = 2 * (n - {LOW}) / {steps} - 1",
    }


def own_scale() -> dict[str, Any]:
    """As :func:`mapping`, for images in the recipient's own scale."""
    return {"background": 0, "brain": [LOW, None], "written": f"the recipient's own scale, at least {LOW} in its brain"}


def to_int16(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """`(C, X, Y, Z)` in [-1, 1] as int16: 0 outside the bool mask `(X, Y, Z)`, 1 to 1000 inside.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.synthesis import from_int16, to_int16
        >>> image = np.array([-1.0, -0.5, 1.0], np.float32).reshape(1, 3, 1, 1)
        >>> voxels = to_int16(image, brain=image[0] > -1)
        >>> print(from_int16(voxels).ravel().round(2))
        [-1.  -0.5  1. ]
    """
    scaled = np.rint(LOW + (HIGH - LOW) * (image.clip(-1, 1) + 1) / 2)
    return np.where(brain, scaled, 0).astype(np.int16)


def from_int16(voxels: np.ndarray) -> np.ndarray:
    """Inverse of :func:`to_int16`, up to half a step: float32 in [-1, 1], background -1."""
    values = 2 * (voxels.astype(np.float32) - LOW) / (HIGH - LOW) - 1
    return np.where(voxels == 0, np.float32(-1), values)


class OwnScaled(ShowsParameters, Transform):
    """Convert an image in the recipient's own scale to int16: zero outside the brain, at least 1 inside.

    Args:
        key: the image, `(C, X, Y, Z)`; replaced by an int16 MetaTensor.
        mask_key: brain mask on its grid.

    Raises:
        UserError: the scale does not fit into int16, or is too coarse for it.
    """

    def __init__(self, key: str = "image", mask_key: str = "brain") -> None:
        self.key, self.mask_key = key, mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        image, brain = as_array(item[self.key]), as_array(item[self.mask_key])[0] > 0
        for channel, volume in enumerate(image):
            low, high = (float(p) for p in np.percentile(volume[brain], (0.5, 99.5)))
            if not (low >= 0 and high - low >= SHADES and high <= LARGEST):
                raise UserError(
                    f"intensities of 0 or more, over {SHADES} to {LARGEST} steps in the brain, for int16",
                    f"{low:.4g} to {high:.4g} in channel {channel}",
                    item.get("subject", self.key),
                    "use the images as published, without normalization",
                )
        whole = np.where(brain, np.rint(image).clip(LOW, LARGEST), 0).astype(np.int16)
        item[self.key] = MetaTensor(torch.from_numpy(whole), affine=item[self.key].affine)
        return item


class RestoreImaged(ShowsParameters, Transform):
    """Convert the generated image to int16, zero outside the brain, on the native or the training grid.

    Native voxels are interpolated linearly between voxels of the brain only, so that the background does not darken
    the rim of the brain. Native voxels outside the training grid are zero.

    The item must have ``image`` (the input of the network, for its affine), ``brain`` `(1, X, Y, Z)` on the training
    grid, ``native`` (``shape`` and ``affine``) and ``native_brain`` `(1, ...)`. If it also has ``own_image``, the
    recipient's MRI in [-1, 1] on the grid that is written, the generated image is inpainted into it, with the weights
    ``generated`` of :class:`~mrsynth.synthesis.InpaintingWeightd`.

    Args:
        grid: ``native`` or ``training``.
        key: the network's output, `(C, X, Y, Z)` in [-1, 1]; replaced by an int16 MetaTensor.

    Raises:
        UserError: an unknown grid.
    """

    def __init__(self, grid: str = "native", key: str = "pred") -> None:
        self.grid, self.key = check_grid_name(grid), key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        image = as_array(torch.as_tensor(item[self.key]).detach().cpu()).astype(np.float32)
        affine = as_array(item["image"].affine)
        brain = as_array(item["brain"].cpu())[0] > 0
        if self.grid == "native":
            shape, native_affine = tuple(int(n) for n in item["native"]["shape"]), as_array(item["native"]["affine"])
            nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
            everywhere = (slice(None), *nearest)  # each voxel outside the brain as the nearest one inside
            image, _ = to_native(image[everywhere], affine, shape, native_affine, "linear")
            brain = (as_array(item["native_brain"].cpu())[0] > 0) & coverage(brain.shape, affine, shape, native_affine)
            affine = native_affine
        if "own_image" in item:
            own, weight = as_array(item["own_image"].cpu()), as_array(item["generated"].cpu())
            image = weight * image + (1 - weight) * own
        item[self.key] = MetaTensor(torch.from_numpy(to_int16(image, brain)), affine=torch.as_tensor(affine))
        return item
