"""Overlap of two labels: values worked out by hand, and what counts where a region is empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrsynth.conventions import REGIONS
from mrsynth.metrics import MEASURES, RegionDice, region_scores, to_label

CLASSES = {0: 0, 1: 1, 2: 2, 4: 3}


def cube(start: int, stop: int, value: int, shape: tuple[int, int, int] = (8, 8, 8)) -> np.ndarray:
    """A label with ``value`` from ``start`` to ``stop`` along X, everywhere in a 2 x 2 column of Y and Z."""
    label = np.zeros(shape, np.uint8)
    label[start:stop, 2:4, 2:4] = value
    return label


def random_label(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 2, 4], size=(6, 7, 5), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)


def test_half_of_a_block_shifted():
    # 4 voxels long each, 2 of them shared: 2*2/(4+4), and either misses half
    scores = region_scores(cube(3, 7, 4), cube(1, 5, 4), (1, 1, 1))
    for region in REGIONS:
        assert scores[region]["dice"] == scores[region]["sensitivity"] == scores[region]["precision"] == 0.5


def test_sensitivity_is_of_the_truth_and_precision_of_the_prediction():
    scores = region_scores(cube(1, 3, 2), cube(1, 7, 2), (1, 1, 1))["WT"]
    assert scores["sensitivity"] == pytest.approx(1 / 3) and scores["precision"] == 1
    assert scores["dice"] == pytest.approx(2 * 2 / (2 + 6))


def test_regions_are_the_nested_ones_of_brats():
    # edema found as core: right for the whole tumor, wrong for its core
    scores = region_scores(cube(1, 5, 1), cube(1, 5, 2), (1, 1, 1))
    assert scores["WT"]["dice"] == 1 and scores["TC"]["dice"] == 0 and scores["TC"]["precision"] == 0
    assert scores["ET"]["dice"] == 1  # nobody has any


@pytest.mark.parametrize(("axis", "mm"), [(0, 1.0), (1, 2.5), (2, 4.0)])
def test_the_distance_is_in_millimeters_along_each_axis(axis, mm):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = mm
    one, other = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.uint8)
    one[4, 4, 4] = 4
    place = [4, 4, 4]
    place[axis] = 7
    other[tuple(place)] = 4
    assert region_scores(one, other, spacing)["ET"]["hd95"] == pytest.approx(3 * mm)


def test_the_farthest_twentieth_is_left_out():
    # a rod of 100 voxels, found whole with one voxel 30 mm aside: a hundredth of the surface
    truth = np.zeros((100, 40, 3), np.uint8)
    truth[:, 2, 1] = 4
    found = truth.copy()
    found[50, 32, 1] = 4
    assert region_scores(found, truth, (1, 1, 1))["ET"]["hd95"] == 0
    found[40:60, 32, 1] = 4  # a sixth
    assert region_scores(found, truth, (1, 1, 1))["ET"]["hd95"] == pytest.approx(30)


def test_what_is_empty_in_both_is_right():
    nothing = np.zeros((4, 4, 4), np.uint8)
    right = {"dice": 1.0, "hd95": 0.0, "sensitivity": 1.0, "precision": 1.0}
    assert region_scores(nothing, nothing, (1, 1, 1)) == dict.fromkeys(REGIONS, right)


@pytest.mark.parametrize("empty", ["prediction", "reference"])
def test_what_is_empty_in_one_is_as_wrong_as_can_be(empty):
    labels = [np.zeros((3, 4, 12), np.uint8), cube(1, 3, 4, (3, 4, 12))]
    prediction, reference = labels if empty == "prediction" else labels[::-1]
    wrong = {"dice": 0.0, "hd95": 13.0, "sensitivity": 0.0, "precision": 0.0}  # the diagonal: 3, 4, 12
    assert region_scores(prediction, reference, (1, 1, 1)) == dict.fromkeys(REGIONS, wrong)


def test_the_diagonal_of_brats_is_that_of_its_own_evaluation():
    whole = np.zeros((240, 240, 155), np.uint8)
    other = whole.copy()
    other[0, 0, 0] = 4
    assert region_scores(whole, other, (1, 1, 1))["ET"]["hd95"] == pytest.approx(373.13, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_two_labels_can_be_exchanged(seed):
    one, other, spacing = random_label(seed), random_label(seed + 10), (1.0, 2.0, 0.5)
    there, back = region_scores(one, other, spacing), region_scores(other, one, spacing)
    for region in REGIONS:
        for here, mirrored in zip(MEASURES, ("dice", "hd95", "precision", "sensitivity"), strict=True):
            assert there[region][here] == pytest.approx(back[region][mirrored]), (region, here)


def test_a_label_agrees_with_itself_and_the_measures_are_those_that_are_named():
    scores = region_scores(random_label(0), random_label(0), (1, 1, 1))
    assert list(scores) == list(REGIONS)
    for values in scores.values():
        assert tuple(values) == MEASURES and values == {"dice": 1, "hd95": 0, "sensitivity": 1, "precision": 1}


def test_class_indices_become_label_values():
    classes = torch.tensor([[0, 1], [2, 3]], dtype=torch.int64)
    label = to_label(classes)
    assert label.tolist() == [[0, 1], [2, 4]] and label.dtype == torch.uint8


def logits_of(label: np.ndarray) -> torch.Tensor:
    """Logits `(4, X, Y, Z)` whose most probable class is ``label``'s, by more or by less."""
    classes = torch.from_numpy(np.vectorize(CLASSES.get)(label))
    return torch.nn.functional.one_hot(classes, 4).movedim(-1, 0).float() * 3 - 1


def classes_of(label: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.vectorize(CLASSES.get)(label)[None]).to(torch.uint8)


def test_the_validation_metric_is_the_mean_of_the_same_dice():
    truths = [random_label(1), random_label(2), np.zeros((6, 7, 5), np.uint8)]
    found = [random_label(3), random_label(2), random_label(4)]
    metric = RegionDice()
    for prediction, truth in zip(found, truths, strict=True):  # one subject at a time, of their own sizes
        metric(y_pred=[logits_of(prediction)], y=[classes_of(truth)])
    pairs = zip(found, truths, strict=True)
    scores = [values["dice"] for f, t in pairs for values in region_scores(f, t, (1, 1, 1)).values()]
    assert float(metric.aggregate()) == pytest.approx(np.mean(scores))
    metric.reset()
    metric(y_pred=[logits_of(truths[0])], y=[classes_of(truths[0])])
    assert float(metric.aggregate()) == 1


def test_the_validation_metric_needs_a_truth():
    with pytest.raises(ValueError, match="truth"):
        RegionDice()(y_pred=[logits_of(random_label(0))])
