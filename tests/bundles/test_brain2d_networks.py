"""Networks of brain2d against what Han 2018 says of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conftest import scripts_of


@pytest.fixture(scope="module")
def networks():
    with scripts_of("brain2d") as scripts:
        yield scripts.networks


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]


@pytest.mark.parametrize(("size", "channels"), [(64, [512, 256, 128, 64]), (128, [512, 256, 128, 64, 32])])
def test_channels_are_half_the_originals_filters_4_by_4_and_no_tanh_ends_the_generator(networks, size, channels):
    generator, discriminator = networks.Generator([size, size]), networks.Discriminator([size, size])
    assert [c.out_channels for c in convolutions(generator)] == [*channels, 1]
    assert [c.out_channels for c in convolutions(discriminator)] == [*channels[::-1], 1]
    assert {c.kernel_size for c in [*convolutions(generator), *convolutions(discriminator)]} == {(4, 4)}
    assert not any(isinstance(m, (nn.Tanh, nn.Sigmoid)) for m in [*generator.modules(), *discriminator.modules()])
    assert sum(isinstance(m, nn.ELU) for m in discriminator.modules()) == len(channels)
    assert sum(isinstance(m, nn.ReLU) for m in generator.modules()) == len(channels)
    image = generator(torch.randn(3, 100))
    assert image.shape == (3, 1, size, size) and discriminator(image).shape == (3,)
    assert float(image.mean()) == pytest.approx(-1, abs=0.5)  # the first images are background


def test_a_class_goes_in_beside_the_noise_and_beside_the_image(networks):
    image = networks.build_generator([64, 64], 10, ["no tumor", "tumor"], 0.1, "resize")(torch.randn(2, 12))
    discriminator = networks.Discriminator([64, 64], 3, 0.1)
    shown = torch.zeros(2, 2, 64, 64)
    before = discriminator.eval()(image, shown)
    shown[:, 1] = 1
    assert not torch.equal(discriminator(image, shown), before)


def test_with_a_gradient_penalty_each_image_is_judged_by_itself(networks):
    images = torch.randn(4, 1, 64, 64)
    for norm, alone in (("none", True), ("batch", False)):
        discriminator = networks.Discriminator([64, 64], width=0.1, norm=norm)
        assert torch.allclose(discriminator(images)[:2], discriminator(images[:2]), atol=1e-5) == alone


def test_other_sizes_and_norms_are_refused(networks, refused):
    with refused(expected="square", found="[64, 128]", where="size"):
        networks.Generator([64, 128])
    with refused(expected="64, 128, 256", found="[100, 100]"):
        networks.Discriminator([100, 100])
    with refused(expected="batch or none", found="'layer'"):
        networks.Discriminator([64, 64], norm="layer")
