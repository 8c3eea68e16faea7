"""Tables say what the summary says, in every format, and no character of a name breaks them."""

from __future__ import annotations

import csv
import json
import random
import re

import numpy as np
import pytest

from mrsynth.study.statistics import summarize
from mrsynth.study.tables import (
    all_tables,
    baseline_table,
    dice_table,
    escape_latex,
    latex,
    markdown,
    measures_table,
    p_text,
    plain,
    signed,
    write_results,
)

ODD = "100% real_data & {more} $5 #1 ~ ^ \\end [x] <b>|*"
ROWS = [
    {"name": "Real", "real": 1.0, "grid": "slab", "published": {"WT": 0.123, "TC": 0.234}},
    {"name": ODD, "real": 1.0, "synthetic": {"gan": 1.0}, "grid": "slab"},
    {"name": "Better", "real": 1.0, "synthetic": {"copy": 1.0}, "grid": "slab"},
]
STUDY = {"max_iterations": 1200}


def invented(shift: float = 0.1, n: int = 12) -> list[dict]:
    """Scores in which the row "Better" gains ``shift`` on the reference and the odd one a tenth of it."""
    draw = np.random.default_rng(0)
    keys = {"grid": "slab", "segmenter": "unet_3d", "fold": 0, "sensitivity": 0.5, "precision": 0.25, "hd95": 4.0}
    return [
        keys
        | {"row": row, "seed": seed, "subject": f"s{s:02d}", "region": region, "dice": 0.6 + add + draw.normal(0, 0.02)}
        for row, add in (("Real", 0.0), (ODD, shift / 10), ("Better", shift))
        for s in range(n)
        for seed in (0, 1)
        for region in ("WT", "TC", "ET")
    ]


@pytest.fixture(scope="module")
def summary() -> dict:
    return summarize(invented(), ROWS, "Real", "Better")


def test_every_table_is_rectangular_and_has_every_row(summary):
    tables = all_tables(summary, STUDY)
    assert [table.title.split()[0] for table in tables] == ["Dice", "Against", "Other"]
    for table in tables:
        assert sum(span for _, span in table.groups) == len(table.columns)
        assert [line[0].lines[0] for line in table.lines] == [row["name"] for row in ROWS]
        assert {len(line) for line in table.lines} == {len(table.columns)}


def test_cells_are_the_summarys_numbers(summary):
    (table,) = summary["tables"]
    cell = table["rows"][2]["regions"]["WT"]
    shown = dice_table(table, "Real", STUDY).lines[2]
    low, high = cell["dice"]["interval"]
    assert shown[1].lines == (f"{cell['dice']['mean']:.3f} ({cell['dice']['sd']:.3f})", f"[{low:.3f}, {high:.3f}]")
    low, high = cell["difference"]["interval"]
    p = p_text(cell["difference"]["p_holm"])
    assert shown[2].lines == (f"+{cell['difference']['mean']:.1f}", f"[+{low:.1f}, +{high:.1f}]", f"p {p}")
    assert measures_table(table, summary["measures"]).lines[0][1].lines == ("4.0 (0.0)",)
    assert baseline_table(table, "Better").lines[2][2].lines == ("baseline",)


def test_published_figures_stand_in_a_column_of_their_own(summary):
    (table,) = summary["tables"]
    shown = dice_table(table, "Real", STUDY)
    assert shown.groups[-1] == ("published", 1)
    assert shown.lines[0][-1].lines == ("WT 0.123", "TC 0.234") and shown.lines[1][-1].lines == ("–",)
    others = [text for line in shown.lines for cell in line[:-1] for text in cell.lines]
    assert not any("0.123" in text or "0.234" in text for text in others)
    theirs = {"name": "Somebody 2001, DeepMedic", "segmenters": ["unet_3d"]}
    named = dice_table(table, "Real", STUDY | {"published": theirs})
    assert named.groups[-1] == ("Somebody 2001,\nDeepMedic", 1) and "Somebody 2001, DeepMedic: " in named.notes[-1]
    beside_another = dice_table(table, "Real", STUDY | {"published": theirs | {"segmenters": ["other"]}})
    assert beside_another.columns == shown.columns[:-1] and "0.123" not in markdown(beside_another)
    without = summarize(invented(), [{**row, "published": {}} for row in ROWS], "Real")
    assert "published" not in markdown(dice_table(without["tables"][0], "Real", STUDY))


def test_the_highest_mean_is_bold_only_if_its_gain_is_shown():
    for shift, expected in ((0.1, {"Better"}), (0.0, set()), (-0.1, set())):
        (table,) = summarize(invented(shift), ROWS, "Real", measures=("dice",))["tables"]
        lines = dice_table(table, "Real", STUDY).lines
        assert {line[0].lines[0] for line in lines if any(cell.bold for cell in line)} == expected


def test_a_row_on_fewer_subjects_says_so_and_is_not_bold():
    records = [r for r in invented() if r["row"] != "Better" or r["subject"] > "s02"]
    (table,) = summarize(records, ROWS, "Real", measures=("dice",))["tables"]
    line = dice_table(table, "Real", STUDY).lines[2]
    assert "n = 9 of 12" in line[0].lines and not any(cell.bold for cell in line)


def test_the_line_below_says_what_was_done(summary):
    said = " ".join(dice_table(summary["tables"][0], "Real", STUDY).notes)
    assert "at best 0.00049" in said and "The best of 2 rows was chosen on these same subjects" in said
    for word in ("n = 12", "1 fold", "2 seeds", "1200 optimizer steps", "Wilcoxon", "Holm over 6", "BCa", "0.00049"):
        assert word in said


def test_the_line_below_says_what_a_grid_is(summary):
    grids = {"slab": "240 x 240 x 64 voxels; scored on the training grid", "cube": "another"}
    said = " ".join(dice_table(summary["tables"][0], "Real", STUDY | {"grids": grids}).notes)
    assert f"Grid slab: {grids['slab']}." in said and "another" not in said


def test_latex_holds_no_bare_special_character(summary):
    for table in all_tables(summary, STUDY):
        text = latex(table)
        # what our own escapes and commands leave must not contain a character that TeX would act on
        bare = re.sub(r"\\[A-Za-z]+|\\[{}$&#_%\\]", "", text)
        body = [line for line in bare.splitlines() if "real" in line]
        assert body and not any(re.search(r"[#_~^%]", line) for line in body)
        rows = re.findall(r"^(.*) \\\\$", text, re.M)
        columns = len(table.columns)
        for row in rows:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            assert len(re.findall(r"(?<!\\)&", row)) + 1 + sum(spans) == columns
        assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
        for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
            assert text.count(rule) == 1
        for line in text.splitlines():  # after a line's end, a bracket is an optional argument
            assert not line.startswith("[")


def test_latex_escapes_letter_by_letter():
    assert escape_latex("50% a_b & c") == r"50\% a\_b \& c"
    assert escape_latex("\\x{y}") == r"\textbackslash{}x\{y\}"
    assert escape_latex("−1 × 2\nnext") == r"$-$1 $\times$ 2 next"


def test_markdown_has_as_many_cells_in_every_line(summary):
    for table in all_tables(summary, STUDY):
        lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
        assert len(lines) == 2 + len(ROWS)
        assert "<b>" not in markdown(table).replace("\\<b", "")


def test_files_hold_every_record_whatever_their_order(tmp_path):
    records = invented(n=3)
    records[0]["hd95"] = float("nan")
    summary = summarize(records, ROWS, "Real", "Better")
    study = STUDY | {"config": {"path": tmp_path, "size": np.int64(3), "nothing": float("inf")}}
    write_results(tmp_path / "a", records, ROWS, summary, study)
    random.Random(0).shuffle(records)
    write_results(tmp_path / "b", records, ROWS, summary, study)
    for name in ("results.csv", "results.json", "table.md", "table.tex"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with open(tmp_path / "a" / "results.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(records) and lines[0]["row"] == "Real" and [line["hd95"] for line in lines].count("") == 1
    found = {(r["row"], r["seed"], r["subject"], r["region"]): r["dice"] for r in records}
    for line in lines:
        assert float(line["dice"]) == found[line["row"], int(line["seed"]), line["subject"], line["region"]]
    content = json.loads((tmp_path / "a" / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["study"]["config"] == {"path": str(tmp_path), "size": 3, "nothing": None}
    assert len(content["records"]) == len(records) and content["summary"] == plain(summary)


def test_numbers_are_written_with_their_sign():
    assert [signed(v) for v in (0.44, -1.2, 0.04, -0.04)] == ["+0.4", "−1.2", "0.0", "0.0"]
    assert [p_text(p) for p in (0.0002, 0.032, 0.61, 1.0, None)] == ["<0.001", "0.032", "0.61", "1.00", "–"]
