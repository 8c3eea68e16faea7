"""Objectives of the game: what critic and generator minimise, as functions of the critic's logits."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F


class Objective(ABC):
    """A pair of losses on logits of any shape; each returns a scalar, the mean over all logits."""

    @abstractmethod
    def critic(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """The critic's terms by name, to be summed: ``critic_real`` and ``critic_fake``."""

    @abstractmethod
    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """The generator's loss on the logits of what it made."""


class NonSaturating(Objective):
    """Binary cross-entropy with logits; the generator maximises log D(fake) (Goodfellow 2014, section 3)."""

    def critic(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"critic_real": F.softplus(-real).mean(), "critic_fake": F.softplus(fake).mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(Objective):
    """Squared distance to 1 (real) and 0 (fake), times a half for the critic (Doncenco 2022, equations 4 and 5).

    Args:
        critic_weight: factor of both of the critic's terms.
    """

    def __init__(self, critic_weight: float = 0.5) -> None:
        self.critic_weight = critic_weight

    def critic(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "critic_real": self.critic_weight * (real - 1).square().mean(),
            "critic_fake": self.critic_weight * fake.square().mean(),
        }

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return (fake - 1).square().mean()


class Wasserstein(Objective):
    """Difference of means; the critic needs a Lipschitz constraint (Arjovsky 2017)."""

    def critic(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"critic_real": -real.mean(), "critic_fake": fake.mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return -fake.mean()


class Hinge(Objective):
    """Hinge at +1 and -1 for the critic, plain mean for the generator (Miyato 2018, equations 16 and 17)."""

    def critic(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"critic_real": F.relu(1 - real).mean(), "critic_fake": F.relu(1 + fake).mean()}

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        return -fake.mean()
