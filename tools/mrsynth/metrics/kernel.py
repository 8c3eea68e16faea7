"""Kernel distance between the features of real and fake images (Binkowski et al. 2018, "Demystifying MMD GANs"; with
Inception's pool3 features it is the KID).

It is the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, by the estimator without bias: for two
independent samples of one distribution it is 0 on average, whatever their size, so a single value may be below 0, and
that of a set and itself is. Lower is better. Unlike the Fréchet distance it assumes no Gaussian, and does not grow as
the number of images falls.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from mrsynth.errors import UserError
from mrsynth.metrics.samples import FeatureMatrix, feature_pair

WHOLE = 4000
"""Sets up to this size have their kernel computed once, and not for each subset."""


def kernel_distance(
    real: FeatureMatrix, fake: FeatureMatrix, *, subsets: int = 100, subset_size: int | None = None, seed: int = 0
) -> dict[str, float]:
    """Mean and spread of the squared MMD over random subsets.

    Args:
        real: features `(N, D)`.
        fake: likewise, `(M, D)`.
        subsets: how many pairs of subsets.
        subset_size: images of each set in a subset, drawn without replacement; by default half of the smaller set, and
            1000 at most. With all images of both sets every subset is the same and the spread is 0.
        seed: of the subsets.

    Returns:
        ``mean``; ``sd`` over the subsets, which overlap (no standard error of the mean); ``subsets``, ``subset_size``,
        ``real`` and ``fake`` (images), ``features`` and ``seed``.

    Raises:
        UserError: not matrices of as many features, values that are not finite, fewer than four images of a set, or
            subsets that cannot be drawn.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import kernel_distance
        >>> a, b = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
        >>> kernel_distance(a, b + 3)["mean"] > kernel_distance(a, b)["mean"]
        True
    """
    one, other = (rows.numpy() for rows in feature_pair(real, fake, least=4))
    smaller = min(len(one), len(other))
    size = min(1000, smaller // 2) if subset_size is None else subset_size
    if not 2 <= size <= smaller or subsets < 1:
        raise UserError(
            f"at least one subset, of 2 to {smaller} images",
            f"{subsets} of {size}",
            "subsets and subset_size of the kernel distance",
            f"give subsets=1 or more and subset_size from 2 to {smaller}, or more images",
        )
    random = np.random.default_rng(seed)
    whole = max(len(one), len(other)) <= WHOLE
    kernels = [polynomial_kernel(*pair) for pair in ((one, one), (other, other), (one, other))] if whole else []
    values = []
    for _ in range(subsets):
        i, j = (random.permutation(len(rows))[:size] for rows in (one, other))
        if whole:
            parts = [kernel[np.ix_(*pair)] for kernel, pair in zip(kernels, ((i, i), (j, j), (i, j)), strict=True)]
        else:
            x, y = one[i], other[j]
            parts = [polynomial_kernel(*pair) for pair in ((x, x), (y, y), (x, y))]
        values.append(_mmd2(*parts))
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if subsets > 1 else 0.0,
        "subsets": subsets,
        "subset_size": size,
        "real": len(one),
        "fake": len(other),
        "features": one.shape[1],
        "seed": seed,
    }


def _mmd2(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> float:
    """Unbiased squared MMD of two sets of equal size, from kernels `(n, n)`; the diagonals within are left out."""
    size = len(xy)
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return float(within / (size * (size - 1)) - 2 * xy.mean())
