"""Checkpoints and weights: whole, harmless, and of the network and the subjects that they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mrsynth import files
from mrsynth.files import sha256
from mrsynth.networks import add_spectral_norm
from mrsynth.training import load_checkpoint, load_weights, read_safely, save_checkpoint, save_weights

RECORD = {"subjects": ["BraTS2021_00000", "BraTS2021_00001"], "epoch": 3}


def network(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def objects(width: int = 4) -> dict:
    """A network, and an optimizer that has moved."""
    net = network(width)
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.randn(5, 3)).sum().backward()
    adam.step()
    return {"network": net, "optimizer": adam, "scaler": torch.amp.GradScaler("cpu")}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_states_and_facts_come_back(tmp_path):
    saved, restored = objects(), objects()
    save_checkpoint(tmp_path / "c.pt", saved, {"epoch": 3, "subjects": ["A"]})
    assert load_checkpoint(tmp_path / "c.pt", restored) == {"epoch": 3, "subjects": ["A"]}
    assert all(same(saved[name].state_dict(), restored[name].state_dict()) for name in saved)


class Malice:
    """Pickled, it is a call of os.system."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("read", ["checkpoint", "weights", "safely"])
def test_a_tampered_file_runs_no_code_and_is_refused(tmp_path, refused, read):
    path, mark = tmp_path / "c.pt", tmp_path / "mark"
    content = {"objects": objects()["network"].state_dict(), "run": Malice(mark)}
    torch.save(content, path)
    reader = {
        "checkpoint": lambda: load_checkpoint(path, objects()),
        "weights": lambda: load_weights(network(), path, "train"),
        "safely": lambda: read_safely(path, "do not"),
    }[read]
    with refused(expected="plain values", where=str(path), do="do not use this file"):
        reader()
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the bait was live


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(tmp_path, refused, damage):
    path = tmp_path / "c.pt"
    save_checkpoint(path, objects(), {})
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>"}[damage])
    with refused(expected="whole", where=str(path)):
        load_checkpoint(path, objects())


def test_a_missing_checkpoint_is_refused(tmp_path, refused):
    with refused(found="no such file", where="gone.pt", do="start over"):
        read_safely(tmp_path / "gone.pt", "start over")


def test_a_checkpoint_of_another_network_is_refused_and_nothing_is_loaded(tmp_path, refused):
    save_checkpoint(tmp_path / "c.pt", objects(4), {})
    mine = objects(8)
    before = {name: value.clone() for name, value in mine["network"].state_dict().items()}
    with refused(expected="0.weight (8, 3)", found="0.weight (4, 3)", where="c.pt", do="--resume"):
        load_checkpoint(tmp_path / "c.pt", mine)
    assert same(before, dict(mine["network"].state_dict()))


def test_a_checkpoint_of_another_set_of_players_is_refused(tmp_path, refused):
    saved = objects()
    save_checkpoint(tmp_path / "c.pt", saved, {})
    with refused(expected="'ema'", found="'network'", where="c.pt"):
        load_checkpoint(tmp_path / "c.pt", {**saved, "ema": network()})


def test_a_checkpoint_of_another_precision_is_refused(tmp_path, refused):
    save_checkpoint(tmp_path / "c.pt", {**objects(), "scaler": torch.amp.GradScaler("cpu", enabled=False)}, {})
    with refused(expected="scaler", where="c.pt"):
        load_checkpoint(tmp_path / "c.pt", objects())


def test_another_kind_of_file_is_refused(tmp_path, refused):
    torch.save(network().state_dict(), tmp_path / "c.pt")
    with refused(expected="training run", where="c.pt"):
        load_checkpoint(tmp_path / "c.pt", objects())


def test_weights_are_a_bare_folded_state_dict_with_their_record_beside(tmp_path):
    normalized = add_spectral_norm(network())
    digest = save_weights(normalized, tmp_path / "model.pt", RECORD)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == network().state_dict().keys()
    assert digest == sha256(tmp_path / "model.pt")
    assert json.loads((tmp_path / "model.json").read_text())[digest]["subjects"] == RECORD["subjects"]
    plain = network()
    record = load_weights(plain, tmp_path / "model.pt", "train")
    assert record["subjects"] == RECORD["subjects"] and record["sha256"] == digest and not plain.training
    x = torch.randn(5, 3)
    torch.testing.assert_close(plain(x), normalized.eval()(x))


def test_the_same_weights_have_the_same_digest(tmp_path):
    same_network = network()
    first, second = (save_weights(same_network, tmp_path / name / "model.pt", RECORD) for name in ("a", "b"))
    assert first == second


def test_weights_under_the_key_model_are_taken_too(tmp_path):
    saved, loaded = network(), network()
    torch.save({"model": saved.state_dict()}, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps({sha256(tmp_path / "model.pt"): RECORD}))
    load_weights(loaded, tmp_path / "model.pt", "train")
    assert same(dict(saved.state_dict()), dict(loaded.state_dict()))


def test_without_weights_the_training_command_is_named(tmp_path, refused):
    with refused(found="no such file", where="model.pt", do="python -m monai.bundle run training"):
        load_weights(network(), tmp_path / "model.pt", "python -m monai.bundle run training")


def test_weights_of_another_network_are_refused(tmp_path, refused):
    save_weights(network(5), tmp_path / "model.pt", RECORD)
    with refused(expected="(4, 3)", found="(5, 3)", where="model.pt", do="settings"):
        load_weights(network(4), tmp_path / "model.pt", "train")


@pytest.mark.parametrize("trouble", ["missing", "of other weights", "without subjects", "not JSON"])
def test_weights_that_do_not_say_whom_they_saw_are_refused(tmp_path, refused, trouble):
    save_weights(network(), tmp_path / "model.pt", RECORD)
    beside = tmp_path / "model.json"
    if trouble == "missing":
        beside.unlink()
    else:
        records = json.loads(beside.read_text())
        texts = {
            "of other weights": json.dumps({"0" * 64: RECORD}),
            "without subjects": json.dumps({digest: {"epoch": 3} for digest in records}),
            "not JSON": "{",
        }
        beside.write_text(texts[trouble])
    with refused(expected="record", where="model.json", do="beside"):
        load_weights(network(), tmp_path / "model.pt", "train")


def test_whichever_file_a_crash_leaves_its_record_is_there(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    old = save_weights(network(), path, {**RECORD, "epoch": 1})
    rename = os.replace

    def crash(source, target):
        if str(target).endswith("model.pt"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_weights(network(), path, {**RECORD, "epoch": 2})
    monkeypatch.undo()
    assert sha256(path) == old
    assert load_weights(network(), path, "train")["epoch"] == 1
    save_weights(network(), path, {**RECORD, "epoch": 2})
    assert load_weights(network(), path, "train")["epoch"] == 2
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.pt"]


ON_A_SMALL_DISK = """
import resource, signal, sys
import torch
from mrsynth.errors import UserError
from mrsynth.training import save_checkpoint, save_weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
large = torch.nn.Linear(200, 200)
for save in (
    lambda: save_checkpoint(sys.argv[1] + "/checkpoint.pt", {"network": large}, {}),
    lambda: save_weights(large, sys.argv[1] + "/model.pt", {"subjects": ["A"]}),
):
    try:
        save()
    except UserError as error:
        print(error)
"""


def test_on_a_full_disk_the_last_files_stay_and_the_message_says_so(tmp_path):
    saved = objects()
    save_checkpoint(tmp_path / "checkpoint.pt", saved, {"epoch": 1})
    save_weights(saved["network"], tmp_path / "model.pt", RECORD)
    ended = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("no space left") == 2
    assert ended.stdout.count("what was complete before is untouched") == 2
    assert load_checkpoint(tmp_path / "checkpoint.pt", objects()) == {"epoch": 1}
    assert load_weights(network(), tmp_path / "model.pt", "train")["epoch"] == 3
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.json", "model.pt"]
