"""A round turns a batch into the inputs of both players: real images, conditions, the generator's input, the known
truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from mrsynth.representation import ShowsParameters


@dataclass
class GameBatch:
    """What one round gives to the two players, tensors batch-first.

    Attributes:
        real: what the discriminator must call real, `(B, C, ...)`.
        generator_input: what the generator maps to a fake, `(F, ...)`; F may differ from B.
        real_condition: shown to the discriminator beside ``real``; None where it sees the image alone.
        fake_condition: shown beside the fake.
        target: truth for the fake where one is known, `(F, C, ...)`.
        target_weight: weight of each voxel of ``target``, `(F, 1, ...)`; 0 where the truth is not known.
    """

    real: torch.Tensor
    generator_input: torch.Tensor
    real_condition: torch.Tensor | None = None
    fake_condition: torch.Tensor | None = None
    target: torch.Tensor | None = None
    target_weight: torch.Tensor | None = None


def tensor(batch: Mapping[str, Any], key: str, device: torch.device) -> torch.Tensor:
    """A plain tensor of the batch on ``device``."""
    value = batch[key]
    value = value.as_tensor() if isinstance(value, MetaTensor) else value
    return value.to(device, non_blocking=True)


class LatentRound(ShowsParameters):
    """Images from noise alone (Han 2018; Cepa 2022).

    Args:
        latent_size: length of the standard normal vector.
        image_key: the real images.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import LatentRound
        >>> batch = LatentRound(latent_size=8)({"image": torch.zeros(2, 1, 16, 16)}, torch.device("cpu"))
        >>> batch.generator_input.shape
        torch.Size([2, 8])
    """

    def __init__(self, latent_size: int, image_key: str = "image") -> None:
        self.latent_size, self.image_key = latent_size, image_key

    def __call__(self, batch: Mapping[str, Any], device: torch.device) -> GameBatch:
        real = tensor(batch, self.image_key, device)
        return GameBatch(real, torch.randn(real.shape[0], self.latent_size).to(device))


class ClassRound(ShowsParameters):
    """Images from noise beside a one-hot class (Haarburger 2019).

    With ``condition_discriminator`` the discriminator sees the class as constant channels. The paper's sees the image
    alone.

    Args:
        latent_size: length of the noise.
        classes: number of classes.
        image_key: the real images.
        class_key: their class, integer `(B,)`; fakes are made of the same classes.
        condition_discriminator: show the class to the discriminator.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import ClassRound
        >>> images = {"image": torch.zeros(2, 1, 16, 16), "class": torch.tensor([0, 2])}
        >>> batch = ClassRound(latent_size=8, classes=3)(images, torch.device("cpu"))
        >>> batch.generator_input.shape, batch.real_condition.shape
        (torch.Size([2, 11]), torch.Size([2, 3, 16, 16]))
    """

    def __init__(
        self,
        latent_size: int,
        classes: int,
        image_key: str = "image",
        class_key: str = "class",
        condition_discriminator: bool = True,
    ) -> None:
        self.latent_size, self.classes = latent_size, classes
        self.image_key, self.class_key, self.condition_discriminator = image_key, class_key, condition_discriminator

    def __call__(self, batch: Mapping[str, Any], device: torch.device) -> GameBatch:
        real = tensor(batch, self.image_key, device)
        one_hot = F.one_hot(tensor(batch, self.class_key, device).long().flatten(), self.classes).float()
        noise = torch.randn(real.shape[0], self.latent_size).to(device)
        condition = None
        if self.condition_discriminator:
            condition = one_hot.view(*one_hot.shape, *[1] * (real.dim() - 2)).expand(-1, -1, *real.shape[2:])
        return GameBatch(real, torch.cat([noise, one_hot], dim=1), condition, condition)


class TranslationRound(ShowsParameters):
    """Image to image; the truth is known everywhere (Shin 2018; Isola 2017).

    Args:
        input_key: what the generator is given and the discriminator sees beside real and fake.
        image_key: the truth.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import TranslationRound
        >>> item = {"t1": torch.zeros(1, 1, 8, 8, 8), "image": torch.ones(1, 4, 8, 8, 8)}
        >>> batch = TranslationRound("t1")(item, torch.device("cpu"))
        >>> batch.generator_input.shape, batch.target.shape
        (torch.Size([1, 1, 8, 8, 8]), torch.Size([1, 4, 8, 8, 8]))
    """

    def __init__(self, input_key: str, image_key: str = "image") -> None:
        self.input_key, self.image_key = input_key, image_key

    def __call__(self, batch: Mapping[str, Any], device: torch.device) -> GameBatch:
        real, condition = tensor(batch, self.image_key, device), tensor(batch, self.input_key, device)
        return GameBatch(real, condition, condition, condition, real, torch.ones_like(real[:, :1]))


class TransplantRound(ShowsParameters):
    """Real: B's label and B's MRI. Fake: A's tumor in B's brain, and what the generator makes of it.

    Doncenco 2022, section 2.5, figures 7 and 8. With ``own_label`` the generator also makes B from B's own label;
    then the truth is B's MRI, everywhere there, and outside both tumors in the transplant.

    Args:
        own_label: add B's own label to the generator's input; the thesis does not.
        tumor_weight: weight of a voxel inside the tumor against one outside, in ``target_weight``.
        image_key: B's MRI.
        own_key: B's own label as the networks take it.
        fused_key: A's tumor in B's brain as the networks take it.
        label_key: B's tumor label.
        transplanted_key: A's tumor label on B's grid.
    """

    def __init__(
        self,
        own_label: bool = False,
        tumor_weight: float = 1.0,
        image_key: str = "image",
        own_key: str = "own_condition",
        fused_key: str = "fused_condition",
        label_key: str = "label",
        transplanted_key: str = "transplanted",
    ) -> None:
        self.own_label, self.tumor_weight = own_label, tumor_weight
        self.image_key, self.own_key, self.fused_key = image_key, own_key, fused_key
        self.label_key, self.transplanted_key = label_key, transplanted_key

    def __call__(self, batch: Mapping[str, Any], device: torch.device) -> GameBatch:
        real = tensor(batch, self.image_key, device)
        own, fused = tensor(batch, self.own_key, device), tensor(batch, self.fused_key, device)
        if not self.own_label:
            return GameBatch(real, fused, own, fused)
        tumor = tensor(batch, self.label_key, device) > 0
        either = tumor | (tensor(batch, self.transplanted_key, device) > 0)
        weight = torch.cat([1 + (self.tumor_weight - 1) * tumor.float(), (~either).float()])
        both = torch.cat([own, fused])
        return GameBatch(real, both, own, both, torch.cat([real, real]), weight)
