"""Training segments: sampling, augmentation, and the input of each pathway (Kamnitsas 2017, section 2).

Items come in preprocessed: ``image`` `(4, X, Y, Z)`, z-scored inside the brain and 0 outside, ``label``
`(1, X, Y, Z)`, class indices, and ``brain`` `(1, X, Y, Z)`. They leave with ``image``, the segment at normal
resolution, ``context_3`` and ``context_5``, those of the coarser pathways, and ``label``, of the voxels that come out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Randomizable, SelectItemsd, Transform
from monai.transforms.utils import map_classes_to_indices

from mrsynth.checks import whole_number
from mrsynth.errors import UserError
from mrsynth.segmentation import preprocessing
from mrsynth.transforms import usual_augmentation

from .pathways import LAYERS, block_margin, pathway_range, segment_sizes, take

FACTORS = (1, 3, 5)


def output_side(segment: int) -> int:
    """Voxels a side that come out of a segment of ``segment`` voxels a side at normal resolution.

    Raises:
        UserError: a segment out of which nothing comes.
    """
    return whole_number("segment", segment, 2 * LAYERS + 1) - 2 * LAYERS


def inputs(factors: Sequence[int] = FACTORS) -> list[str]:
    """Keys of the pathways' inputs."""
    return ["image", *(f"context_{f}" for f in factors[1:])]


def plain(volume: torch.Tensor) -> torch.Tensor:
    """A tensor without affine and history, which a segment does not need."""
    return volume.as_tensor() if isinstance(volume, MetaTensor) else volume


class ClassVoxelsd(Transform):
    """Write ``class_voxels``: for each class, places of its voxels inside the brain; deterministic, to be cached.

    Args:
        classes: number of classes.
        most: places kept of each class, evenly over the volume.
    """

    def __init__(self, classes: int = 4, most: int = 20_000) -> None:
        self.classes, self.most = classes, most

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        label, brain = (plain(data[key]).contiguous() for key in ("label", "brain"))
        places = map_classes_to_indices(label, self.classes, brain, max_samples_per_class=self.most)
        return {**data, "class_voxels": [torch.as_tensor(p).to(torch.int32) for p in places]}


def with_voxels(
    spatial_size: Sequence[int] | None, crop: str | Sequence[int], interpolation: str = "linear"
) -> Compose:
    """Deterministic part: a subject, and where its classes are.

    Args:
        spatial_size: see :func:`mrsynth.segmentation.preprocessing`.
        crop: likewise.
        interpolation: likewise.
    """
    kept = ["image", "label", "class_voxels", "subject"]
    return Compose([*preprocessing(spatial_size, crop, interpolation), ClassVoxelsd(), SelectItemsd(kept)])


class RandSegmentd(Randomizable, MapTransform):
    """Draw a class, each that is present as often as another, and a voxel of it; take what lies around that voxel.

    Args:
        segment: side at normal resolution.
        factors: of the pathways.
        flip: probability that the segment is mirrored left to right.
        block: take a block with all the context, image and label alike, which further transforms may deform before
            :class:`Pathwaysd`; otherwise take the pathways' inputs at once, which copies less.
    """

    def __init__(self, segment: int = 37, factors: Sequence[int] = FACTORS, flip: float = 0.5, block: bool = False):
        MapTransform.__init__(self, ["image", "label"])
        if not 0 <= flip <= 1:
            raise UserError("a probability from 0 to 1", repr(flip), "flip", "pass --flip 0.5, or 0 for none")
        self.output, self.factors, self.flip, self.block = output_side(segment), list(factors), flip, block

    def randomize(self, data: Sequence[torch.Tensor]) -> None:
        """Draw class, place and flip; ``data`` are the places of each class."""
        present = [places for places in data if len(places)]
        places = present[self.R.randint(len(present))]
        self.place = int(places[self.R.randint(len(places))])
        self.mirrored = bool(self.R.random() < self.flip)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        self.randomize(item.pop("class_voxels"))
        image, label = (plain(item[key]) for key in ("image", "label"))
        _, ny, nz = image.shape[1:]
        center = (self.place // (ny * nz), self.place // nz % ny, self.place % nz)
        # the drawn voxel is the middle one, in the mirrored segment too
        middle = [self.output // 2] * 3
        if self.mirrored:
            middle[0] = self.output - 1 - middle[0]
        first = [c - m for c, m in zip(center, middle, strict=True)]
        if self.block:
            margin = block_margin(self.factors)
            first, side = [n - margin for n in first], self.output + 2 * margin
            item["image"], item["label"] = (take(v, first, [side] * 3, 1, self.mirrored) for v in (image, label))
            return item
        item["label"] = take(label, first, [self.output] * 3, 1, self.mirrored)
        for key, factor, count in zip(
            inputs(self.factors), self.factors, segment_sizes(self.output, self.factors), strict=True
        ):
            start, stop, _ = pathway_range(self.output, factor, 0)
            corner = [n + start for n in first]
            if self.mirrored:
                corner[0] = first[0] + self.output - stop
            item[key] = take(image, corner, [count] * 3, factor, self.mirrored)
        return item


class Pathwaysd(Transform):
    """Take the pathways' inputs and the label of the output out of blocks, see :class:`RandSegmentd`."""

    def __init__(self, segment: int = 37, factors: Sequence[int] = FACTORS) -> None:
        self.output, self.factors, self.margin = output_side(segment), list(factors), block_margin(factors)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        block, label = (plain(item[key]) for key in ("image", "label"))
        item["label"] = take(label, [self.margin] * 3, [self.output] * 3)
        for key, factor, count in zip(
            inputs(self.factors), self.factors, segment_sizes(self.output, self.factors), strict=True
        ):
            first = pathway_range(self.output, factor, self.margin)[0]
            item[key] = take(block, [first] * 3, [count] * 3, factor)
        return item


class RandIntensityd(Randomizable, MapTransform):
    """Shift and scale each channel by draws from normal distributions, the same for all pathways.

    MONAI's own intensity transforms draw from uniform ones.

    Args:
        keys: images `(C, ...)`.
        shift: standard deviation of what is added first, around 0.
        scale: standard deviation of the factor, around 1.
    """

    def __init__(self, keys: Sequence[str], shift: float = 0.05, scale: float = 0.01) -> None:
        MapTransform.__init__(self, keys)
        if shift < 0 or scale < 0:
            raise UserError(
                "standard deviations of 0 or more",
                f"{shift}, {scale}",
                "shift, scale",
                "pass --shift and --scale of 0 or more",
            )
        self.sd = (shift, scale)

    def randomize(self, data: int) -> None:
        """Draw for ``data`` channels."""
        shift, scale = self.R.normal(0, 1, (2, data)) * [[self.sd[0]], [self.sd[1]]] + [[0], [1]]
        self.shift, self.scale = (torch.as_tensor(v, dtype=torch.float32).view(-1, 1, 1, 1) for v in (shift, scale))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        self.randomize(len(item[self.first_key(item)]))
        for key in self.key_iterator(item):
            item[key] = torch.addcmul(self.shift * self.scale, plain(item[key]), self.scale)
        return item


def random_segments(
    segment: int = 37,
    augmentation: str = "none",
    shift: float = 0.05,
    scale: float = 0.01,
    flip: float = 0.5,
    factors: Sequence[int] = FACTORS,
) -> list[Transform]:
    """The random part of training, from a cached item to the pathways' inputs.

    Args:
        segment: side at normal resolution.
        augmentation: ``none``: DeepMedic's own, flip and intensities, alone; ``usual``: deformations before them,
            see :func:`mrsynth.transforms.usual_augmentation`.
        shift: see :class:`RandIntensityd`.
        scale: likewise.
        flip: see :class:`RandSegmentd`.
        factors: of the pathways.

    Raises:
        UserError: an unknown augmentation, or a setting out of its range.
    """
    bent = usual_augmentation(augmentation)
    steps = [*bent, Pathwaysd(segment, factors)] if bent else []
    keys = inputs(factors)
    return [
        RandSegmentd(segment, factors, flip, block=bool(bent)),
        *steps,
        RandIntensityd(keys, shift, scale),
        SelectItemsd([*keys, "label"]),
    ]


def prepare_batch(
    batchdata: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple:
    """A batch as MONAI's trainers take it: image, label, further arguments of the network, and keywords (none)."""
    options = {"device": device, "non_blocking": non_blocking, **kwargs}
    image, *context = (
        batchdata[key].to(**options) for key in batchdata if key == "image" or key.startswith("context_")
    )
    return image, batchdata["label"].to(**options), (context,), {}
