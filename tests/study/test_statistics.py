"""Means, intervals and tests are those of scipy and statsmodels, over subjects, and say why where there are none."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mrsynth.study.statistics import describe, holm, smallest_p, summarize, verdict

ROWS = [
    {"name": "Real", "real": 1.0, "synthetic": {}, "augmentation": "none", "grid": "slab"},
    {"name": "GAN", "real": 1.0, "synthetic": {"gan": 1.0}, "augmentation": "none", "grid": "slab"},
    {"name": "Copy", "real": 1.0, "synthetic": {"copy": 1.0}, "augmentation": "none", "grid": "slab"},
]
REGIONS = ("WT", "TC", "ET")


def record(
    row: str, subject: int, dice: float | None, region: str = "WT", seed: int = 0, fold: int = 0, **other
) -> dict:
    keys = {"row": row, "grid": "slab", "segmenter": "unet", "fold": fold, "seed": seed, "subject": f"s{subject:02d}"}
    return keys | {"region": region, "dice": dice, "hd95": 3.0, "sensitivity": 0.5, "precision": 0.5} | other


def study_of(n: int = 9, seeds: int = 2, shifts=(("Real", 0.0), ("GAN", 0.03), ("Copy", -0.02))) -> list[dict]:
    """Invented scores: ``n`` subjects in three folds, each row shifted by its own amount."""
    draw = np.random.default_rng(0)
    return [
        record(row, s, float(draw.normal(0.7 + shift + s / 100, 0.02)), region, seed, s % 3)
        for row, shift in shifts
        for s in range(n)
        for seed in range(seeds)
        for region in REGIONS
    ]


def cells(summary: dict, row: str, region: str = "WT") -> dict:
    (table,) = summary["tables"]
    (line,) = [line for line in table["rows"] if line["name"] == row]
    return line["regions"][region]


def test_one_case_by_scipy_itself():
    real, gan = [0.61, 0.70, 0.72, 0.55, 0.80, 0.66], [0.65, 0.71, 0.78, 0.54, 0.87, 0.68]
    records = [record("Real", i, d) for i, d in enumerate(real)] + [record("GAN", i, d) for i, d in enumerate(gan)]
    found = cells(summarize(records, ROWS[:2], "Real", seed=3), "GAN")
    assert found["dice"]["mean"] == pytest.approx(np.mean(gan)) and found["dice"]["sd"] == pytest.approx(
        np.std(gan, ddof=1)
    )
    by_scipy = stats.bootstrap((np.array(gan),), np.mean, n_resamples=9999, random_state=np.random.default_rng(3))
    assert found["dice"]["interval"] == pytest.approx(list(by_scipy.confidence_interval))
    assert found["dice"]["method"] == "BCa" and found["dice"]["n"] == 6
    difference = 100 * (np.array(gan) - np.array(real))
    assert found["difference"]["mean"] == pytest.approx(difference.mean())
    assert found["difference"]["p"] == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert found["difference"]["p_holm"] == found["difference"]["p"]  # the only comparison
    assert found["difference"]["ratio"] == pytest.approx(np.mean(gan) / np.mean(real))


def test_subjects_are_counted_and_not_trainings():
    once, often = (cells(summarize(study_of(seeds=seeds), ROWS, "Real"), "GAN") for seeds in (1, 3))
    for found in (once, often):
        assert found["dice"]["n"] == found["difference"]["n"] == 9
        assert found["difference"]["smallest_p"] == 2 / 2**9
    assert once["dice"]["sd_seeds"] is None and once["dice"]["sd_seeds_reason"] == "one seed"


def test_copies_of_a_training_change_nothing_and_have_no_spread():
    once = study_of(seeds=1)
    thrice = [r | {"seed": seed} for r in once for seed in range(3)]
    one, three = (cells(summarize(records, ROWS, "Real"), "GAN") for records in (once, thrice))
    assert one["difference"] == three["difference"]
    assert one["dice"]["interval"] == three["dice"]["interval"] and three["dice"]["sd_seeds"] == 0


def test_sd_over_seeds_is_that_of_the_means_over_subjects():
    records = study_of(seeds=3)
    means = [
        np.mean([r["dice"] for r in records if (r["row"], r["seed"], r["region"]) == ("GAN", s, "WT")])
        for s in range(3)
    ]
    assert cells(summarize(records, ROWS, "Real"), "GAN")["dice"]["sd_seeds"] == pytest.approx(np.std(means, ddof=1))


def test_the_order_of_the_records_does_not_matter():
    records = study_of()
    before = summarize(records, ROWS, "Real", "Copy")
    random.Random(0).shuffle(records)
    assert summarize(records, ROWS, "Real", "Copy") == before


def test_equal_rows_have_p_one():
    records = study_of(shifts=(("Real", 0.0),))
    records += [r | {"row": "GAN"} for r in records]
    found = cells(summarize(records, ROWS, "Real"), "GAN")["difference"]
    assert (found["mean"], found["p"], found["p_holm"], found["ratio"]) == (0, 1, 1, 1)
    assert found["interval"] == [0, 0] and found["method"] == "percentile" and "BCa" in found["reason"]
    assert verdict(found) == "none"


def test_one_subject_has_a_mean_and_a_reason():
    records = [record(row, 0, d) for row, d in (("Real", 0.5), ("GAN", 0.6))]
    summary = summarize(records, ROWS[:2], "Real")
    found = cells(summary, "GAN")
    assert found["dice"]["mean"] == 0.6 and found["dice"]["interval"] is None and found["dice"]["sd"] is None
    assert "one subject" in found["dice"]["reason"] and "one subject" in found["difference"]["reason"]
    assert found["difference"]["mean"] == pytest.approx(10) and found["difference"]["p"] == 1
    assert verdict(found["difference"]) == "unknown"
    json.dumps(summary, allow_nan=False)


def test_a_row_without_a_fold_is_compared_on_what_both_have():
    records = study_of()
    less = [r for r in records if not (r["row"] == "GAN" and r["fold"] == 1)]
    both = [r for r in records if r["fold"] != 1]
    found, expected = (cells(summarize(part, ROWS, "Real"), "GAN")["difference"] for part in (less, both))
    assert (found["n"], found["of"]) == (6, 9) and expected["of"] == 6
    assert found["mean"] == expected["mean"] and found["interval"] == expected["interval"]
    assert cells(summarize(less, ROWS, "Real"), "Real")["dice"]["n"] == 9


def test_a_training_that_failed_is_left_out_of_both_sides():
    records = study_of()
    # were the reference's second seed kept, the row would seem to lose
    for r in records:
        if r["row"] == "Real" and r["seed"] == 1:
            r["dice"] = 1.0
    less = [r for r in records if not (r["row"] == "GAN" and r["seed"] == 1)]
    first = [r for r in records if r["seed"] == 0]
    found, expected = (cells(summarize(part, ROWS, "Real"), "GAN")["difference"] for part in (less, first))
    assert found["mean"] == expected["mean"] > 0


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_scores_that_do_not_exist_are_counted_and_never_averaged(nothing):
    records = study_of(seeds=1)
    for r in records:
        if r["row"] == "GAN" and r["subject"] == "s00":
            r["hd95"] = r["dice"] = nothing
        if r["row"] == "Copy":
            r["hd95"] = nothing
    summary = summarize(records, ROWS, "Real", "Copy")
    found = cells(summary, "GAN")
    assert found["hd95"]["mean"] == 3 and found["hd95"]["n"] == found["difference"]["n"] == 8
    assert found["hd95"]["missing"] == 1
    lost = cells(summary, "Copy")["hd95"]
    assert lost["mean"] is None and lost["missing"] == 9 and "9 scores" in lost["reason"]
    json.dumps(summary, allow_nan=False)


def test_a_row_that_was_never_scored_stands_there_with_its_reason():
    summary = summarize([r for r in study_of() if r["row"] != "GAN"], ROWS, "Real", "Copy")
    found = cells(summary, "GAN")
    assert found["dice"]["n"] == 0 and "no training" in found["dice"]["reason"]
    assert found["difference"]["p_holm"] is None and found["difference"]["reason"]
    assert summary["tables"][0]["comparisons"] == {"difference": 3, "baseline_difference": 3}


def test_holm_is_over_all_rows_and_regions_and_monotone():
    summary = summarize(study_of(), ROWS, "Real", "Copy")
    found = [cells(summary, row, region)["difference"] for row in ("GAN", "Copy") for region in REGIONS]
    raw, corrected = [f["p"] for f in found], [f["p_holm"] for f in found]
    assert corrected == pytest.approx(multipletests(raw, method="holm")[1])
    assert summary["tables"][0]["comparisons"]["difference"] == 6
    order = np.argsort(raw, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert all(c >= r for r, c in zip(raw, corrected, strict=True))
    assert holm([0.01, None, 0.03]) == [0.02, None, 0.03] and holm([None]) == [None] and holm([]) == []


def test_the_baseline_is_the_mirror_of_the_reference_where_they_are_the_only_two():
    records = [r for r in study_of() if r["row"] != "Copy"]
    summary = summarize(records, ROWS[:2], "Real", "GAN")
    forth, back = cells(summary, "GAN")["difference"], cells(summary, "Real")["baseline_difference"]
    assert back["mean"] == pytest.approx(-forth["mean"]) and back["p"] == pytest.approx(forth["p"])
    assert cells(summary, "GAN")["baseline_difference"]["reason"] == "is the baseline"
    assert cells(summary, "Real")["difference"]["reason"] == "is the reference"


def test_a_row_is_compared_with_the_reference_of_its_own_grid_and_augmentation():
    none = {"real": 1.0, "synthetic": {}, "augmentation": "none", "grid": "slab"}
    rows = [
        {"name": "Real"} | none,
        {"name": "Real, usual"} | none | {"augmentation": "usual"},
        {"name": "GAN, usual"} | none | {"augmentation": "usual", "synthetic": {"gan": 1.0}},
        {"name": "Half"} | none | {"real": 0.5},
        {"name": "Named"} | none | {"reference": "Half"},
        {"name": "Real, native"} | none | {"grid": "native"},
        {"name": "GAN, native"} | none | {"grid": "native", "synthetic": {"gan": 1.0}},
        {"name": "GAN, alone"} | none | {"grid": "cube", "synthetic": {"gan": 1.0}},
    ]
    records = [record(row["name"], s, 0.5 + s / 50, grid=row["grid"]) for row in rows for s in range(3)]
    tables = summarize(records, rows, "Real")["tables"]
    against = {line["name"]: line["reference"] for table in tables for line in table["rows"]}
    assert against == {
        "Real": None,
        "Real, usual": "Real",
        "GAN, usual": "Real, usual",
        "Half": "Real",
        "Named": "Half",
        "Real, native": None,
        "GAN, native": "Real, native",
        "GAN, alone": None,
    }
    why = {line["name"]: line["why"] for table in tables for line in table["rows"]}
    assert why["Real"] == why["Real, native"] == "is the reference" and "cube" in why["GAN, alone"]
    assert [table["grid"] for table in tables] == ["slab", "native", "cube"]


def test_what_a_difference_shows():
    assert verdict({"p_holm": 0.01, "interval": [0.1, 2]}) == "gain"
    assert verdict({"p_holm": 0.01, "interval": [-2, -0.1]}) == "loss"
    assert verdict({"p_holm": 0.01, "interval": [-2, 1]}) == "unclear"
    assert verdict({"p_holm": 0.2, "interval": [1, 2]}) == "none"


def test_the_smallest_p_is_reached_by_differences_of_one_sign():
    for n in (3, 6, 10):
        assert stats.wilcoxon(np.arange(1.0, n + 1)).pvalue == pytest.approx(smallest_p(n))
    assert smallest_p(0) is None and smallest_p(1) == 1


def test_the_interval_holds_the_mean_and_depends_on_the_seed_alone():
    values = np.random.default_rng(1).normal(size=15)
    low, high = describe(values, 1)["interval"]
    assert low < values.mean() < high and describe(values, 1) == describe(values, 1) != describe(values, 2)


def test_records_that_do_not_fit_are_refused(refused):
    records = study_of(3)
    with refused(found="more than one"):
        summarize([*records, records[0]], ROWS, "Real")
    with refused(found="GAN"):
        summarize(records, [ROWS[0], ROWS[2]], "Real")
    with refused(found="fold"):
        summarize([{k: v for k, v in records[0].items() if k != "fold"}], ROWS, "Real")
    with refused(found="on cube"):
        summarize([records[0] | {"grid": "cube"}], ROWS, "Real")
    with refused(found="twice"):
        summarize(records, [*ROWS, ROWS[0]], "Real")


def test_nothing_scored_is_no_table():
    assert summarize([], ROWS, "Real")["tables"] == []
