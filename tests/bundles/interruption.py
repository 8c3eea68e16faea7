"""Processes of a training killed at their worst moments, and the comparison of what two runs left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

PAUSE = '''
"""Python runs this first: it stops the process for good at the moment that PAUSE_AT names, and says so by a file."""
import io, os, time
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

kind, number = os.environ["PAUSE_AT"].split()
save, steps = torch.save, []

def pause():
    open(os.environ["PAUSED"], "w").close()
    time.sleep(600)

def count(*arguments):
    steps.append(1)
    if len(steps) == int(number):
        pause()

def slow_save(content, stream, **options):
    if isinstance(content, dict) and content.get("run", {}).get("epoch") == int(number):
        whole = io.BytesIO()
        save(content, whole)
        stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        stream.flush()
        pause()
    return save(content, stream, **options)

if kind == "step":
    register_optimizer_step_pre_hook(count)
else:
    torch.save = slow_save
'''


def finish(process: subprocess.Popen) -> str:
    """What a process said, which must end well."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-4000:]
    return said


def read(output: Path) -> dict:
    """The checkpoint of a run."""
    return torch.load(output / "models" / "checkpoint.pt", weights_only=True)


def killed(train: Callable, folder: Path, output: Path, moment: str, resume: bool) -> None:
    """Start, wait for the ``moment``, and kill -9.

    Args:
        train: called with the output folder, ``resume`` and environment variables; starts the process.
        folder: for what the process needs besides.
        output: of the run.
        moment: ``step N``, before the N-th step of any optimizer; ``checkpoint N``, half of that epoch's being written.
        resume: whether the run goes on from what is there.
    """
    (folder / "sitecustomize.py").write_text(PAUSE)
    paused = folder / f"paused at {moment}"
    path = os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH")) if part)
    process = train(output, resume=resume, PYTHONPATH=path, PAUSE_AT=moment, PAUSED=str(paused))
    deadline = time.monotonic() + 200
    while not paused.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0][-4000:]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # its workers notice within seconds
    assert process.returncode == -signal.SIGKILL


def unlike(a: object, b: object, where: str = "") -> list[str]:
    """Where two nested states differ, to the bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in unlike(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in unlike(*pair, f"{where}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        return [] if same else [where]
    return [] if a == b else [where]
