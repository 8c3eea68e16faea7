"""The experiments of a paper, run as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mrsynth.study import Experiments
from tests.conftest import ROOT

BUNDLE = ROOT / "bundles" / "brain2d"
OPTIONS = {"slices": [36, 113], "size": [64, 64], "width": 0.02, "latent_size": 4, "batch_size": 16, "max_epochs": 1}
OPTIONS |= {"validate_every": 0, "montage_every": 2, "device": "cpu", "split": {"seed": 0, "validation": 1, "test": 2}}


def make(folder: Path, data: Path, **changes) -> Experiments:
    table = [
        {"name": "T1, DCGAN", "options": {"sequences": ["t1"]}},
        {"name": "T1, WGAN", "train": ["train.json", "wgan.json"], "options": {"sequences": ["t1"], "n_critic": 2}},
    ]
    evaluate = {"count": 13, "draws": 2, "section": "training", "device": "cpu"}
    return Experiments(
        BUNDLE, changes.pop("table", table), folder, {**OPTIONS, "dataset_dir": str(data)}, {**evaluate, **changes}
    )


def test_a_held_out_section_is_asked_of_the_evaluation_and_a_failure_is_told_with_its_log(
    subjects_dir, tmp_path, refused, capfd
):
    """Weights have seen the training section, so it is refused there."""
    with refused(expected="comes to its end", found="none"):
        make(tmp_path, subjects_dir, table=[{"name": "T1, DCGAN", "options": {"sequences": ["t1"]}}]).run()
    assert "T1, DCGAN: evaluate" in capfd.readouterr().out


def test_two_experiments_give_one_sheet_and_one_table_and_are_kept(subjects_dir, tmp_path, capfd):
    def both(**changes):
        return make(tmp_path, subjects_dir, section="test", count=10, **changes)

    rows = both().run()
    assert [row["experiment"] for row in rows] == ["T1, DCGAN", "T1, WGAN"]
    written = list(csv.DictReader((tmp_path / "experiments.csv").open()))
    assert written[1]["frechet, half of real"] and "efficientnet" in written[0]["features"]
    assert "half of real" in (tmp_path / "experiments.md").read_text()
    assert (tmp_path / "experiments.png").stat().st_size > 5000
    record = json.loads((tmp_path / "t1_wgan" / "train" / "models" / "model.json").read_text())
    assert "Wasserstein" in next(iter(record.values()))["hyperparameters"]["objective"]["class"]
    capfd.readouterr()
    assert both().run() == rows
    assert "6 of 6 steps are complete" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"rows": ["T9"]}, {"expected": "T1, DCGAN", "found": "T9"}),
        ({"table": [{"name": "a b"}, {"name": "A-b"}]}, {"expected": "different names"}),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(subjects_dir, tmp_path, refused, changes, fragments):
    rows, table = changes.get("rows"), changes.get("table", [{"name": "T1, DCGAN"}])
    with refused(**fragments):
        Experiments(BUNDLE, table, tmp_path, {}, {}, rows)


def test_a_config_that_is_not_there_is_named(tmp_path, refused):
    with refused(found="magic.json", where="x"):
        Experiments(BUNDLE, [{"name": "x", "train": ["magic.json"]}], tmp_path, {}, {}).steps()
