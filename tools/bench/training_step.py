"""One iteration of TwoPlayerTrainer against a bare PyTorch loop of the same networks, in time and peak memory.

    python tools/bench/training_step.py [--size 96,96,32] [--maps 32] [--steps 6]

The thesis's game (least squares, strict turns) in float32 at batch 1. Two processes, one for each way, advance in
turn step by step, so that a noisy machine slows both alike; the median of the paired ratios ours / bare is printed,
and the ratio of the processes' peak memory.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fire
import torch

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d"


def networks(maps: int) -> tuple:
    """Generator, critic and their optimisers, the same in both processes."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.networks import PatchCritic, UNetGenerator

    torch.manual_seed(0)
    generator, critic = UNetGenerator(feature_maps=maps), PatchCritic(feature_maps=maps)
    adam = [torch.optim.Adam(n.parameters(), lr=1e-4) for n in (generator, critic)]
    return generator, critic, *adam


def batch(size: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """One batch of noise and labels."""
    torch.manual_seed(1)
    labels = [torch.randint(0, 3, (1, 1, *size)).float() for _ in range(2)]
    return {"image": torch.randn(1, 4, *size).tanh(), "own_condition": labels[0], "fused_condition": labels[1]}


def bare(size: tuple[int, ...], maps: int) -> Iterator[None]:
    """The loop as one would write it without a framework; one move a step."""
    generator, critic, step_g, step_d = networks(maps)
    while True:
        data = batch(size)
        step_d.zero_grad()
        with torch.no_grad():
            fake = generator(data["fused_condition"])
        real_logits = critic(data["image"], data["own_condition"])
        fake_logits = critic(fake, data["fused_condition"])
        loss = 0.5 * ((real_logits - 1) ** 2).mean() + 0.5 * (fake_logits**2).mean()
        loss.backward()
        step_d.step()
        loss.item()
        yield
        data = batch(size)
        critic.requires_grad_(False)
        step_g.zero_grad()
        loss = ((critic(generator(data["fused_condition"]), data["fused_condition"]) - 1) ** 2).mean()
        loss.backward()
        step_g.step()
        critic.requires_grad_(True)
        loss.item()
        yield


def ours(size: tuple[int, ...], maps: int) -> Iterator[None]:
    """The engine, one iteration a step."""
    from mrsynth.adversarial import Alternating, LeastSquares, TransplantRound, TwoPlayerTrainer

    generator, critic, step_g, step_d = networks(maps)
    trainer = TwoPlayerTrainer(
        "cpu", 1, [None], generator, critic, step_g, step_d, LeastSquares(), TransplantRound(), Alternating()
    )
    while True:
        trainer.state.iteration += 1
        trainer._iteration(trainer, batch(size))
        yield


def worker(way: str, size: str, maps: int) -> None:
    """Advance one step for each line on standard input, and answer with its seconds and the peak memory in MB."""
    steps = {"bare": bare, "ours": ours}[way](tuple(int(n) for n in size.split(",")), maps)
    for _ in sys.stdin:
        start = time.perf_counter()
        next(steps)
        taken = time.perf_counter() - start
        print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def main(size: str = "96,96,32", maps: int = 32, steps: int = 6) -> None:
    """Print the comparison.

    Args:
        size: X,Y,Z of the grid.
        maps: feature maps of the first level.
        steps: timed steps of each, after two that are not counted.
    """
    size = ",".join(map(str, size)) if not isinstance(size, str) else size
    command = [sys.executable, __file__, "worker"]
    processes = {
        way: subprocess.Popen([*command, way, size, str(maps)], stdin=-1, stdout=-1, text=True)
        for way in ("bare", "ours")
    }
    rows: dict[str, list[tuple[float, float]]] = {way: [] for way in processes}
    for _ in range(steps + 2):
        for way, process in processes.items():
            process.stdin.write("step\n")
            process.stdin.flush()
            taken, memory = process.stdout.readline().split()
            rows[way].append((float(taken), float(memory)))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    for way, values in rows.items():
        median = statistics.median(v[0] for v in values[2:])
        print(f"{way}: {median * 1000:8.0f} ms a step, peak {values[-1][1]:6.0f} MB")
    ratio = statistics.median(a[0] / b[0] for a, b in zip(rows["ours"][2:], rows["bare"][2:], strict=True))
    print(f"ours / bare: {ratio:.3f} in time, {rows['ours'][-1][1] / rows['bare'][-1][1]:.3f} in peak memory")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        fire.Fire(main)
