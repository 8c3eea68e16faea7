"""Extra terms of the generator and constraints on the discriminator."""

from __future__ import annotations

import math

import pytest
import torch

from mrsynth.adversarial import (
    L1,
    DiscriminatorSteps,
    GameBatch,
    GradientPenalty,
    LatentRound,
    MatchingAware,
    TransplantRound,
    Wasserstein,
    WeightClipping,
)
from mrsynth.training import seed_everything

CPU = torch.device("cpu")


def test_l1_is_the_mean_difference_where_the_truth_is_known(play):
    (batch,) = play.transplants(1)
    shown = TransplantRound(own_label=True, tumor_weight=3.0)(batch, CPU)
    fake = torch.randn_like(shown.target)
    means = []
    for image, truth, weight in zip(fake, shown.target, shown.target_weight, strict=True):
        weight = weight.expand_as(image)
        means.append(((image - truth).abs() * weight).sum() / weight.sum())
    torch.testing.assert_close(L1(20.0)(shown, fake), torch.stack(means).mean())


def test_l1_says_nothing_about_voxels_whose_truth_is_not_known(play):
    (batch,) = play.transplants(1)
    shown = TransplantRound(own_label=True)(batch, CPU)
    fake = torch.randn_like(shown.target).requires_grad_()
    L1(1.0)(shown, fake).backward()
    unknown = (shown.target_weight == 0).expand_as(fake)
    assert (fake.grad[unknown] == 0).all() and (fake.grad[~unknown] != 0).all()
    assert unknown.any()


def test_l1_of_an_image_without_any_known_voxel_is_zero():
    real = torch.rand(1, 4, 2, 2, 2)
    shown = GameBatch(real, real, target=real, target_weight=torch.zeros(1, 1, 2, 2, 2))
    assert L1(1.0)(shown, real + 1) == 0


def test_l1_without_a_truth_is_refused(play, refused):
    (batch,) = play.transplants(1)
    shown = TransplantRound()(batch, CPU)
    with refused(expected="knows the truth", where="L1"):
        L1(1.0)(shown, shown.real)


def test_clipped_weights_stay_inside_the_bound(play):
    discriminator = play.mlp(2, 1)
    trainer = play.game(
        play.gaussian(5), play.mlp(2, 2), discriminator, objective=Wasserstein(), constraint=WeightClipping(0.02)
    )
    trainer.run()
    largest = max(float(p.detach().abs().max()) for p in discriminator.parameters())
    assert largest == pytest.approx(0.02)


def penalized(discriminator, generator, real, condition, weight=10.0):
    """The discriminator's loss of WGAN-GP, written out, its draws in the trainer's order."""
    seed_everything(7, 0, 0)
    noise = torch.randn(len(real), 2)
    given = () if condition is None else (condition,)
    fake = generator(noise).detach()
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    slope = torch.autograd.grad(discriminator(between, *given).sum(), between, create_graph=True)[0].norm(dim=1)
    penalty = weight * ((slope - 1) ** 2).mean()
    return discriminator(fake, *given).mean() - discriminator(real, *given).mean() + penalty, penalty.detach()


class Conditioned(LatentRound):
    """Noise, and a condition beside."""

    def __call__(self, batch, device):
        shown = super().__call__(batch, device)
        shown.real_condition = shown.fake_condition = batch["image"].flip(1)
        return shown


@pytest.mark.parametrize("conditioned", [False, True])
def test_gradient_penalty_in_the_one_backward_pass_is_that_computed_apart(play, conditioned):
    torch.manual_seed(0)
    generator, discriminator = play.mlp(2, 2), play.mlp(4 if conditioned else 2, 1)
    real = play.gaussian(1)[0]["image"]
    expected, penalty = penalized(discriminator, generator, real, real.flip(1) if conditioned else None)
    gradients = torch.autograd.grad(expected, list(discriminator.parameters()), allow_unused=True)
    trainer = play.game(
        [{"image": real}],
        generator,
        discriminator,
        objective=Wasserstein(),
        round=Conditioned(2) if conditioned else LatentRound(2),
        constraint=GradientPenalty(10.0),
        schedule=DiscriminatorSteps(5),
        seed=7,
    )
    trainer.run()
    for parameter, gradient in zip(discriminator.parameters(), gradients, strict=True):
        if gradient is not None:  # the last bias has no part in the penalty
            torch.testing.assert_close(parameter.grad, gradient)
    assert trainer.state.output[0]["gradient_penalty"] == pytest.approx(penalty.item(), rel=1e-5)
    assert trainer.state.output[0]["discriminator_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_penalty_vanishes_for_a_slope_of_one():
    shown = GameBatch(torch.randn(8, 3), torch.zeros(8, 1))

    def discriminator(points):
        return points[:, :1]

    assert GradientPenalty(10.0).penalty(discriminator, shown, torch.randn(8, 3))["gradient_penalty"] < 1e-10


def test_a_matching_aware_discriminator_must_call_a_real_image_of_another_class_fake():
    own = torch.eye(3)[[0, 1, 2, 1]]
    shown = GameBatch(torch.randn(4, 3), torch.zeros(4, 1), real_condition=own)
    seen = []

    def discriminator(points, condition):
        assert points is shown.real
        seen.append(condition)
        return torch.full((4,), 2.0)

    for _ in range(20):
        (term,) = MatchingAware(0.5).penalty(discriminator, shown, torch.randn(4, 3)).values()
        assert term == pytest.approx(0.5 * math.log(1 + math.exp(2)), rel=1e-6)
    assert all((condition.sum(dim=1) == 1).all() and not (condition * own).any() for condition in seen)
    assert len({tuple(condition.argmax(dim=1).tolist()) for condition in seen}) == 2


def test_a_matching_aware_discriminator_must_be_shown_the_class(refused):
    with refused(expected="shown one of two classes", found="no class", where="MatchingAware"):
        MatchingAware().penalty(lambda *_: None, GameBatch(torch.randn(4, 3), torch.zeros(4, 1)), torch.randn(4, 3))
