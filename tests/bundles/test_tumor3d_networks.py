"""The networks of tumor3d against the table of the thesis, and what spectral norm and checkpointing promise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mrsynth.networks import add_spectral_norm, folded_state_dict, power_iteration


@pytest.fixture(scope="module")
def networks(tumor3d):
    return tumor3d.networks


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Conv3d)]


def label(channels: int = 5, size: int = 16, batch: int = 1) -> torch.Tensor:
    """A random one-hot label."""
    classes = torch.randint(0, channels, (batch, size, size, size), generator=torch.Generator().manual_seed(0))
    return nn.functional.one_hot(classes, channels).movedim(-1, 1).float()


def test_the_thesis_generator_has_16_million_parameters_and_its_shapes(networks):
    with torch.device("meta"):  # shapes without the 20 GB
        generator = networks.UNetGenerator()
        image = generator(torch.zeros(1, 1, 240, 240, 64))
    assert round(parameters(generator) / 1e6, 1) == 16.3
    assert image.shape == (1, 4, 240, 240, 64)


def test_the_thesis_discriminator_has_7_million_parameters_and_a_logit_a_patch(networks):
    with torch.device("meta"):
        discriminator = networks.PatchDiscriminator()
        logits = discriminator(torch.zeros(1, 4, 240, 240, 64), torch.zeros(1, 1, 240, 240, 64))
    assert round(parameters(discriminator) / 1e6, 1) == 7.0
    assert logits.shape == (1, 1, 30, 30, 8)


def test_the_first_convolution_of_a_level_has_half_its_width(networks):
    assert networks.encoder_widths(1, 64, 4) == [(1, 32, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512)]
    with torch.device("meta"):
        generator = networks.UNetGenerator()
    found = [tuple((c.in_channels, c.out_channels) for c in convolutions(encoder)) for encoder in generator.encoders]
    assert found == [((a, b), (b, c)) for a, b, c in networks.encoder_widths(1, 64, 4)]


@pytest.mark.parametrize("kind", ["unet", "spade"])
def test_what_the_generator_makes_lies_between_minus_one_and_one(networks, kind):
    torch.manual_seed(0)
    generator = networks.build_generator(kind, 5, 4, [16, 16, 16])
    with torch.no_grad():
        generator.head.weight.mul_(100)
        image = generator(label())
    assert image.shape == (1, 4, 16, 16, 16) and 0.9 < image.abs().max() <= 1


def test_background_of_the_steered_generator_is_exactly_minus_one(networks):
    torch.manual_seed(0)
    generator, condition = networks.build_generator("spade", 5, 4, [16, 16, 16]), label()
    image = generator(condition)
    background = condition[:, :1].expand_as(image) == 1
    assert (image[background] == -1).all() and (image[~background] != -1).all()


def test_every_class_of_the_label_steers_the_steered_generator(networks):
    torch.manual_seed(0)
    generator, condition = networks.build_generator("spade", 5, 4, [16, 16, 16]).eval(), label()
    image = generator(condition)
    for channel in range(1, 5):
        other = condition.clone()
        other[:, channel] = condition[:, channel % 4 + 1]
        other[:, channel % 4 + 1] = condition[:, channel]
        assert (generator(other) - image).abs().max() > 1e-3


def test_the_discriminator_sees_image_and_condition(networks):
    torch.manual_seed(0)
    discriminator = networks.PatchDiscriminator(9, 4, levels=3, norm="none", slope=0.2).eval()
    image, condition = torch.randn(1, 4, 16, 16, 16), label()
    logits = discriminator(image, condition)
    assert logits.shape == (1, 1, 4, 4, 4)
    assert not torch.equal(discriminator(image + 1, condition), logits)
    assert not torch.equal(discriminator(image, condition.flip(1)), logits)


@pytest.mark.parametrize("size", [[12, 16, 16], [16, 16, 4], [240, 240, 155], [8, 8, 8]])
def test_a_grid_that_does_not_divide_is_refused_with_one_that_does(networks, refused, size):
    with refused(expected="multiples of 8", found=str(size), where="spatial_size", do="--spatial_size"):
        networks.build_generator("unet", 1, 4, size)


def test_unknown_settings_are_refused(networks, refused):
    with refused(expected="['spade', 'unet']", where="generator"):
        networks.build_generator("resnet", 1, 4, [16, 16, 16])
    with refused(expected="'discriminator'", where="spectral_norm"):
        networks.build_generator("unet", 1, 4, [16, 16, 16], spectral_norm="all")
    with refused(expected="one-hot", where="label_encoding"):
        networks.build_generator("spade", 1, 4, [16, 16, 16])


@pytest.mark.parametrize("setting", ["none", "discriminator", "both"])
def test_spectral_norm_concerns_the_generator_only_where_both_are_named(networks, setting):
    generator = networks.build_generator("unet", 1, 4, [16, 16, 16], spectral_norm=setting)
    normalized = [nn.utils.parametrize.is_parametrized(c) for c in convolutions(generator)]
    assert all(normalized) if setting == "both" else not any(normalized)


def largest_singular_values(network: nn.Module) -> torch.Tensor:
    values = [torch.linalg.matrix_norm(c.weight.detach().flatten(1), ord=2) for c in convolutions(network)]
    return torch.stack(values)


def test_spectral_norm_bounds_the_singular_values_after_some_refinements(networks):
    torch.manual_seed(0)
    discriminator = networks.PatchDiscriminator(5, 8, levels=3, spectral_norm=True)
    with torch.no_grad():  # as training would
        for convolution in convolutions(discriminator):
            convolution.parametrizations.weight.original.mul_(20).add_(torch.randn(1))
    for _ in range(30):
        power_iteration(discriminator)
    torch.testing.assert_close(largest_singular_values(discriminator), torch.ones(7), atol=0.02, rtol=0)


def test_weights_are_held_between_two_refinements(networks):
    torch.manual_seed(0)
    discriminator = networks.PatchDiscriminator(5, 4, levels=2, spectral_norm=True).train()
    power_iteration(discriminator)
    before = [c.weight.detach().clone() for c in convolutions(discriminator)]
    for _ in range(3):
        discriminator(torch.randn(1, 4, 8, 8, 8), torch.randn(1, 1, 8, 8, 8))
    assert all(torch.equal(a, c.weight) for a, c in zip(before, convolutions(discriminator), strict=True))
    power_iteration(discriminator)
    assert any(not torch.equal(a, c.weight) for a, c in zip(before, convolutions(discriminator), strict=True))


@pytest.mark.parametrize("kind", ["unet", "spade"])
def test_folded_weights_fit_a_plain_network_that_computes_the_same(networks, kind):
    torch.manual_seed(0)
    normalized = networks.build_generator(kind, 5, 4, [16, 16, 16], spectral_norm="both").train()
    for _ in range(3):
        power_iteration(normalized)
    before = copy.deepcopy(normalized.state_dict())
    plain = networks.build_generator(kind, 5, 4, [16, 16, 16])
    plain.load_state_dict(folded_state_dict(normalized))  # strict: the same names, no others
    assert normalized.training
    assert all(torch.equal(before[k], v) for k, v in normalized.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(label()), normalized.eval()(label()), atol=1e-6, rtol=0)


def test_folding_a_plain_network_copies_it(networks):
    network = networks.build_generator("unet", 1, 4, [16, 16, 16])
    folded = folded_state_dict(network)
    assert all(torch.equal(folded[k], v) and folded[k] is not v for k, v in network.state_dict().items())
    next(iter(folded.values())).add_(1)
    assert not torch.equal(next(iter(folded.values())), next(iter(network.state_dict().values())))


@pytest.mark.parametrize("kind", ["unet", "spade"])
def test_torchscript_exports_and_computes_the_same(networks, kind, tmp_path):
    torch.manual_seed(0)
    network = networks.build_generator(kind, 5, 4, [16, 16, 16], checkpointing=True).eval()
    torch.jit.script(network).save(str(tmp_path / "model.ts"))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.ts"))(label()), network(label()))


@pytest.mark.parametrize("spectral_norm", ["none", "both"])
@pytest.mark.parametrize("kind", ["unet", "spade", "discriminator"])
def test_checkpointing_changes_no_output_and_no_gradient(networks, kind, spectral_norm):
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        if kind == "discriminator":
            network = networks.PatchDiscriminator(
                9, 4, levels=3, spectral_norm=spectral_norm == "both", checkpointing=checkpointing
            )
            inputs = [torch.linspace(-1, 1, 4 * 4096).view(1, 4, 16, 16, 16), label()]
        else:
            network = networks.build_generator(kind, 5, 4, [16, 16, 16], spectral_norm, checkpointing)
            inputs = [label()]
        network.train()
        for _ in range(2):
            power_iteration(network)
        output = network(*inputs)
        output.square().sum().backward()
        results.append([output, *[p.grad for p in network.parameters()]])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_checkpointing_keeps_less(networks):
    """What the backward pass needs is counted as it is saved."""
    kept = []
    for checkpointing in (False, True):
        network = networks.build_generator("unet", 5, 4, [16, 16, 16], checkpointing=checkpointing).train()
        total = 0

        def count(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(label())
        kept.append(total)
    assert kept[1] < 0.5 * kept[0]


def test_normalizing_twice_is_normalizing_once():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2))
    keys = list(add_spectral_norm(network).state_dict())
    assert list(add_spectral_norm(network).state_dict()) == keys
