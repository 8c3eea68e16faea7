"""Differentiable augmentation of the discriminator's input (Zhao 2020, "Differentiable augmentation for data-efficient
GAN training")."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.adversarial.local import crop_each
from mrsynth.errors import UserError


class AugmentedDiscriminator(nn.Module):
    """A discriminator that sees each image, real or not, moved by a random number of pixels along each axis.

    The discriminator can no longer memorize a few real images, and its strides leave no grid in the generator's images.
    The generator still learns images that are not moved, since gradients pass through the move. Borders are filled by
    mirroring the image (Zhao fills with zeros, which would be gray here).

    Called as a discriminator is; the condition moves with its image.

    Args:
        discriminator: the network.
        translation: largest move in pixels, each way; 0 disables it.

    Raises:
        UserError: a negative or fractional translation, or (when called) one as large as the image.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import AugmentedDiscriminator
        >>> discriminator = AugmentedDiscriminator(torch.nn.Conv2d(1, 1, 4), translation=2)
        >>> discriminator(torch.zeros(3, 1, 16, 16)).shape
        torch.Size([3, 1, 13, 13])
    """

    def __init__(self, discriminator: nn.Module, translation: int) -> None:
        super().__init__()
        if not isinstance(translation, int) or translation < 0:
            raise UserError(
                "a whole number of pixels, 0 or more", repr(translation), "translation", "pass --translation 8"
            )
        self.discriminator, self.translation = discriminator, translation

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        shown = [image] if condition is None else [image, condition]
        if self.translation:
            shown = self._moved(shown)
        return self.discriminator(*shown)

    def _moved(self, shown: list[torch.Tensor]) -> list[torch.Tensor]:
        most, size = self.translation, shown[0].shape[2:]
        if most >= min(size):
            raise UserError(
                f"less than the image's {min(size)} pixels",
                str(most),
                "translation",
                f"pass --translation {(min(size) - 1) // 2}",
            )
        starts = torch.randint(0, 2 * most + 1, (len(shown[0]), len(size)))
        padded = F.pad(torch.cat(shown, dim=1), [most] * (2 * len(size)), mode="reflect")
        return list(crop_each(padded, starts, size).split([part.shape[1] for part in shown], dim=1))
