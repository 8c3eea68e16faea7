"""Mean and spread over subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def mean_sd(values: Iterable[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and number of the finite ``values``; None where they do not exist.

    Examples:
        >>> from mrsynth.metrics import mean_sd
        >>> mean_sd([1.0, 2.0, 3.0])
        {'mean': 2.0, 'sd': 1.0, 'n': 3}
    """
    finite = np.asarray([v for v in values if np.isfinite(v)], dtype=float)
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "sd": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        "n": len(finite),
    }


def mean_sd_text(value: Mapping[str, Any]) -> str:
    """The result of :func:`mean_sd` as text, "0.812 (0.043)"; a dash for a missing value."""
    mean, sd = ("-" if value[key] is None else f"{value[key]:.3f}" for key in ("mean", "sd"))
    return "-" if value["mean"] is None else f"{mean} ({sd})"
