"""Differentiable augmentation of what the critic sees (Zhao 2020, "Differentiable augmentation for data-efficient GAN
training")."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.adversarial.local import crop_each
from mrsynth.errors import UserError


class AugmentedCritic(nn.Module):
    """A critic that sees each image, real or not, moved by a random number of pixels along each axis.

    Few real images can no longer be known by heart, and an image is never judged on one grid alone, so that the
    generator is not taught the grid of the critic's strides. What is real does not change: the generator learns images
    that are not moved, since gradients pass through. What comes in at a border is the image mirrored (Zhao fills with
    zeros, which here would be grey).

    Called as a critic is; the condition moves with its image.

    Args:
        critic: the network.
        translation: pixels, at most so many each way; 0 for none.

    Raises:
        UserError: not a whole number from 0 on, or (when called) as many as an image has.
    """

    def __init__(self, critic: nn.Module, translation: int) -> None:
        super().__init__()
        if not isinstance(translation, int) or translation < 0:
            raise UserError("0 pixels or more, a whole number", repr(translation), "translation", "correct it")
        self.critic, self.translation = critic, translation

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        shown = [image] if condition is None else [image, condition]
        if self.translation:
            shown = self._moved(shown)
        return self.critic(*shown)

    def _moved(self, shown: list[torch.Tensor]) -> list[torch.Tensor]:
        most, size = self.translation, shown[0].shape[2:]
        if most >= min(size):
            raise UserError(f"less than the image's {min(size)} pixels", str(most), "translation", "make it smaller")
        starts = torch.randint(0, 2 * most + 1, (len(shown[0]), len(size)))
        padded = F.pad(torch.cat(shown, dim=1), [most] * (2 * len(size)), mode="reflect")
        return list(crop_each(padded, starts, size).split([part.shape[1] for part in shown], dim=1))
