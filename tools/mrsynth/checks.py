"""Checks of single settings, and lists cut to a readable length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mrsynth.errors import UserError


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """``value`` as an int, if it is a whole number from ``least`` to ``most``, both included.

    Raises:
        UserError: it is not. True and False are not numbers here.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or value < least
        or (most is not None and value > most)
    ):
        expected = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
        raise UserError(expected, repr(value), name, f"set {name} to {expected.removeprefix('a ')}")
    return int(value)


def number(name: str, value: Any, least: float = 0.0, most: float = math.inf, unit: str = "") -> float:
    """``value`` as a float, if it is a finite number from ``least`` to ``most``, both included.

    Raises:
        UserError: it is not. True and False are not numbers here.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.number))
        or not (least <= value <= most and math.isfinite(value))
    ):
        of = f" of {unit}" if unit else ""
        expected = (
            f"a number{of}, {least:g} or more" if most == math.inf else f"a number{of} from {least:g} to {most:g}"
        )
        raise UserError(expected, repr(value), name, f"set {name} to {expected}")
    return float(value)


def shorten(lines: Sequence[str], most: int) -> list[str]:
    """The first ``most`` lines, and one that counts the rest if there are more."""
    rest = len(lines) - most
    return [*lines[:most], *([f"... and {rest} more"] if rest > 0 else [])]
