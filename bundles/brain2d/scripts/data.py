"""Which subjects are used (Han 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrsynth.errors import UserError


def of_grade(
    subjects: Mapping[str, Sequence[Mapping[str, Any]]], grade: str | None
) -> dict[str, list[Mapping[str, Any]]]:
    """The subjects of one grade (the paper: HGG alone); None takes all.

    Raises:
        UserError: no subject's grade is known, or none has this one.
    """
    if grade is None:
        return {section: list(items) for section, items in subjects.items()}
    chosen = {section: [item for item in items if item.get("grade") == grade] for section, items in subjects.items()}
    if not any(chosen.values()):
        known = sorted({str(item["grade"]) for items in subjects.values() for item in items if item.get("grade")})
        raise UserError(
            f"subjects of grade {grade}",
            f"grades {known}" if known else "no subject whose grade is known",
            "grade",
            "pass --grade null for all subjects, or a release that states grades (BraTS 2015 to 2020)",
        )
    return chosen
