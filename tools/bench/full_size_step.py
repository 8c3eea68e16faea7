"""The thesis's training at full size on a GPU: time of a pair of moves and peak memory.

    python tools/bench/full_size_step.py [--steps 20]

4 x 240 x 240 x 64, batch 1, 64 maps, spectral norm on both, as ``paper.json``, in four ways (float32 or bf16, with and
without activation checkpointing), each in turn in the same run. A pair is one discriminator and one generator move. The
thesis names 30 GB and 240 h for 94,720 pairs, 9.1 s a pair, on a V100; 28.7 TFLOP a pair bound the time from below.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import fire
import torch

from mrsynth.adversarial import Alternating, LeastSquares, TransplantRound, TwoPlayerTrainer
from mrsynth.training import Precision

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d"
SIZE = (240, 240, 64)
TERAFLOP, THESIS_SECONDS, THESIS_GB = 28.7, 9.1, 30


def trainer(amp: str, checkpointing: bool) -> TwoPlayerTrainer:
    """The engine with the thesis's networks."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.networks import PatchDiscriminator, UNetGenerator

    options = {"spectral_norm": True, "checkpointing": checkpointing}
    nets = [
        net(**options).to("cuda", memory_format=torch.channels_last_3d) for net in (UNetGenerator, PatchDiscriminator)
    ]
    adam = [torch.optim.Adam(net.parameters(), lr=1e-4) for net in nets]
    precision = Precision(amp, "cuda")
    return TwoPlayerTrainer(
        "cuda", 1, [None], *nets, *adam, LeastSquares(), TransplantRound(), Alternating(), precision=precision
    )


def measure(amp: str, checkpointing: bool, steps: int) -> tuple[float, float]:
    """Median seconds of a pair of moves, and peak memory in GB."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    game = trainer(amp, checkpointing)
    labels = [torch.randint(0, 3, (1, 1, *SIZE)).float() for _ in range(2)]
    batch = {"image": torch.randn(1, 4, *SIZE).tanh(), "own_condition": labels[0], "fused_condition": labels[1]}
    batch = {name: value.cuda() for name, value in batch.items()}
    times = []
    for step in range(steps + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(2):
            game.state.iteration += 1
            game._iteration(game, batch)
        end.record()
        torch.cuda.synchronize()
        if step >= 3:
            times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times), torch.cuda.max_memory_allocated() / 1e9


def main(steps: int = 20) -> None:
    """Print the table.

    Args:
        steps: timed pairs of moves of each way, after three that are not counted.
    """
    if not torch.cuda.is_available():
        raise SystemExit("not measured: this script needs a GPU")
    torch.backends.cudnn.benchmark = True
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        a @ a
    start.record()
    for _ in range(10):
        a @ a
    end.record()
    torch.cuda.synchronize()
    rate = 10 * 2 * 8192**3 / (start.elapsed_time(end) / 1000) / 1e12
    floor = TERAFLOP / rate
    print(f"{torch.cuda.get_device_name()}: bf16 matrix product {rate:.0f} TFLOP/s; floor {floor * 1000:.0f} ms a pair")
    for amp in ("none", "bf16"):
        for checkpointing in (False, True):
            seconds, memory = measure(amp, checkpointing, steps)
            print(
                f"{amp:5s} checkpointing {checkpointing!s:5s} {seconds * 1000:8.0f} ms a pair "
                f"({seconds / floor:.1f} of the floor, {seconds / THESIS_SECONDS:.3f} of the thesis), "
                f"peak {memory:.1f} GB ({memory / THESIS_GB:.2f} of the thesis)"
            )


if __name__ == "__main__":
    fire.Fire(main)
