"""Brain mask and intensities: in [-1, 1] with the background at exactly -1 for the games (Doncenco 2022, section 2.2),
mean 0 and standard deviation 1 inside the brain with the background at exactly 0 for segmenters (Kamnitsas 2017)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array


class BrainMaskd(ShowsParameters, MapTransform):
    """Write the brain mask of a skull-stripped image: the voxels at which any sequence is not zero.

    Args:
        key: image, `(C, X, Y, Z)`, background 0.
        output: key of the mask, `(1, X, Y, Z)`, uint8 {0, 1}, same affine.

    Raises:
        UserError: the image is zero everywhere, or nowhere (it is not skull-stripped).

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from mrsynth.transforms import BrainMaskd
        >>> image = MetaTensor(torch.zeros(4, 5, 5, 5))
        >>> image[:, 1:4, 1:4, 1:4] = 7
        >>> int(BrainMaskd()({"image": image})["brain"].sum())
        27
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


class RescaleInsideBraind(ShowsParameters, MapTransform):
    """Map each sequence's intensities inside the brain linearly to [-1, 1]; outside is exactly -1.

    Args:
        keys: images, `(C, X, Y, Z)`.
        mask_key: brain mask, `(1, X, Y, Z)`.
        mode: ``percentiles`` takes the two percentiles inside the brain as ends and clips what lies beyond;
            ``minmax`` takes the least and greatest value of the whole volume, background included, which is the
            thesis's per-volume rescaling (a few hot voxels then decide where the brain lies).
        percentiles: the two ends, in percent.
        ends_from: keys of another image and its brain mask, the same subject's, whose ends are taken.

    Raises:
        UserError: a sequence is constant inside the brain.

    Examples:
        >>> from monai.data import MetaTensor
        >>> from mrsynth.phantom import make_subject
        >>> from mrsynth.transforms import BrainMaskd, RescaleInsideBraind
        >>> image, label, affine = make_subject(seed=0, index=0, spacing=4.0)
        >>> item = BrainMaskd()({"image": MetaTensor(image.astype("float32"), affine)})
        >>> scaled = RescaleInsideBraind()(item)["image"]
        >>> float(scaled.min()), float(scaled.max())
        (-1.0, 1.0)
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "brain",
        mode: str = "percentiles",
        percentiles: tuple[float, float] = (0.5, 99.5),
        ends_from: tuple[str, str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mode not in ("percentiles", "minmax"):
            raise UserError(
                "intensity mode percentiles or minmax", repr(mode), "intensities", "pass --intensities percentiles"
            )
        self.mask_key, self.mode, self.percentiles, self.ends_from = mask_key, mode, percentiles, ends_from

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        mask = as_array(item[self.mask_key])[0] > 0
        for key in self.key_iterator(item):
            image = item[key]
            voxels = as_array(image)
            scaled = np.empty_like(voxels, dtype=np.float32)  # in the memory order of the files, X fastest
            image_key, mask_key = self.ends_from or (key, self.mask_key)
            sources, within = as_array(item[image_key]), as_array(item[mask_key])[0] > 0
            for channel, (volume, source) in enumerate(zip(voxels, sources, strict=True)):
                if self.mode == "minmax":
                    low, high = float(source.min()), float(source.max())
                else:
                    # transposed, so that both are read in their memory order
                    low, high = (float(p) for p in np.percentile(source.T[within.T], self.percentiles))
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


class NormalizeInsideBraind(ShowsParameters, MapTransform):
    """Shift and scale each sequence to mean 0 and standard deviation 1 inside the brain; outside is exactly 0.

    MONAI's ``NormalizeIntensityd(nonzero=True)`` takes each channel's own non-zero voxels, which differ from sequence
    to sequence and change once an image has been resampled; here it is one brain for all.

    Args:
        keys: images, `(C, X, Y, Z)`; replaced by float32.
        mask_key: brain mask, `(1, X, Y, Z)`.

    Raises:
        UserError: a sequence is constant inside the brain, or not finite.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from mrsynth.transforms import BrainMaskd, NormalizeInsideBraind
        >>> image = MetaTensor(torch.zeros(4, 6, 6, 6))
        >>> image[:, 1:5, 1:5, 1:5] = torch.rand(4, 4, 4, 4) + 1
        >>> inside = NormalizeInsideBraind()(BrainMaskd()({"image": image}))["image"][:, 1:5, 1:5, 1:5]
        >>> bool(inside.mean().abs() < 1e-4), round(float(inside.std()), 1)
        (True, 1.0)
    """

    def __init__(
        self, keys: KeysCollection = "image", mask_key: str = "brain", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        mask = as_array(item[self.mask_key])[0] > 0
        for key in self.key_iterator(item):
            image = item[key]
            voxels = as_array(image)
            scaled = np.zeros(voxels.shape, dtype=np.float32)
            for channel, volume in enumerate(voxels):
                inside = volume[mask].astype(np.float64)
                mean, sd = inside.mean(), inside.std()
                if not (np.isfinite(sd) and sd > 0):
                    raise UserError(
                        "a sequence with finite voxels and contrast inside the brain",
                        f"standard deviation {sd} in channel {channel}",
                        item.get("subject", image.meta.get("filename_or_obj", key)),
                        "repair the file, or leave the subject out",
                    )
                scaled[channel][mask] = (inside - mean) / sd
            item[key] = MetaTensor(torch.from_numpy(scaled), meta=dict(image.meta))
        return item
