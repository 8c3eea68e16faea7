"""Classifier two-sample test: can a classifier separate fake from real images? (Lopez-Paz and Oquab 2017, "Revisiting
classifier two-sample tests")."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mrsynth.errors import UserError
from mrsynth.metrics.samples import FeatureMatrix, feature_pair

CLASSIFIERS = ("logistic", "mlp")


def classifier_two_sample_test(
    real: FeatureMatrix, fake: FeatureMatrix, *, classifier: str = "logistic", folds: int | None = None, seed: int = 0
) -> dict[str, float | str | int]:
    """Accuracy of a real-or-fake classifier on images that it was not trained on.

    From 0 to 1; 0.5 is best (the classifier cannot separate the two), 1 worst. From the larger of two unequal sets as
    many images are drawn as the smaller has, so chance is 0.5. Features are standardized by the training part.

    Args:
        real: features `(N, D)`.
        fake: likewise.
        classifier: "logistic" (logistic regression, ridge penalty of weight 1) or "mlp" (20 hidden units, 100 epochs
            of Adam, as the paper's).
        folds: None, a random half is held out for the test, as in the paper, and the p value is exact; or stratified
            cross-validation in so many folds, which tests every image, but whose answers depend on each other, so the
            p value is approximate.
        seed: of the draw, the split and the network.

    Returns:
        ``accuracy``; ``p_value``, the probability of at least so many right answers by chance (one-sided binomial);
        ``tested``, the images that were tested; ``images``, of each set; ``classifier``; ``folds`` (0: a half held
        out); ``seed``.

    Raises:
        UserError: not matrices of as many features, values that are not finite, fewer than 10 images of a set (or
            than folds), or a classifier of another name.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import classifier_two_sample_test
        >>> features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> classifier_two_sample_test(features[:100], features[100:] + 100)["accuracy"]
        1.0
    """
    if classifier not in CLASSIFIERS:
        raise UserError(
            " or ".join(CLASSIFIERS), classifier, "classifier of the two-sample test", "give classifier='logistic'"
        )
    if folds is not None and folds < 2:
        raise UserError(
            "2 folds or more, or None", f"{folds}", "folds of the two-sample test", "give folds=5, or folds=None"
        )
    pair = [rows.numpy() for rows in feature_pair(real, fake, least=max(10, folds or 0))]
    random, images = np.random.default_rng(seed), min(map(len, pair))
    rows = np.concatenate([rows[np.sort(random.permutation(len(rows))[:images])] for rows in pair])
    truth = np.repeat([0, 1], images)
    model = make_pipeline(StandardScaler(), _model(classifier, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the network's epochs are given
        if folds is None:
            train, test = train_test_split(np.arange(len(rows)), test_size=0.5, stratify=truth, random_state=seed)
            right = model.fit(rows[train], truth[train]).predict(rows[test]) == truth[test]
        else:
            split = StratifiedKFold(folds, shuffle=True, random_state=seed)
            right = cross_val_predict(model, rows, truth, cv=split) == truth
    return {
        "accuracy": float(right.mean()),
        "p_value": float(binomtest(int(right.sum()), len(right), 0.5, alternative="greater").pvalue),
        "tested": len(right),
        "images": images,
        "classifier": classifier,
        "folds": folds or 0,
        "seed": seed,
    }


def _model(classifier: str, seed: int) -> LogisticRegression | MLPClassifier:
    if classifier == "logistic":
        return LogisticRegression(max_iter=1000)
    return MLPClassifier((20,), max_iter=100, random_state=seed)
