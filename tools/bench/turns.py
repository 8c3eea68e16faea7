"""Two ways of doing the same, each in a process of its own, that take turns: a noisy machine slows both alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

Rows = Mapping[str, Sequence[tuple[float, float]]]
"""By way: seconds and peak memory in MB, turn by turn."""


def answer(steps: Iterator[None]) -> None:
    """In a worker: advance a step for each line on standard input; answer with its seconds and peak memory in MB.

    All other output, that of child processes too, goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for _ in sys.stdin:
        start = time.perf_counter()
        next(steps)
        taken = time.perf_counter() - start
        print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=answers, flush=True)


def take_turns(
    commands: Mapping[str, Sequence[str]], steps: int, warm_up: int, environment: Mapping[str, str] | None = None
) -> Rows:
    """Let the workers of ``commands`` advance in turn, ``steps`` times after ``warm_up`` that are not counted.

    Args:
        commands: of each way's process.
        steps, warm_up: turns.
        environment: variables for all of them, beside this process's own.
    """
    variables = {**os.environ, **(environment or {})}
    processes = {
        way: subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=variables)
        for way, command in commands.items()
    }
    rows: dict[str, list[tuple[float, float]]] = {way: [] for way in processes}
    for _ in range(steps + warm_up):
        for way, process in processes.items():
            process.stdin.write("step\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            taken, memory = process.stdout.readline().split()  # type: ignore[union-attr]
            rows[way].append((float(taken), float(memory)))
    for process in processes.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    return {way: values[warm_up:] for way, values in rows.items()}


def report(rows: Rows, name: str, unit: str, share: int = 1) -> None:
    """Print the median of each way, and of the paired ratios of the first to the second.

    Args:
        rows: of :func:`take_turns`, two ways.
        name: of what was done.
        unit: such as "a step".
        share: a turn is so many units.
    """
    (first, ones), (second, others) = rows.items()
    for way, values in rows.items():
        median = statistics.median(v[0] for v in values) / share
        print(f"{name}, {way}: {median * 1000:8.1f} ms {unit}, peak {values[-1][1]:6.0f} MB")
    ratio = statistics.median(a[0] / b[0] for a, b in zip(ones, others, strict=True))
    print(
        f"{name}, {first} / {second}: {ratio:.3f} in time, {ones[-1][1] / others[-1][1]:.3f} in peak memory", flush=True
    )
