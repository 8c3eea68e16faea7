"""Evaluation of segmenters whose scores are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from monai.inferers import SimpleInferer

from mrsynth.metrics import MEASURES
from mrsynth.segmentation import SegmentationEvaluation, SegmentationMontage, preprocessing
from mrsynth.training import SeededDataset

RECORD = {"sha256": "0" * 64, "version": "0.1.0", "epoch": 3, "subjects": ["X"]}


def evaluate(network, items, output: Path, spatial_size=None, crop="brain", grid: str = "native") -> dict:
    settings = {"spatial_size": spatial_size, "crop": crop, "interpolation": "linear"}
    return SegmentationEvaluation(network, SimpleInferer(), items, settings, RECORD, "cpu", output, grid).run()


@pytest.mark.parametrize(
    ("spatial_size", "crop", "grid"),
    [(None, "brain", "native"), (None, "none", "training"), ([16, 20, 12], "brain", "training")],
)
def test_who_knows_the_truth_makes_no_error(items, oracle, tmp_path, spatial_size, crop, grid):
    found = evaluate(oracle(items, spatial_size, crop), items, tmp_path, spatial_size, crop, grid)
    best = {"dice": 1.0, "hd95": 0.0, "sensitivity": 1.0, "precision": 1.0}
    assert len(found["per_subject"]) == 3 * 3
    for row in found["per_subject"]:
        assert {measure: row[measure] for measure in MEASURES} == best, row
    for measures in found["regions"].values():
        assert {m: measures[m]["mean"] for m in MEASURES} == best and measures["dice"]["n"] == 3


def test_the_way_through_a_coarser_grid_costs_something_on_the_native_one(items, oracle, tmp_path):
    network = oracle(items, [14, 16, 14], "brain")
    native = evaluate(network, items, tmp_path, [14, 16, 14])["regions"]["WT"]["dice"]["mean"]
    assert 0.75 < native < 1


def test_what_lies_outside_the_slab_is_missed_on_the_native_grid(items, oracle, tmp_path):
    slab = [9, 12]
    found = evaluate(oracle(items, None, slab), items, tmp_path, None, slab)["regions"]["WT"]
    assert found["precision"]["mean"] == 1 and 0 < found["sensitivity"]["mean"] < 0.9


def test_who_finds_nothing_is_as_wrong_as_can_be(items, blind, tmp_path):
    found = evaluate(blind, items, tmp_path)["regions"]["WT"]
    assert found["dice"]["mean"] == found["sensitivity"]["mean"] == found["precision"]["mean"] == 0
    assert found["hd95"]["mean"] == pytest.approx(6 * np.linalg.norm((24, 24, 20)))


def test_what_is_written(items, oracle, tmp_path, capsys):
    found = evaluate(oracle(items, None, "brain"), items, tmp_path)
    folder = tmp_path / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == found and metrics["subjects"] == [item["subject"] for item in items]
    assert metrics["weights"] == {"sha256": "0" * 64, "version": "0.1.0", "epoch": 3}
    settings = {"spatial_size": None, "crop": "brain", "interpolation": "linear"}
    assert metrics["grid"] == "native" and metrics["settings"] == settings
    with open(folder / "per_subject.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["subject", "region", "dice", "hd95", "sensitivity", "precision"]
    assert [(r["subject"], r["region"]) for r in rows] == [(i["subject"], g) for i in items for g in ("WT", "TC", "ET")]
    pictures = sorted((folder / "pictures").iterdir())
    assert [p.name for p in pictures] == [f"{item['subject']}.png" for item in items]
    assert all(imread(p).std() > 0.05 for p in pictures)
    said = capsys.readouterr().out
    assert "3 held-out subjects, native grid" in said and "HD95, mm" in said and str(folder) in said


def test_a_test_subject_without_a_label_is_refused_before_anything_is_done(items, blind, tmp_path, refused):
    bare = [{k: v for k, v in items[0].items() if k != "label"}, items[1]]
    with refused(expected="a label for every", found="BraTS2021_00000", do="remove these subjects"):
        evaluate(blind, bare, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_grid_is_refused(items, blind, tmp_path, refused):
    with refused(expected="native", found="'coarse'"):
        evaluate(blind, items, tmp_path, grid="coarse")


def test_the_montage_shows_each_subject_truth_above_prediction(items, oracle, blind):
    subjects = SeededDataset(items, preprocessing(None, "brain"), cache="none")
    for network, same in ((oracle(items, None, "brain"), True), (blind, False)):
        rows = SegmentationMontage(network, subjects, "cpu", SimpleInferer(), count=2)().rows
        assert [row.title for row in rows[::2]] == ["BraTS2021_00000\ntrue", "BraTS2021_00001\ntrue"]
        assert [row.title for row in rows[1::2]] == ["predicted"] * 2
        for true, predicted in zip(rows[::2], rows[1::2], strict=True):
            assert np.array_equal(true.label, predicted.label) == same
            assert true.center == predicted.center and np.array_equal(true.image, predicted.image)
            assert true.image.min() >= -1 and true.image.max() <= 1 and (true.image[:, 0, 0, 0] == -1).all()
