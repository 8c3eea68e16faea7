"""What training says to what it cannot use: one message, no traceback, nothing half-written, not success."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SMALL = {
    "spatial_size": "[16,16,16]",
    "feature_maps": "4",
    "discriminator_feature_maps": "4",
    "max_epochs": "1",
    "device": "cpu",
    "amp": "none",
    "min_kept": "0.5",
}

SMALL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))
"""


class Malice:
    """Pickled, it is a call of os.system."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def tampered(folder: Path) -> str:
    (folder / "models").mkdir(parents=True)
    torch.save({"objects": {}, "run": Malice(folder / "mark")}, folder / "models" / "checkpoint.pt")
    return str(folder)


def sound(folder: Path) -> str:
    """A folder with some checkpoint; on a full disk it must stay."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "model.pt").write_bytes(b"the best so far")
    return str(folder)


def below_a_file(folder: Path) -> str:
    folder.touch()
    return str(folder / "out")


def one_subject(folder: Path, entry: Callable, subjects: Path) -> str:
    folder.mkdir()
    content = {"training": [entry(subjects, "BraTS2021_00000")], "validation": [], "test": []}
    (folder / "datalist.json").write_text(json.dumps(content))
    return str(folder / "datalist.json")


def truncated(folder: Path, write: Callable, make_brain: Callable) -> str:
    for seed in range(4):
        write(folder, f"BraTS2021_{seed:05d}", make_brain(seed))
    name = folder / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz"
    name.write_bytes(name.read_bytes()[:2000])
    return str(folder)


@pytest.fixture(scope="module")
def ended(start_bundle, brats, make_brain, subjects_dir, tmp_path_factory) -> dict[str, tuple[int, str, Path]]:
    """Exit status, output and folder of each run, two of them at a time."""
    write, entry = brats
    base = tmp_path_factory.mktemp("refusals")
    (base / "small").mkdir()
    (base / "small" / "sitecustomize.py").write_text(SMALL_DISK)
    cases: dict[str, dict[str, str]] = {
        "gpu": {"device": "cuda"},
        "output": {"output_dir": below_a_file(base / "output")},
        "grid": {"spatial_size": "[20,16,16]"},
        "one subject": {"datalist": one_subject(base / "list", entry, subjects_dir)},
        "truncated": {"dataset_dir": truncated(base / "data", write, make_brain)},
        "tampered": {"output_dir": tampered(base / "tampered"), "resume": "true"},
        "full disk": {"output_dir": sound(base / "full disk")},
    }

    def run(case: str) -> tuple[int, str, Path]:
        options = {"dataset_dir": str(subjects_dir), "output_dir": str(base / case), **SMALL, **cases[case]}
        environment = {"PYTHONPATH": str(base / "small")} if case == "full disk" else {}
        process = start_bundle("tumor3d", *[x for k, v in options.items() for x in (f"--{k}", v)], **environment)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said, Path(options["output_dir"])

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))


SAID = {
    "gpu": ("the device cuda", "not available", "device", "--device cpu"),
    "output": ("can be written", "", "output", "output_dir"),
    "grid": ("multiples of 8", "[20, 16, 16]", "spatial_size", "for instance"),
    "one subject": ("two training subjects", "1", "training", "add subjects"),
    "truncated": ("readable", "BraTS2021_00002_t2.nii.gz", "data", "--skip_bad"),
    "tampered": ("plain values", "", "checkpoint.pt", "do not use this file"),
    "full disk": ("can be written", "no space left", "models", "free some space"),
}


@pytest.mark.parametrize("case", SAID)
def test_training_refuses_with_one_message_and_no_success(ended, case):
    if case == "gpu" and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    status, said, _ = ended[case]
    assert status not in (0, None), said[-4000:]
    assert "Traceback" not in said, said[-4000:]
    assert said.count("Cannot go on:") == 1
    message = said[said.index("Cannot go on:") :]
    for part, fragment in zip(("expected:", "found:", "where:", "do:"), SAID[case], strict=True):
        line = message[message.index(part) :]
        assert fragment in line, message


@pytest.mark.parametrize("case", ["gpu", "output", "grid", "one subject", "truncated"])
def test_what_is_refused_leaves_no_weights(ended, case):
    output = ended[case][2]
    assert not list(output.rglob("*.pt")) if output.exists() else True


def test_a_tampered_checkpoint_runs_no_code(ended):
    output = ended["tampered"][2]
    assert not (output / "mark").exists()
    assert {p.name for p in (output / "models").iterdir()} == {"checkpoint.pt", "run.lock"}


def test_a_full_disk_leaves_the_last_weights(ended):
    output = ended["full disk"][2]
    assert (output / "models" / "model.pt").read_bytes() == b"the best so far"
    assert not list(output.rglob(".tmp-*"))
