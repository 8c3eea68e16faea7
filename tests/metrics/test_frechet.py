"""Fréchet distance: closed forms, the matrix root it never forms, parts that add up, and what few images do to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from mrsynth.errors import UserError
from mrsynth.metrics.frechet import GaussianStatistics, frechet_distance, frechet_extrapolated


def gaussian(seed: int, count: int, features: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, features))


def exact(seed: int, count: int, features: int) -> np.ndarray:
    """A sample whose mean is 0 and whose covariance is 1, not nearly but exactly."""
    rows = gaussian(seed, count, features)
    rows -= rows.mean(axis=0)
    return rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T


def by_matrix_root(real: np.ndarray, fake: np.ndarray) -> float:
    one, other = np.cov(real.T), np.cov(fake.T)
    root = sqrtm(one @ other).real
    return np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(one + other - 2 * root)


def test_shifted_and_scaled_gaussians_have_their_closed_form():
    scale, shift = np.array([0.5, 1.0, 3.0, 2.0]), np.array([0.1, -2.0, 0.0, 1.0])
    found = frechet_distance(exact(0, 50, 4), exact(1, 90, 4) * scale + shift)
    assert found == pytest.approx(np.square(shift).sum() + np.square(scale - 1).sum())


@pytest.mark.parametrize(("n", "m"), [(200, 300), (200, 24), (24, 200), (12, 20), (24, 24), (25, 26)])
def test_it_is_the_distance_by_the_root_of_the_matrix_with_many_images_and_with_few(n, m):
    mixing = gaussian(2, 24, 24)
    real, fake = gaussian(0, n, 24), gaussian(1, m, 24) @ mixing * 0.4 + 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, mirrored = frechet_distance(real, fake), frechet_distance(fake, real)
    assert found == pytest.approx(by_matrix_root(real, fake), rel=1e-5)
    assert found == pytest.approx(mirrored, rel=1e-10)


@pytest.mark.filterwarnings("ignore:.*images for")
@pytest.mark.parametrize("count", [15, 100])
def test_a_set_is_at_no_distance_from_itself(count):
    rows = 50 * gaussian(0, count, 40) * np.logspace(0, -4, 40)
    assert frechet_distance(rows, rows[::-1].copy()) == pytest.approx(0, abs=1e-6 * 50**2)


def test_features_that_never_change_are_no_obstacle():
    real, fake = gaussian(0, 60, 10), gaussian(1, 60, 10)
    without = frechet_distance(real, fake)
    pad = [np.hstack([rows, np.zeros((60, 3)), np.full((60, 1), 7.0)]) for rows in (real, fake)]
    assert frechet_distance(*pad) == pytest.approx(without)
    assert GaussianStatistics(pad[0]).rank == 10


@pytest.mark.parametrize("count", [5, 8, 9, 40])
def test_batches_and_parts_add_up_to_the_whole(count):
    rows = gaussian(0, count, 8) + 1e4  # far from 0, where sums of squares lose their digits
    parts = [GaussianStatistics() for _ in range(3)]
    for index, batch in enumerate(np.array_split(rows, 7)):
        parts[index % 3].update(batch)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert parts[0].count == count and parts[0].features == 8
    assert np.allclose(parts[0].mean, rows.mean(axis=0), rtol=1e-13)
    assert np.allclose(parts[0].covariance, np.cov(rows.T), rtol=0, atol=1e-9)
    assert parts[0].trace == pytest.approx(np.trace(np.cov(rows.T)))
    factor = parts[0].factor()
    assert len(factor) <= 8 and np.allclose(factor.T @ factor, np.cov(rows.T), rtol=0, atol=1e-9)


def test_a_part_is_not_changed_by_being_added_and_may_be_the_same():
    rows = gaussian(0, 30, 5)
    part, empty = GaussianStatistics(rows), GaussianStatistics()
    empty.merge(part)
    empty.merge(GaussianStatistics())
    assert torch.equal(empty.covariance, part.covariance)
    empty.merge(empty)
    assert part.count == 30 and empty.count == 60
    assert np.allclose(empty.covariance, np.cov(np.vstack([rows, rows]).T))


def test_statistics_keep_their_own_copy():
    rows = torch.from_numpy(gaussian(0, 4, 6))
    statistics = GaussianStatistics(rows)
    expected = rows.mean(dim=0)
    rows.zero_()
    assert torch.allclose(statistics.mean, expected)


def test_float32_features_give_the_float64_distance():
    real, fake = (gaussian(seed, 60, 10).astype(np.float32) for seed in (0, 1))
    found = frechet_distance(torch.from_numpy(real), torch.from_numpy(fake))
    assert found == pytest.approx(frechet_distance(real.astype(float), fake.astype(float)), rel=1e-12)


def test_fewer_images_than_features_is_a_warning_that_names_the_rank():
    real, fake = GaussianStatistics(gaussian(0, 100, 30)), GaussianStatistics(gaussian(1, 20, 30))
    with pytest.warns(UserWarning, match="20 images for 30 features.* rank 19"):
        assert frechet_distance(real, fake) > 0
    assert real.rank == 30 and fake.rank == 19


def test_many_images_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(gaussian(0, 31, 30), gaussian(1, 31, 30))


@pytest.mark.parametrize("count", [150, 400])
def test_the_extrapolation_is_nearer_to_the_truth_than_the_distance(count):
    spread = np.arange(1, 101) ** -0.5
    truth = np.square(0.3 * spread).sum() + np.square(0.2 * spread).sum()
    real, fake = gaussian(0, count, 100) * spread, gaussian(1, count, 100) * 1.3 * spread + 0.2 * spread
    found = frechet_extrapolated(real, fake)
    assert abs(found["extrapolated"] - truth) < 0.4 * abs(found["distance"] - truth)
    assert found["slope"] > 0 and 0.8 < found["r_squared"] <= 1
    assert (found["real"], found["fake"], found["features"], found["smallest"]) == (count, count, 100, count // 2)
    assert found["rank_real"] == found["rank_fake"] == 100


def test_the_extrapolation_follows_its_seed():
    pair = gaussian(0, 60, 5), gaussian(1, 40, 5)
    assert frechet_extrapolated(*pair, seed=3) == frechet_extrapolated(*pair, seed=3)
    assert frechet_extrapolated(*pair, seed=3)["slope"] != frechet_extrapolated(*pair, seed=4)["slope"]


class Identity(torch.nn.Module):
    """Features as they are given, for torchmetrics."""

    num_features = 12

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_torchmetrics_finds_the_same():
    image = pytest.importorskip("torchmetrics.image.fid")
    real, fake = gaussian(0, 80, 12), gaussian(1, 90, 12) @ gaussian(2, 12, 12) + 1
    metric = image.FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    assert frechet_distance(real, fake) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_monai_finds_the_same():
    from monai.metrics import FIDMetric

    real, fake = gaussian(0, 80, 12), gaussian(1, 90, 12) @ gaussian(2, 12, 12) + 1
    theirs = FIDMetric()(torch.from_numpy(fake), torch.from_numpy(real))
    assert frechet_distance(real, fake) == pytest.approx(float(theirs), rel=1e-6)


ROWS = gaussian(0, 30, 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: frechet_distance(ROWS, ROWS[:, :4]), "5 and 4"),
        (lambda: frechet_distance(ROWS, np.where(ROWS > 2, np.nan, ROWS)), "NaN"),
        (lambda: frechet_distance(ROWS, np.full((30, 5), np.inf)), "infinity in 30 of 30 images, the first at row 0"),
        (lambda: frechet_distance(ROWS, ROWS[:1]), "at least 2 images"),
        (lambda: frechet_distance(ROWS, ROWS[:0]), "at least 2 images[^$]*fake"),
        (lambda: frechet_distance(ROWS[:, 0], ROWS), "one row an image"),
        (lambda: GaussianStatistics(ROWS).update(ROWS[:, :4]), "5 and 4"),
        (lambda: GaussianStatistics(ROWS).merge(GaussianStatistics(ROWS[:, :4])), "5 and 4"),
        (lambda: GaussianStatistics().mean, "at least 1 images"),
        (lambda: GaussianStatistics(ROWS[:1]).covariance, "at least 2 images"),
        (lambda: GaussianStatistics(ROWS[:1]).trace, "at least 2 images"),
        (lambda: GaussianStatistics().rank, "at least 2 images"),
        (lambda: frechet_extrapolated(ROWS, ROWS[:19]), "at least 20 images[^$]*fake"),
        (lambda: frechet_extrapolated(ROWS, ROWS[:, :4]), "5 and 4"),
        (lambda: frechet_extrapolated(ROWS, ROWS, sizes=2), "at least 3 sizes"),
    ],
)
def test_what_cannot_be_compared_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()
