"""Fréchet distance between the features of real and fake images, as if both were Gaussian (Heusel et al. 2017, "GANs
trained by a two time-scale update rule"; with Inception's pool3 features it is the FID).

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2)

Lower is better; 0 is the least, for equal means and covariances. It has the square of the features' unit, and depends
on the features and on the number of images: fewer give more. Compare only what was computed with the same features and
the same count.

The matrix root is never formed: its trace is the sum of the square roots of the eigenvalues of S1 S2, which are those
of a symmetric problem. Where S1 = A'A and S2 = B'B it is also the sum of the singular values of A B', and while there
are no more images than features the factors are the centered features themselves, so that the work is done in the space
of the samples.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from scipy import linalg
from scipy.stats import linregress

from mrsynth.errors import UserError
from mrsynth.metrics.samples import FeatureMatrix, feature_matrix, feature_pair, same_width
from mrsynth.representation import ShowsParameters


class GaussianStatistics(ShowsParameters):
    """Mean and covariance of features that arrive in batches, in float64.

    Batches are kept as they are until there are more images than features, and then folded into a mean and a matrix of
    scatter about it (Chan, Golub, LeVeque 1979), so it is as exact as two passes over all features, and never holds
    more than a few matrices `(D, D)`. Several parts (processes, chunks) add up by :meth:`merge`, in any order.

    Args:
        features: the first batch, `(N, D)`.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import GaussianStatistics
        >>> statistics = GaussianStatistics()
        >>> for _ in range(3):  # batches
        ...     statistics.update(torch.rand(10, 4))
        >>> statistics.count
        30
    """

    def __init__(self, features: FeatureMatrix | None = None) -> None:
        self.count = 0
        """Images seen."""
        self._rows: list[torch.Tensor] = []
        self._folded = 0
        self._mean = self._scatter = torch.empty(0)
        if features is not None:
            self.update(features)

    def update(self, features: FeatureMatrix) -> None:
        """Add images, `(n, D)`.

        Raises:
            UserError: not a matrix, values that are not finite, or another number of features than before.
        """
        rows = feature_matrix(features, least=0)
        if not len(rows):
            return
        if self.count:
            same_width(self.features, rows.shape[1])
        self._rows.append(rows.clone())  # the caller may write into its own
        self.count += len(rows)
        if self.count - self._folded > self.features:
            self._fold()

    def merge(self, other: GaussianStatistics) -> None:
        """Add the images that ``other`` has seen; it stays as it is.

        Raises:
            UserError: it has another number of features.
        """
        other = copy.deepcopy(other)
        if self.count and other.count:
            same_width(self.features, other.features)
        if other._folded:
            self._fold()
            self._add(other._folded, other._mean, other._scatter)
            self.count += other._folded
        for rows in other._rows:
            self.update(rows)

    def need(self, least: int, name: str = "seen") -> None:
        """Refuse fewer than ``least`` images; ``name`` is what the error calls the set."""
        if self.count < least:
            raise UserError(
                f"at least {least} images",
                str(self.count),
                f"the features of the {name} images",
                "give more images, or leave this measure out",
            )

    @property
    def features(self) -> int:
        """Number of features, D; 0 before the first image."""
        return self._rows[0].shape[1] if self._rows else len(self._mean)

    @property
    def mean(self) -> torch.Tensor:
        """Mean, `(D,)`."""
        self.need(1)
        if self._folded:
            self._fold()
            return self._mean.clone()
        return torch.cat(self._rows).mean(dim=0)

    @property
    def covariance(self) -> torch.Tensor:
        """Unbiased covariance, `(D, D)`; it needs two images."""
        self.need(2)
        if self._folded:
            self._fold()
            return self._scatter / (self.count - 1)
        factor = self.factor()
        return factor.T @ factor

    @property
    def trace(self) -> float:
        """Trace of the covariance, the total variance."""
        self.need(2)
        if self._folded:
            self._fold()
            return float(self._scatter.trace()) / (self.count - 1)
        return float(self.factor().square().sum())

    @property
    def rank(self) -> int:
        """Rank of the covariance, as far as float64 tells: at most N - 1 and at most D."""
        return int(torch.linalg.matrix_rank(self.factor()))

    def factor(self) -> torch.Tensor:
        """A matrix whose product with itself, transposed first, is the covariance: `(N, D)` if N <= D, else `(D, D)`.

        Raises:
            UserError: there are fewer than two images.
        """
        self.need(2)
        if not self._folded:
            rows = torch.cat(self._rows)
            return (rows - rows.mean(dim=0)) / (self.count - 1) ** 0.5
        covariance = self.covariance
        lower, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return lower.T
        values, vectors = torch.linalg.eigh(covariance)  # singular
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    def _fold(self) -> None:
        if self._rows:
            rows, self._rows = torch.cat(self._rows), []
            mean = rows.mean(dim=0)
            rows -= mean
            array = rows.numpy()
            scatter = array.T @ array  # NumPy sees that this is symmetric, and does half of the work
            self._add(len(rows), mean, torch.from_numpy(scatter))

    def _add(self, count: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        if not self._folded:
            self._folded, self._mean, self._scatter = count, mean, scatter
            return
        total, step = self._folded + count, mean - self._mean
        self._scatter += scatter
        self._scatter.addr_(step, step, alpha=self._folded * count / total)
        self._mean += step * (count / total)
        self._folded = total


def frechet_distance(real: GaussianStatistics | FeatureMatrix, fake: GaussianStatistics | FeatureMatrix) -> float:
    """Fréchet distance of two sets of features, from 0 up; lower is better.

    Fewer images than features make the covariances singular and the distance too great. It is a distance all the same,
    so this is a warning and no error; :attr:`GaussianStatistics.rank` says how much the images span, and
    :func:`frechet_extrapolated` what the distance tends to.

    Args:
        real: features `(N, D)`, or their statistics.
        fake: likewise.

    Raises:
        UserError: not matrices, values that are not finite, fewer than two images, or different numbers of features.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import frechet_distance
        >>> features = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(features, features + 1), 3)  # the means differ by 1 in each of 4 dimensions
        4.0
    """
    one, other = (s if isinstance(s, GaussianStatistics) else GaussianStatistics(s) for s in (real, fake))
    few = min(one.count, other.count)
    if 2 <= few <= one.features == other.features:
        warnings.warn(
            f"{few} images for {one.features} features: the covariance has rank {few - 1} at most, and the Fréchet "
            "distance is greater than that of many images; compare it only with that of as many images",
            stacklevel=2,
        )
    return _distance(one, other)


def _distance(real: GaussianStatistics, fake: GaussianStatistics) -> float:
    for statistics, name in ((real, "real"), (fake, "fake")):
        statistics.need(2, name)
    same_width(real.features, fake.features)
    value = float((real.mean - fake.mean).square().sum()) + real.trace + fake.trace - 2 * _trace_of_root(real, fake)
    return max(0.0, value)


def _trace_of_root(real: GaussianStatistics, fake: GaussianStatistics) -> float:
    if min(real.count, fake.count) > real.features:
        pair = real.covariance.numpy().T, fake.covariance.numpy().T  # in LAPACK's order, to be written into
        try:
            values = linalg.eigh(*pair, type=2, eigvals_only=True, driver="gv", overwrite_a=True, overwrite_b=True)
            return float(np.sqrt(values.clip(min=0)).sum())
        except linalg.LinAlgError:  # singular, as with a feature that is always zero
            pass
    return float(torch.linalg.svdvals(real.factor() @ fake.factor().T).sum())


def frechet_extrapolated(
    real: FeatureMatrix, fake: FeatureMatrix, *, sizes: int = 10, repeats: int = 2, seed: int = 0
) -> dict[str, float]:
    """Limit of the Fréchet distance for many images (Chong and Forsyth 2020, "Effectively unbiased FID
    and Inception score").

    The distance falls with the number of images N as a + b / N; a is found by a straight line through the distances of
    random subsets of several sizes, from half of the images to all. There, real images abound, and only the fake ones
    are drawn; here both sets are small, and both are drawn, N of each. With far fewer images than features the fall is
    not yet a straight line and a is an improvement but no measurement; ``r_squared`` does not tell.

    Args:
        real: features `(N, D)`.
        fake: likewise; the largest N is the smaller of the two counts.
        sizes: how many different N.
        repeats: subsets of each size.
        seed: of the subsets.

    Returns:
        ``distance``: of all images; ``extrapolated``: a; ``standard_error`` of a (of the line alone; the subsets
        overlap, so it is too small); ``slope``: b; ``r_squared`` of the line, 0 to 1; ``real``, ``fake``: images;
        ``rank_real``, ``rank_fake``: of the covariances; ``features``: D; ``smallest``: the smallest N; ``seed``.

    Raises:
        UserError: fewer than 20 images of a set, or as :func:`frechet_distance`.
    """
    one, other = feature_pair(real, fake, least=20)
    if sizes < 3 or repeats < 1:
        raise UserError(
            "at least 3 sizes and 1 repeat",
            f"{sizes} and {repeats}",
            "frechet_extrapolated",
            "give sizes=3 or more and repeats=1 or more",
        )
    random, most = np.random.default_rng(seed), min(len(one), len(other))
    counts, distances = [], []
    for count in np.repeat(np.linspace(most // 2, most, sizes).astype(int), repeats):
        drawn = (GaussianStatistics(rows[random.permutation(len(rows))[:count]]) for rows in (one, other))
        counts.append(count)
        distances.append(_distance(*drawn))
    line = linregress(1 / np.asarray(counts), distances)
    whole = [GaussianStatistics(rows) for rows in (one, other)]
    return {
        "distance": _distance(*whole),
        "extrapolated": float(line.intercept),
        "standard_error": float(line.intercept_stderr),
        "slope": float(line.slope),
        "r_squared": float(line.rvalue**2),
        "real": len(one),
        "fake": len(other),
        "rank_real": whole[0].rank,
        "rank_fake": whole[1].rank,
        "features": one.shape[1],
        "smallest": min(map(int, counts)),
        "seed": seed,
    }
