"""What surrounds a run: resuming, what it writes, and what stops it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from matplotlib.image import imread

from mrsynth.errors import UserError
from mrsynth.training import choose_device, load_checkpoint, read_safely, start
from mrsynth.training.checkpoint import read_records
from mrsynth.training.montage import Montage, MontageRow


def state(run) -> list[torch.Tensor]:
    adam = run.optimizer.state_dict()["state"]
    return [*run.network.state_dict().values(), *(v for s in adam.values() for v in s.values())]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(state(a), state(b), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_and_ends_with_what_an_uninterrupted_one_does(fit, tmp_path, workers):
    whole = fit(tmp_path / "whole", 4)
    whole.run()
    first = fit(tmp_path / "parts", 2, workers=workers)
    first.run()
    second = fit(tmp_path / "parts", 4, resume=True, workers=workers)
    second.run()
    assert first.seen + second.seen == whole.seen
    assert equal(second, whole) and not equal(first, whole)
    assert len({drawn for _, _, drawn in whole.seen}) == 20


def test_what_was_done_after_the_last_checkpoint_is_done_again(fit, tmp_path):
    def die(engine, error):
        if engine.state.iteration == 13:  # in the third epoch
            raise KeyboardInterrupt
        return error.square().mean()

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, 4, loss=die).run()
    resumed = fit(tmp_path, 4, resume=True)
    assert resumed.state.epoch == 2 and resumed.state.iteration == 10
    resumed.run()
    whole = fit(tmp_path / "whole", 4)
    whole.run()
    assert equal(resumed, whole)
    rows = list(csv.DictReader((tmp_path / "logs" / "history.csv").open()))
    assert [int(row["iteration"]) for row in rows] == list(range(1, 21))


def test_a_complete_run_says_so_and_raising_the_epochs_goes_on(fit, tmp_path, capsys):
    fit(tmp_path, 2).run()
    again = fit(tmp_path, 2, resume=True)
    again.run()
    assert "complete" in capsys.readouterr().out and not again.seen
    fit(tmp_path, 3, resume=True).run()
    assert read_safely(tmp_path / "models" / "checkpoint.pt", "")["run"]["epoch"] == 3


def test_with_nothing_to_resume_it_starts_and_says_so(fit, tmp_path, capsys):
    run = fit(tmp_path, 1, resume=True)
    run.run()
    assert "Nothing to resume" in capsys.readouterr().out and len(run.seen) == 5


def test_a_new_run_keeps_the_last_ones_checkpoint_aside(fit, tmp_path):
    fit(tmp_path, 1).run()
    old = (tmp_path / "models" / "checkpoint.pt").read_bytes()
    fit(tmp_path, 1)
    assert (tmp_path / "models" / "checkpoint.previous.pt").read_bytes() == old


def test_leftovers_of_a_killed_process_are_removed(fit, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".tmp-half.pt").write_bytes(b"half")
    fit(tmp_path, 1).run()
    assert not [p for p in tmp_path.rglob(".tmp-*")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"settings": {"seed": 4}}, "'seed': 3"), ({"subjects": ["S0", "S9"]}, "S4")],
    ids=["settings", "subjects"],
)
def test_resuming_with_other_settings_or_subjects_is_refused(fit, tmp_path, refused, changed, said):
    fit(tmp_path, 1).run()
    with refused(expected=said, where="checkpoint.pt", do="without --resume"):
        fit(tmp_path, 2, resume=True, **changed)


def test_resuming_a_checkpoint_of_another_network_is_refused(fit, tmp_path, refused):
    fit(tmp_path, 1).run()
    with refused(expected="network", where="checkpoint.pt", do="without --resume"):
        fit(tmp_path, 2, resume=True, width=5)


def test_resuming_a_checkpoint_that_has_seen_the_test_part_is_refused(fit, tmp_path, refused):
    fit(tmp_path, 1).run()
    with refused(expected="not seen", found="S3", where="checkpoint.pt"):
        fit(tmp_path, 2, resume=True, test_subjects=[{"subject": "S3"}, {"subject": "S7"}])


def test_resuming_a_checkpoint_that_has_seen_another_scan_of_a_test_patient_is_refused(fit, tmp_path, refused):
    fit(tmp_path, 1, patients={"S3": "P", "S9": "Q"}).run()
    with refused(expected="not seen", found="S8", where="checkpoint.pt"):
        fit(tmp_path, 2, resume=True, test_subjects=[{"subject": "S8", "patient": "P"}])
    fit(tmp_path, 2, resume=True, test_subjects=[{"subject": "S8", "patient": "Q"}])  # S9 was not trained on


def test_losses_that_are_not_finite_stop_the_run_and_the_checkpoint_is_sound(fit, tmp_path, refused):
    def diverge(engine, error):
        return error.square().mean() * (float("nan") if engine.state.iteration == 8 else 1.0)

    with refused(expected="finite", found="iteration 8", do="learning_rate"):
        fit(tmp_path, 4, loss=diverge).run()
    resumed = fit(tmp_path, 4, resume=True)
    assert resumed.state.epoch == 1 and all(torch.isfinite(v).all() for v in state(resumed))


def test_weights_that_are_not_finite_are_not_saved(fit, tmp_path, refused):
    """The last step of an epoch can spoil the weights although its loss was finite."""

    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("inf")

    def diverge(engine, error):
        error = Infinite.apply(error) if engine.state.iteration == 10 else error
        return error.square().mean()

    with refused(expected="finite", do="learning_rate"):
        fit(tmp_path, 4, loss=diverge).run()
    resumed = fit(tmp_path, 4, resume=True)
    assert resumed.state.epoch == 1 and all(torch.isfinite(v).all() for v in state(resumed))
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.isfinite(v).all() for v in weights.values())


def test_it_writes_below_its_folder_only_and_closes_by_naming_what_it_made(fit, tmp_path, capsys, monkeypatch):
    root = Path("bundles/brain2d").absolute()
    monkeypatch.chdir(tmp_path)
    rows = [MontageRow("real", torch.rand(2, 6, 6, 6).numpy() * 2 - 1, None, (1.0, 1.0, 1.0), (3, 3, 3))]

    def draw():
        return Montage(rows, ("t1", "t2"))

    draw.look_for = "sharp edges"
    fit(tmp_path / "out", 2, montage=draw, bundle_root=root).run()
    assert os.listdir(tmp_path) == ["out"]
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    events = {name for name in made if "tfevents" in name}
    assert len(events) == 1
    assert made - events == {
        "models/checkpoint.pt",
        "models/model.pt",
        "models/model.json",
        "models/run.lock",
        "logs/history.csv",
        "logs/curves.png",
        "logs/montage/epoch_00001.png",
        "logs/montage/epoch_00002.png",
    }
    for picture in ("logs/curves.png", "logs/montage/epoch_00002.png"):
        assert imread(tmp_path / "out" / picture).std() > 0.01
    said = capsys.readouterr().out
    for name in ("models/checkpoint.pt", "montage/epoch_00002.png", "curves.png", "logs"):
        assert name in said
    assert f"Look at:\n  {tmp_path / 'out' / 'logs' / 'montage' / 'epoch_00002.png'}\n  sharp edges" in said
    assert f"run synthesize --config_file {root}/configs/inference.json --output_dir {tmp_path / 'out'}" in said
    assert "epoch 2/2" in said and "loss" in said  # the bar


@pytest.mark.parametrize(("better", "best"), [("higher", 2), ("lower", 1)])
def test_the_weights_are_those_of_the_best_validated_epoch(fit, tmp_path, better, best):
    run = fit(tmp_path, 3, validator=fit.Validator([0.2, 0.9, 0.5], better=better))
    saved = {}

    @run.on(Events.EPOCH_COMPLETED)
    def _():
        saved[run.state.epoch] = [v.clone() for v in run.network.state_dict().values()]

    run.run()
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), saved[best], strict=True))


def test_the_best_so_far_survives_a_resume(fit, tmp_path):
    fit(tmp_path, 2, validator=fit.Validator([0.2, 0.9])).run()
    weights = (tmp_path / "models" / "model.pt").read_bytes()
    fit(tmp_path, 3, resume=True, validator=fit.Validator([0.5])).run()
    assert (tmp_path / "models" / "model.pt").read_bytes() == weights


def test_other_weights_are_those_of_the_epochs_best_by_another_metric(fit, tmp_path, capsys):
    def validator(*values):
        made = fit.Validator(*values, better="lower")
        made.also_best = {"model_b.pt": "other"}
        return made

    fit(tmp_path / "out", 3, validator=validator([0.2, 0.1, 0.5], [3.0, 2.0, 1.0])).run()
    models = tmp_path / "out" / "models"
    for name, epoch, metrics in (("model", 2, {"best_score": 0.1}), ("model_b", 3, {"best_other": 1.0})):
        (record,) = [v for v in read_records(models / f"{name}.pt").values() if v["epoch"] == epoch]
        assert record["metrics"] == {**metrics, "at_epoch": float(epoch)}
    assert (models / "model.pt").read_bytes() != (models / "model_b.pt").read_bytes()
    said = capsys.readouterr().out
    assert "model_b.pt" in said and "best_other 1" in said
    before = (models / "model_b.pt").read_bytes()
    fit(tmp_path / "out", 4, resume=True, validator=validator([0.05], [1.5])).run()
    assert (models / "model_b.pt").read_bytes() == before


def test_validation_comes_every_so_many_epochs_and_after_the_last(fit, tmp_path):
    validator = fit.Validator([0.1, 0.2, 0.3, 0.4])
    epochs = []
    run_once = validator.run
    validator.run = lambda epoch: (epochs.append(epoch), run_once(epoch))
    fit(tmp_path, 5, validator=validator, validate_every=2).run()
    assert epochs == [2, 4, 5]


def test_an_output_folder_that_cannot_be_written_is_refused(fit, tmp_path, refused):
    (tmp_path / "file").touch()
    with refused(expected="can be written", where="file/out/models", do="output_dir"):
        fit(tmp_path / "file" / "out", 1)


def test_the_checkpoint_is_read_without_running_code(fit, tmp_path):
    run = fit(tmp_path, 1)
    run.run()
    facts = load_checkpoint(tmp_path / "models" / "checkpoint.pt", run.objects_to_save())
    assert facts["subjects"] == [f"S{i}" for i in range(5)] and facts["epoch"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_asked_for_where_there_is_none_is_refused(refused):
    with refused(expected="cuda", found="not available", where="device", do="--device cpu"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")


def test_a_device_that_nobody_knows_is_refused(refused):
    with refused(expected="gpu", where="device"):
        choose_device("gpu")


def test_a_distributed_run_without_torchrun_is_refused(refused, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with refused(expected="torchrun", do="torchrun --standalone --nproc_per_node=2"):
        start()


def test_errors_of_a_run_close_its_bar_and_go_on_up(fit, tmp_path):
    def fail(engine, error):
        raise UserError("a", "b", "c", "d")

    with pytest.raises(UserError):
        fit(tmp_path, 1, loss=fail).run()


def test_a_resumed_run_refuses_another_optimizer(fit, tmp_path, refused):
    fit(tmp_path, 1).run()
    before = (tmp_path / "models" / "checkpoint.pt").read_bytes()
    with refused(expected="'lr': 0.01", found="'lr': 0.5", do="--resume"):
        fit(tmp_path, 2, resume=True, learning_rate=0.5)
    assert (tmp_path / "models" / "checkpoint.pt").read_bytes() == before
    fit(tmp_path, 2, resume=True).run()


def test_the_record_beside_the_weights_holds_the_hyperparameters(fit, tmp_path):
    fit(tmp_path, 1).run()
    (record,) = read_records(tmp_path / "models" / "model.pt").values()
    assert record["hyperparameters"]["optimizer"]["class"] == "Adam"
    assert record["hyperparameters"]["optimizer"]["betas"] == [0.9, 0.999]


def test_0_switches_montage_and_validation_off(fit, tmp_path):
    fit(tmp_path, 2, validator=fit.Validator([]), validate_every=0, montage=lambda: 1 / 0, montage_every=0).run()
    assert (tmp_path / "models" / "model.pt").is_file()
    assert not (tmp_path / "logs" / "montage").exists()


@pytest.mark.parametrize("name", ["validate_every", "montage_every", "checkpoint_every"])
def test_a_negative_number_of_epochs_is_refused(fit, tmp_path, refused, name):
    with refused(found="-1", where=name):
        fit(tmp_path, 2, **{name: -1})


HOLDER = """
import sys, time
from filelock import FileLock
from pathlib import Path
import os
models = Path(sys.argv[1]) / "models"
models.mkdir(parents=True)
lock = FileLock(models / "run.lock")
lock.acquire()
(models / "run.pid").write_text(str(os.getpid()))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_training_in_one_output_dir_is_refused_until_the_first_process_ends(fit, tmp_path, refused):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with refused(found=f"process {holder.pid} ", where=str(tmp_path), do="--output_dir"):
            fit(tmp_path, 1)
        assert not (tmp_path / "models" / "model.pt").exists()
    finally:
        holder.kill()
        holder.wait()
    fit(tmp_path, 1).run()  # the lock of a killed process is free
    assert (tmp_path / "models" / "model.pt").is_file()
    assert not (tmp_path / "models" / "run.pid").exists()
