"""Brain mask and intensities in [-1, 1] with the background at exactly -1 (Doncenco 2022, section 2.2)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mrsynth.errors import UserError
from mrsynth.transforms.geometry import as_array


class BrainMaskd(MapTransform):
    """Write the brain mask of a skull-stripped image: the voxels at which any sequence is not zero.

    Args:
        key: image, `(C, X, Y, Z)`, background 0.
        output: key of the mask, `(1, X, Y, Z)`, uint8 {0, 1}, same affine.

    Raises:
        UserError: the image is zero everywhere, or nowhere (it is not skull-stripped).
    """

    def __init__(self, key: str = "image", output: str = "brain") -> None:
        super().__init__(key)
        self.key, self.output = key, output

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        image = item[self.key]
        voxels = as_array(image)
        mask = voxels[0] != 0
        for channel in voxels[1:]:
            mask |= channel != 0
        share = np.count_nonzero(mask) / mask.size
        if share in (0.0, 1.0):
            raise UserError(
                "a skull-stripped image: zero outside the brain, not zero inside",
                "zero everywhere" if share == 0 else "no voxel that is zero",
                image.meta.get("filename_or_obj", item.get("subject")),
                "strip the skull first, or leave the subject out",
            )
        item[self.output] = MetaTensor(torch.from_numpy(mask[None].view(np.uint8)), affine=image.affine)
        return item


class RescaleInsideBraind(MapTransform):
    """Map each sequence's intensities inside the brain linearly to [-1, 1]; outside is exactly -1.

    Args:
        keys: images, `(C, X, Y, Z)`.
        mask_key: brain mask, `(1, X, Y, Z)`.
        mode: ``percentiles`` takes the two percentiles inside the brain as ends and clips what lies beyond;
            ``minmax`` takes the least and greatest value of the whole volume, background included, which is the
            thesis's per-volume rescaling (a few hot voxels then decide where the brain lies).
        percentiles: the two ends, in percent.

    Raises:
        UserError: a sequence is constant inside the brain.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "brain",
        mode: str = "percentiles",
        percentiles: tuple[float, float] = (0.5, 99.5),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mode not in ("percentiles", "minmax"):
            raise UserError("intensity mode percentiles or minmax", repr(mode), "RescaleInsideBraind", "choose one")
        self.mask_key, self.mode, self.percentiles = mask_key, mode, percentiles

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        mask = as_array(item[self.mask_key])[0] > 0
        for key in self.key_iterator(item):
            image = item[key]
            voxels = as_array(image)
            scaled = np.empty_like(voxels, dtype=np.float32)  # in the memory order of the files, X fastest
            for channel, volume in enumerate(voxels):
                if self.mode == "minmax":
                    low, high = float(volume.min()), float(volume.max())
                else:
                    # transposed, so that both are read in their memory order
                    low, high = (float(p) for p in np.percentile(volume.T[mask.T], self.percentiles))
                if not np.isfinite([low, high]).all():
                    raise UserError(
                        "finite voxels",
                        f"NaN or infinite voxels in channel {channel}",
                        item.get("subject", key),
                        "repair the file, or leave the subject out",
                    )
                if not high > low:
                    raise UserError(
                        "a sequence with contrast inside the brain",
                        f"channel {channel} is {low} everywhere",
                        item.get("subject", key),
                        "leave the subject out",
                    )
                np.multiply(volume, np.float32(2 / (high - low)), out=scaled[channel])
                scaled[channel] -= np.float32(1 + 2 * low / (high - low))
                np.clip(scaled[channel], -1, 1, out=scaled[channel])
                scaled[channel][~mask] = -1
            item[key] = MetaTensor(torch.from_numpy(scaled), meta=dict(image.meta))
        return item
