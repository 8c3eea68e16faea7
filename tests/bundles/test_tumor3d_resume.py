"""A training process killed at its worst moments, and resumed, ends where an uninterrupted one ends, to the bit.

With flips, donor draws, a moving average, validation and two worker processes; and with none of these workers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.bundles.interruption import finish, killed, read, unlike

pytestmark = pytest.mark.slow

SETTINGS = {
    "spatial_size": "[24,24,16]",  # X not 16: oneDNN's bfloat16 gradients are wrong where a level is 2 voxels wide
    "feature_maps": "4",
    "discriminator_feature_maps": "4",
    "max_epochs": "4",
    "min_kept": "0.5",
    "validate_every": "1",
    "montage_every": "4",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def train(start_bundle: Callable, subjects_dir: Path) -> Callable:
    """Start training into a folder; ``workers`` load the subjects."""

    def start(output: Path, workers: int = 2, resume: bool = False, **environment: str):
        options = {"dataset_dir": str(subjects_dir), "output_dir": str(output), "num_workers": str(workers)}
        options |= SETTINGS | ({"resume": "true"} if resume else {})
        return start_bundle("tumor3d", *[x for k, v in options.items() for x in (f"--{k}", v)], **environment)

    return start


@pytest.fixture(scope="module")
def uninterrupted(train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    finish(train(output))
    return output


def test_a_run_killed_in_mid_epoch_and_while_writing_a_checkpoint_ends_as_if_it_had_not_been(
    train, uninterrupted, tmp_path
):
    output = tmp_path / "out"
    # four subjects: 8 optimizer steps an epoch, so step 13 is the discriminator's in the middle of the second epoch
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
