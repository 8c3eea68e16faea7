"""Images a second of flair2d's training in one process and in several, at the same global batch.

    python tools/bench/processes.py [--processes 2] [--batch 8] [--width 0.25] [--steps 8] [--rounds 3]

Each round starts one process that has all cores (or the first GPU), then ``processes`` that share them (or have a GPU
each), under torchrun; both play the game on batches already in memory. The median of the rounds' ratios is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import fire
import torch

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "flair2d"


def worker(batch: int, width: float, steps: int) -> None:
    """This rank's share of the game; rank 0 prints the seconds of a step."""
    from mrsynth.adversarial import LatentRound, NonSaturating, TwoPlayerTrainer
    from mrsynth.training import local_device, rank, start, stop, world_size

    sys.path.insert(0, str(BUNDLE))
    from scripts.networks import Discriminator, Generator

    start()
    device = local_device()
    torch.manual_seed(0)
    players = [Generator(dropout=0.0, width=width), Discriminator(width=width)]
    players = [network.to(device, memory_format=torch.channels_last) for network in players]
    adam = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in players]
    real = {"image": torch.rand(batch // world_size(), 3, 256, 256) * 2 - 1}
    trainer = TwoPlayerTrainer(device, 1, [real], *players, *adam, NonSaturating(), LatentRound(128))
    taken = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        trainer.state.iteration += 1
        trainer._iteration(trainer, real)
        taken.append(time.perf_counter() - began)
    if rank() == 0:
        print(f"seconds {median(taken[2:])}", flush=True)
    stop()


def main(processes: int = 2, batch: int = 8, width: float = 0.25, steps: int = 8, rounds: int = 3) -> None:
    """Print the comparison.

    Args:
        processes: of the second way; ``batch`` is a multiple of it.
        batch: images of a step, over all processes.
        width: of the networks; 1 is the poster's.
        steps: timed steps of each round, after two that are not counted.
        rounds: of both ways in turn.
    """
    if batch % processes:
        raise SystemExit(f"batch {batch} is no multiple of {processes} processes")
    ways: dict[int, list[float]] = {1: [], processes: []}
    for _ in range(rounds):
        for count, found in ways.items():
            run = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
            threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
            command = [sys.executable, *run, __file__, "worker", str(batch), str(width), str(steps)]
            said = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
            if said.returncode != 0:
                raise SystemExit(said.stderr)
            found.append(float(said.stdout.split("seconds ")[1].split()[0]))
    for count, found in ways.items():
        print(f"{count} processes on {os.cpu_count()} cores: {batch / median(found):7.2f} images a second")
    ratio = median(a / b for a, b in zip(ways[1], ways[processes], strict=True))
    print(f"{processes} processes against 1: {ratio:.2f} times the images a second", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        worker(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        fire.Fire(main)
