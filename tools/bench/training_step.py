"""One iteration of TwoPlayerTrainer against a bare PyTorch loop of the same networks, in time and peak memory.

    python tools/bench/training_step.py [--size 96,96,32] [--maps 32] [--steps 6]

The thesis's game (least squares, strict turns) in float32 at batch 1. Two processes, one for each way, advance in
turn step by step, so that a noisy machine slows both alike; the median of the paired ratios ours / bare is printed,
and the ratio of the processes' peak memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import fire
import torch
from turns import answer, report, take_turns

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d"


def networks(maps: int) -> tuple:
    """Generator, discriminator and their optimizers, the same in both processes."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.networks import PatchDiscriminator, UNetGenerator

    torch.manual_seed(0)
    generator, discriminator = UNetGenerator(feature_maps=maps), PatchDiscriminator(feature_maps=maps)
    adam = [torch.optim.Adam(n.parameters(), lr=1e-4) for n in (generator, discriminator)]
    return generator, discriminator, *adam


def batch(size: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """One batch of noise and labels."""
    torch.manual_seed(1)
    labels = [torch.randint(0, 3, (1, 1, *size)).float() for _ in range(2)]
    return {"image": torch.randn(1, 4, *size).tanh(), "own_condition": labels[0], "fused_condition": labels[1]}


def bare(size: tuple[int, ...], maps: int) -> Iterator[None]:
    """The loop as one would write it without a framework; one move a step."""
    generator, discriminator, step_g, step_d = networks(maps)
    while True:
        data = batch(size)
        step_d.zero_grad()
        with torch.no_grad():
            fake = generator(data["fused_condition"])
        real_logits = discriminator(data["image"], data["own_condition"])
        fake_logits = discriminator(fake, data["fused_condition"])
        loss = 0.5 * ((real_logits - 1) ** 2).mean() + 0.5 * (fake_logits**2).mean()
        loss.backward()
        step_d.step()
        loss.item()
        yield
        data = batch(size)
        discriminator.requires_grad_(False)
        step_g.zero_grad()
        loss = ((discriminator(generator(data["fused_condition"]), data["fused_condition"]) - 1) ** 2).mean()
        loss.backward()
        step_g.step()
        discriminator.requires_grad_(True)
        loss.item()
        yield


def ours(size: tuple[int, ...], maps: int) -> Iterator[None]:
    """The engine, one iteration a step."""
    from mrsynth.adversarial import Alternating, LeastSquares, TransplantRound, TwoPlayerTrainer

    generator, discriminator, step_g, step_d = networks(maps)
    trainer = TwoPlayerTrainer(
        "cpu", 1, [None], generator, discriminator, step_g, step_d, LeastSquares(), TransplantRound(), Alternating()
    )
    while True:
        trainer.state.iteration += 1
        trainer._iteration(trainer, batch(size))
        yield


def main(size: str = "96,96,32", maps: int = 32, steps: int = 6) -> None:
    """Print the comparison.

    Args:
        size: X,Y,Z of the grid.
        maps: feature maps of the first level.
        steps: timed steps of each, after two that are not counted.
    """
    size = ",".join(map(str, size)) if not isinstance(size, str) else size
    command = [sys.executable, __file__, "worker"]
    rows = take_turns({way: [*command, way, size, str(maps)] for way in ("ours", "bare")}, steps, 2)
    report(rows, "one move", "a step")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        ways = {"bare": bare, "ours": ours}
        answer(ways[sys.argv[2]](tuple(int(n) for n in sys.argv[3].split(",")), int(sys.argv[4])))
    else:
        fire.Fire(main)
