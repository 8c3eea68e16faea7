"""A segmenter's run: it ends at its last iteration, goes on where it stopped, and starts from others' weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.transforms import Randomizable, Transform
from torch import nn
from torch.utils.data import DataLoader

from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.settings import Settings
from mrsynth.training import (
    PatchSampler,
    Precision,
    SeededDataset,
    SegmentationTrainer,
    initialize,
    read_safely,
    run_handlers,
    save_weights,
)
from mrsynth.training.checkpoint import read_records

LENGTH = 3
"""Iterations of an epoch: six patches, two at a time."""


class Noise(Randomizable, Transform):
    """A patch of noise in which what is bright is the foreground."""

    def __call__(self, data: dict) -> dict:
        image = torch.from_numpy(self.R.normal(size=(1, 4, 4, 4))).float()
        return {"image": image, "label": (image > 0).to(torch.uint8)}


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 1), nn.LeakyReLU(), nn.Dropout3d(0.2), nn.Conv3d(4, 2, 1))


def cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, label[:, 0].long())


def segmenter(
    folder: Path,
    max_iterations: int | None = None,
    max_epochs: int = 2,
    loss: Callable = cross_entropy,
    learning_rate: float = 0.1,
    gradient_clip: float | None = None,
    optimizer: type = torch.optim.AdamW,
    amp: str = "none",
    network: nn.Module | None = None,
    **options,
) -> SegmentationTrainer:
    """A run as a bundle's train.json makes it, of a network of 4 maps."""
    network = network or small_network()
    data = SeededDataset([{"subject": f"S{i}"} for i in range(4)], [], [Noise()], seed=3, cache="none")
    loader = DataLoader(data, sampler=PatchSampler(4, 2 * LENGTH, seed=3), batch_size=2, drop_last=True)
    moves = optimizer(network.parameters(), lr=learning_rate)
    iterations = max_iterations or max_epochs * len(loader)
    subjects = options.pop("subjects", {"training": [{"subject": f"S{i}"} for i in range(4)]})
    arguments = {name: options.pop(name) for name in ("validator", "initial") if name in options}
    settings = Settings({"iterations": iterations}, {"output_dir": str(folder), **options})
    return SegmentationTrainer(
        "cpu",
        max_epochs,
        loader,
        network,
        moves,
        loss,
        max_iterations=max_iterations,
        scheduler=torch.optim.lr_scheduler.PolynomialLR(moves, total_iters=iterations, power=0.9),
        precision=Precision(amp, "cpu"),
        gradient_clip=gradient_clip,
        seed=3,
        handlers=run_handlers(settings, subjects, network, **arguments),
    )


def weights(trainer: SegmentationTrainer) -> list[torch.Tensor]:
    return [value.detach().clone() for value in trainer.network.state_dict().values()]


def checkpoint(folder: Path) -> dict:
    return read_safely(folder / "models" / "checkpoint.pt", "")


@pytest.mark.parametrize(
    ("iterations", "epochs", "whole"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 2, 1), (6, 2, 2), (8, 3, 2)],
)
def test_a_run_ends_at_its_last_iteration_and_the_learning_rate_with_it(tmp_path, iterations, epochs, whole):
    run = segmenter(tmp_path, max_iterations=iterations, max_epochs=100)
    run.run()
    assert run.state.iteration == iterations and run.state.epoch == run.state.max_epochs == epochs
    steps = [float(state["step"]) for state in run.optimizer.state.values()]
    assert set(steps) == {iterations}
    assert run.scheduler.last_epoch == iterations and run.scheduler.get_last_lr() == [0.0]
    assert checkpoint(tmp_path)["run"]["epoch"] == whole
    rows = (tmp_path / "logs" / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + iterations


def test_without_a_number_of_iterations_the_epochs_count(tmp_path):
    run = segmenter(tmp_path, max_epochs=2)
    run.run()
    assert run.state.iteration == 2 * LENGTH and run.scheduler.get_last_lr() == [0.0]
    assert run.state.output == [{"loss": run.state.output[0]["loss"]}]


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True])
def test_less_than_an_iteration_is_refused(tmp_path, refused, wrong):
    with refused(expected="a whole number, 1 or more", found=repr(wrong), where="max_iterations"):
        segmenter(tmp_path, max_iterations=wrong)


def test_an_epoch_cut_short_is_validated_and_its_weights_kept_but_it_is_no_place_to_resume_from(tmp_path, fit):
    run = segmenter(tmp_path, max_iterations=5, validator=fit.Validator([0.2, 0.9]), validate_every=1)
    run.run()
    (record,) = [v for k, v in read_records(tmp_path / "models" / "model.pt").items() if v["epoch"] == 2]
    assert record["metrics"] == {"best_score": 0.9, "at_epoch": 2.0}
    kept = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(kept.values(), weights(run), strict=True))
    assert (
        checkpoint(tmp_path)["run"]["epoch"] == 1 and checkpoint(tmp_path)["run"]["best"]["model.pt"]["at_epoch"] == 1
    )
    again = segmenter(tmp_path, max_iterations=5, resume=True, validator=fit.Validator([0.9]))
    assert again.state.epoch == 1 and again.state.iteration == LENGTH
    again.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(run), strict=True))


def killed(at: int) -> Callable:
    """A loss that interrupts the run at iteration ``at``."""
    calls = []

    def loss(logits, label):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return cross_entropy(logits, label)

    return loss


@pytest.mark.parametrize("at", [5, 8], ids=["in a whole epoch", "in the epoch cut short"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one_to_the_byte(tmp_path, fit, at):
    scores = [0.1, 0.3, 0.2]
    segmenter(tmp_path / "whole", 8, validator=fit.Validator(scores)).run()
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        segmenter(stopped, 8, loss=killed(at), validator=fit.Validator(scores)).run()
    resumed = segmenter(stopped, 8, resume=True, validator=fit.Validator(scores[(at - 1) // LENGTH :]))
    assert resumed.state.iteration == (at - 1) // LENGTH * LENGTH
    resumed.run()
    for name in ("models/model.pt", "models/model.json", "models/checkpoint.pt", "logs/history.csv"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    moments = checkpoint(stopped)["objects"]["optimizer"]["state"]
    assert all(float(state["step"]) == 2 * LENGTH and state["exp_avg_sq"].abs().sum() > 0 for state in moments.values())


def test_a_complete_run_says_how_to_train_on(tmp_path, capsys):
    segmenter(tmp_path, 3).run()
    again = segmenter(tmp_path, 3, resume=True)
    again.run()
    assert "complete: fine-tune its weights (--initial_weights)" in capsys.readouterr().out
    assert again.state.iteration == 3


def test_another_number_of_iterations_is_another_schedule_and_refused(tmp_path, refused):
    segmenter(tmp_path, 3).run()
    with refused(expected="'iterations': 3", found="'iterations': 9", do="without --resume"):
        segmenter(tmp_path, 9, resume=True)


def moved(folder: Path, clip: float | None) -> float:
    """Length of one step of plain gradient descent with learning rate 1."""
    before = torch.cat([value.flatten() for value in small_network().state_dict().values()])
    run = segmenter(folder, 1, learning_rate=1.0, gradient_clip=clip, optimizer=torch.optim.SGD)
    run.run()
    return float((torch.cat([value.flatten() for value in weights(run)]) - before).norm())


def test_the_gradient_is_cut_to_its_greatest_norm(tmp_path):
    free = moved(tmp_path / "free", None)
    assert free > 0.05
    assert moved(tmp_path / "clipped", free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert moved(tmp_path / "spared", free * 10) == pytest.approx(free, rel=1e-6)


def test_the_loss_is_computed_in_float32_whatever_the_precision(tmp_path):
    inside, given = [], []
    network = small_network()
    network.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))

    def loss(logits, label):
        given.append(logits.dtype)
        return cross_entropy(logits, label)

    segmenter(tmp_path, 1, loss=loss, amp="bf16", network=network).run()
    assert inside == [torch.bfloat16] and given == [torch.float32]


def test_a_loss_that_is_not_finite_stops_the_run_and_spoils_nothing(tmp_path, refused):
    factors = iter([1, 1, 1, 1, float("inf")])

    def loss(logits, label):
        return cross_entropy(logits, label) * next(factors)

    with refused(expected="finite losses", found="iteration 5", do="learning_rate"):
        segmenter(tmp_path, 8, loss=loss).run()
    assert all(torch.isfinite(v).all() for v in checkpoint(tmp_path)["objects"]["network"].values())


@pytest.fixture
def trained(tmp_path) -> Path:
    """Weights of other subjects, made by a run."""
    training = [{"subject": "A", "patient": "P"}, {"subject": "B", "derived_from": ["B's parent"]}]
    subjects = {"training": training, "validation": [{"subject": "Z", "patient": "Q"}]}
    segmenter(tmp_path / "first", 3, subjects=subjects).run()
    return tmp_path / "first" / "models" / "model.pt"


def test_fine_tuning_starts_from_the_weights_and_inherits_their_subjects(tmp_path, trained):
    network = small_network()
    parents = initialize(network, trained, [{"subject": "S7"}, {"subject": "S8", "patient": "Q"}])
    assert parents == {"subjects": ["A", "B", "B's parent"], "patients": {"A": "P"}, "fingerprints": {}}
    assert network.training
    stored = torch.load(trained, weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), stored.values(), strict=True))
    second, subjects = tmp_path / "second" / "models" / "model.pt", {"training": [{"subject": "S0"}]}
    segmenter(tmp_path / "second", 2, network=network, subjects=subjects, initial=parents).run()
    record = json.loads(second.with_suffix(".json").read_text())[sha256(second)]
    assert record["subjects"] == ["A", "B", "B's parent", "S0"]
    for item in ({"subject": "B's parent"}, {"subject": "A again", "patient": "P"}):  # a grandchild too
        with pytest.raises(UserError, match=item["subject"]):
            initialize(small_network(), second, [item])


def test_without_weights_the_network_stays_as_it_is():
    network, before = small_network(), small_network().state_dict()
    assert initialize(network, None, [{"subject": "A"}]) == {"subjects": [], "patients": {}, "fingerprints": {}}
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_weights_that_have_seen_a_held_out_subject_are_refused(trained, refused):
    with refused(expected="have not seen", found="B", where=str(trained)):
        initialize(small_network(), trained, [{"subject": "B"}, {"subject": "Z"}])


def test_weights_that_have_seen_another_scan_of_a_held_out_patient_are_refused(trained, refused):
    with refused(found="A again", where=str(trained)):
        initialize(small_network(), trained, [{"subject": "A again", "patient": "P"}])


def test_weights_of_another_network_or_of_nobody_are_refused(tmp_path, trained, refused):
    with refused(expected="weights of this network", where=str(trained)):
        initialize(nn.Sequential(nn.Conv3d(1, 8, 1)), trained)
    with refused(found="no such file", where="gone.pt", do="give the model.pt of another training"):
        initialize(small_network(), tmp_path / "gone.pt")
    save_weights(small_network(), tmp_path / "orphan.pt", {"subjects": ["A"]})
    (tmp_path / "orphan.json").unlink()
    with refused(expected="on which subjects", where="orphan.json"):
        initialize(small_network(), tmp_path / "orphan.pt")
