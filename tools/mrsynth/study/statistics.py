"""From the scores of a study's test subjects to means, intervals and paired tests.

A record is one test subject's scores in one region, from one training of a segmenter:
``{"row", "grid", "segmenter", "fold", "seed", "subject", "region", "dice", "hd95", "sensitivity", "precision"}``.
The unit of everything here is the subject: scores of several seeds are averaged for each subject first, so that
repeating a training does not make a study look larger than it is. Intervals are bootstrap intervals of the mean
(Efron 1987, bias-corrected and accelerated), tests are Wilcoxon's signed-rank test on paired differences (1945), and
Holm's correction (1979) is taken over all rows and regions of one segmenter on one grid. Both are about subjects: what
another training would have given shows in the standard deviation over seeds alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mrsynth.conventions import REGIONS
from mrsynth.errors import UserError
from mrsynth.manifest.splits import natural
from mrsynth.metrics import MEASURES, mean_sd

KEYS = ("row", "grid", "segmenter", "fold", "seed", "subject", "region")
LEVEL = 0.05
"""Two-sided level at which a corrected p is called significant; intervals are of 1 - LEVEL."""

ITSELF = "is the reference"
RESAMPLES = 9999
ROUND = 12
"""Decimals kept of a score: two equal scores stay equal in whatever order they were averaged."""


def summarize(
    records: Iterable[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    reference: str,
    baseline: str | None = None,
    seed: int = 0,
    measures: Sequence[str] = MEASURES,
) -> dict[str, Any]:
    """Mean, spread and paired differences of every row, for each segmenter, grid and region.

    Args:
        records: the scores, in any order; a score that does not exist is None, NaN or infinite.
        rows: the row definitions in table order. Used here: ``name``, ``grid``, ``real``, ``synthetic``,
            ``augmentation``, ``fine_tune``, ``published`` and ``reference``.
        reference: name of the real-only row. A row is compared with the ``reference`` that its definition names, else
            with the row that differs from this one in grid and augmentation alone and has the row's own, else with
            this one if it has the row's grid.
        baseline: name of the row to beat (copy-paste), on the row's grid; None for no such comparison.
        seed: of the bootstrap.
        measures: what to summarize; differences are taken of ``dice`` alone.

    Returns:
        ``tables``: one a segmenter and grid, with its ``regions``, ``subjects``, ``folds``, ``seeds``,
        ``comparisons`` (how many p the correction is over, with the reference and with the baseline), ``smallest_p``
        (the least p that so many subjects can give at best) and ``rows``. A row has ``name``, ``reference`` (whom it is
        compared with), ``why`` (if with nobody), ``published`` and ``regions``. A region has for each measure what
        :func:`describe` returns with ``missing`` and ``sd_seeds``, and ``difference`` and ``baseline_difference`` as
        :func:`compare` returns them with ``p_holm``. A number that does not exist is None, with a ``reason``.

    Raises:
        UserError: a record lacks a key, appears twice or belongs to no row; two rows have one name and grid.
    """
    frame = _frame(records, rows, measures)
    definitions = _definitions(rows, frame)
    regions = sorted(set(frame["region"]), key=lambda region: ([*REGIONS, region].index(region), region))
    tables = []
    for segmenter in sorted(set(frame["segmenter"])):
        here = frame[frame["segmenter"] == segmenter]
        for grid in dict.fromkeys(grid for _, grid in definitions):
            if (here["grid"] == grid).any():
                tables.append(_table(here, segmenter, grid, definitions, regions, reference, baseline, seed, measures))
    return {
        "reference": reference,
        "baseline": baseline,
        "measures": list(measures),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES, "level": 1 - LEVEL},
        "tables": tables,
    }


def describe(values: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Mean, sd (n - 1), n and the bootstrap interval of the mean of one value a subject.

    Returns:
        ``mean``, ``sd``, ``n``, ``interval`` (low, high), ``method`` ("BCa" or "percentile") and ``reason`` (why
        something is None, or why the interval is not BCa; else None).
    """
    found = mean_sd(values)
    if found["n"] < 2:
        reason = "one subject has no spread" if found["n"] else "no subject has a value"
        return found | {"interval": None, "method": None, "reason": reason}
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # scipy's word that BCa does not exist: it is NaN then
            interval = stats.bootstrap(
                (np.asarray(values, dtype=float),),
                np.mean,
                confidence_level=1 - LEVEL,
                n_resamples=RESAMPLES,
                method=method,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
        ends = [float(np.round(end, ROUND)) for end in (interval.low, interval.high)]
        if np.isfinite(ends).all():
            fallback = None if method == "BCa" else "BCa is undefined for these values"
            return found | {"interval": ends, "method": method, "reason": fallback}
    return found | {"interval": None, "method": None, "reason": "the bootstrap gave no finite interval"}


def compare(scores: pd.DataFrame, others: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Paired difference in Dice points (x 100) of one row to another in one region, on the trainings both have.

    Args:
        scores: ``fold``, ``seed``, ``subject``, ``dice`` of the row.
        others: the same of the row it is compared with.
        seed: of the bootstrap.

    Returns:
        What :func:`describe` returns of the differences; ``p`` (two-sided signed-rank; 1 where all differences are
        zero), ``ratio`` of the two means, ``of`` (number of subjects of the other row) and ``smallest_p``.
    """
    runs = ["fold", "seed", "subject"]
    pairs = scores.merge(others, on=runs, suffixes=("", "_other")).dropna(subset=["dice", "dice_other"])
    means = pairs.groupby("subject")[["dice", "dice_other"]].mean()
    differences = np.round(100 * (means["dice"] - means["dice_other"]).to_numpy(), ROUND - 2)
    found = describe(differences, seed)
    found["of"] = int(others.dropna(subset=["dice"])["subject"].nunique())
    found["smallest_p"] = smallest_p(found["n"])
    found["p"] = found["ratio"] = None
    if found["n"] == 0:
        return found | {"reason": "no subject has been scored in both rows"}
    found["p"] = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    if not np.isfinite(found["p"]):
        found |= {"p": None, "reason": "the signed-rank test is undefined for these differences"}
    if means["dice_other"].mean() > 0:
        found["ratio"] = float(np.round(means["dice"].mean() / means["dice_other"].mean(), ROUND))
    return found


def smallest_p(n: int) -> float | None:
    """The least two-sided p that a signed-rank test of ``n`` subjects can give: all differences of one sign.

    That is at best: a difference of zero counts for nothing in the test.
    """
    return min(1.0, 2.0 / 2**n) if n else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's corrected p, in the order given; None stays None and is not counted."""
    known = [p for p in p_values if p is not None]
    corrected = iter(multipletests(known, method="holm")[1] if known else ())
    return [None if p is None else float(next(corrected)) for p in p_values]


def verdict(difference: Mapping[str, Any]) -> str:
    """What a difference shows: ``gain``, ``loss``, ``none``, ``unclear`` (test and interval disagree), ``unknown``."""
    if difference["p_holm"] is None or difference["interval"] is None:
        return "unknown"
    if difference["p_holm"] >= LEVEL:
        return "none"
    low, high = difference["interval"]
    return "gain" if low > 0 else "loss" if high < 0 else "unclear"


def is_reference_of(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether ``row`` is made like ``other`` but for grid, augmentation and name: the same real share, nothing else."""
    return all(_made(row)[key] == value for key, value in _made(other).items())


def grid_name(grid: Any) -> str:
    """A grid's name; ``own`` where a segmenter is left to its own."""
    return str(grid) if grid not in (None, "") else "own"


def _made(row: Mapping[str, Any]) -> dict[str, Any]:
    synthetic = {name: share for name, share in (row.get("synthetic") or {}).items() if share}
    return {"real": row.get("real", 1.0), "synthetic": synthetic, "fine_tune": row.get("fine_tune") or None}


def _frame(
    records: Iterable[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], measures: Sequence[str]
) -> pd.DataFrame:
    """The records as a table, sorted, scores finite or NaN, grids, folds and seeds as text: they tell runs apart."""
    records = list(records)
    for record in records:
        if lacking := [key for key in KEYS if key not in record]:
            do = "remove the evaluation's folder and start again"
            raise UserError(f"records with {', '.join(KEYS)}", f"none of {lacking}", dict(record), do)
    if strangers := sorted({str(record["row"]) for record in records} - {row["name"] for row in rows}):
        raise UserError("records of the table's rows", ", ".join(strangers), "records", "add the row to the table")
    records.sort(key=lambda record: [natural(str(record[key])) for key in KEYS])
    frame = pd.DataFrame(records, columns=[*KEYS, *measures], dtype=object)
    frame["grid"] = frame["grid"].map(grid_name)
    frame[["fold", "seed", "subject"]] = frame[["fold", "seed", "subject"]].map(str)
    scores = frame[list(measures)].astype(float)
    frame[list(measures)] = scores.where(np.isfinite(scores))
    frame = frame.astype(dict.fromkeys(measures, float))
    if (twice := frame.duplicated(list(KEYS))).any():
        found = f"{int(twice.sum())} more than one; the first: {frame[twice].iloc[0][list(KEYS)].to_dict()}"
        expected = "one record a row, grid, segmenter, fold, seed, subject and region"
        raise UserError(expected, found, "records", "read every training's scores once")
    return frame


def _definitions(rows: Sequence[Mapping[str, Any]], frame: pd.DataFrame) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Row definitions by name and grid, in table order; one that names no grid has its records', else everybody's."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        name, grid = row["name"], row.get("grid")
        seen = set(frame[frame["row"] == name]["grid"]) or set(frame["grid"])
        for own in [grid_name(grid)] if grid else sorted(seen):
            if (name, own) in found:
                do = "give each row a name of its own"
                raise UserError("rows that differ in name or grid", f"{name} twice", "table", do)
            found[name, own] = row
    if strays := set(zip(frame["row"], frame["grid"], strict=True)) - set(found):
        name, grid = min(strays, key=str)
        do = "add such a row to the table"
        raise UserError("records on the grid of their row", f"{name} on {grid}", "records", do)
    return found


def _reference_of(
    key: tuple[str, str], definitions: Mapping[tuple[str, str], Mapping[str, Any]], reference: str
) -> tuple[tuple[str, str] | None, str | None]:
    """Key of the row that the row ``key`` is compared with; or None, and why."""
    (name, grid), row = key, definitions[key]
    own = row.get("reference")
    if own is not None and own != name:
        named = sorted((k for k in definitions if k[0] == own), key=lambda k: k[1] != grid)  # the same grid first
        return (named[0], None) if named else (None, f"its reference {own} is not in the table")
    chosen = [k for k in definitions if k[0] == reference]
    if not chosen:
        return None, f"the reference {reference} is not in the table"
    model = definitions[chosen[0]]
    twins = [
        k
        for k, other in definitions.items()
        if k[1] == grid
        and other.get("augmentation", "none") == row.get("augmentation", "none")
        and other.get("reference") in (None, reference)
        and is_reference_of(other, model)
    ]
    same = [k for k in chosen if k[1] == grid]
    # a twin, which has no better twin than itself, is compared with the study's reference, if that is on the same grid
    candidates = (*same, *twins) if key in twins else (*twins, *same)
    if not candidates:
        return None, f"no reference row on grid {grid}"
    return (None, ITSELF) if candidates[0] == key else (candidates[0], None)


def _table(
    frame: pd.DataFrame,
    segmenter: str,
    grid: str,
    definitions: Mapping[tuple[str, str], Mapping[str, Any]],
    regions: Sequence[str],
    reference: str,
    baseline: str | None,
    seed: int,
    measures: Sequence[str],
) -> dict[str, Any]:
    """Everything about one segmenter on one grid; ``frame`` holds the segmenter's records on all grids."""
    scores = dict(tuple(frame.groupby(["row", "grid", "region"])))
    empty = frame.iloc[:0]
    lines: list[dict[str, Any]] = []
    for key, row in definitions.items():
        if key[1] != grid:
            continue
        other, why = _reference_of(key, definitions, reference)
        beaten = None if baseline in (None, key[0]) or (baseline, grid) not in definitions else (baseline, grid)
        why_not = "is the baseline" if baseline == key[0] else "no baseline row on this grid"
        cells = {}
        for region in regions:
            own = scores.get((*key, region), empty)
            cell: dict[str, Any] = {measure: _measure(own, measure, seed) for measure in measures}
            cell["difference"] = _against(own, other and scores.get((*other, region), empty), why, seed)
            cell["baseline_difference"] = _against(own, beaten and scores.get((*beaten, region), empty), why_not, seed)
            cells[region] = cell
        lines.append(
            {
                "name": key[0],
                "grid": grid,
                "is_reference": key[0] == reference or why == ITSELF,
                "is_baseline": key[0] == baseline,
                "synthetic": bool(_made(row)["synthetic"]),
                "reference": other and other[0],
                "reference_grid": other and other[1],
                "why": why,
                "published": dict(row.get("published") or {}),
                "regions": cells,
            }
        )
    comparisons = {}
    for kind in ("difference", "baseline_difference"):
        family = [line["regions"][region][kind] for line in lines for region in regions]
        for difference, corrected in zip(family, holm([d["p"] for d in family]), strict=True):
            difference["p_holm"] = corrected
        comparisons[kind] = sum(d["p"] is not None for d in family)
    here = frame[frame["grid"] == grid]
    subjects = sorted(set(here["subject"]))
    return {
        "segmenter": segmenter,
        "grid": grid,
        "regions": list(regions),
        "subjects": subjects,
        "folds": sorted(set(here["fold"]), key=natural),
        "seeds": sorted(set(here["seed"]), key=natural),
        "comparisons": comparisons,
        "smallest_p": smallest_p(len(subjects)),
        "rows": lines,
    }


def _measure(scores: pd.DataFrame, measure: str, seed: int) -> dict[str, Any]:
    """One measure of one row in one region: :func:`describe` of its subjects, and the spread over seeds."""
    values = scores.groupby("subject")[measure].mean().dropna()
    found = describe(np.round(values.to_numpy(dtype=float), ROUND), seed)
    found["missing"] = int(scores[measure].isna().sum())
    if scores.empty:
        found["reason"] = "no training of this row was scored"
    elif not found["n"]:
        found["reason"] = f"none of the {len(scores)} scores is finite"
    # seeds are compared on the subjects that all of them have scored
    by_seed = scores.pivot_table(index=["fold", "subject"], columns="seed", values=measure).dropna()
    found |= {"seeds": int(scores["seed"].nunique()), "sd_seeds": None, "sd_seeds_reason": None}
    if len(by_seed) and by_seed.shape[1] > 1:
        found["sd_seeds"] = float(np.round(by_seed.mean().std(ddof=1), ROUND))
    else:
        found["sd_seeds_reason"] = "one seed" if found["seeds"] < 2 else "no subject in all seeds"
    return found


def _against(own: pd.DataFrame, other: pd.DataFrame | None, why: str | None, seed: int) -> dict[str, Any]:
    if other is not None:
        return compare(own, other, seed)
    absent = ("mean", "sd", "interval", "method", "p", "ratio", "smallest_p")
    return dict.fromkeys(absent) | {"n": 0, "of": 0, "reason": why}
