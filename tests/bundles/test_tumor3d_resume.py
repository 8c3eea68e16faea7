"""A training process killed at its worst moments, and resumed, ends where an uninterrupted one ends, to the bit.

With flips, donor draws, a moving average, validation and two worker processes; and with none of these workers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SETTINGS = {
    "spatial_size": "[24,24,16]",  # X not 16: oneDNN's bfloat16 gradients are wrong where a level is 2 voxels wide
    "feature_maps": "4",
    "critic_feature_maps": "4",
    "max_epochs": "4",
    "min_kept": "0.5",
    "validate_every": "1",
    "montage_every": "4",
    "device": "cpu",
}

PAUSE = '''
"""Python runs this first: it stops the process for good at the moment that PAUSE_AT names, and says so by a file."""
import io, os, time
import torch

kind, number = os.environ["PAUSE_AT"].split()
save, step, steps = torch.save, torch.optim.Adam.step, []

def pause():
    open(os.environ["PAUSED"], "w").close()
    time.sleep(600)

def slow_step(*arguments, **options):
    steps.append(1)
    if len(steps) == int(number):
        pause()
    return step(*arguments, **options)

def slow_save(content, stream, **options):
    if isinstance(content, dict) and content.get("run", {}).get("epoch") == int(number):
        whole = io.BytesIO()
        save(content, whole)
        stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        stream.flush()
        pause()
    return save(content, stream, **options)

if kind == "step":
    torch.optim.Adam.step = slow_step
else:
    torch.save = slow_save
'''


@pytest.fixture(scope="module")
def train(start_bundle: Callable, subjects_dir: Path) -> Callable:
    """Start training into a folder; ``workers`` load the subjects."""

    def start(output: Path, workers: int = 2, resume: bool = False, **environment: str):
        options = {"dataset_dir": str(subjects_dir), "output_dir": str(output), "num_workers": str(workers)}
        options |= SETTINGS | ({"resume": "true"} if resume else {})
        return start_bundle("tumor3d", *[x for k, v in options.items() for x in (f"--{k}", v)], **environment)

    return start


def finish(process) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-4000:]
    return said


def read(output: Path) -> dict:
    return torch.load(output / "models" / "checkpoint.pt", weights_only=True)


def killed(train: Callable, folder: Path, output: Path, moment: str, resume: bool) -> None:
    """Start, wait for the ``moment``, and kill -9."""
    (folder / "sitecustomize.py").write_text(PAUSE)
    paused = folder / f"paused at {moment}"
    process = train(output, resume=resume, PYTHONPATH=str(folder), PAUSE_AT=moment, PAUSED=str(paused))
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


@pytest.fixture(scope="module")
def uninterrupted(train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    finish(train(output))
    return output


def test_a_run_killed_in_mid_epoch_and_while_writing_a_checkpoint_ends_as_if_it_had_not_been(
    train, uninterrupted, tmp_path
):
    output = tmp_path / "out"
    # four subjects train: 8 steps of the optimisers an epoch, so the 13th is the critic's in the middle of the second
    killed(train, tmp_path, output, "step 13", resume=False)
    assert read(output)["run"]["epoch"] == 1
    killed(train, tmp_path, output, "checkpoint 3", resume=True)
    assert read(output)["run"]["epoch"] == 2  # whole, beside the half of the third
    assert len(list((output / "models").glob(".tmp-*.pt"))) == 1

    said = finish(train(output, resume=True))
    assert "Resumed after epoch 2 of 4" in said
    found, expected = read(output), read(uninterrupted)
    assert set(expected["objects"]) >= {
        "network",
        "discriminator",
        "ema",
        "generator_optimizer",
        "discriminator_optimizer",
    }
    assert unlike(found, expected) == []
    assert not list(output.rglob(".tmp-*"))
    for name in ("models/checkpoint.pt", "models/model.pt", "models/model.json", "logs/history.csv"):
        assert (output / name).read_bytes() == (uninterrupted / name).read_bytes(), name


def test_without_workers_the_same_comes_out(train, uninterrupted, tmp_path):
    finish(train(tmp_path, workers=0))
    assert unlike(read(tmp_path), read(uninterrupted)) == []


def test_the_states_are_those_of_a_run_that_has_learned(uninterrupted):
    """Lest the comparison above be one of nothing with nothing."""
    content = read(uninterrupted)
    moments = content["objects"]["generator_optimizer"]["state"]
    assert all(float(state["step"]) == 16 and state["exp_avg_sq"].abs().sum() > 0 for state in moments.values())
    network, average = content["objects"]["network"], content["objects"]["ema"]
    assert any(not torch.equal(network[key], average[key]) for key in network)
    assert content["run"]["epoch"] == 4 and len(content["run"]["subjects"]) == 4
