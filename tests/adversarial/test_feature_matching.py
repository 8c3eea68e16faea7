"""Feature matching: zero for the subject itself, no gradient but the generator's, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mrsynth.adversarial import FeatureMatching, Hinge, TransplantRound
from mrsynth.training import Precision

CPU = torch.device("cpu")


@pytest.fixture
def shown(play):
    """What the players see of one batch of two."""
    (batch,) = play.transplants(1)
    return TransplantRound(own_label=True)(batch, CPU)


@pytest.fixture
def discriminator(play) -> nn.Module:
    torch.manual_seed(0)
    return play.voxels(9, 1)


def test_it_is_the_mean_difference_of_the_features(discriminator, shown):
    fake = torch.randn_like(shown.target)
    expected = []
    for layer in (discriminator.layers[:1], discriminator.layers[:2]):
        real, made = (
            layer(torch.cat([image, shown.real_condition], dim=1)) for image in (shown.real, fake[: len(shown.real)])
        )
        expected.append((real - made).abs().mean())
    found = FeatureMatching(10.0, discriminator, ["layers.0", "layers.1"])(shown, fake)
    torch.testing.assert_close(found, torch.stack(expected).mean())
    assert found > 0 and not discriminator.layers[0]._forward_hooks


def test_it_is_zero_for_the_subject_itself_whatever_the_transplant_looks_like(discriminator, shown):
    fake = torch.cat([shown.real, torch.randn_like(shown.real)])
    assert FeatureMatching(1.0, discriminator, ["layers.1"])(shown, fake) == 0


def test_its_gradient_reaches_the_images_of_own_labels_alone(discriminator, shown):
    discriminator.requires_grad_(False)  # as in the generator's move
    fake = torch.randn_like(shown.target).requires_grad_()
    FeatureMatching(1.0, discriminator, ["layers.0"])(shown, fake).backward()
    count = len(shown.real)
    assert (fake.grad[:count] != 0).any() and (fake.grad[count:] == 0).all()
    assert all(p.grad is None for p in discriminator.parameters())


def test_in_a_game_it_is_logged_weighted_and_pulls_the_features_together(play):
    values = []
    for weight in (0.0, 5.0):
        torch.manual_seed(0)
        generator, discriminator = play.voxels(5, 4), play.voxels(9, 1)
        term = FeatureMatching(weight, discriminator, ["layers.1"], Precision("bf16", "cpu"))
        parts = {"objective": Hinge(), "round": TransplantRound(own_label=True), "terms": [term]}
        batches = play.transplants(30)
        trainer = play.game(batches, generator, discriminator, **parts)
        trainer.run()
        assert (trainer.state.output[0]["feature_matching"] > 0) == (weight > 0)
        shown = parts["round"](batches[0], CPU)
        with torch.no_grad():
            values.append(float(term(shown, generator(shown.generator_input))))
    assert values[1] < values[0]


def test_refusals(play, discriminator, shown, refused):
    for layers in ([], ["encoders.7"]):
        with refused(where="FeatureMatching", expected="layers.0", found=str(layers)):
            FeatureMatching(1.0, discriminator, layers)
    (batch,) = play.transplants(1)
    unknown = TransplantRound()(batch, CPU)
    with refused(expected="knows the truth"):
        FeatureMatching(1.0, discriminator, ["layers.0"])(unknown, unknown.real)
