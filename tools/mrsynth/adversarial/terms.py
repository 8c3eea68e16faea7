"""Terms added to the generator's loss beside the game, each with a weight and a name that shows up in the log."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from mrsynth.adversarial.rounds import Play
from mrsynth.errors import UserError


class Term(ABC):
    """A weighted term; ``name`` is its name in the log, where the weighted value is shown.

    Args:
        weight: factor.
    """

    name: str

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, play: Play, fake: torch.Tensor) -> torch.Tensor:
        """Scalar, not yet weighted."""


class L1(Term):
    """Mean absolute difference from the truth where it is known, of each image (Isola 2017, equation 3).

    Raises:
        UserError: the round knows no truth.
    """

    name = "l1"

    def __call__(self, play: Play, fake: torch.Tensor) -> torch.Tensor:
        if play.target is None or play.target_weight is None:
            raise UserError(
                "a round that knows the truth", "none", "terms: L1", "choose another round, or leave it out"
            )
        difference = (fake.float() - play.target.float()).abs() * play.target_weight
        known = play.target_weight.flatten(1).sum(dim=1) * fake.shape[1]
        # the mean of each image first, so that a batch counts the same whole, in parts or over ranks
        return (difference.flatten(1).sum(dim=1) / known.clamp(min=1)).mean()
