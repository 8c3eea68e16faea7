"""Contact sheets: many small images in rows, real above synthetic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mrsynth.images.latents import ImageSampler
from mrsynth.images.stacks import ImageDataset
from mrsynth.training.montage import save_mosaic

SHOWN = 96
"""Smaller images are magnified, by a whole factor, to about so many pixels."""


@dataclass
class ContactSheet:
    """Rows of equally large images.

    Attributes:
        rows: title and images `(N, H, W)` in [-1, 1], black to white; all rows as long.
        columns: their titles, or none.
    """

    rows: Sequence[tuple[str, np.ndarray]]
    columns: Sequence[str] = ()

    def draw(self) -> np.ndarray:
        """The mosaic, as RGB floats `(height, width, 3)`, two pixels between images."""
        bands = []
        for _, images in self.rows:
            zoom = max(1, round(SHOWN / images.shape[1]))
            large = (np.asarray(images, dtype=np.float32).clip(-1, 1) + 1) / 2
            large = large.repeat(zoom, axis=1).repeat(zoom, axis=2)
            bands.append(np.concatenate([np.pad(image, ((0, 2), (0, 2))) for image in large], axis=1))
        return np.repeat(np.concatenate(bands)[..., None], 3, axis=2)

    def save(self, path: str | os.PathLike, title: str = "") -> np.ndarray:
        """Write the PNG, atomically; returns the mosaic."""
        mosaic = self.draw()
        save_mosaic(path, mosaic, self.columns, [name for name, _ in self.rows], title)
        return mosaic


def sheet(groups: Sequence[tuple[str, torch.Tensor]], channels: Sequence[str]) -> ContactSheet:
    """Groups of images `(N, C, H, W)` as a sheet: with one channel a row per group, with several a row per image.

    Args:
        groups: title and images.
        channels: names of the channels; of one, or of none that differ, it is left out.
    """
    if len(channels) == 1:
        shortest = min(len(images) for _, images in groups)
        return ContactSheet([(title, images[:shortest, 0].numpy()) for title, images in groups])
    rows = [(title if i == 0 else "", image.numpy()) for title, images in groups for i, image in enumerate(images)]
    return ContactSheet(rows, list(channels))


class SampleMontage:
    """The montage of a training: real images above images that the generator makes of the same noise each time.

    Args:
        make: gives images of a class; see :class:`~mrsynth.images.ImageSampler`.
        dataset: real images.
        classes: names of the classes; a group of rows for each.
        channels: names of the channels shown; further ones are not.
        count: images of each class.
        seed: of the choice of real ones.
    """

    look_for = "synthetic rows as sharp and as varied as the real ones; repeated images mean mode collapse"

    def __init__(
        self,
        make: ImageSampler,
        dataset: ImageDataset,
        classes: Sequence[str],
        channels: Sequence[str],
        count: int = 10,
        seed: int = 0,
    ) -> None:
        self.make, self.classes, self.channels = make, list(classes), list(channels)
        self.real = [dataset.sample(count, seed, number) for number in range(len(classes))]

    def __call__(self) -> ContactSheet:
        """Real and synthetic images of each class."""
        groups = []
        for number, (name, real) in enumerate(zip(self.classes, self.real, strict=True)):
            title = f", {name}" if len(self.classes) > 1 else ""
            fake = self.make(number, len(real))
            shown = len(self.channels)
            groups += [(f"real{title}", real[:, :shown]), (f"synthetic{title}", fake[:, :shown])]
        return sheet(groups, self.channels)
