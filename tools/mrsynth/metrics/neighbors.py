"""Measures from nearest neighbors in feature space: precision and recall, density and coverage, and the accuracy of a
1-nearest-neighbor classifier.

Distances are Euclidean, between all pairs, exact. Every product of features is summed in float64; the distance is then
rounded to float32, and two images whose features agree to float32 are at distance 0, so that ties are ties whatever the
order of the sums. Memory is for a few hundred rows of the matrix of distances at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mrsynth.errors import UserError
from mrsynth.metrics.samples import FeatureMatrix, feature_pair

ROWS = 512
"""Rows of the matrix of distances that are held at a time."""


def precision_recall(real: FeatureMatrix, fake: FeatureMatrix, k: int = 3) -> dict[str, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019).

    A set's manifold is the union of balls about its images, each as large as the distance to its ``k``-th neighbor in
    the same set, surface included. Precision is the share of fake images inside the manifold of the real ones (how
    real they look), recall that of real images inside the manifold of the fake ones (how much of the variety is
    there). Both are from 0 to 1, higher is better, identical sets have 1 and 1, and two samples of one distribution
    less than 1.

    Args:
        real: features `(N, D)`.
        fake: likewise, `(M, D)`.
        k: which neighbor; an image is not its own.

    Returns:
        ``precision``, ``recall``, ``k``, ``real`` and ``fake`` (images).

    Raises:
        UserError: not matrices of as many features, values that are not finite, or no more than ``k`` images in a set.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import precision_recall
        >>> features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> precision_recall(features, features + 100)
        {'precision': 0.0, 'recall': 0.0, 'k': 3, 'real': 200, 'fake': 200}
    """
    one, other = _pair(real, fake, k)
    real_radii, fake_radii = _radii(one, k), _radii(other, k)
    fake_inside, real_inside = torch.zeros(len(other), dtype=torch.bool), torch.zeros(len(one), dtype=torch.bool)
    for rows, distances in _distances(one, other):
        fake_inside |= (distances <= real_radii[rows, None]).any(dim=0)
        real_inside[rows] = (distances <= fake_radii).any(dim=1)
    return {
        "precision": float(fake_inside.double().mean()),
        "recall": float(real_inside.double().mean()),
        "k": k,
        "real": len(one),
        "fake": len(other),
    }


def density_coverage(real: FeatureMatrix, fake: FeatureMatrix, k: int = 5) -> dict[str, float]:
    """Density and coverage (Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models").

    About each real image is a ball as large as the distance to its ``k``-th neighbor among the real images, surface
    excluded. Density is the mean number of balls that a fake image is in, divided by ``k``: from 0 up, 1 on average
    for two samples of one distribution, above 1 where fake images crowd where real ones are dense. Coverage is the
    share of balls with a fake image in them: from 0 to 1, about 1 - 2^-k for two samples of one distribution and size.
    Higher is better. Identical sets have 1 and 1. A real image that is there more than ``k`` times has a ball of size
    0, which nothing is in.

    Args:
        real: features `(N, D)`.
        fake: likewise, `(M, D)`.
        k: which neighbor; an image is not its own.

    Returns:
        ``density``, ``coverage``, ``k``, ``real`` and ``fake`` (images).

    Raises:
        UserError: not matrices of as many features, values that are not finite, or no more than ``k`` images in a set.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import density_coverage
        >>> features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> density_coverage(features, features)["coverage"]
        1.0
    """
    one, other = _pair(real, fake, k)
    radii, inside, covered = _radii(one, k), 0, 0
    for rows, distances in _distances(one, other):
        within = distances < radii[rows, None]
        inside += int(within.sum())
        covered += int(within.any(dim=1).sum())
    return {
        "density": inside / (k * len(other)),
        "coverage": covered / len(one),
        "k": k,
        "real": len(one),
        "fake": len(other),
    }


def nearest_neighbor_accuracy(real: FeatureMatrix, fake: FeatureMatrix) -> dict[str, float]:
    """Leave-one-out accuracy of the 1-nearest-neighbor classifier of real against fake, on each set by itself (Xu et
    al. 2018, "An empirical study on evaluation metrics of generative adversarial networks"; Haarburger 2019, table 2).

    From 0 to 1; best is chance, about 0.5 for sets of one size. Above it the sets lie apart: on the fake images alone,
    each has a fake twin (few modes). Below it, each has its neighbor in the other set: identical sets have 0 and 0,
    as has a generator that recites its training images. Where several images are equally near, the answer counts as
    the share of them that are of the right set.

    Args:
        real: features `(N, D)`.
        fake: likewise, `(M, D)`; of unequal sets the larger finds its own more often: compare with chance.

    Returns:
        ``accuracy_real``, ``accuracy_fake``, and ``accuracy``, the mean of the two; ``chance_real`` and
        ``chance_fake``, what two sets from one distribution have on average; ``real`` and ``fake`` (images).

    Raises:
        UserError: not matrices of as many features, values that are not finite, or fewer than two images in a set.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import nearest_neighbor_accuracy
        >>> features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> nearest_neighbor_accuracy(features, features + 100)["accuracy_fake"]  # 0.5 is best
        1.0
    """
    one, other = _pair(real, fake, 1)
    on_real, on_fake = _own_share(one, other), _own_share(other, one)
    rest = len(one) + len(other) - 1
    return {
        "accuracy_real": on_real,
        "accuracy_fake": on_fake,
        "accuracy": (on_real + on_fake) / 2,
        "chance_real": (len(one) - 1) / rest,
        "chance_fake": (len(other) - 1) / rest,
        "real": len(one),
        "fake": len(other),
    }


def _pair(real: FeatureMatrix, fake: FeatureMatrix, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sets relative to their common mean: the distances are the same and lose fewer digits."""
    if k < 1:
        raise UserError("a neighbor from 1 up", f"k = {k}", "k, the number of the neighbor", "give k=1 or more")
    one, other = feature_pair(real, fake, least=k + 1)
    center = (one.mean(dim=0) + other.mean(dim=0)) / 2
    return one - center, other - center


def _distances(one: torch.Tensor, other: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Distances of some rows of ``one`` `(N, D)` to all of ``other`` `(M, D)`, float32 `(n, M)`, and which rows."""
    squares, other_squares = one.square().sum(dim=1), other.square().sum(dim=1)
    for start in range(0, len(one), ROWS):
        rows = slice(start, start + ROWS)
        sums = squares[rows, None] + other_squares
        squared = sums - 2 * (one[rows] @ other.T)
        squared[squared < sums * 1e-13] = 0
        yield rows, squared.sqrt().float()


def _within(points: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """:func:`_distances` inside one set, infinite from an image to itself."""
    for rows, distances in _distances(points, points):
        own = torch.arange(len(distances))
        distances[own, own + rows.start] = torch.inf
        yield rows, distances


def _radii(points: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each point to its ``k``-th neighbor in the same set, float32 `(N,)`."""
    return torch.cat([distances.kthvalue(k, dim=1).values for _, distances in _within(points)])


def _own_share(own: torch.Tensor, other: torch.Tensor) -> float:
    """For how many of ``own`` the nearest image is in ``own`` too; ties count by their share."""
    right = 0.0
    for (_, inside), (_, across) in zip(_within(own), _distances(own, other), strict=True):
        nearest = torch.minimum(inside.amin(dim=1), across.amin(dim=1))[:, None]
        same, different = ((distances == nearest).sum(dim=1).double() for distances in (inside, across))
        right += float((same / (same + different)).sum())
    return right / len(own)
