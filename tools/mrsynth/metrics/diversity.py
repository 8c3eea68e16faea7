"""Diversity of tumors over subjects, synthetic against real.

The features have names: in each part of the tumor (core, edema, enhancing) and each sequence, the mean intensity
and its standard deviation over the voxels (how mottled the part is). Measured on synthetic and real images of the
same labels, a difference in their spread is the generator's and not that of the labels. A generator that paints
all tumors alike (mode collapse; Doncenco 2022, section 3.1) has a ratio well below 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrsynth.conventions import CORE, EDEMA, ENHANCING, SEQUENCES

PARTS = {"core": CORE, "edema": EDEMA, "enhancing": ENHANCING}
LEAST_VOXELS = 3


def feature_names() -> list[str]:
    """Names of the features, in the order of :func:`tumor_features`.

    Examples:
        >>> from mrsynth.metrics import feature_names
        >>> feature_names()[:2], len(feature_names())
        (['core t1 mean', 'core t1 texture'], 24)
    """
    return [f"{part} {name} {kind}" for part in PARTS for name in SEQUENCES for kind in ("mean", "texture")]


def tumor_features(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Features of one subject's tumor.

    Args:
        image: `(4, X, Y, Z)`, sequences in the project's order.
        label: `(X, Y, Z)`, values 0, 1, 2, 4.

    Returns:
        One value per :func:`feature_names`; NaN where the part is absent.
    """
    values = []
    for part in PARTS.values():
        inside = image[:, label == part].astype(float)
        enough = inside.shape[1] >= LEAST_VOXELS
        for voxels in inside:
            values += [voxels.mean(), voxels.std()] if enough else [np.nan, np.nan]
    return np.asarray(values)


def diversity(real: np.ndarray, synthetic: np.ndarray) -> dict[str, Any]:
    """Compare the spread of synthetic tumors with that of real ones.

    Args:
        real: `(n, features)` of real subjects, NaN where absent.
        synthetic: `(m, features)` likewise.

    Returns:
        ``features``: for each, ``real_sd`` and ``synthetic_sd`` over subjects and their ``ratio``. ``sd_ratio``: the
        geometric mean of these ratios. ``distance``: the mean distance between two subjects (root mean square of the
        differences, in units of intensity), ``real``, ``synthetic`` and their ``ratio``. ``subjects``: n and m. None
        where there are fewer than two subjects.
    """
    features, ratios = {}, []
    for index, name in enumerate(feature_names()):
        spreads = [_sd(group[:, index]) for group in (real, synthetic)]
        ratio = _ratio(spreads[1], spreads[0])
        features[name] = {"real_sd": spreads[0], "synthetic_sd": spreads[1], "ratio": ratio}
        if ratio:
            ratios.append(ratio)
    distances = [_mean_distance(group) for group in (real, synthetic)]
    return {
        "subjects": {"real": len(real), "synthetic": len(synthetic)},
        "sd_ratio": float(np.exp(np.mean(np.log(ratios)))) if ratios else None,
        "distance": {"real": distances[0], "synthetic": distances[1], "ratio": _ratio(distances[1], distances[0])},
        "features": features,
    }


def _sd(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _mean_distance(rows: np.ndarray) -> float | None:
    """Over all pairs of rows, the root mean square difference of the features that both have."""
    distances = []
    for index, row in enumerate(rows):
        for other in rows[index + 1 :]:
            difference = (row - other)[np.isfinite(row - other)]
            if len(difference):
                distances.append(float(np.sqrt(np.mean(difference**2))))
    return float(np.mean(distances)) if distances else None
