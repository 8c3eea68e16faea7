"""Terms added to the generator's loss, each with a weight and a name for the log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mrsynth.adversarial.rounds import GameBatch
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.training.precision import Precision


class Term(ShowsParameters, ABC):
    """A weighted term; ``name`` is its name in the log, where the weighted value is shown.

    Args:
        weight: factor.
    """

    name: str

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, batch: GameBatch, fake: torch.Tensor) -> torch.Tensor:
        """Scalar, not yet weighted."""


class L1(Term):
    """Mean absolute difference from the truth where it is known, of each image (Isola 2017, equation 3).

    Raises:
        UserError: the round knows no truth.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import GameBatch, L1
        >>> real, fake = torch.ones(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)
        >>> batch = GameBatch(real, generator_input=real, target=real, target_weight=torch.ones(1, 1, 4, 4, 4))
        >>> L1(weight=20.0)(batch, fake)  # the trainer multiplies by the weight
        tensor(1.)
    """

    name = "l1"

    def __call__(self, batch: GameBatch, fake: torch.Tensor) -> torch.Tensor:
        if batch.target is None or batch.target_weight is None:
            raise UserError(
                "a round that knows the truth", "none", "terms: L1", "choose another round, or leave it out"
            )
        difference = (fake.float() - batch.target.float()).abs() * batch.target_weight
        known = batch.target_weight.flatten(1).sum(dim=1) * fake.shape[1]
        # the mean of each image first, so that a batch counts the same whole, in parts or over ranks
        return (difference.flatten(1).sum(dim=1) / known.clamp(min=1)).mean()


class FeatureMatching(Term):
    """Mean absolute difference of the discriminator's features between a subject and its image (Wang 2018, equation 4).

    The truth must be known of the generator's first images, one for each real one: of
    :class:`~mrsynth.adversarial.TransplantRound` with ``own_label`` these are the images of the subjects' own labels.
    Each layer counts the same. The gradient reaches the generator alone.

    Args:
        weight: factor.
        discriminator: whose features are taken; not wrapped for a distributed run.
        layers: names of its submodules, each of which returns a tensor.
        precision: of the discriminator's passes; float32 when None.

    Raises:
        UserError: no layer, no such layer, or a round that knows no truth.

    Examples:
        >>> import torch
        >>> from mrsynth.adversarial import FeatureMatching
        >>> discriminator = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3))
        >>> FeatureMatching(1.0, discriminator, layers=["1"]).name
        'feature_matching'
    """

    name = "feature_matching"

    def __init__(
        self, weight: float, discriminator: nn.Module, layers: Sequence[str], precision: Precision | None = None
    ) -> None:
        super().__init__(weight)
        modules = dict(discriminator.named_modules())
        if not layers or any(layer not in modules for layer in layers):
            raise UserError(
                f"names of the discriminator's layers, of {sorted(name for name in modules if name)}",
                str(list(layers)),
                "terms: FeatureMatching",
                "name layers of this network",
            )
        self.discriminator, self.layers, self.precision = discriminator, [modules[layer] for layer in layers], precision

    def __call__(self, batch: GameBatch, fake: torch.Tensor) -> torch.Tensor:
        if batch.target is None:
            raise UserError(
                "a round that knows the truth",
                "none",
                "terms: FeatureMatching",
                "choose a round with own_label, or leave it out",
            )
        count = len(batch.real)
        with torch.no_grad():
            wanted = self._features(batch.real, batch.real_condition)
        condition = None if batch.fake_condition is None else batch.fake_condition[:count]
        found = self._features(fake[:count], condition)
        return torch.stack([(a - b).abs().mean() for a, b in zip(found, wanted, strict=True)]).mean()

    def _features(self, image: torch.Tensor, condition: torch.Tensor | None) -> list[torch.Tensor]:
        kept: list[torch.Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            kept.append(output.float())

        hooks = [layer.register_forward_hook(keep) for layer in self.layers]
        try:
            with (self.precision or Precision("none", image.device)).autocast():
                self.discriminator(image) if condition is None else self.discriminator(image, condition)
        finally:
            for hook in hooks:
                hook.remove()
        return kept
