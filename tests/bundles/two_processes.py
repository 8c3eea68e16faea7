"""A command in two processes of one machine, and what each of them left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch


def torchrun(*command: str, folder: Path) -> str:
    """Run ``command`` in two processes without a GPU; gives what they said."""
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    return ended.stdout


def left_by(output: Path, rank: int) -> dict:
    """The file that process ``rank`` wrote into ``output``."""
    return torch.load(output / f"rank{rank}.pt", weights_only=True)
