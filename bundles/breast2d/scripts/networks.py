"""Networks of breast2d: DCGAN as Haarburger 2019 changed it (sections 3.1 and 3.2), for both games.

Upconvolutions are nearest resize and convolution (Odena 2016), images have seven channels (or those of the store), and
the class goes in one-hot beside the noise. Shapes in the comments are without the batch, at full width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mrsynth.adversarial import AugmentedDiscriminator, Constraint, MatchingAware
from mrsynth.errors import UserError
from mrsynth.images import class_channels
from mrsynth.networks import doubling, initialize_dcgan

SIZE = (64, 64)
"""Rows and columns of a patch."""

CHANNELS = (1024, 512, 256, 128)
"""At 4, 8, 16 and 32 squared (Radford 2016, figure 1)."""


class Generator(nn.Module):
    """Noise with a class behind it, `(B, latent)`, to a patch `(B, 7, 64, 64)` in [-1, 1].

    Args:
        latent_size: of noise and one-hot class together.
        channels: of the patch.
        width: factor of all inner channels; 1 is the original's.
    """

    def __init__(self, latent_size: int = 103, channels: int = 7, width: float = 1.0) -> None:
        super().__init__()
        counts = [max(1, round(width * n)) for n in CHANNELS]
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_size, counts[0], 4, bias=False),  # 1024 x 4 x 4
            nn.BatchNorm2d(counts[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(counts):  # 512 x 8 x 8, 256 x 16 x 16, 128 x 32 x 32
            layers += doubling(before, after, "resize", bias=False)
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, *doubling(counts[-1], channels, "resize"), nn.Tanh())  # 7 x 64 x 64
        initialize_dcgan(self)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layers(latent[:, :, None, None])


class Discriminator(nn.Module):
    """Patch, and its class as constant channels where it is shown, to one logit a patch: `(B,)`.

    Args:
        channels: of patch and class together.
        width: factor of all inner channels; 1 is the original's.
        norm: ``batch``, or ``none``: with a gradient penalty each patch must be judged by itself (Gulrajani 2017).

    Raises:
        UserError: another norm.
    """

    def __init__(self, channels: int = 7, width: float = 1.0, norm: str = "batch") -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise UserError("norm: batch or none", repr(norm), "norm", "pass --norm batch or --norm none")
        counts = [channels, *(max(1, round(width * n)) for n in CHANNELS[::-1])]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(counts)):  # 128 x 32 x 32 to 1024 x 4 x 4
            normed = norm == "batch" and number > 0
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not normed),
                nn.BatchNorm2d(after) if normed else nn.Identity(),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(counts[-1] * 16, 1))  # 1
        initialize_dcgan(self)

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        seen = image if condition is None else torch.cat([image, condition], dim=1)
        return self.layers(seen).flatten()


def build_generator(latent_size: int, classes: Sequence[str], channels: Sequence[str], width: float = 1.0) -> Generator:
    """The generator of patches of ``classes``, whose one-hot number follows the latent vector."""
    return Generator(latent_size + class_channels(classes), len(channels), width)


def build_discriminator(
    classes: Sequence[str],
    channels: Sequence[str],
    condition_discriminator: bool = True,
    width: float = 1.0,
    norm: str = "batch",
    translation: int = 0,
) -> AugmentedDiscriminator:
    """The discriminator of patches, which sees them moved by up to ``translation`` pixels, and their class too if
    ``condition_discriminator``.
    """
    seen = len(channels) + (class_channels(classes) if condition_discriminator else 0)
    return AugmentedDiscriminator(Discriminator(seen, width, norm), translation)


def build_constraint(condition_discriminator: bool) -> Constraint:
    """A discriminator that sees the class must also heed it."""
    return MatchingAware() if condition_discriminator else Constraint()
