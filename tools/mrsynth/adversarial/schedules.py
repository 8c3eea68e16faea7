"""Schedules: which player moves in an iteration. They depend on its number alone, so that a resumed run goes on."""

from __future__ import annotations

from typing import NamedTuple

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters


class Moves(NamedTuple):
    """Which players move in an iteration."""

    discriminator: bool
    generator: bool


class Simultaneous(ShowsParameters):
    """Both move in every iteration, the discriminator first.

    Examples:
        >>> from mrsynth.adversarial import Simultaneous
        >>> Simultaneous()(0)
        Moves(discriminator=True, generator=True)
    """

    def __call__(self, iteration: int) -> Moves:
        return Moves(True, True)


class DiscriminatorSteps(ShowsParameters):
    """The discriminator moves every iteration, the generator every ``n_critic``-th; each has a fresh batch.

    Examples:
        >>> from mrsynth.adversarial import DiscriminatorSteps
        >>> [DiscriminatorSteps(n_critic=3)(iteration).generator for iteration in range(6)]
        [False, False, True, False, False, True]
    """

    def __init__(self, n_critic: int = 5) -> None:
        if n_critic < 1:
            raise UserError("n_critic of at least 1", str(n_critic), "n_critic", "pass --n_critic 5")
        self.n_critic = n_critic

    def __call__(self, iteration: int) -> Moves:
        return Moves(True, (iteration + 1) % self.n_critic == 0)


class Alternating(ShowsParameters):
    """One player per iteration, in turns; the discriminator moves first (Doncenco 2022, section 2.5).

    Examples:
        >>> from mrsynth.adversarial import Alternating
        >>> Alternating()(0), Alternating()(1)
        (Moves(discriminator=True, generator=False), Moves(discriminator=False, generator=True))
    """

    def __call__(self, iteration: int) -> Moves:
        return Moves(iteration % 2 == 0, iteration % 2 == 1)
