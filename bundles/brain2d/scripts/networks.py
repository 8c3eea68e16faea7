"""Networks of brain2d: DCGAN as Han 2018 changed it (section 3.2.2), for both games.

The original (Radford 2016, figure 1) has 1024, 512, 256 and 128 channels from 4 x 4 to 32 x 32; here they are halved,
every filter is 4 x 4, the generator ends without tanh and the discriminator's activation is ELU. An image of
128 x 128 takes one level more, at the image's end, where channels are halved once again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mrsynth.adversarial import AugmentedDiscriminator
from mrsynth.errors import UserError
from mrsynth.images import class_channels
from mrsynth.networks import doubling, initialize_dcgan

CHANNELS = (512, 256, 128, 64, 32, 16)
"""Of the levels from 4 x 4 on: the original's, halved."""

SIZES = {64: 4, 128: 5, 256: 6}
"""Sides of an image, and the levels that it takes."""


def levels(size: list[int] | tuple[int, ...], width: float = 1.0) -> list[int]:
    """Channels of the levels from 4 x 4 to half the image's side.

    Args:
        size: rows and columns of the image.
        width: factor of all channels.

    Raises:
        UserError: another size than 64, 128 or 256 squared.
    """
    if len(set(size)) != 1 or size[0] not in SIZES:
        raise UserError(
            f"a square image, its side one of {sorted(SIZES)}",
            str(list(size)),
            "size",
            'pass --size "[64,64]" or --size "[128,128]"',
        )
    return [max(1, round(width * n)) for n in CHANNELS[: SIZES[size[0]]]]


class Generator(nn.Module):
    """Noise to image: `(B, latent)` to `(B, C, H, W)`, unbounded, since there is no tanh; real images are in [-1, 1].

    Weights begin as DCGAN's, and the last bias at -1, which the paper does not say: the first images are background,
    where WGAN's rate would take thousands of iterations to get.

    Args:
        size: rows and columns of the image.
        latent_size: of the noise (a one-hot class included).
        channels: of the image.
        width: factor of all inner channels; 1 is the paper's.
        upsampling: ``transposed`` as the paper, or ``resize``; see :func:`mrsynth.networks.doubling`.

    Raises:
        UserError: another upsampling, or size.
    """

    def __init__(
        self,
        size: list[int],
        latent_size: int = 100,
        channels: int = 1,
        width: float = 1.0,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        counts = levels(size, width)
        layers = [
            nn.ConvTranspose2d(latent_size, counts[0], 4, bias=False),  # 512 x 4 x 4
            nn.BatchNorm2d(counts[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(counts):  # 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, ...
            layers += doubling(before, after, upsampling, bias=False)
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, *doubling(counts[-1], channels, upsampling))  # 1 x 64 x 64
        initialize_dcgan(self)
        nn.init.constant_(self.layers[-1].bias, -1.0)  # type: ignore[arg-type]

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layers(latent[:, :, None, None])


class Discriminator(nn.Module):
    """Image, and its class as constant channels where it is shown, to one logit an image: `(B,)`.

    Args:
        size: rows and columns of the image.
        channels: of image and class together.
        width: factor of all inner channels; 1 is the paper's.
        norm: ``batch``, or ``none``: with a gradient penalty each image must be judged by itself (Gulrajani 2017).

    Raises:
        UserError: another norm.
    """

    def __init__(self, size: list[int], channels: int = 1, width: float = 1.0, norm: str = "batch") -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise UserError("norm: batch or none", repr(norm), "norm", "pass --norm batch or --norm none")
        counts = levels(size, width)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(channels, counts[0], 4, stride=2, padding=1), nn.ELU(inplace=True)]
        for before, after in pairwise(counts):  # 64 x 32 x 32 to 512 x 4 x 4
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=norm == "none"),
                nn.BatchNorm2d(after) if norm == "batch" else nn.Identity(),
                nn.ELU(inplace=True),
            ]
        layers.append(nn.Conv2d(counts[-1], 1, 4))  # 1 x 1 x 1
        self.layers = nn.Sequential(*layers)
        initialize_dcgan(self)

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        seen = image if condition is None else torch.cat([image, condition], dim=1)
        return self.layers(seen).flatten()


def build_generator(
    size: Sequence[int], latent_size: int, classes: Sequence[str], width: float = 1.0, upsampling: str = "transposed"
) -> Generator:
    """The generator of images of ``classes``, whose one-hot number follows the latent vector of several."""
    return Generator(size, latent_size + class_channels(classes), width=width, upsampling=upsampling)


def build_discriminator(
    size: Sequence[int], classes: Sequence[str], width: float = 1.0, norm: str = "batch", translation: int = 0
) -> AugmentedDiscriminator:
    """The discriminator of images of ``classes``, which sees them moved by up to ``translation`` pixels."""
    return AugmentedDiscriminator(Discriminator(size, 1 + class_channels(classes), width, norm), translation)
