"""Objectives of the game: what discriminator and generator minimize, as functions of the discriminator's logits."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F

from mrsynth.representation import ShowsParameters


class Objective(ShowsParameters, ABC):
    """A pair of losses on logits of any shape; each returns a scalar, the mean over all logits."""

    @abstractmethod
    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """The discriminator's terms by name, to be summed: ``discriminator_real`` and ``discriminator_fake``."""

    @abstractmethod
    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """The generator's loss on the logits of what it made."""


class NonSaturating(Objective):
    """Binary cross-entropy with logits; the generator maximizes log D(fake) (Goodfellow 2014, section 3).

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import NonSaturating
        >>> NonSaturating().generator(torch.zeros(4))  # the discriminator is undecided: log 2
        tensor(0.6931)
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"discriminator_real": F.softplus(-real).mean(), "discriminator_fake": F.softplus(fake).mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(Objective):
    """Squared distance to 1 (real) and 0 (fake), times a half for the discriminator (Doncenco 2022, equations 4 and 5).

    Args:
        discriminator_weight: factor of both of the discriminator's terms.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import LeastSquares
        >>> LeastSquares().discriminator(real=torch.ones(4), fake=torch.zeros(4))  # a perfect discriminator
        {'discriminator_real': tensor(0.), 'discriminator_fake': tensor(0.)}
    """

    def __init__(self, discriminator_weight: float = 0.5) -> None:
        self.discriminator_weight = discriminator_weight

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "discriminator_real": self.discriminator_weight * (real - 1).square().mean(),
            "discriminator_fake": self.discriminator_weight * fake.square().mean(),
        }

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return (fake - 1).square().mean()


class Wasserstein(Objective):
    """Difference of means; the discriminator needs a Lipschitz constraint (Arjovsky 2017).

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import Wasserstein
        >>> Wasserstein().discriminator(torch.tensor([3.0]), torch.tensor([1.0]))
        {'discriminator_real': tensor(-3.), 'discriminator_fake': tensor(1.)}
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"discriminator_real": -real.mean(), "discriminator_fake": fake.mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return -fake.mean()


class Hinge(Objective):
    """Hinge at +1 and -1 for the discriminator, plain mean for the generator (Miyato 2018, equations 16 and 17).

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import Hinge
        >>> Hinge().discriminator(torch.tensor([2.0]), torch.tensor([0.0]))  # beyond the margin 1 nothing is gained
        {'discriminator_real': tensor(0.), 'discriminator_fake': tensor(1.)}
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"discriminator_real": F.relu(1 - real).mean(), "discriminator_fake": F.relu(1 + fake).mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return -fake.mean()
