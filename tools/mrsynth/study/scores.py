"""The scores that an evaluation leaves: a line a test subject and region."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

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
    do, keys = f"remove {path.parents[1]} and start again", ["subject", "region"]
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=dict.fromkeys(MEASURES, ""))
        frame = frame[[*keys, *MEASURES]].astype(dict.fromkeys(MEASURES, float))
    except (OSError, KeyError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UserError(f"columns {', '.join([*keys, *MEASURES])}", found, path, do) from error
    there = list(frame[keys].itertuples(index=False, name=None))
    wanted = set(product(subjects, REGIONS))
    if set(there) != wanted or len(there) != len(wanted):
        twice = sorted({pair for pair in there if there.count(pair) > 1})
        raise UserError(
            f"scores of {len(subjects)} test subjects in {list(REGIONS)}, each once",
            f"{len(there)} lines; other or missing: {sorted(set(there) ^ wanted)[:5]}; more than once: {twice[:5]}",
            path,
            do,
        )
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
