"""A study small enough to be planned, run, stopped and resumed within a test, with real data and real processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrsynth.study import Study

PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny_bundle.py"))]
GIVEN = ("datalist", "output_dir")
CONFIGS = {
    "train": (
        *GIVEN,
        "resume",
        "seed",
        "max_epochs",
        "max_iterations",
        "augmentation",
        "initial_weights",
        "learning_rate",
    ),
    "inference": (*GIVEN, "section", "weights", "count", "grid"),
    "evaluate": (*GIVEN, "section", "weights", "grid"),
}
"""Settings of the bundle's configs, beside those that tell it how to behave."""

BEHAVIOR = ("fail", "sleep", "stranger", "note", "spatial_size", "crop", "ignores", "spoil", "until")
ROWS = [
    {"name": "Real"},
    {"name": "Real + 1x GAN", "synthetic": {"gan": 1.0}},
    {"name": "2x GAN", "real": 0, "synthetic": {"gan": 2.0}, "published": {"WT": 0.5}},
    {"name": "Copy-paste", "real": 0, "synthetic": {"copy_paste": 1.0}},
    {"name": "Real + copy-paste", "synthetic": {"copy_paste": 1.0}},
]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A folder with one bundle, which has the configs that a study needs."""
    configs = tmp_path / "bundles" / "tiny" / "configs"
    configs.mkdir(parents=True)
    for name, keys in CONFIGS.items():
        content = dict.fromkeys((*keys, *BEHAVIOR)) | ({"max_epochs": 2} if name == "train" else {})
        (configs / f"{name}.json").write_text(json.dumps(content))
    scripts = configs.parent / "scripts"
    scripts.mkdir()
    (scripts / "networks.py").write_text("LAYERS = 3\n")
    return tmp_path


@pytest.fixture
def settings(bundles: Path, subjects_dir: Path) -> Callable[..., dict]:
    """The arguments of a study on six subjects (3 training, 1 validation, 2 test), with changes."""

    def make(**changes: object) -> dict:
        given = {
            "output_dir": str(bundles / "study"),
            "table": ROWS,
            "generators": {"gan": {"bundle": "bundles/tiny"}, "copy_paste": {"bundle": "bundles/tiny", "train": None}},
            "segmenters": {"net": {"bundle": "bundles/tiny"}},
            "root": str(bundles),
            "max_iterations": 3,
            "dataset_dir": str(subjects_dir),
            "split": {"seed": 0, "validation": 1, "test": 2},
            "baseline": "Real + copy-paste",
            "parallel": 2,
            "program": PROGRAM,
        }
        return given | changes

    return make


@pytest.fixture
def study(settings: Callable[..., dict]) -> Callable[..., Study]:
    """A study with some of its settings changed."""
    return lambda **changes: Study(**settings(**changes))
