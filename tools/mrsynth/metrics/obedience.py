"""Whether images are of the class they were made as: a classifier of real images is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mrsynth.errors import UserError


def class_obedience(
    training: Sequence[torch.Tensor], real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]
) -> dict[str, Any]:
    """Balanced accuracy of a logistic regression on real images that it has not seen, and on synthetic ones.

    Haarburger 2019 made patches of a class for the sake of such a classifier (section 1). From 0 to 1, chance being
    1 / classes; synthetic images are as obedient as can be told where they reach the accuracy on real ones.

    Args:
        training: by class, features `(N, D)` of real images of the training subjects.
        real: likewise, of other subjects.
        fake: likewise, of images made as that class.

    Returns:
        ``real`` and ``fake``: each ``accuracy`` (the mean over the classes), ``confusion`` (rows: the true class or the
        one asked for; columns: the answer; shares of the row) and ``n`` by class; ``chance``; ``p_value`` of as many
        right answers on synthetic images by chance (one-sided binomial).

    Raises:
        UserError: fewer than two classes, or a class without images.
    """
    for name, sets in (("training", training), ("real", real), ("fake", fake)):
        if len(sets) < 2 or len(sets) != len(training) or any(not len(rows) for rows in sets):
            raise UserError(
                "features of two classes or more, each of some images",
                f"{[len(rows) for rows in sets]} images",
                name,
                "give images of each class",
            )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
    model.fit(torch.cat(list(training)).numpy(), np.repeat(np.arange(len(training)), [len(rows) for rows in training]))
    result: dict[str, Any] = {"chance": 1 / len(training)}
    right = asked = 0
    for name, sets in (("real", real), ("fake", fake)):
        confusion, counts = [], []
        for number, rows in enumerate(sets):
            answers = model.predict(rows.numpy())
            confusion.append([float((answers == other).mean()) for other in range(len(sets))])
            counts.append(len(rows))
            if name == "fake":
                right, asked = right + int((answers == number).sum()), asked + len(rows)
        accuracy = float(np.mean([row[number] for number, row in enumerate(confusion)]))
        result[name] = {"accuracy": accuracy, "confusion": confusion, "n": counts}
    result["p_value"] = float(binomtest(right, asked, 1 / len(training), alternative="greater").pvalue)
    return result
