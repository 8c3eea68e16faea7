"""Players so small that a game takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mrsynth.adversarial import LatentRound, NonSaturating, TwoPlayerTrainer


class Mlp(nn.Sequential):
    """Two layers; ``inputs`` are joined, so that it can be discriminator and generator."""

    def __init__(self, inputs: int, outputs: int, width: int = 16) -> None:
        super().__init__(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, outputs))

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat(parts, dim=1))


class Voxels(nn.Module):
    """The same for volumes: two convolutions."""

    def __init__(self, inputs: int, outputs: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(inputs, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, outputs, 1))

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat(parts, dim=1))


def gaussian(batches: int, size: int = 8, mean: float = 3.0) -> list[dict[str, torch.Tensor]]:
    """Batches of points of the plane."""
    noise = torch.Generator().manual_seed(0)
    return [{"image": mean + 0.5 * torch.randn(size, 2, generator=noise)} for _ in range(batches)]


def transplants(batches: int, size: int = 2, side: int = 4) -> list[dict[str, torch.Tensor]]:
    """Batches as :class:`TransplantRound` takes them: 4 sequences, conditions of 5 channels, tumors at two places."""
    noise = torch.Generator().manual_seed(0)
    grid = (size, 1, side, side, side)

    def draw(channels: int) -> torch.Tensor:
        return torch.rand(size, channels, side, side, side, generator=noise) * 2 - 1

    def label() -> torch.Tensor:
        return torch.randint(0, 3, grid, generator=noise).clamp(max=1) * torch.randint(0, 2, grid, generator=noise)

    keys = ("own_condition", "fused_condition")
    return [
        {"image": draw(4), **{key: draw(5) for key in keys}, "label": label(), "transplanted": label()}
        for _ in range(batches)
    ]


def game(
    batches: list[dict], generator: nn.Module, discriminator: nn.Module, epochs: int = 1, **parts: object
) -> TwoPlayerTrainer:
    """A trainer whose optimizers do plain steps of 0.1 unless told otherwise."""
    optimizer = parts.pop("optimizer", lambda p: torch.optim.SGD(p, lr=0.1))
    arguments = {"objective": NonSaturating(), "round": LatentRound(2), **parts}
    return TwoPlayerTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=batches,
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=optimizer(generator.parameters()),
        discriminator_optimizer=optimizer(discriminator.parameters()),
        **arguments,
    )


@pytest.fixture(scope="session")
def play() -> Callable:
    """The makers above, under one name."""

    class GameBatch:
        pass

    for maker in (Mlp, Voxels, gaussian, transplants, game):
        setattr(GameBatch, maker.__name__.lower(), staticmethod(maker))
    return GameBatch
