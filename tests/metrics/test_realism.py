"""Kernel distance, neighbors and the two-sample test, against the sums written out and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mrsynth.errors import UserError
from mrsynth.metrics import kernel, neighbors
from mrsynth.metrics.kernel import kernel_distance
from mrsynth.metrics.neighbors import density_coverage, nearest_neighbor_accuracy, precision_recall
from mrsynth.metrics.two_sample import classifier_two_sample_test


def gaussian(seed: int, count: int, features: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(count, features))


def written_out_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    def mean(a, b, same):
        values = [
            (float(p @ q) / len(p) + 1) ** 3 for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)
        ]
        return sum(values) / len(values)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("whole", [0, 4000])
def test_the_kernel_distance_is_its_double_loop(whole, monkeypatch):
    monkeypatch.setattr(kernel, "WHOLE", whole)
    real, fake = gaussian(0, 12), gaussian(1, 12, shift=0.5)
    found = kernel_distance(real, fake, subsets=3, subset_size=12)
    assert found["mean"] == pytest.approx(written_out_mmd2(real, fake))
    assert found["sd"] == pytest.approx(0, abs=1e-12)


def test_the_kernel_distance_is_the_same_from_one_kernel_and_from_subsets(monkeypatch):
    real, fake = gaussian(0, 60), gaussian(1, 40, shift=0.5)
    found = kernel_distance(real, fake, seed=5)
    monkeypatch.setattr(kernel, "WHOLE", 0)
    assert kernel_distance(real, fake, seed=5) == pytest.approx(found)
    assert found["subset_size"] == 20 and found["sd"] > 0 and (found["real"], found["fake"]) == (60, 40)
    assert kernel_distance(real, fake, seed=6)["mean"] != found["mean"]


def test_the_kernel_distance_has_no_bias_and_sees_a_shift():
    same = [kernel_distance(gaussian(2 * s, 30), gaussian(2 * s + 1, 30), subsets=5)["mean"] for s in range(60)]
    error = np.std(same) / len(same) ** 0.5
    assert abs(np.mean(same)) < 3 * error and min(same) < 0
    shifted = [kernel_distance(gaussian(0, 30), gaussian(1, 30, shift=s), subsets=5)["mean"] for s in (0, 0.5, 1.0)]
    assert shifted[0] < shifted[1] < shifted[2] and shifted[2] > 20 * error


def test_torchmetrics_finds_the_same_kernel_distance():
    image = pytest.importorskip("torchmetrics.image.kid")

    class Identity(torch.nn.Module):
        num_features = 4

        def forward(self, features):
            return features

    real, fake = gaussian(0, 40), gaussian(1, 40, shift=0.5)
    metric = image.KernelInceptionDistance(feature=Identity(), subsets=2, subset_size=40).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    found = kernel_distance(real, fake, subsets=2, subset_size=40)["mean"]
    assert found == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).sum()))


def radius(points: np.ndarray, index: int, k: int) -> float:
    return sorted(distance(points[index], other) for i, other in enumerate(points) if i != index)[k - 1]


@pytest.fixture(params=[7, 512])
def few_rows(request, monkeypatch):
    """Rows of the matrix of distances that are held at a time."""
    monkeypatch.setattr(neighbors, "ROWS", request.param)


SETS = {
    "alike": (gaussian(0, 30), gaussian(1, 20)),
    "shifted": (gaussian(0, 20), gaussian(1, 30, shift=1.5)),
    "narrow": (gaussian(0, 25), 0.2 * gaussian(1, 25)),
    "far from zero": (1e4 + gaussian(0, 25), 1e4 + gaussian(1, 25)),
}


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("name", SETS)
def test_precision_recall_density_and_coverage_are_what_they_are_by_hand(name):
    real, fake = SETS[name]
    inside = [[distance(r, f) <= radius(real, i, 3) for f in fake] for i, r in enumerate(real)]
    back = [[distance(r, f) <= radius(fake, j, 3) for j, f in enumerate(fake)] for r in real]
    found = precision_recall(real, fake)
    assert found["precision"] == pytest.approx(np.any(inside, axis=0).mean())
    assert found["recall"] == pytest.approx(np.any(back, axis=1).mean())
    assert (found["k"], found["real"], found["fake"]) == (3, len(real), len(fake))

    inside = [[distance(r, f) < radius(real, i, 5) for f in fake] for i, r in enumerate(real)]
    found = density_coverage(real, fake)
    assert found["density"] == pytest.approx(np.sum(inside) / (5 * len(fake)))
    assert found["coverage"] == pytest.approx(np.any(inside, axis=1).mean())


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("name", SETS)
def test_nearest_neighbor_accuracy_is_that_of_scikit_learn_with_one_left_out(name):
    real, fake = SETS[name]
    rows, truth = np.vstack([real, fake]), np.repeat([0, 1], [len(real), len(fake)])
    right = []
    for index in range(len(rows)):
        rest = np.arange(len(rows)) != index
        model = KNeighborsClassifier(1).fit(rows[rest], truth[rest])
        right.append(model.predict(rows[index : index + 1])[0] == truth[index])
    found = nearest_neighbor_accuracy(real, fake)
    assert found["accuracy_real"] == pytest.approx(np.mean(right[: len(real)]))
    assert found["accuracy_fake"] == pytest.approx(np.mean(right[len(real) :]))
    assert found["accuracy"] == pytest.approx((found["accuracy_real"] + found["accuracy_fake"]) / 2)


@pytest.mark.usefixtures("few_rows")
def test_identical_sets():
    rows = gaussian(0, 600, 64).astype(np.float32)
    rows[:20] += 1e3
    shuffled = rows[np.random.default_rng(1).permutation(600)]
    assert [precision_recall(rows, shuffled)[name] for name in ("precision", "recall")] == [1, 1]
    assert [density_coverage(rows, shuffled)[name] for name in ("density", "coverage")] == [1, 1]
    found = nearest_neighbor_accuracy(rows, shuffled)
    assert found["accuracy_real"] == found["accuracy_fake"] == 0  # each one's twin is in the other set


def test_sets_that_lie_apart_have_nothing_in_common():
    real, fake = gaussian(0, 30), gaussian(1, 30, shift=50)
    assert set(list(precision_recall(real, fake).values())[:2]) == {0}
    assert set(list(density_coverage(real, fake).values())[:2]) == {0}
    assert nearest_neighbor_accuracy(real, fake)["accuracy"] == 1


def test_a_generator_of_one_mode_is_precise_and_recalls_little():
    real, fake = gaussian(0, 200, 8), 0.1 * gaussian(1, 200, 8)
    first, second = precision_recall(real, fake), density_coverage(real, fake)
    assert first["precision"] == 1 and first["recall"] < 0.05
    assert second["density"] > 1 and second["coverage"] < 0.9
    found = nearest_neighbor_accuracy(real, fake)
    assert found["accuracy_fake"] > 0.95  # each has a fake twin
    assert found["accuracy_real"] < found["accuracy_fake"]


def test_two_samples_of_one_distribution():
    real, fake = gaussian(0, 700, 3), gaussian(1, 500, 3)
    second = density_coverage(real, fake)
    assert second["density"] == pytest.approx(1, abs=0.1)
    found = nearest_neighbor_accuracy(real, fake)
    assert found["chance_real"] == 699 / 1199 and found["chance_fake"] == 499 / 1199
    assert found["accuracy_real"] == pytest.approx(found["chance_real"], abs=0.07)
    assert found["accuracy_fake"] == pytest.approx(found["chance_fake"], abs=0.07)
    same_count = density_coverage(real, gaussian(2, 700, 3))
    assert same_count["coverage"] == pytest.approx(1 - 2**-5, abs=0.03)


def test_equally_near_images_count_by_their_share():
    point = np.zeros((1, 2))
    found = nearest_neighbor_accuracy(np.repeat(point, 4, axis=0), np.repeat(point, 2, axis=0))
    assert found["accuracy_real"] == pytest.approx(3 / 5) and found["accuracy_fake"] == pytest.approx(1 / 5)


def test_copies_of_one_real_image_leave_a_ball_without_size():
    real = np.vstack([np.zeros((6, 2)), [[5.0, 0], [0, 5], [5, 5], [9, 9], [9, 0]]])
    fake = np.zeros((6, 2))
    assert precision_recall(real, fake)["precision"] == 1  # its surface counts
    assert density_coverage(real[:6], fake)["coverage"] == 0  # here not


@pytest.mark.parametrize("classifier", ["logistic", "mlp"])
@pytest.mark.parametrize("folds", [None, 5])
def test_shuffled_labels_are_chance_and_a_shift_is_not(classifier, folds):
    rows = np.random.default_rng(1).permutation(np.vstack([gaussian(0, 150), gaussian(1, 150, shift=1)]))
    options = {"classifier": classifier, "folds": folds}
    found = classifier_two_sample_test(rows[:150], rows[150:], **options)
    assert abs(found["accuracy"] - 0.5) < 0.12 and found["p_value"] > 0.005
    assert found["tested"] == (300 if folds else 150) and found["images"] == 150
    found = classifier_two_sample_test(gaussian(0, 150), gaussian(1, 150, shift=1), **options)
    assert found["accuracy"] > 0.7 and found["p_value"] < 1e-5
    assert found == classifier_two_sample_test(gaussian(0, 150), gaussian(1, 150, shift=1), **options)


def test_the_p_value_of_the_held_out_half_is_uniform_by_chance():
    values = [classifier_two_sample_test(gaussian(2 * s, 40), gaussian(2 * s + 1, 40))["p_value"] for s in range(80)]
    assert np.mean(np.asarray(values) < 0.1) < 0.2  # 0.1 expected; 0.2 is three standard errors from it
    assert 0.4 < np.mean(values) < 0.7  # a little above a half, since counts are whole


def test_the_larger_set_gives_no_more_than_the_smaller():
    found = classifier_two_sample_test(gaussian(0, 400), gaussian(1, 50))
    assert found["images"] == 50 and found["tested"] == 50 and abs(found["accuracy"] - 0.5) < 0.25


def test_a_difference_in_spread_is_seen_by_the_network_alone():
    pair = gaussian(0, 300, 2), 4 * gaussian(1, 300, 2)
    assert classifier_two_sample_test(*pair)["accuracy"] < 0.62
    assert classifier_two_sample_test(*pair, classifier="mlp")["accuracy"] > 0.75


FUNCTIONS = (
    kernel_distance,
    precision_recall,
    density_coverage,
    nearest_neighbor_accuracy,
    classifier_two_sample_test,
)
ROWS = gaussian(0, 30)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_cannot_be_compared_is_refused(function):
    holes = ROWS.copy()
    holes[7, 2] = np.nan
    for wrong, message in [
        ((ROWS, ROWS[:, :3]), "4 and 3"),
        ((holes, ROWS), "NaN or infinity in 1 of 30 images, the first at row 7\n  where: .*real"),
        ((ROWS, holes), "where: .*fake"),
        ((ROWS, ROWS[:1]), "at least"),
        ((ROWS[:0], ROWS), "at least"),
        ((ROWS[None], ROWS), "a matrix of features"),
        ((ROWS[:, :0], ROWS[:, :0]), "a matrix of features"),
    ]:
        with pytest.raises(UserError, match=message):
            function(*wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: kernel_distance(ROWS, ROWS[:20], subset_size=21), "2 to 20 images"),
        (lambda: kernel_distance(ROWS, ROWS, subset_size=1), "2 to 30 images"),
        (lambda: kernel_distance(ROWS, ROWS, subsets=0), "at least one subset"),
        (lambda: precision_recall(ROWS, ROWS[:3]), "at least 4 images"),
        (lambda: density_coverage(ROWS[:5], ROWS), "at least 6 images"),
        (lambda: precision_recall(ROWS, ROWS, k=0), "k = 0"),
        (lambda: classifier_two_sample_test(ROWS, ROWS[:9]), "at least 10 images"),
        (lambda: classifier_two_sample_test(ROWS, ROWS[:15], folds=20), "at least 20 images"),
        (lambda: classifier_two_sample_test(ROWS, ROWS, folds=1), "2 folds"),
        (lambda: classifier_two_sample_test(ROWS, ROWS, classifier="forest"), "logistic or mlp"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()
