"""Networks of flair2d against tables I and II of the poster (Cepa 2022)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conftest import scripts_of

TABLE_I = [
    ("FC", None, (16384,)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (512, 8, 8)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (256, 16, 16)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (128, 32, 32)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (64, 64, 64)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (32, 128, 128)),
    ("T. Conv 4 x 4", nn.LeakyReLU, (3, 256, 256)),
    ("T. Conv 3 x 3", nn.Tanh, (3, 256, 256)),
]
TABLE_II = [
    ("Conv 4 x 4", nn.ReLU, (32, 128, 128)),
    ("Conv 4 x 4", nn.ReLU, (64, 64, 64)),
    ("Conv 4 x 4", nn.ReLU, (128, 32, 32)),
    ("Conv 4 x 4", nn.ReLU, (156, 16, 16)),
    ("Conv 3 x 3", nn.ReLU, (156, 16, 16)),
    ("Conv 4 x 4", nn.ReLU, (512, 8, 8)),
    ("Conv 3 x 3", nn.ReLU, (512, 8, 8)),
    ("Conv 4 x 4", nn.ReLU, (1024, 4, 4)),
    ("Conv 3 x 3", nn.Sigmoid, (1024, 4, 4)),
    ("FC", None, (1,)),
]
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)


@pytest.fixture(scope="module")
def networks():
    with scripts_of("flair2d") as scripts:
        yield scripts.networks


def table(network: nn.Module, given: torch.Tensor) -> list[tuple]:
    """What a pass through ``network`` shows: each layer, the activation that follows it, and its output's shape."""
    rows: list[list] = []

    def look(module: nn.Module, _, output: torch.Tensor) -> None:
        shape = tuple(output.shape[1:])
        if isinstance(module, nn.Linear):
            rows.append(["FC", None, shape])
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            kind = "T. Conv" if isinstance(module, nn.ConvTranspose2d) else "Conv"
            rows.append([f"{kind} {module.kernel_size[0]} x {module.kernel_size[1]}", None, shape])
        elif isinstance(module, ACTIVATIONS):
            rows[-1][1] = type(module)

    handles = [m.register_forward_hook(look) for m in network.modules()]
    network(given)
    for handle in handles:
        handle.remove()
    return [tuple(row) for row in rows]


def test_the_generator_is_table_i(networks):
    generator = networks.Generator()
    assert table(generator, torch.randn(2, 128)) == TABLE_I
    norms = [m for m in generator.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert [m.num_features for m in norms] == [16384, 512, 256, 128, 64, 32, 3]
    assert sum(isinstance(m, nn.Dropout) for m in generator.modules()) == 7


def test_the_discriminator_is_table_ii(networks):
    discriminator = networks.Discriminator()
    assert table(discriminator, torch.randn(2, 3, 256, 256)) == TABLE_II
    assert sum(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules()) == 9
    assert sum(isinstance(m, networks.GaussianNoise) for m in discriminator.modules()) == 10


def test_noise_comes_in_training_alone(networks):
    image = torch.randn(2, 3, 256, 256)
    discriminator = networks.Discriminator(noise=0.2, width=0.05)
    assert not torch.equal(discriminator(image), discriminator(image))
    discriminator.eval()
    assert torch.equal(discriminator(image), discriminator(image))
    added = networks.GaussianNoise(0.2)(torch.zeros(100_000))
    assert added.std() == pytest.approx(0.2, rel=0.02)


def test_resize_and_convolve_gives_the_same_shapes_without_transposed_kernels_that_stride(networks):
    generator = networks.Generator(width=0.05, upsampling="resize")
    assert generator(torch.randn(2, 128)).shape == (2, 3, 256, 256)
    strided = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d) and m.stride != (1, 1)]
    assert not strided


def test_an_unknown_upsampling_is_refused(networks, refused):
    with refused(expected="transposed", found="'magic'"):
        networks.Generator(upsampling="magic")


def test_the_first_images_are_background(networks):
    image = networks.Generator(width=0.05)(torch.randn(4, 128))
    assert image.mean() < -0.9
