"""Copy-paste: a donor's tumor in the recipient's own MRI, voxel by voxel; the baseline that a generator must beat."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from mrsynth.checks import number
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array, bounding_box, resample
from mrsynth.transforms.transplant import brain_map, transplant

REACH = 3
"""Standard deviations after which a softened mask is zero."""


class Volumes(NamedTuple):
    """A subject on one grid.

    Attributes:
        image: `(C, X, Y, Z)`, background 0.
        label: `(X, Y, Z)`, 0 where healthy.
        brain: bool `(X, Y, Z)`.
        affine: RAS, 4x4.
    """

    image: np.ndarray
    label: np.ndarray
    brain: np.ndarray
    affine: np.ndarray

    @classmethod
    def of(cls, item: Mapping[Hashable, Any]) -> Volumes:
        """From the ``image``, ``label`` and ``brain`` of an item."""
        image, label, brain = (as_array(item[key]) for key in ("image", "label", "brain"))
        return cls(image, label[0], brain[0] > 0, as_array(item["image"].affine))


class CopyPasted(ShowsParameters, Transform):
    """Copy the tumor of ``donor`` (an item with the same keys) into a recipient's ``image`` and ``label``.

    Both are replaced: see :func:`copy_paste`. The recipient's own tumor stays where it is, so that ``label`` is the
    union of both. ``donor`` is taken out.

    Args:
        align: map the donor's brain box onto the recipient's, instead of keeping millimeters.
        edge: softness of the edge in mm; see :func:`soften`.
        place_key: the donor's label on the recipient's grid if :func:`mrsynth.transforms.transplant` has put it
            there already.
    """

    def __init__(self, align: bool = True, edge: float = 2.0, place_key: str = "transplanted") -> None:
        check_millimeters(edge, "edge")
        self.align, self.edge, self.place_key = align, edge, place_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        if "donor" not in item:
            raise UserError(
                "'donor': an item with image, label and brain, to take the tumor from",
                f"an item with {', '.join(sorted(str(key) for key in item))}",
                item.get("subject", "the item given to CopyPasted"),
                'call it with {**item, "donor": other}',
            )
        recipient, donor = Volumes.of(item), Volumes.of(item.pop("donor"))
        transplanted = as_array(item[self.place_key])[0] if self.place_key in item else None
        image, label = copy_paste(recipient, donor, self.align, self.edge, transplanted)
        item["image"] = MetaTensor(torch.from_numpy(image), meta=dict(item["image"].meta))
        item["label"] = MetaTensor(torch.from_numpy(label[None]), meta=dict(item["label"].meta))
        return item


def copy_paste(
    recipient: Volumes, donor: Volumes, align: bool, edge: float = 2.0, transplanted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The donor's tumor voxels in the recipient's image.

    The tumor comes through the same map of space as the transplanted label, linearly interpolated between voxels of
    the donor's brain, and with each sequence shifted and scaled so that the donor's healthy brain gets the median
    and the interquartile range of the recipient's. Under the label the donor's voxels replace the recipient's; around
    it they fade within the brain over ``edge``, except on the recipient's own tumor. Everywhere else the
    recipient's voxels are untouched.

    Args:
        recipient: whose brain it is.
        donor: whose tumor it is.
        align: see :class:`CopyPasted`.
        edge: in mm; 0 for a hard edge.
        transplanted: the donor's label on the recipient's grid, `(X, Y, Z)`; computed where None.

    Returns:
        Image, float32 `(C, X, Y, Z)` in the recipient's own scale, and the union of both labels, the donor's where
        they overlap, uint8 `(X, Y, Z)`.

    Raises:
        UserError: a sequence is constant in one of the healthy brains.
    """
    world_map = brain_map(donor.affine, donor.brain, recipient.brain, recipient.affine) if align else None
    if transplanted is None:
        transplanted, _ = transplant(donor.label, donor.affine, donor.brain, recipient.brain, recipient.affine, align)
    image = recipient.image.astype(np.float32)
    label = np.where(transplanted > 0, transplanted, recipient.label).astype(np.uint8)
    weight = soften(transplanted > 0, recipient.affine, edge) * recipient.brain
    weight[(recipient.label > 0) & (transplanted == 0)] = 0
    if not weight.any():
        return image, label
    low, high = bounding_box(weight > 0)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    corner = recipient.affine.copy()
    corner[:3, 3] += corner[:3, :3] @ low

    def carried(volume: np.ndarray) -> np.ndarray:
        shape = tuple(int(n) for n in high - low)
        return resample(volume.astype(np.float32), donor.affine, shape, corner, "linear", 0.0, world_map)

    brain = carried(donor.brain)
    # the donor has nothing to give outside its own brain; under its label it always has
    weight = weight[box] * ((brain > 0.5) | (transplanted[box] > 0) & (brain > 0))
    scales = _matching(recipient, donor)
    for channel, (gain, shift) in enumerate(scales):
        tissue = carried(donor.image[channel] * donor.brain) / brain.clip(1e-3)
        own = image[channel][box]
        least = float(recipient.image[channel][recipient.brain].min())
        image[channel][box] = np.where(weight > 0, own + weight * ((gain * tissue + shift).clip(least) - own), own)
    return image, label


def _matching(recipient: Volumes, donor: Volumes) -> list[tuple[float, float]]:
    """Gain and shift of each sequence, from the donor's scale to the recipient's, by their healthy brains.

    Quartiles, not mean and standard deviation: these depend on how much fluid and how many bright vessels there are.
    """
    scales = []
    for channel in range(len(donor.image)):
        low, middle, high = _quartiles(recipient, channel)
        donor_low, donor_middle, donor_high = _quartiles(donor, channel)
        if not (high > low and donor_high > donor_low):
            raise UserError(
                "sequences with contrast in the healthy brain",
                f"quartiles {low:.4g} to {high:.4g} (recipient), {donor_low:.4g} to {donor_high:.4g} (donor)",
                f"channel {channel}",
                "leave the subject out",
            )
        gain = (high - low) / (donor_high - donor_low)
        scales.append((gain, middle - gain * donor_middle))
    return scales


def _quartiles(subject: Volumes, channel: int) -> tuple[float, float, float]:
    healthy = subject.image[channel][subject.brain & (subject.label == 0)]
    if not healthy.size:
        return (np.nan,) * 3
    low, middle, high = np.percentile(healthy, (25, 50, 75))
    return float(low), float(middle), float(high)


def soften(mask: np.ndarray, affine: np.ndarray, millimeters: float) -> np.ndarray:
    """Weights that are 1 on a mask's straight edges and inside, and fall to 0 outside like a Gaussian.

    Args:
        mask: bool `(X, Y, Z)`.
        affine: its affine, for the size of its voxels.
        millimeters: standard deviation; 0 leaves the mask as it is.

    Returns:
        float32 `(X, Y, Z)`: 1 on the mask, exactly 0 from :data:`REACH` standard deviations on.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.transforms import soften
        >>> mask = np.zeros((9, 1, 1), bool)
        >>> mask[:5] = True
        >>> print(soften(mask, np.eye(4), millimeters=3.0).ravel().round(1))
        [1.  1.  1.  1.  1.  0.9 0.6 0.4 0.2]
    """
    weight = mask.astype(np.float32)
    if millimeters == 0 or not mask.any():
        return weight
    sigma = millimeters / np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    pad = np.ceil(REACH * sigma).astype(int) + 1
    low, high = bounding_box(mask)
    box = tuple(slice(max(a - p, 0), b + p) for a, b, p in zip(low, high, pad, strict=True))
    # a straight edge lies at one half of the blurred mask
    blurred = 2 * ndimage.gaussian_filter(weight[box], sigma, truncate=REACH, mode="nearest")
    weight[box] = np.where(mask[box], 1, blurred.clip(0, 1))
    return weight


def check_millimeters(value: float, name: str) -> None:
    """Refuse a width that is not a number of 0 or more.

    Raises:
        UserError: as said.
    """
    number(name, value, unit="millimeters")
