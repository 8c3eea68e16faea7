"""The scores that an evaluation leaves: a line a test subject and region."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrsynth.conventions import REGIONS
from mrsynth.errors import UserError
from mrsynth.metrics import MEASURES


def read_scores(path: Path, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """``subject``, ``region`` and the measures of each line of a ``per_subject.csv``; an undefined score is None.

    Args:
        path: the file.
        subjects: the test subjects.

    Raises:
        UserError: no such file, a score that is no number, or not the scores of each subject and region once.
    """
    do = f"remove {path.parents[1]} and start again"
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        scores = [
            {"subject": line["subject"], "region": line["region"]}
            | {measure: float(line[measure]) if line[measure] else None for measure in MEASURES}
            for line in lines
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UserError(f"columns subject, region, {', '.join(MEASURES)}", found, path, do) from error
    there = [(score["subject"], score["region"]) for score in scores]
    wanted = {(subject, region) for subject in subjects for region in REGIONS}
    if set(there) != wanted or len(there) != len(wanted):
        twice = sorted({pair for pair in there if there.count(pair) > 1})
        raise UserError(
            f"scores of {len(subjects)} test subjects in {list(REGIONS)}, each once",
            f"{len(there)} lines; other or missing: {sorted(set(there) ^ wanted)[:5]}; more than once: {twice[:5]}",
            path,
            do,
        )
    return scores
