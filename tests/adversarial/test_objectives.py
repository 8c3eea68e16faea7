"""Each objective against its formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mrsynth.adversarial import Hinge, LeastSquares, NonSaturating, Wasserstein

REAL, FAKE = torch.randn(2, 1, 3, 3, 2) * 2, torch.randn(4, 1, 3, 3, 2) * 2


def check(objective, real, fake, generator) -> None:
    terms = objective.discriminator(REAL, FAKE)
    assert set(terms) == {"discriminator_real", "discriminator_fake"}
    torch.testing.assert_close(terms["discriminator_real"], real)
    torch.testing.assert_close(terms["discriminator_fake"], fake)
    torch.testing.assert_close(objective.generator(FAKE), generator)


def test_non_saturating_is_cross_entropy_with_logits():
    ones, zeros = torch.ones_like, torch.zeros_like
    entropy = F.binary_cross_entropy_with_logits
    check(NonSaturating(), entropy(REAL, ones(REAL)), entropy(FAKE, zeros(FAKE)), entropy(FAKE, ones(FAKE)))


def test_least_squares_halves_the_discriminators_terms_and_not_the_generators():
    check(LeastSquares(), ((REAL - 1) ** 2).mean() / 2, (FAKE**2).mean() / 2, ((FAKE - 1) ** 2).mean())


def test_wasserstein_is_a_difference_of_means():
    check(Wasserstein(), -REAL.mean(), FAKE.mean(), -FAKE.mean())


def test_hinge_stops_at_plus_and_minus_one():
    check(Hinge(), (1 - REAL).clamp(min=0).mean(), (1 + FAKE).clamp(min=0).mean(), -FAKE.mean())
    far = torch.tensor([5.0])
    assert all(term == 0 for term in Hinge().discriminator(far, -far).values())


@pytest.mark.parametrize("objective", [NonSaturating(), LeastSquares(), Wasserstein(), Hinge()])
def test_the_discriminator_gains_by_telling_apart_and_the_generator_by_being_taken_for_real(objective):
    low, high = torch.tensor([-0.5]), torch.tensor([0.5])
    right, wrong = objective.discriminator(high, low), objective.discriminator(low, high)
    assert sum(right.values()) < sum(wrong.values())
    assert objective.generator(high) < objective.generator(low)


def test_cross_entropy_of_huge_logits_stays_finite():
    huge = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = sum(NonSaturating().discriminator(huge, huge).values()) + NonSaturating().generator(huge)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(huge.grad).all()
