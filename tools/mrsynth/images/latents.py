"""What a generator of images is given: noise, and beside it a class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from torch.nn import functional as F


def one_hot_size(classes: Sequence[str]) -> int:
    """Numbers that a class takes beside the noise, or as channels beside the image: none where there is but one."""
    return len(classes) if len(classes) > 1 else 0


def latent(size: int, seed: int, number: int, of_class: int = 0, classes: int = 1) -> torch.Tensor:
    """Standard normal noise of image ``number``, `(size,)`; where there are classes, with its own one-hot behind."""
    noise = np.random.default_rng([seed, number]).standard_normal(size, dtype=np.float32)
    drawn = torch.from_numpy(noise)
    if classes == 1:
        return drawn
    return torch.cat([drawn, F.one_hot(torch.tensor(of_class), classes).float()])


class LatentDataset(Dataset):
    """Items with a generator's input ``image``, their ``number`` and ``class``; a function of the seed alone.

    Args:
        size: length of the noise.
        count: images of each class.
        classes: number of classes; image ``number`` is of class ``number // count``.
        seed: of the noise.
        done: numbers that are left out.
    """

    def __init__(self, size: int, count: int, classes: int = 1, seed: int = 0, done: Collection[int] = ()) -> None:
        self.size, self.count, self.classes, self.seed = size, count, classes, seed
        super().__init__([number for number in range(count * classes) if number not in done])

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        number = self.data[index]
        of_class = number // self.count
        image = latent(self.size, self.seed, number, of_class, self.classes)
        return {"image": image, "number": number, "class": of_class}
