"""Networks of flair2d, layer by layer as the poster's tables I and II (Cepa 2022).

The tables give kernels, activations and output shapes; strides and paddings follow from the shapes: a 4 x 4 layer
halves or doubles, a 3 x 3 layer keeps. Shapes in the comments are without the batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from mrsynth.networks import doubling, initialize_dcgan

GENERATOR = (1024, 512, 256, 128, 64, 32)
"""Channels at 4, 8, 16, 32, 64 and 128 squared; the image is at 256 squared."""

DISCRIMINATOR = ((32, 4), (64, 4), (128, 4), (156, 4), (156, 3), (512, 4), (512, 3), (1024, 4), (1024, 3))
"""Channels and kernel of each convolution, from the image on."""

SIZE = (256, 256)
"""Rows and columns."""

BLACK = -2.0
"""Bias of the generator's last layer at the start: its tanh is -0.96, so that the first images are background."""


class Generator(nn.Module):
    """Table I: noise `(B, 128)` to image `(B, 3, 256, 256)` in [-1, 1].

    Batch norm follows the first seven layers. Dropout, which the poster applies "for every layer" without a rate, is
    on the input of each transposed convolution, so that the image itself is whole. Weights begin as DCGAN's, and the
    last bias at :data:`BLACK`, which the poster does not say: most of a slice is background, and at its rates a bias
    of 0 takes thousands of iterations to get there.

    Args:
        latent_size: of the noise.
        dropout: probability.
        width: factor of all inner channels; 1 is the poster's.
        upsampling: ``transposed`` as table I, or ``resize``; see :func:`mrsynth.networks.doubling`.

    Raises:
        UserError: another upsampling.
    """

    def __init__(
        self, latent_size: int = 128, dropout: float = 0.5, width: float = 1.0, upsampling: str = "transposed"
    ) -> None:
        super().__init__()
        channels = [max(1, round(width * n)) for n in GENERATOR] + [3]
        self.linear = nn.Linear(latent_size, channels[0] * 16)  # 16384
        self.linear_norm = nn.BatchNorm1d(channels[0] * 16)
        self.first = channels[0]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):  # 512 x 8 x 8 to 3 x 256 x 256
            layers += [nn.Dropout(dropout), *doubling(before, after, upsampling), nn.BatchNorm2d(after)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers += [nn.Dropout(dropout), nn.ConvTranspose2d(3, 3, 3, padding=1), nn.Tanh()]  # 3 x 256 x 256
        self.layers = nn.Sequential(*layers)
        initialize_dcgan(self)
        nn.init.constant_(layers[-2].bias, BLACK)  # type: ignore[arg-type]

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        started = self.linear_norm(self.linear(latent))
        return self.layers(started.view(-1, self.first, 4, 4))


class GaussianNoise(nn.Module):
    """Add normal noise while training.

    Args:
        sd: standard deviation.
    """

    def __init__(self, sd: float) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.sd * torch.randn_like(x) if self.training and self.sd > 0 else x


class Discriminator(nn.Module):
    """Table II: image `(B, 3, 256, 256)` to one number an image, `(B,)`.

    Noise is added to the input of every layer; batch norm follows each convolution; the last convolution's activation
    is a sigmoid, and a fully connected layer comes after it.

    Args:
        noise: its standard deviation, in training alone; 0 for none.
        width: factor of all inner channels; 1 is the poster's.
    """

    def __init__(self, noise: float = 0.2, width: float = 1.0) -> None:
        super().__init__()
        before, layers = 3, []
        for number, (count, kernel) in enumerate(DISCRIMINATOR):  # 32 x 128 x 128 to 1024 x 4 x 4
            after = max(1, round(width * count))
            last = number == len(DISCRIMINATOR) - 1
            layers += [
                GaussianNoise(noise),
                nn.Conv2d(before, after, kernel, stride=2 if kernel == 4 else 1, padding=1),
                nn.BatchNorm2d(after),
                nn.Sigmoid() if last else nn.ReLU(inplace=True),
            ]
            before = after
        self.layers = nn.Sequential(*layers, nn.Flatten(), GaussianNoise(noise), nn.Linear(before * 16, 1))  # 1
        initialize_dcgan(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image).flatten()
