"""The subjects of a cohort, made in this process or shared out among several (`mrsynth.phantom.worker`)."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from tqdm import tqdm

from mrsynth.errors import UserError


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that is neither None nor 1 or more.

    Raises:
        UserError: that.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UserError("a whole number, 1 or more", repr(workers), "workers", "leave it out to use every core")


def make_all(write: Callable[[int], None], indices: list[int], workers: int | None, words: str) -> None:
    """Call ``write`` on each of ``indices``.

    Args:
        write: makes and writes one subject. For several processes it must be picklable: a function of a module, or
            a `functools.partial` of one.
        indices: of the subjects.
        workers: processes; None for one for each core this process may use, as far as it pays.
        words: what the progress bar says.

    Raises:
        UserError: what ``write`` raises, in this process or another. The other processes are stopped.
        RuntimeError: a process ended otherwise.
    """
    workers = min(workers or _sensible_workers(len(indices)), len(indices))
    with tqdm(total=len(indices), desc=words, unit="subject", leave=False) as bar:
        if workers <= 1:
            for index in indices:
                write(index)
                bar.update()
            return
        children: list[subprocess.Popen] = []
        with ThreadPoolExecutor(workers) as pool:
            try:
                for first in range(workers):
                    children.append(_start(write, indices[first::workers]))
                for answer in as_completed([pool.submit(_follow, child, bar) for child in children]):
                    answer.result()
            finally:  # also when one failed: the others are stopped before their threads are awaited
                for child in children:
                    child.terminate()
                for child in children:
                    child.wait()


def _sensible_workers(subjects: int) -> int:
    """One for each core, but to start one takes longer than to make a subject, and each needs 1 GB of memory.

    Measured at their largest: 0.9 GB for a brain of 1 mm; 0.6 GB for breasts of matrix 256, 1.1 GB of 512.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 16, subjects // 2))


def _start(write: Callable[[int], None], indices: list[int]) -> subprocess.Popen:
    """A worker that is told on its standard input what to do."""
    # Plain child processes rather than multiprocessing's: those would import the caller's main module again
    # (seconds, and endless where it lacks a guard) and cannot be started from a data loader's worker.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryFile() as task:
        pickle.dump((write, indices), task)
        task.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "mrsynth.phantom.worker"],
            env=environment,
            stdin=task,
            stdout=subprocess.PIPE,
            text=True,
        )


def _follow(child: subprocess.Popen, bar: tqdm) -> None:
    """Read what a worker reports until it ends; raise what it raised."""
    problem: dict[str, str] | None = None
    with child:
        for line in child.stdout or ():
            report = json.loads(line)
            if "error" in report:
                problem = report["error"]
            else:
                bar.update()
    if problem is not None:
        raise UserError(**problem)
    if child.returncode != 0:
        raise RuntimeError(f"a worker that makes phantom subjects ended with status {child.returncode}; see above")
