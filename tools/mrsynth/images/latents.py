"""The input of a 2D generator: noise, and a one-hot class where there are several."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.inferers import Inferer
from torch import nn
from torch.nn import functional as F

from mrsynth.adversarial import ClassRound, LatentRound
from mrsynth.errors import UserError


def class_channels(classes: Sequence[str]) -> int:
    """Channels of a one-hot class, beside the noise or the image; 0 where there is only one class.

    Examples:
        >>> from mrsynth.images import class_channels
        >>> class_channels(["healthy", "benign", "malignant"]), class_channels(["MRI"])
        (3, 0)
    """
    return len(classes) if len(classes) > 1 else 0


def latent_vector(size: int, seed: int, number: int, of_class: int = 0, classes: int = 1) -> torch.Tensor:
    """Standard normal noise of image ``number``, `(size,)`, followed by the one-hot class where there are several.

    Examples:
        >>> import torch
        >>> from mrsynth.images import latent_vector
        >>> latent_vector(8, seed=0, number=3, of_class=1, classes=3)[-3:]  # the class as one-hot
        tensor([0., 1., 0.])
    """
    noise = np.random.default_rng([seed, number]).standard_normal(size, dtype=np.float32)
    drawn = torch.from_numpy(noise)
    if classes == 1:
        return drawn
    return torch.cat([drawn, F.one_hot(torch.tensor(of_class), classes).float()])


class ImageSampler:
    """Images of a generator in evaluation mode; the same number always has the same noise.

    Args:
        network: generator.
        inferer: calls it.
        latent_size: length of the noise.
        device: of the network.
        classes: how many there are.
        seed: of the noise.
        batch_size: images a pass.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer,
        latent_size: int,
        device: torch.device | str,
        classes: int = 1,
        seed: int = 0,
        batch_size: int = 50,
    ) -> None:
        self.network, self.inferer, self.latent_size, self.device = network, inferer, latent_size, device
        self.classes, self.seed, self.batch_size = classes, seed, batch_size

    @torch.no_grad()
    def __call__(self, of_class: int, count: int, first: int = 0) -> torch.Tensor:
        """Images ``first`` to ``first + count`` of a class, `(count, C, H, W)` float32 on the CPU, cut to [-1, 1].

        Raises:
            UserError: no images.
        """
        _at_least_one(count)
        self.network.eval()
        latents = [
            latent_vector(self.latent_size, self.seed, n, of_class, self.classes) for n in range(first, first + count)
        ]
        parts = torch.stack(latents).split(self.batch_size)
        made = [self.inferer(part.to(self.device), self.network).float().cpu() for part in parts]
        return torch.cat(made).clamp(-1, 1)


class LatentDataset(Dataset):
    """Items with a generator's input ``image``, their ``number`` and ``class``; a function of the seed alone.

    Args:
        size: length of the noise.
        count: images of each class.
        classes: number of classes; image ``number`` is of class ``number // count``.
        seed: of the noise.
        done: numbers that are left out.

    Raises:
        UserError: no images.

    Examples:
        >>> from mrsynth.images import LatentDataset
        >>> LatentDataset(size=16, count=4)[0]["image"].shape
        torch.Size([16])
    """

    def __init__(self, size: int, count: int, classes: int = 1, seed: int = 0, done: Collection[int] = ()) -> None:
        _at_least_one(count)
        self.size, self.count, self.classes, self.seed = size, count, classes, seed
        super().__init__([number for number in range(count * classes) if number not in done])

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        number = self.data[index]
        of_class = number // self.count
        image = latent_vector(self.size, self.seed, number, of_class, self.classes)
        return {"image": image, "number": number, "class": of_class}


def _at_least_one(count: int) -> None:
    if count < 1:
        raise UserError("at least one image", str(count), "count, validation_images", "pass 1 or more")


def build_round(latent_size: int, classes: Sequence[str]) -> ClassRound | LatentRound:
    """The round of a game on images of ``classes``: noise alone where there is only one class.

    Examples:
        >>> from mrsynth.images import build_round
        >>> build_round(100, ["MRI"])
        LatentRound(latent_size=100, image_key='image')
    """
    return ClassRound(latent_size, len(classes)) if len(classes) > 1 else LatentRound(latent_size)
