"""Constraints on the discriminator. Spectral norm belongs to the network: ``mrsynth.networks.add_spectral_norm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.adversarial.rounds import GameBatch
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters


class Constraint(ShowsParameters):
    """No constraint; the base class of the others."""

    def penalty(
        self, discriminator: Callable[..., Any], batch: GameBatch, fake: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Terms that are added to the discriminator's loss before its one backward pass, by name."""
        return {}

    def after_step(self, discriminator: nn.Module) -> None:
        """Called after each step of the discriminator's optimizer."""


class WeightClipping(Constraint):
    """Clamp every parameter of the discriminator to [-bound, bound] after its step (Arjovsky 2017, algorithm 1).

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import WeightClipping
        >>> layer = torch.nn.Linear(8, 1)
        >>> WeightClipping(0.01).after_step(layer)
        >>> bool(layer.weight.abs().max() <= 0.01)
        True
    """

    def __init__(self, bound: float = 0.01) -> None:
        self.bound = bound

    @torch.no_grad()
    def after_step(self, discriminator: nn.Module) -> None:
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)


class GradientPenalty(Constraint):
    """Squared distance to 1 of the gradient's norm between real and fake (Gulrajani 2017, equation 3).

    Computed in float32. It joins the discriminator's loss before the backward pass, so that a distributed run
    synchronizes it.

    Args:
        weight: factor of the penalty.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import GameBatch, GradientPenalty
        >>> batch = GameBatch(real=torch.ones(2, 3), generator_input=torch.zeros(2, 1))
        >>> GradientPenalty(10.0).penalty(lambda image: 3 * image[:, 0], batch, torch.zeros(2, 3))  # 10 x (3 - 1)^2
        {'gradient_penalty': tensor(40.)}
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = weight

    def penalty(
        self, discriminator: Callable[..., Any], batch: GameBatch, fake: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        real = batch.real.float()
        share = torch.rand(real.shape[0], *[1] * (real.dim() - 1)).to(real.device)
        between = (share * real + (1 - share) * fake.detach().float()[: real.shape[0]]).requires_grad_()
        with torch.autocast(real.device.type, enabled=False):
            parts = by_part(
                discriminator(between) if batch.real_condition is None else discriminator(between, batch.real_condition)
            )
            gradients = {
                part: torch.autograd.grad(logits.sum(), between, create_graph=True)[0] for part, logits in parts.items()
            }
        norms = {part: gradient.flatten(1).norm(dim=1) for part, gradient in gradients.items()}
        return {f"{part}gradient_penalty": self.weight * (norm - 1).square().mean() for part, norm in norms.items()}


class MatchingAware(Constraint):
    """A real image with the wrong class must be judged fake (Reed 2016, section 4.1).

    Without this term a discriminator may ignore the class it is shown where the image alone separates real from fake.
    Use it with a :class:`~mrsynth.adversarial.ClassRound` that conditions the discriminator, and with logits of binary
    cross-entropy.

    Args:
        weight: factor of the term; Reed gives both kinds of fakes a half, here what was generated keeps its 1.

    Examples:
        >>> from mrsynth.adversarial import MatchingAware
        >>> MatchingAware(weight=0.5)
        MatchingAware(weight=0.5)
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def penalty(
        self, discriminator: Callable[..., Any], batch: GameBatch, fake: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        if batch.real_condition is None or batch.real_condition.shape[1] < 2:
            raise UserError(
                "a discriminator that is shown one of two classes or more",
                "no class" if batch.real_condition is None else "one class",
                "MatchingAware",
                "set condition_discriminator, or take this constraint away",
            )
        shift = int(torch.randint(1, batch.real_condition.shape[1], ()))
        parts = by_part(discriminator(batch.real, batch.real_condition.roll(shift, dims=1)))
        return {f"{part}mismatch": self.weight * F.softplus(logits.float()).mean() for part, logits in parts.items()}


def by_part(logits: torch.Tensor | Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The logits of a discriminator as a dictionary, by the prefix of each part's loss names; a single part has an
    empty prefix.
    """
    return logits if isinstance(logits, Mapping) else {"": logits}
